//! Threads that learn and report: they stand back for those that answer requests, and are interrupted by them.
//!
//! Both are needed where processors are short. A thread that wakes to answer waits for one that stands back until that
//! sleeps, some hundred microseconds later, unless it may interrupt it (`forerun-bench overhead` and `isolation` show it
//! in the 99th percentile of small requests).

/// From now on the calling thread is one of those.
pub(crate) fn in_background() {
    forerun_telemetry::stand_back();
    // Kernels before 6.12 do not know it, and there is nothing to do about that.
    let _ = forerun_runtime::let_others_interrupt();
}
