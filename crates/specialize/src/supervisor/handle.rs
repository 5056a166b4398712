//! A job under way, and how it ended.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;

use crate::failure::WorkerFailure;
use crate::guard::SandboxReport;
use crate::job::Artifact;
use crate::supervisor::watch::Usage;

/// The end of a job with all that is known about it.
#[derive(Clone, Debug)]
pub struct Finished {
    /// What was made, or why not.
    pub outcome: Result<Artifact, WorkerFailure>,
    /// What the worker stood behind.
    pub sandbox: SandboxReport,
    /// What it used.
    pub usage: Usage,
    /// The end of its log, at most 16 KiB.
    pub log: String,
    /// Bytes of its log that were dropped.
    pub log_bytes_dropped: u64,
    /// Progress lines that were not passed on, because there were too many.
    pub progress_lines_dropped: u64,
}

impl Finished {
    /// The end of a job that never had a process.
    pub(super) fn without_worker(failure: WorkerFailure) -> Self {
        Self {
            outcome: Err(failure),
            sandbox: SandboxReport::Unknown,
            usage: Usage::default(),
            log: String::new(),
            log_bytes_dropped: 0,
            progress_lines_dropped: 0,
        }
    }
}

/// What a handle and its supervising thread both look at.
#[derive(Debug, Default)]
pub(super) struct Shared {
    cancelled: AtomicBool,
    /// Zero while there is no process.
    process_id: AtomicU32,
}

impl Shared {
    pub(super) fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    pub(super) fn set_process_id(&self, id: Option<u32>) {
        self.process_id.store(id.unwrap_or(0), Ordering::Relaxed);
    }
}

/// A job under way. Dropping it kills the worker and waits until it is gone, which takes milliseconds.
#[derive(Debug)]
#[must_use = "dropping the handle kills the worker"]
pub struct JobHandle {
    shared: Arc<Shared>,
    state: State,
}

#[derive(Debug)]
enum State {
    Running(JoinHandle<Finished>),
    Finished(Box<Finished>),
    /// The result was taken.
    Taken,
}

impl JobHandle {
    pub(super) fn running(shared: Arc<Shared>, thread: JoinHandle<Finished>) -> Self {
        Self { shared, state: State::Running(thread) }
    }

    pub(super) fn finished(shared: Arc<Shared>, finished: Finished) -> Self {
        Self { shared, state: State::Finished(Box::new(finished)) }
    }

    /// Waits for the end.
    pub fn wait(mut self) -> Finished {
        match std::mem::replace(&mut self.state, State::Taken) {
            State::Running(thread) => {
                thread.join().unwrap_or_else(|_| Finished::without_worker(WorkerFailure::SupervisorPanicked))
            }
            State::Finished(finished) => *finished,
            State::Taken => unreachable!("`wait` takes the handle"),
        }
    }

    /// Asks for the end: the worker is killed soon, and [`Self::wait`] answers [`WorkerFailure::Cancelled`]
    /// unless it was done before.
    pub fn cancel(&self) {
        self.shared.cancelled.store(true, Ordering::Relaxed);
    }

    /// Whether [`Self::wait`] would return at once.
    pub fn is_finished(&self) -> bool {
        match &self.state {
            State::Running(thread) => thread.is_finished(),
            State::Finished(_) | State::Taken => true,
        }
    }

    /// The process id while the worker lives.
    pub fn process_id(&self) -> Option<u32> {
        match self.shared.process_id.load(Ordering::Relaxed) {
            0 => None,
            id => Some(id),
        }
    }
}

impl Drop for JobHandle {
    fn drop(&mut self) {
        if let State::Running(thread) = std::mem::replace(&mut self.state, State::Taken) {
            self.cancel();
            // A panic of the supervising thread was told on stderr; the worker died with its guard.
            let _ = thread.join();
        }
    }
}
