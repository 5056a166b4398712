//! Threads that learn and report: they stand back for those that answer requests, and are interrupted by them.
//!
//! Both are needed where processors are short. A thread that wakes to answer waits for one that stands back until that
//! sleeps, some hundred microseconds later, unless it may interrupt it; and one that answers and wakes another is itself
//! interrupted by it, unless that lets others go first (`forerun-bench overhead` and `isolation` show it in the 99th
//! percentile of small requests, `chain` in the first function).

/// From now on the calling thread is one of those.
pub(crate) fn in_background() {
    forerun_telemetry::stand_back();
    behind_requests();
}

/// From now on the calling thread interrupts none that answers. It gets as much of a processor as any: what it does is
/// little, and should be done soon.
pub(crate) fn behind_requests() {
    // Kernels before 6.12 know half of it, and there is nothing to do about that.
    let _ = forerun_runtime::let_others_go_first();
}
