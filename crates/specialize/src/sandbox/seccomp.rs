//! The system calls a worker may make: computing, memory, threads, its three descriptors, and the end.
//!
//! Three answers. **Allowed**: what computing on several threads needs. **Denied**: what the standard
//! library, the allocator and thread pools try and do without (they look for processor counts in files,
//! for a terminal behind stderr, ...): those calls fail as on a system without the thing. **Killed**: all
//! else. No honest job opens a socket, starts a program or a process, or looks into another one, so the
//! first attempt is the last. What the kernel answers to several filters is the strictest of their answers.

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};

use super::{GuardResult, Missing};

pub(super) type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// Allowed whatever the arguments: they reach nothing outside of the process.
const COMPUTING: &[i64] = &[
    // Memory; the two that could make it executable are below.
    libc::SYS_brk,
    libc::SYS_madvise,
    libc::SYS_mremap,
    libc::SYS_munmap,
    // Threads: locks, scheduling, their set-up.
    libc::SYS_futex,
    libc::SYS_get_robust_list,
    libc::SYS_getcpu,
    libc::SYS_gettid,
    libc::SYS_membarrier,
    libc::SYS_rseq,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_yield,
    libc::SYS_set_robust_list,
    libc::SYS_set_tid_address,
    // Its own signals: stack overflow and traps are found by handlers.
    libc::SYS_restart_syscall,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    // Clocks, randomness (of hash maps), facts about itself.
    libc::SYS_clock_getres,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_getegid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_getrandom,
    libc::SYS_getrusage,
    libc::SYS_gettimeofday,
    libc::SYS_getuid,
    libc::SYS_nanosleep,
    libc::SYS_sysinfo,
    libc::SYS_uname,
    // Descriptors it has: nothing can open another.
    libc::SYS_close,
    libc::SYS_fstat,
    libc::SYS_lseek,
    libc::SYS_ppoll,
    // The end.
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// Denied with EACCES: tried by libraries that can do without.
const DENIED: &[i64] = &[
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_getcwd,
    libc::SYS_getdents64,
    libc::SYS_ioctl,
    libc::SYS_memfd_create,
    libc::SYS_newfstatat,
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_readlinkat,
    libc::SYS_sched_setaffinity,
    libc::SYS_sched_setscheduler,
    libc::SYS_setpriority,
    libc::SYS_statfs,
    libc::SYS_statx,
];

/// The same, for calls that only older architectures have.
#[cfg(target_arch = "x86_64")]
const DENIED_HERE: &[i64] = &[libc::SYS_access, libc::SYS_lstat, libc::SYS_open, libc::SYS_readlink, libc::SYS_stat];
#[cfg(not(target_arch = "x86_64"))]
const DENIED_HERE: &[i64] = &[];

/// Allowed as the others, for calls that only older architectures have.
#[cfg(target_arch = "x86_64")]
const COMPUTING_HERE: &[i64] = &[libc::SYS_poll, libc::SYS_time];
#[cfg(not(target_arch = "x86_64"))]
const COMPUTING_HERE: &[i64] = &[];

/// Puts the filters in place, for every thread. Afterwards not even a stricter one can be added.
pub(super) fn impose() -> GuardResult {
    let allow = program(allowed_rules()?, SeccompAction::KillProcess, SeccompAction::Allow)?;
    let deny = program(denied_rules(), SeccompAction::Allow, SeccompAction::Errno(libc::EACCES as u32))?;
    let absent = program(absent_rules(), SeccompAction::Allow, SeccompAction::Errno(libc::ENOSYS as u32))?;
    // The allow-list comes last: it does not list the call that puts up filters.
    for filter in [absent, deny, allow] {
        seccompiler::apply_filter_all_threads(&filter).map_err(|_| Missing)?;
    }
    Ok(())
}

/// A filter for this processor: what the rules match is answered by `matched`, the rest by `otherwise`.
pub(super) fn program(rules: Rules, otherwise: SeccompAction, matched: SeccompAction) -> Result<BpfProgram, Missing> {
    let target = std::env::consts::ARCH.try_into().map_err(|_| Missing)?;
    let filter = SeccompFilter::new(rules, otherwise, matched, target).map_err(|_| Missing)?;
    BpfProgram::try_from(filter).map_err(|_| Missing)
}

/// Rules that match when any of `flags` is set in an argument.
pub(super) fn masked_rules(argument: u8, flags: &[i32]) -> Result<Vec<SeccompRule>, Missing> {
    let conditions = flags.iter().map(|flag| masked(argument, *flag, *flag)).collect::<Result<Vec<_>, _>>()?;
    let groups: Vec<[&SeccompCondition; 1]> = conditions.iter().map(|condition| [condition]).collect();
    all_of(&groups.iter().map(|group| &group[..]).collect::<Vec<_>>())
}

/// `clone3` hides its flags in memory, where a filter cannot look; without it the C library uses `clone`.
fn absent_rules() -> Rules {
    Rules::from([(libc::SYS_clone3, vec![])])
}

fn denied_rules() -> Rules {
    DENIED.iter().chain(DENIED_HERE).map(|call| (*call, vec![])).collect()
}

/// Whatever one of the other two filters answers must be let through by this one.
fn allowed_rules() -> Result<Rules, Missing> {
    let mut rules: Rules = COMPUTING.iter().chain(COMPUTING_HERE).map(|call| (*call, vec![])).collect();
    rules.extend(denied_rules());
    rules.extend(absent_rules());
    rules.extend(narrow_rules()?);
    Ok(rules)
}

/// Calls that are harmless with some arguments only.
fn narrow_rules() -> Result<Rules, Missing> {
    let not_executable = masked(2, libc::PROT_EXEC, 0)?;
    let anonymous = masked(3, libc::MAP_ANONYMOUS, libc::MAP_ANONYMOUS)?;
    let own_process = equal(0, u64::from(std::process::id()))?;
    let thread = masked(0, libc::CLONE_THREAD, libc::CLONE_THREAD)?;
    let (stdin, stdout, stderr) = (equal(0, 0)?, equal(0, 1)?, equal(0, 2)?);
    // Descriptors that came along by accident are of no use: only stdin can be read, only the other two written.
    let output = || all_of(&[&[&stdout], &[&stderr]]);
    let input = || all_of(&[&[&stdin]]);
    Ok(Rules::from([
        // The code that a worker makes is not run by it, so no memory of its need be executable.
        (libc::SYS_mmap, all_of(&[&[&not_executable, &anonymous]])?),
        (libc::SYS_mprotect, all_of(&[&[&not_executable]])?),
        // Threads yes, processes no.
        (libc::SYS_clone, all_of(&[&[&thread]])?),
        // `abort` sends a signal to its own thread.
        (libc::SYS_tgkill, all_of(&[&[&own_process]])?),
        (libc::SYS_read, input()?),
        (libc::SYS_readv, input()?),
        (libc::SYS_write, output()?),
        (libc::SYS_writev, output()?),
        (libc::SYS_fcntl, all_of(&[&[&equal(1, libc::F_GETFD as u64)?], &[&equal(1, libc::F_GETFL as u64)?]])?),
        // Names of threads and of memory ranges, for debuggers.
        (libc::SYS_prctl, all_of(&[&[&equal(0, libc::PR_SET_NAME as u64)?], &[&equal(0, libc::PR_SET_VMA as u64)?]])?),
        // Limits may be read (the C library asks for the stack's), not changed, and only its own.
        (libc::SYS_prlimit64, all_of(&[&[&equal(0, 0)?, &null(2)?]])?),
    ]))
}

/// One rule for each group of conditions; a call passes when all conditions of one group hold.
fn all_of(groups: &[&[&SeccompCondition]]) -> Result<Vec<SeccompRule>, Missing> {
    let rule = |group: &&[&SeccompCondition]| {
        SeccompRule::new(group.iter().map(|condition| (*condition).clone()).collect()).map_err(|_| Missing)
    };
    groups.iter().map(rule).collect()
}

/// The flags `mask` of an argument are `value`.
fn masked(argument: u8, mask: i32, value: i32) -> Result<SeccompCondition, Missing> {
    let compare = SeccompCmpOp::MaskedEq(u64::from(mask.cast_unsigned()));
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, compare, u64::from(value.cast_unsigned()))
        .map_err(|_| Missing)
}

