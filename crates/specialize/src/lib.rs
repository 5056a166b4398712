//! Work that must not harm the server, done in a process of its own: one job, one process.
//!
//! The specializer compiles code that strangers wrote. It may use up all memory, run for ever, panic,
//! or be taken over. So it runs in a child process that can do nothing but compute: [`worker_main`] is
//! that process (the hidden role `worker` of the one binary), [`Supervisor`] starts, bounds, watches
//! and always reaps it, and gives every end of it a name ([`WorkerFailure`]).
//!
//! ```text
//!  Supervisor                                             worker process
//!  Job ──► sealed memory file (frame) ── stdin ────────►  read limits, lock itself in, read the job
//!  Progress, log ◄── pipe ────────────── stderr ───────   work(JobInput)
//!  Artifact ◄── memory file (frame, BLAKE3) ─ stdout ──   Result<Vec<u8>, JobError>
//! ```
//!
//! What the work is, is not known here: it is a function given to [`worker_main`]. Nor is it decided
//! here whether a failed job is tried again; that is up to whoever asked for it.
//!
//! The server that starts workers gives up what it does not need itself by [`confine_server`].
//!
//! [`passes`] is apart from all this: what may be done to a component before its code is made, as pure functions.

mod failure;
mod frame;
mod guard;
mod job;
mod limits;
pub mod passes;
mod proc_status;
mod progress;
mod sandbox;
mod supervisor;
mod worker;

pub use failure::{FailureKind, MalformedOutput, OutOfMemoryEvidence, WorkerFailure};
pub use guard::{Guard, SandboxReport};
pub use job::{Artifact, Job, JobError, JobInput, JobKind};
pub use limits::{Scheduling, WorkerLimits};
pub use progress::{Progress, ProgressSender};
pub use sandbox::{NoGuard, ServerPaths, ServerSandbox, confine_server, server_sandbox_support};
pub use supervisor::Supervisor;
pub use supervisor::counters::CounterSnapshot;
pub use supervisor::handle::{Finished, JobHandle};
pub use supervisor::settings::{SandboxNeed, WorkerSettings};
pub use supervisor::watch::Usage;
pub use worker::worker_main;
