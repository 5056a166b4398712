//! The server's own sandbox: what is left to a guest that has broken out of its VM, whose code then runs in the server.
//!
//! Two guards. **Files**: landlock leaves the data folder, what the operator names, and what a process on Linux reads; no
//! program but the server's own is run, and processes that are not its workers get no signal. **System calls**: seccomp
//! refuses, by EPERM, those that change the system, look into other processes or leave namespaces, and that no server needs.
//! The network stays open: functions call hosts, and which ones is the gateway's matter.
//!
//! Both hold for the calling thread and for threads and processes that it starts later, workers among them, which lock
//! themselves in further. So this comes before any other thread; where there is one already, nothing is put up.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr, RulesetCreated,
    RulesetCreatedAttr, RulesetError, RulesetStatus, Scope, path_beneath_rules,
};
use rustix::fs::{Access as Mode, access};
use seccompiler::{BpfProgram, SeccompAction};

use super::be_alone;
use super::seccomp::{Rules, masked_rules, program};

/// The first kernels in which files may be renamed from one folder to another below a rule set (5.19).
const FILES_LEAST: ABI = ABI::V2;
/// Every file right that is asked for where the kernel knows it.
const FILES_MOST: ABI = ABI::V5;
/// Signals and abstract sockets, from 6.12 on.
const SCOPES: ABI = ABI::V6;

/// Read by the C library, the name service, TLS, and whoever asks what this machine has. Other folders of programs are
/// those of distributions that keep libraries there.
const READ: [&str; 9] =
    ["/etc", "/lib", "/lib64", "/nix/store", "/proc", "/sys", "/usr", "/dev/urandom", "/dev/random"];
/// Devices without anything behind them.
const READ_AND_WRITTEN: [&str; 2] = ["/dev/null", "/dev/zero"];
/// Often a link to a file that the network's manager writes anew, in a folder of its own.
const RESOLVER: &str = "/etc/resolv.conf";
/// What nobody may write who may not change the system. Workers raise their own score for the case that memory runs out,
/// below `/proc`; whoever may write these there, root, is not given that.
const SYSTEM_SETTINGS: [&str; 2] = ["/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger"];

/// The paths that one server needs beside those that every process does. What does not exist is left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerPaths {
    /// Folders and files that are read and written.
    pub written: Vec<PathBuf>,
    /// Folders and files that are read.
    pub read: Vec<PathBuf>,
    /// Folders in which empty folders may be removed.
    pub emptied: Vec<PathBuf>,
}

/// Which guards are up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerSandbox {
    /// Files, programs and signals.
    pub files: Result<(), NoGuard>,
    /// System calls.
    pub calls: Result<(), NoGuard>,
}

/// Why a guard of the server is not up.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoGuard {
    /// It would not hold for all of them.
    #[error("the process has other threads already")]
    OtherThreads,
    /// The kernel has no landlock, too old a one, or it is switched off.
    #[error("the kernel has no landlock of Linux 5.19 or later: {detail}")]
    Landlock {
        /// What the library says.
        detail: String,
    },
    /// The kernel refuses filters of system calls.
    #[error("the kernel takes no filter of system calls: {detail}")]
    Seccomp {
        /// What the library says.
        detail: String,
    },
}

/// Puts up what the kernel has. To be called before the process has any other thread; holds until it ends.
pub fn confine_server(paths: &ServerPaths) -> ServerSandbox {
    if be_alone().is_err() {
        return ServerSandbox { files: Err(NoGuard::OtherThreads), calls: Err(NoGuard::OtherThreads) };
    }
    confine_thread(paths)
}

/// Whether this kernel has what the server's sandbox needs: tried on a thread that ends right after it.
pub fn server_sandbox_support() -> ServerSandbox {
    let tried = std::thread::Builder::new().spawn(|| confine_thread(&ServerPaths::default()));
    let failed = |detail: &str| ServerSandbox {
        files: Err(NoGuard::Landlock { detail: detail.to_owned() }),
        calls: Err(NoGuard::Seccomp { detail: detail.to_owned() }),
    };
    match tried.map(std::thread::JoinHandle::join) {
        Ok(Ok(sandbox)) => sandbox,
        Ok(Err(_panicked)) => failed("the attempt failed"),
        Err(error) => failed(&error.to_string()),
    }
}

