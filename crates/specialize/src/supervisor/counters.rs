//! What happened so far, counted: nothing a worker does passes silently.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::failure::FailureKind;
use crate::guard::Guard;
use crate::supervisor::handle::Finished;

/// Counts of one supervisor.
#[derive(Debug)]
pub(super) struct Counters {
    pub(super) started: AtomicU64,
    succeeded: AtomicU64,
    failed: Vec<AtomicU64>,
    missing: Vec<AtomicU64>,
    log_bytes_dropped: AtomicU64,
    progress_lines_dropped: AtomicU64,
}

impl Default for Counters {
    fn default() -> Self {
        let zeros = |count: usize| (0..count).map(|_| AtomicU64::new(0)).collect();
        Self {
            started: AtomicU64::new(0),
            succeeded: AtomicU64::new(0),
            failed: zeros(FailureKind::ALL.len()),
            missing: zeros(Guard::ALL.len()),
            log_bytes_dropped: AtomicU64::new(0),
            progress_lines_dropped: AtomicU64::new(0),
        }
    }
}

/// Counts at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CounterSnapshot {
    /// Jobs asked for.
    pub started: u64,
    /// Jobs that gave an artifact.
    pub succeeded: u64,
    /// Jobs that did not, by the name of the failure; all names, in a fixed order.
    pub failed: Vec<(FailureKind, u64)>,
    /// Workers that ran without a part of the sandbox, by that part; all parts, in a fixed order.
    pub sandbox_missing: Vec<(Guard, u64)>,
    /// Bytes of workers' logs that were not kept.
    pub log_bytes_dropped: u64,
    /// Progress lines that were not passed on.
    pub progress_lines_dropped: u64,
}

impl CounterSnapshot {
    /// Jobs that failed in one way.
    pub fn failed_by(&self, kind: FailureKind) -> u64 {
        self.failed.iter().find(|(name, _)| *name == kind).map_or(0, |(_, count)| *count)
    }
}

impl Counters {
    pub(super) fn count(&self, finished: &Finished) {
        match &finished.outcome {
            Ok(_) => self.succeeded.fetch_add(1, Ordering::Relaxed),
            Err(failure) => self.failed[failure.kind() as usize].fetch_add(1, Ordering::Relaxed),
        };
        for guard in finished.sandbox.missing() {
            self.missing[guard.index()].fetch_add(1, Ordering::Relaxed);
        }
        self.log_bytes_dropped.fetch_add(finished.log_bytes_dropped, Ordering::Relaxed);
        self.progress_lines_dropped.fetch_add(finished.progress_lines_dropped, Ordering::Relaxed);
    }

    pub(super) fn snapshot(&self) -> CounterSnapshot {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        CounterSnapshot {
            started: read(&self.started),
            succeeded: read(&self.succeeded),
            failed: FailureKind::ALL.iter().copied().zip(self.failed.iter().map(read)).collect(),
            sandbox_missing: Guard::ALL.into_iter().zip(self.missing.iter().map(read)).collect(),
            log_bytes_dropped: read(&self.log_bytes_dropped),
            progress_lines_dropped: read(&self.progress_lines_dropped),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::WorkerFailure;
    use crate::guard::SandboxReport;

    #[test]
    fn each_end_has_its_own_counter() {
        let counters = Counters::default();
        let mut finished = Finished::without_worker(WorkerFailure::Deadline { wall_ms_max: 1 });
        finished.sandbox = SandboxReport::Missing(vec![Guard::SystemCalls]);
        counters.count(&finished);
        let snapshot = counters.snapshot();
        let total: u64 = snapshot.failed.iter().map(|(_, count)| count).sum();
        assert_eq!((snapshot.failed_by(FailureKind::Deadline), total), (1, 1));
        assert_eq!(snapshot.sandbox_missing.last(), Some(&(Guard::SystemCalls, 1)));
    }
}
