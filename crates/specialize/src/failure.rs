//! Every way in which a job can end without an artifact, by name.

use crate::{Guard, JobError};

/// Why there is no artifact.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WorkerFailure {
    /// As many jobs wait already as may.
    #[error("{waiting_max} jobs wait already")]
    QueueFull {
        /// The bound.
        waiting_max: usize,
    },
    /// Whoever asked for it does not want it any more.
    #[error("the job was cancelled")]
    Cancelled,
    /// The job does not fit the protocol.
    #[error("the job's {part} have {bytes} bytes, at most {bytes_max} are taken")]
    InputTooLarge {
        /// `parameters` or `component bytes`.
        part: &'static str,
        /// What it has.
        bytes: u64,
        /// The bound.
        bytes_max: u64,
    },
    /// The process could not be started or watched.
    #[error("the worker could not be started: {reason}")]
    Spawn {
        /// The system's words.
        reason: String,
    },
    /// The supervisor itself broke off, in its caller's progress callback; the worker is dead.
    #[error("the supervising thread panicked")]
    SupervisorPanicked,
    /// A signal that we did not send ended it.
    #[error("the worker was killed by signal {signal}")]
    Killed {
        /// Its number.
        signal: i32,
        /// The end of its log.
        last_words: String,
    },
    /// It wanted more memory than it may have, or the machine had none left.
    #[error("the worker ran out of memory")]
    OutOfMemory {
        /// How we know.
        evidence: OutOfMemoryEvidence,
    },
    /// Its processor time was used up.
    #[error("the worker used more than {cpu_ms_max} ms of processor time")]
    CpuLimit {
        /// The bound.
        cpu_ms_max: u64,
    },
    /// Its time was up.
    #[error("the worker did not end within {wall_ms_max} ms")]
    Deadline {
        /// The bound.
        wall_ms_max: u64,
    },
    /// It made more threads than it may.
    #[error("the worker had {threads} threads, at most {threads_max} are allowed")]
    TooManyThreads {
        /// Threads seen.
        threads: u32,
        /// The bound.
        threads_max: u32,
    },
    /// It asked the kernel for something that no honest job needs: network, exec, fork, ptrace, ...
    #[error("the worker made a system call that it may not make")]
    Refused {
        /// The end of its log.
        last_words: String,
    },
    /// The work panicked.
    #[error("the worker panicked: {message}")]
    Panicked {
        /// The message and its place.
        message: String,
    },
    /// The work ended with an error of its own.
    #[error("the job failed: {0}")]
    JobFailed(JobError),
    /// The output ends too early, or is not what was written.
    #[error("the output is torn: {found} bytes of {expected}, or a wrong checksum")]
    Torn {
        /// Bytes that the frame announces.
        expected: u64,
        /// Bytes there.
        found: u64,
    },
    /// The output is no frame.
    #[error("the output is malformed: {0}")]
    Malformed(MalformedOutput),
    /// The artifact is larger than it may be.
    #[error("the output has more than {bytes_max} bytes")]
    OutputTooLarge {
        /// The bound.
        bytes_max: u64,
    },
    /// The kernel lacks parts of the sandbox and the settings ask for all of it; the job was not looked at.
    #[error("the sandbox is incomplete: {missing:?}")]
    SandboxIncomplete {
        /// What is not there.
        missing: Vec<Guard>,
    },
    /// It ended on its own without a result.
    #[error("the worker exited with code {code} and no result")]
    Exited {
        /// Its exit code.
        code: i32,
        /// The end of its log.
        last_words: String,
    },
}

/// How we know that memory ran out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutOfMemoryEvidence {
    /// Its allocator said so before it gave up.
    AllocationFailed,
    /// Its resident memory was seen above the limit, where the kernel's limit did not stop it before.
    Resident,
    /// It was killed with SIGKILL by somebody else while the kernel counted a kill for lack of memory. A guess.
    KernelKilled,
}

/// What is wrong with an output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MalformedOutput {
    /// It does not begin as a frame does.
    #[error("it does not begin with the mark of a result")]
    Magic,
    /// Another version of the protocol.
    #[error("it has version {0} of the protocol")]
    Version(u32),
    /// A kind of result that does not exist.
    #[error("its status is {0}")]
    Status(u32),
    /// Bytes behind the end of the frame.
    #[error("something follows its end")]
    Trailing,
    /// The text of an error that is not one.
    #[error("its error text is not readable")]
    Text,
    /// The exit code says something else than the output.
    #[error("it does not agree with the exit code")]
    ExitCode,
    /// It could not be read at all.
    #[error("it could not be read")]
    Unreadable,
}

macro_rules! failure_kinds {
    ($($variant:ident $pattern:pat => $name:literal,)*) => {
        /// The names of [`WorkerFailure`], without their facts: for counters and labels.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[allow(missing_docs, reason = "each is documented as a variant of `WorkerFailure`")]
        pub enum FailureKind { $($variant,)* }

        impl FailureKind {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// As metrics and listings write it.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }

        impl WorkerFailure {
            /// Its name without its facts.
            pub fn kind(&self) -> FailureKind {
                match self { $($pattern => FailureKind::$variant,)* }
            }
        }
    };
}

failure_kinds! {
    QueueFull WorkerFailure::QueueFull { .. } => "queue_full",
    Cancelled WorkerFailure::Cancelled => "cancelled",
    InputTooLarge WorkerFailure::InputTooLarge { .. } => "input_too_large",
    Spawn WorkerFailure::Spawn { .. } => "spawn",
    SupervisorPanicked WorkerFailure::SupervisorPanicked => "supervisor_panicked",
    Killed WorkerFailure::Killed { .. } => "killed",
    OutOfMemory WorkerFailure::OutOfMemory { .. } => "out_of_memory",
    CpuLimit WorkerFailure::CpuLimit { .. } => "cpu_limit",
    Deadline WorkerFailure::Deadline { .. } => "deadline",
    TooManyThreads WorkerFailure::TooManyThreads { .. } => "too_many_threads",
    Refused WorkerFailure::Refused { .. } => "refused",
    Panicked WorkerFailure::Panicked { .. } => "panicked",
    JobFailed WorkerFailure::JobFailed(_) => "job_failed",
    Torn WorkerFailure::Torn { .. } => "torn",
    Malformed WorkerFailure::Malformed(_) => "malformed",
    OutputTooLarge WorkerFailure::OutputTooLarge { .. } => "output_too_large",
    SandboxIncomplete WorkerFailure::SandboxIncomplete { .. } => "sandbox_incomplete",
    Exited WorkerFailure::Exited { .. } => "exited",
}