fn confine_thread(paths: &ServerPaths) -> ServerSandbox {
    let files = confine_files(paths).map_err(|error| NoGuard::Landlock { detail: error.to_string() });
    ServerSandbox { files: files.and_then(|held| held), calls: refuse_calls() }
}

fn confine_files(paths: &ServerPaths) -> Result<Result<(), NoGuard>, RulesetError> {
    let all = AccessFs::from_all(FILES_MOST);
    let ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(FILES_LEAST))?
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(all)?
        .scope(Scope::from_all(SCOPES))?
        .create()?;
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let write = all & !AccessFs::Execute;
    let own = own_files();
    let ruleset = ruleset
        .add_rules(path_beneath_rules(READ, read))?
        .add_rules(path_beneath_rules(resolver_folder(), read))?
        .add_rules(path_beneath_rules(READ_AND_WRITTEN, read | AccessFs::WriteFile))?
        .add_rules(path_beneath_rules(own, AccessFs::ReadFile | AccessFs::Execute))?
        .add_rules(path_beneath_rules(&paths.read, read))?
        .add_rules(path_beneath_rules(&paths.written, write))?
        .add_rules(path_beneath_rules(&paths.emptied, AccessFs::RemoveDir))?;
    let status = let_workers_raise_their_score(ruleset)?.restrict_self()?;
    Ok(match status.ruleset {
        RulesetStatus::FullyEnforced | RulesetStatus::PartiallyEnforced => Ok(()),
        RulesetStatus::NotEnforced => Err(NoGuard::Landlock { detail: "it is not in force".to_owned() }),
    })
}

/// The program and the libraries it has, which a worker is started from; the loader of programs is one of them.
fn own_files() -> BTreeSet<PathBuf> {
    let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let mapped = maps.lines().filter_map(|line| line.find('/').map(|start| PathBuf::from(&line[start..])));
    // A program that was replaced on disk has no path any more, and is still found here.
    mapped.chain([PathBuf::from("/proc/self/exe")]).collect()
}

/// The folder of the file that `/etc/resolv.conf` leads to.
fn resolver_folder() -> Option<PathBuf> {
    let file = fs::canonicalize(RESOLVER).ok()?;
    file.parent().map(Path::to_owned)
}

fn let_workers_raise_their_score(ruleset: RulesetCreated) -> Result<RulesetCreated, RulesetError> {
    let could_change_the_system = SYSTEM_SETTINGS.iter().any(|path| access(*path, Mode::WRITE_OK).is_ok());
    match PathFd::new("/proc") {
        Ok(processes) if !could_change_the_system =>
        // Files are written as they are made anew, which there changes nothing.
        {
            ruleset.add_rule(PathBeneath::new(processes, AccessFs::WriteFile | AccessFs::Truncate))
        }
        Ok(_) | Err(_) => Ok(ruleset),
    }
}

/// Refused by EPERM, whatever the arguments.
const REFUSED: &[i64] = &[
    // Other processes: their memory, their descriptors, what the processor does for them.
    libc::SYS_kcmp,
    libc::SYS_perf_event_open,
    libc::SYS_pidfd_getfd,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_ptrace,
    // The kernel: its code, its programs, its keys, its log.
    libc::SYS_add_key,
    libc::SYS_bpf,
    libc::SYS_delete_module,
    libc::SYS_finit_module,
    libc::SYS_init_module,
    libc::SYS_kexec_load,
    libc::SYS_keyctl,
    libc::SYS_request_key,
    libc::SYS_syslog,
    // System calls that are made without making one, which no filter sees.
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_io_uring_setup,
    // File systems, and files by other ways than their paths.
    libc::SYS_chroot,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fsopen,
    libc::SYS_fspick,
    libc::SYS_mount,
    libc::SYS_mount_setattr,
    libc::SYS_move_mount,
    libc::SYS_open_by_handle_at,
    libc::SYS_open_tree,
    libc::SYS_pivot_root,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    libc::SYS_swapoff,
    libc::SYS_swapon,
    libc::SYS_umount2,
    // Namespaces.
    libc::SYS_setns,
    libc::SYS_unshare,
    // The machine: its clock, its name, its end.
    libc::SYS_acct,
    libc::SYS_adjtimex,
    libc::SYS_clock_adjtime,
    libc::SYS_clock_settime,
    libc::SYS_reboot,
    libc::SYS_setdomainname,
    libc::SYS_sethostname,
    libc::SYS_settimeofday,
    libc::SYS_vhangup,
];

