//! CPU time of one invocation: what its thread's clock says before and after each time it is polled.
//!
//! Unlike the time that a guest holds its thread, this does not count what the thread waited for a processor. The clock
//! of a thread is a system call and not a look at a page, 0.2 to 1 µs on the machines seen, and an invocation is polled
//! a few times. So one request in [`MEASURED_ONE_IN`] is measured, chosen by its id, and every one that is sampled.

use std::time::Duration;

use forerun_types::InvocationId;
use rustix::time::{ClockId, clock_gettime};

/// At four looks a request and 1 µs each, this costs a quarter of a microsecond in the mean.
const MEASURED_ONE_IN: u128 = 16;

/// CPU time so far, if it is measured.
#[derive(Debug, Clone, Copy)]
pub(super) struct CpuTime(Option<Duration>);

impl CpuTime {
    /// That of an ordinary request.
    pub(super) fn of(id: InvocationId) -> Self {
        // Ids are random; who else chooses requests by their id takes bits from either end.
        let is_measured = (id.as_u128() >> 32).is_multiple_of(MEASURED_ONE_IN);
        if is_measured { Self::always() } else { Self(None) }
    }

    /// That of a request which is looked at more closely.
    pub(super) fn always() -> Self {
        Self(Some(Duration::ZERO))
    }

    /// Runs `work`, which does not change threads, and adds its CPU time.
    pub(super) fn during<R>(&mut self, work: impl FnOnce() -> R) -> R {
        let Some(so_far) = self.0 else { return work() };
        let began = thread_time();
        let result = work();
        self.0 = Some(so_far + thread_time().saturating_sub(began));
        result
    }

    /// What it adds up to.
    pub(super) fn total(self) -> Option<Duration> {
        self.0
    }
}

/// CPU time of the calling thread since it began.
fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_counts_and_waiting_does_not() {
        let mut time = CpuTime::always();
        time.during(|| std::thread::sleep(Duration::from_millis(200)));
        let slept = time.total().unwrap();
        // Until the clock has moved, and not for a time of our own: this machine may be busy.
        let spin = || {
            let began = thread_time();
            while thread_time().saturating_sub(began) < Duration::from_millis(2) {
                std::hint::spin_loop();
            }
        };
        time.during(spin);
        assert!(slept < Duration::from_millis(100), "{slept:?}");
        assert!(time.total().unwrap() >= slept + Duration::from_millis(2), "{time:?}");
    }

    #[test]
    fn a_few_requests_are_measured() {
        let measured = |number: u128| CpuTime::of(InvocationId::from_random(number << 32 | 5)).total().is_some();
        assert_eq!((0..1600).filter(|number| measured(*number)).count(), 100);
        let mut unmeasured = CpuTime::of(InvocationId::from_random(1 << 32));
        assert_eq!((unmeasured.during(|| 7), unmeasured.total()), (7, None));
    }
}