fn equal(argument: u8, value: u64) -> Result<SeccompCondition, Missing> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value).map_err(|_| Missing)
}

/// A pointer that points nowhere.
fn null(argument: u8) -> Result<SeccompCondition, Missing> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Qword, SeccompCmpOp::Eq, 0).map_err(|_| Missing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_killed_is_on_no_list() {
        let allowed = allowed_rules().map_err(|_| "rules").unwrap();
        for call in [
            libc::SYS_execve,
            libc::SYS_execveat,
            libc::SYS_ptrace,
            libc::SYS_process_vm_readv,
            libc::SYS_socket,
            libc::SYS_connect,
            libc::SYS_kill,
            libc::SYS_tkill,
            libc::SYS_unshare,
            libc::SYS_mount,
            libc::SYS_bpf,
            libc::SYS_io_uring_setup,
            libc::SYS_userfaultfd,
            libc::SYS_seccomp,
            libc::SYS_setuid,
            libc::SYS_capset,
            libc::SYS_setrlimit,
            libc::SYS_ftruncate,
            libc::SYS_pwrite64,
            libc::SYS_pidfd_getfd,
            libc::SYS_shmget,
        ] {
            assert!(!allowed.contains_key(&call), "{call}");
        }
    }

    #[test]
    fn every_denied_call_passes_the_allow_list() {
        let allowed = allowed_rules().map_err(|_| "rules").unwrap();
        for call in denied_rules().keys().chain(absent_rules().keys()) {
            assert_eq!(allowed.get(call).map(Vec::len), Some(0), "{call}");
        }
    }
}