/// The same, for calls that only this architecture has.
#[cfg(target_arch = "x86_64")]
const REFUSED_HERE: &[i64] = &[libc::SYS_ioperm, libc::SYS_iopl, libc::SYS_kexec_file_load, libc::SYS_modify_ldt];
#[cfg(not(target_arch = "x86_64"))]
const REFUSED_HERE: &[i64] = &[];

/// On x86-64 a kernel may take calls by a second set of numbers: those of the usual set with this bit, and a few with numbers
/// of their own (of those refused: `ptrace`, `kexec_load`, `process_vm_readv` and `process_vm_writev`).
#[cfg(target_arch = "x86_64")]
const SECOND_SET: Option<(i64, &[i64])> = Some((0x4000_0000, &[521, 528, 539, 540]));
#[cfg(not(target_arch = "x86_64"))]
const SECOND_SET: Option<(i64, &[i64])> = None;

/// Namespaces that a new process may have; it is a thread or a process as any other without these.
const NEW_NAMESPACES: [libc::c_int; 8] = [
    libc::CLONE_NEWCGROUP,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWNET,
    libc::CLONE_NEWNS,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWUTS,
    // In `clone` this bit is a part of a signal's number, and no process is started with such a signal.
    libc::CLONE_NEWTIME,
];

fn refuse_calls() -> Result<(), NoGuard> {
    let failed = |detail: &str| NoGuard::Seccomp { detail: detail.to_owned() };
    let rules = refused_rules().ok_or_else(|| failed("the rules"))?;
    // `clone3` hides its flags in memory, where a filter cannot look; without it the C library uses `clone`.
    let absent = Rules::from([(libc::SYS_clone3, vec![])]);
    for (rules, errno) in [(rules, libc::EPERM), (absent, libc::ENOSYS)] {
        let filter: BpfProgram = program(rules, SeccompAction::Allow, SeccompAction::Errno(errno.cast_unsigned()))
            .map_err(|_| failed("no filter for this processor"))?;
        seccompiler::apply_filter(&filter).map_err(|error| failed(&error.to_string()))?;
    }
    Ok(())
}

