//! Settings of the supervisor: plain data, each with its default and the reason for it.

use std::path::PathBuf;

use crate::limits::{Scheduling, WorkerLimits};

/// What becomes of a job where the kernel lacks a part of the sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SandboxNeed {
    /// It is done all the same; what is missing is reported and counted.
    BestEffort,
    /// It is refused before the worker looks at it.
    Complete,
}

/// How workers are started and what each may use.
#[derive(Clone, Debug)]
pub struct WorkerSettings {
    /// The program. Default `/proc/self/exe`: the very binary that runs, even after it was replaced on disk.
    pub executable: PathBuf,
    /// Its arguments. Default `worker`, the hidden role.
    pub args: Vec<String>,
    /// Private memory of one worker. Default 2 GiB: an 18 MB component takes about 700 MB to compile.
    pub memory_bytes_max: u64,
    /// Processor time of one worker. Default 5 minutes: thirty times what an 18 MB component takes.
    pub cpu_ms_max: u64,
    /// Time from start to end of one worker. Default 30 minutes: with the lowest priority on a busy
    /// machine a worker is slow, and that harms nobody.
    pub wall_ms_max: u64,
    /// Size of an artifact. Default 512 MiB: twice the largest component.
    pub output_bytes_max: u64,
    /// Threads of one worker at the same time, the main one included. Default: processors + 4.
    pub threads_max: u32,
    /// Threads of the worker's rayon pool, told by its environment. Default: half
    /// of the processors, so that even a worker of normal priority leaves room to serve.
    pub compile_threads: u32,
    /// Workers at the same time. Default 1: a second one would only make both slower.
    pub at_once_max: usize,
    /// Jobs that may wait for their turn. Default 64; whoever decides on jobs should not decide on more.
    pub waiting_max: usize,
    /// Share of the processors. Default `Idle`.
    pub scheduling: Scheduling,
    /// Default `BestEffort`: a kernel without landlock still has seccomp.
    pub sandbox: SandboxNeed,
}

impl Default for WorkerSettings {
    fn default() -> Self {
        let processors = std::thread::available_parallelism().map_or(1, |count| count.get());
        let processors = u32::try_from(processors).unwrap_or(u32::MAX / 2);
        Self {
            executable: PathBuf::from("/proc/self/exe"),
            args: vec!["worker".to_owned()],
            memory_bytes_max: 2 << 30,
            cpu_ms_max: 5 * 60 * 1000,
            wall_ms_max: 30 * 60 * 1000,
            output_bytes_max: 512 << 20,
            threads_max: processors + 4,
            compile_threads: (processors / 2).max(1),
            at_once_max: 1,
            waiting_max: 64,
            scheduling: Scheduling::Idle,
            sandbox: SandboxNeed::BestEffort,
        }
    }
}

impl WorkerSettings {
    /// What each worker is told to impose on itself.
    pub(crate) fn limits(&self) -> WorkerLimits {
        WorkerLimits {
            memory_bytes_max: self.memory_bytes_max,
            cpu_ms_max: self.cpu_ms_max,
            output_bytes_max: self.output_bytes_max,
            threads_max: self.threads_max,
            scheduling: self.scheduling,
            sandbox_required: match self.sandbox {
                SandboxNeed::BestEffort => false,
                SandboxNeed::Complete => true,
            },
        }
    }
}
