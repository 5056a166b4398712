//! What a worker imposes on itself before it looks at its job, and the bounds of the protocol.

/// Largest component a job may carry: as large as the largest that can be deployed.
pub(crate) const COMPONENT_BYTES_MAX: u64 = 256 << 20;
/// Largest parameters of a job, as JSON: a profile with every function of a 20 MB component is below 4 MiB.
pub(crate) const PARAMETERS_BYTES_MAX: u64 = 16 << 20;
/// Longest name of a job's error: it becomes a metric's label.
pub(crate) const ERROR_NAME_BYTES_MAX: usize = 64;
/// Longest detail of a job's error and of a panic's message: a person reads it.
pub(crate) const ERROR_DETAIL_BYTES_MAX: usize = 4 << 10;
/// Longest line of progress or log that is looked at; the rest of a longer one is dropped.
pub(crate) const LINE_BYTES_MAX: usize = 4 << 10;
/// Progress lines of one job that are passed on; ten a permille are more than anyone watches.
pub(crate) const PROGRESS_LINES_MAX: u64 = 10_000;
/// The end of a worker's log that is kept, for the last words before its death.
pub(crate) const LOG_BYTES_MAX: usize = 16 << 10;
/// Address space beyond the memory limit: the program itself, guard pages, the allocator's reserved
/// but unused ranges (64 MiB a thread in glibc). It costs nothing, but counts for `RLIMIT_AS`.
pub(crate) const ADDRESS_SPACE_SLACK_BYTES: u64 = 4 << 30;

/// Resident memory beyond the memory limit at which the supervisor ends a worker: the program's own pages.
pub(crate) const RESIDENT_SLACK_BYTES: u64 = 64 << 20;

/// Which share of the processors a worker gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheduling {
    /// `SCHED_IDLE` and nice 19: only what nobody else wants. On a machine that is always busy a
    /// worker may hardly get on; the deadline then ends it.
    Idle,
    /// Nice 19: about a seventieth beside a busy thread of normal priority.
    Nice,
    /// As the server itself; for tests and for machines that do nothing else.
    Normal,
}

/// The bounds of one worker process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkerLimits {
    /// Private writable memory beyond what the process has when it starts (`RLIMIT_DATA`); the address
    /// space is bounded 4 GiB above it. The supervisor watches the resident memory beside it.
    pub memory_bytes_max: u64,
    /// Processor time of all threads together, rounded up to whole seconds (`RLIMIT_CPU`).
    pub cpu_ms_max: u64,
    /// Size of the artifact.
    pub output_bytes_max: u64,
    /// Threads at the same time, the main one included. The supervisor watches it and the worker may
    /// use it to size its pools: `RLIMIT_NPROC` would count the server's own threads too.
    pub threads_max: u32,
    /// Its share of the processors.
    pub scheduling: Scheduling,
    /// Whether a job is refused where the kernel lacks a part of the sandbox.
    pub sandbox_required: bool,
}