fn refused_rules() -> Option<Rules> {
    let mut numbers: BTreeSet<i64> = REFUSED.iter().chain(REFUSED_HERE).copied().collect();
    let clones = masked_rules(0, &NEW_NAMESPACES).ok()?;
    let mut rules: BTreeMap<i64, _> = BTreeMap::from([(libc::SYS_clone, clones.clone())]);
    if let Some((bit, own)) = SECOND_SET {
        let usual: Vec<i64> = numbers.iter().copied().collect();
        numbers.extend(usual.iter().chain(own).map(|number| number | bit));
        // All of it, where the flags cannot be seen.
        numbers.insert(libc::SYS_clone3 | bit);
        rules.insert(libc::SYS_clone | bit, clones);
    }
    rules.extend(numbers.into_iter().map(|number| (number, vec![])));
    Some(rules)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// What `act` comes to on a thread that is confined to `paths`; the process of the tests stays as it is.
    fn confined<T: Send + 'static>(paths: ServerPaths, act: impl FnOnce() -> T + Send + 'static) -> T {
        let thread = std::thread::spawn(move || {
            let sandbox = confine_thread(&paths);
            assert_eq!(sandbox, ServerSandbox { files: Ok(()), calls: Ok(()) });
            act()
        });
        thread.join().unwrap()
    }

    fn refused<T>(done: std::io::Result<T>) -> bool {
        done.is_err_and(|error| error.kind() == std::io::ErrorKind::PermissionDenied)
    }

    #[test]
    fn files_beyond_what_it_needs_are_out_of_reach() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for name in ["data", "app", "other"] {
            fs::create_dir(at(name)).unwrap();
            fs::write(at(name).join("file"), name).unwrap();
        }
        let paths = ServerPaths { written: vec![at("data")], read: vec![at("app")], emptied: vec![] };
        let (data, app, other) = (at("data"), at("app"), at("other"));
        confined(paths, move || {
            let file = data.join("file");
            fs::write(&file, "new").unwrap();
            fs::create_dir(data.join("below")).unwrap();
            fs::rename(&file, data.join("below/file")).unwrap();
            fs::remove_dir_all(data.join("below")).unwrap();
            assert_eq!(fs::read_to_string(app.join("file")).unwrap(), "app");
            assert!(refused(fs::write(app.join("file"), "")) && refused(fs::write(app.join("more"), "")));
            assert!(refused(fs::read(other.join("file"))) && refused(fs::read_dir(&other)));
            // A link into the data folder would give rights that the file does not have where it is.
            assert!(refused(fs::remove_file(other.join("file"))) && fs::hard_link(other.join("file"), &file).is_err());
            // By a link from within, too.
            std::os::unix::fs::symlink(other.join("file"), data.join("link")).unwrap();
            assert!(refused(fs::read(data.join("link"))) && refused(fs::write(data.join("link"), "")));
            // What every process reads is there, devices that hold nothing too, and programs are not.
            assert!(fs::read("/proc/self/status").is_ok() && fs::read_dir("/etc").is_ok());
            fs::write("/dev/null", "x").unwrap();
            assert!(refused(Command::new("sh").arg("-c").arg("true").status()));
        });
        assert!(Command::new("sh").arg("-c").arg("true").status().unwrap().success(), "others are as they were");
    }

    #[test]
    fn its_own_program_still_runs() {
        let listed = confined(ServerPaths::default(), || Command::new("/proc/self/exe").arg("--list").output());
        assert!(listed.unwrap().status.success());
    }

    #[test]
    fn processes_that_are_not_its_own_get_no_signal_and_calls_are_refused() {
        use nix::errno::Errno;
        let (signal, trace, root, threads) = confined(ServerPaths::default(), || {
            let parent = nix::unistd::getppid();
            let signal = rustix::process::getppid().map(rustix::process::test_kill_process);
            let root = rustix::process::chroot("/");
            (signal, nix::sys::ptrace::attach(parent), root, std::thread::spawn(|| 1).join().unwrap())
        });
        assert_eq!(signal, Some(Err(rustix::io::Errno::PERM)));
        assert_eq!((trace, root), (Err(Errno::EPERM), Err(rustix::io::Errno::PERM)));
        assert_eq!(threads, 1, "threads are made without clone3");
    }

    #[test]
    fn what_the_server_needs_is_not_refused() {
        let refused = refused_rules().unwrap();
        for call in [
            // Of the server: pages of VMs, machine code.
            libc::SYS_userfaultfd,
            libc::SYS_ioctl,
            libc::SYS_mmap,
            libc::SYS_mprotect,
            libc::SYS_memfd_create,
            // Of workers, which lock themselves in.
            libc::SYS_seccomp,
            libc::SYS_prctl,
            libc::SYS_landlock_create_ruleset,
            libc::SYS_landlock_restrict_self,
            libc::SYS_capset,
            libc::SYS_prlimit64,
            libc::SYS_sched_setscheduler,
            libc::SYS_execve,
            libc::SYS_kill,
            libc::SYS_pidfd_open,
        ] {
            assert!(!refused.contains_key(&call), "{call}");
        }
        for call in [libc::SYS_ptrace, libc::SYS_mount, libc::SYS_bpf, libc::SYS_setns] {
            assert_eq!(refused.get(&call).map(Vec::len), Some(0), "{call}");
        }
        assert_eq!(refused.get(&libc::SYS_clone).map(Vec::len), Some(NEW_NAMESPACES.len()));
    }
}
