//! When to replace VMs that requests have taken: not while requests that came together are under way.
//!
//! A chain of calls takes its ready VMs within a millisecond or two. If each were replaced at once, the work of that would
//! take a processor and the process's memory map from the calls that follow. So they are replaced when nothing is under way
//! and no call has come for a moment, or so many have come, or it has waited long enough: a busy node has no such moment,
//! and needs its VMs. (A Python function takes milliseconds before it calls the next: that no call came for a moment alone
//! would have VMs made in the middle of such a chain.)
//! What is wanted anew, such as the rest of a chain whose first call has come, is made at once.
//!
//! Pure: time is an argument.

use std::time::{Duration, Instant};

/// Without an arrival for so long, a chain is over: a call between functions of the node follows sooner.
const QUIET: Duration = Duration::from_millis(3);
/// Arrivals after which VMs are made all the same: fewer than are held of a function that is called all the time.
const ARRIVALS_MAX: usize = 8;
/// The longest that making VMs is put off.
const PUT_OFF_MAX: Duration = Duration::from_millis(30);

/// What came since VMs were last made.
pub(super) struct Moment {
    first: Option<Instant>,
    last: Instant,
    arrivals: usize,
}

impl Moment {
    pub(super) fn new(now: Instant) -> Self {
        Self { first: None, last: now, arrivals: 0 }
    }

    pub(super) fn came(&mut self, arrivals: usize, now: Instant) {
        if arrivals > 0 {
            self.first.get_or_insert(now);
            self.last = now;
            self.arrivals += arrivals;
        }
    }

    /// How long VMs should still not be made; if that is no time, what came is forgotten. `is_busy`: whether an invocation
    /// is under way, which is only asked if something came.
    pub(super) fn wait(&mut self, now: Instant, is_busy: impl FnOnce() -> bool) -> Duration {
        let Some(first) = self.first else { return Duration::ZERO };
        let last = if self.arrivals < ARRIVALS_MAX && is_busy() { now } else { self.last };
        let quiet_in = QUIET.saturating_sub(now.saturating_duration_since(last));
        let latest_in = PUT_OFF_MAX.saturating_sub(now.saturating_duration_since(first));
        let wait = if self.arrivals >= ARRIVALS_MAX { Duration::ZERO } else { quiet_in.min(latest_in) };
        if wait.is_zero() {
            *self = Self::new(self.last);
        }
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_chain_is_let_pass_and_a_steady_flow_is_not_waited_for() {
        let (start, idle) = (Instant::now(), || false);
        let mut moment = Moment::new(start);
        assert_eq!(moment.wait(start, idle), Duration::ZERO, "nothing came");
        moment.came(1, start);
        moment.came(2, start + MS);
        assert_eq!(moment.wait(start + MS, idle), QUIET);
        assert_eq!(moment.wait(start + 3 * MS, idle), MS);
        assert_eq!(moment.wait(start + 4 * MS, idle), Duration::ZERO);
        assert_eq!(moment.wait(start + 4 * MS, idle), Duration::ZERO, "once for what came");

        // One every two milliseconds: after eight, or thirty milliseconds.
        let made = |step: Duration, arrivals: usize| {
            let mut moment = Moment::new(start);
            (0..).map(|step_number| step * step_number).find(|at| {
                moment.came(arrivals, start + *at);
                moment.wait(start + *at, idle).is_zero()
            })
        };
        assert_eq!(made(2 * MS, 1), Some(14 * MS));
        assert_eq!(made(MS, 4), Some(MS));
        assert_eq!(made(2 * MS + MS / 2, 0), Some(Duration::ZERO));
        let mut moment = Moment::new(start);
        moment.came(1, start);
        let steps = (0..).take_while(|step| {
            moment.last = start + *step * MS;
            !moment.wait(start + *step * MS, idle).is_zero()
        });
        assert_eq!(steps.count(), 30, "put off for so long at most");
    }

    #[test]
    fn nothing_is_made_while_something_is_under_way_unless_it_takes_long() {
        let (start, busy) = (Instant::now(), || true);
        let mut moment = Moment::new(start);
        assert_eq!(moment.wait(start, || unreachable!("nothing came")), Duration::ZERO);
        moment.came(1, start);
        assert_eq!(moment.wait(start + 12 * MS, busy), QUIET);
        assert_eq!(moment.wait(start + 29 * MS, busy), MS);
        assert_eq!(moment.wait(start + 30 * MS, busy), Duration::ZERO);
        moment.came(1, start + 40 * MS);
        assert_eq!(moment.wait(start + 50 * MS, busy), QUIET);
        assert_eq!(moment.wait(start + 51 * MS, || false), Duration::ZERO, "the chain is over");
        // Many calls need their VMs, whatever is under way.
        moment.came(ARRIVALS_MAX, start + 60 * MS);
        assert_eq!(moment.wait(start + 60 * MS, busy), Duration::ZERO);
    }
}
