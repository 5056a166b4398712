//! One worker process from its start to its grave.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use rustix::fs::{MemfdFlags, OFlags, SealFlags};
use rustix::process::{Pid, PidfdFlags, Signal};

use crate::frame::JobHeader;
use crate::job::Job;
use crate::progress::Progress;
use crate::supervisor::handle::{Finished, Shared};
use crate::supervisor::settings::WorkerSettings;
use crate::supervisor::verdict::{self, Death};
use crate::supervisor::watch::{self, Watched};

/// How many threads rayon makes: one of the two things that a worker learns from its environment.
const RAYON_THREADS: &str = "RAYON_NUM_THREADS";
/// The other: mimalloc, the allocator of our binary, shall take memory when it is used. Otherwise it takes
/// a gigabyte at once, which counts for the memory limit though nothing is in it.
const COMMIT_ON_USE: (&str, &str) = ("MIMALLOC_ARENA_EAGER_COMMIT", "0");

/// A worker that runs.
pub(super) struct Attempt {
    process: Process,
    pidfd: OwnedFd,
    stderr: OwnedFd,
    output: File,
    kills_before: u64,
}

impl Attempt {
    /// Writes the job into a sealed memory file and starts the process on it.
    pub(super) fn begin(settings: &WorkerSettings, job: &Job) -> io::Result<Self> {
        let kills_before = watch::kernel_memory_kills();
        let input = sealed_input(settings, job)?;
        let output = memory_file("forerun-result")?;
        let mut process = Process(
            Command::new(&settings.executable)
                .args(&settings.args)
                .env_clear()
                .env(RAYON_THREADS, settings.compile_threads.to_string())
                .env(COMMIT_ON_USE.0, COMMIT_ON_USE.1)
                .current_dir("/")
                // A group of its own: a ctrl-c at the terminal is not for it, and what it might start dies with it.
                .process_group(0)
                .stdin(Stdio::from(input))
                .stdout(Stdio::from(output.try_clone()?))
                .stderr(Stdio::piped())
                .spawn()?,
        );
        let pidfd = rustix::process::pidfd_open(process.pid()?, PidfdFlags::empty())?;
        let stderr = process.0.stderr.take().ok_or_else(|| io::Error::other("no pipe for the log"))?;
        let stderr = OwnedFd::from(stderr);
        rustix::fs::fcntl_setfl(&stderr, OFlags::NONBLOCK)?;
        Ok(Self { process, pidfd, stderr, output, kills_before })
    }

    /// Watches it to its end, reaps it and says what came of it.
    pub(super) fn finish(
        mut self,
        settings: &WorkerSettings,
        shared: &Shared,
        on_progress: Box<dyn FnMut(Progress)>,
    ) -> Finished {
        shared.set_process_id(Some(self.process.0.id()));
        let watched = watch::until_dead(&self.process.0, &self.pidfd, self.stderr, settings, shared, on_progress);
        // From here on the number may belong to somebody else.
        shared.set_process_id(None);
        let status = self.process.end();
        let Watched { stop, usage, sandbox, log, dropped } = watched;
        let killed_for_memory = watch::kernel_memory_kills() > self.kills_before;
        let death = Death { status, stop, sandbox: &sandbox, log: &log, killed_for_memory };
        let outcome = verdict::judge(settings, &death, &self.output, usage);
        let (log_bytes_dropped, progress_lines_dropped) = (dropped.log_bytes, dropped.progress_lines);
        Finished { outcome, sandbox, usage, log, log_bytes_dropped, progress_lines_dropped }
    }
}

/// The child; killed with its group and reaped when dropped, whatever happens on the way.
struct Process(Child);

impl Process {
    fn pid(&self) -> io::Result<Pid> {
        let raw = i32::try_from(self.0.id()).map_err(io::Error::other)?;
        Pid::from_raw(raw).ok_or_else(|| io::Error::other("a process without a number"))
    }

    /// Kills what is left of the group, then reaps. In that order: until it is reaped, its number is its own.
    fn end(&mut self) -> io::Result<std::process::ExitStatus> {
        if let Ok(pid) = self.pid() {
            let _ = rustix::process::kill_process_group(pid, Signal::KILL);
        }
        self.0.wait()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // `Some` means that it was reaped already.
        if !matches!(self.0.try_wait(), Ok(Some(_))) {
            let _ = self.end();
        }
    }
}

fn sealed_input(settings: &WorkerSettings, job: &Job) -> io::Result<File> {
    let header = JobHeader {
        kind: job.kind,
        parameters_bytes: job.parameters.len() as u64,
        component_bytes: job.component.len() as u64,
        limits: settings.limits(),
        supervisor_pid: std::process::id(),
    };
    let mut input = memory_file("forerun-job")?;
    input.write_all(&header.encode())?;
    input.write_all(&job.parameters)?;
    input.write_all(&job.component)?;
    // Not `WRITE`: it would also ask whether the file is mapped for writing. It never was, and on a busy machine the
    // kernel answers `EBUSY` for pages that it holds itself.
    let seals = SealFlags::FUTURE_WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
    rustix::fs::fcntl_add_seals(&input, seals)?;
    rustix::fs::seek(&input, rustix::fs::SeekFrom::Start(0))?;
    Ok(input)
}

/// A file without a name: nobody else can open it, and it is gone with its last descriptor.
fn memory_file(name: &str) -> io::Result<File> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    Ok(File::from(rustix::fs::memfd_create(name, flags)?))
}
