//! The server's side: one process for each job, bounded, watched, and always reaped.
//!
//! ```text
//! start ─► waiting for its turn ─► frame written ─► process started ─► watched ─► dead ─► reaped ─► outcome
//!             │ cancelled              │ fails          │ fails           │ deadline, threads,
//!             ▼                        ▼                ▼                 ▼ cancelled: SIGKILL
//!          Cancelled                 Spawn            Spawn             (dead)
//! ```
//!
//! Each job has a thread of its own from start to end, because a worker asks the kernel to be killed
//! when the *thread* that started it ends.

mod attempt;
pub(crate) mod counters;
pub(crate) mod handle;
mod log;
pub(crate) mod settings;
mod turns;
mod verdict;
pub(crate) mod watch;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use self::attempt::Attempt;
use self::counters::{CounterSnapshot, Counters};
use self::handle::{Finished, JobHandle, Shared};
use self::settings::WorkerSettings;
use self::turns::Turns;
use crate::failure::WorkerFailure;
use crate::job::{Artifact, Job};
use crate::limits::{COMPONENT_BYTES_MAX, PARAMETERS_BYTES_MAX};
use crate::progress::Progress;

/// Starts workers and brings home what they made. Cheap to clone; all clones share turns and counters.
#[derive(Clone, Debug)]
pub struct Supervisor {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    settings: WorkerSettings,
    turns: Turns,
    counters: Counters,
}

impl Supervisor {
    /// Nothing runs before a job comes.
    pub fn new(settings: WorkerSettings) -> Self {
        let turns = Turns::new(settings.at_once_max.max(1), settings.waiting_max);
        Self { inner: Arc::new(Inner { settings, turns, counters: Counters::default() }) }
    }

    /// Does a job and waits for its end. Blocks for up to the deadline, after the jobs before it.
    ///
    /// # Errors
    /// Why there is no artifact, by name. The worker process is gone in any case.
    pub fn run(&self, job: Job) -> Result<Artifact, WorkerFailure> {
        self.start(job, |_| {}).wait().outcome
    }

    /// Begins a job, to be waited for. `on_progress` is called for each progress line of the worker, on
    /// the supervising thread; it should be quick. Dropping the handle kills the worker.
    pub fn start(&self, job: Job, on_progress: impl FnMut(Progress) + Send + 'static) -> JobHandle {
        let shared = Arc::new(Shared::default());
        let counters = &self.inner.counters;
        counters.started.fetch_add(1, Ordering::Relaxed);
        if let Err(failure) = check_size(&job) {
            return self.refused(shared, failure);
        }
        let Some(ticket) = self.inner.turns.register() else {
            let waiting_max = self.inner.settings.waiting_max;
            return self.refused(shared, WorkerFailure::QueueFull { waiting_max });
        };
        let (inner, theirs) = (Arc::clone(&self.inner), Arc::clone(&shared));
        let thread = std::thread::Builder::new().name("specialize-job".to_owned()).spawn(move || {
            let finished = inner.supervise(&job, ticket, &theirs, Box::new(on_progress));
            inner.counters.count(&finished);
            finished
        });
        match thread {
            Ok(thread) => JobHandle::running(shared, thread),
            Err(error) => self.refused(shared, WorkerFailure::Spawn { reason: error.to_string() }),
        }
    }

    /// What happened so far.
    pub fn counters(&self) -> CounterSnapshot {
        self.inner.counters.snapshot()
    }

    fn refused(&self, shared: Arc<Shared>, failure: WorkerFailure) -> JobHandle {
        let finished = Finished::without_worker(failure);
        self.inner.counters.count(&finished);
        JobHandle::finished(shared, finished)
    }
}

impl Inner {
    fn supervise(
        &self,
        job: &Job,
        ticket: turns::Ticket,
        shared: &Shared,
        on_progress: Box<dyn FnMut(Progress)>,
    ) -> Finished {
        let Some(_turn) = self.turns.wait(ticket, || shared.is_cancelled()) else {
            return Finished::without_worker(WorkerFailure::Cancelled);
        };
        match Attempt::begin(&self.settings, job) {
            Ok(attempt) => attempt.finish(&self.settings, shared, on_progress),
            Err(error) => Finished::without_worker(WorkerFailure::Spawn { reason: error.to_string() }),
        }
    }
}

fn check_size(job: &Job) -> Result<(), WorkerFailure> {
    let parts = [
        ("parameters", job.parameters.len() as u64, PARAMETERS_BYTES_MAX),
        ("component bytes", job.component.len() as u64, COMPONENT_BYTES_MAX),
    ];
    for (part, bytes, bytes_max) in parts {
        if bytes > bytes_max {
            return Err(WorkerFailure::InputTooLarge { part, bytes, bytes_max });
        }
    }
    Ok(())
}
