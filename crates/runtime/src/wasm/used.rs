//! VMs that have served and wait to be put back or freed.
//!
//! That takes a processor, the caches and the process's memory map from whoever runs meanwhile, and behind the request of a
//! function that is called now and then it is often the rest of a chain of calls that does: the shop's checkout, six
//! functions, took a quarter longer for it (1.51 ms against 1.08, all VMs put back). So such a function's VM waits for a
//! share of the time between its calls. One that is called all the time needs its VM at once.
//!
//! A request that finds nothing better takes a VM that waits and has it put back first: less work than making one.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use forerun_types::ServePath;
use parking_lot::Mutex;

use super::vm::Vm;

/// A VM waits for the time since its function's call before, divided by this.
const SHARE_OF_GAP: u32 = 8;
/// Shorter times are not worth a timer.
const PUT_OFF_MIN: Duration = Duration::from_millis(2);

/// Those of one revision.
pub(super) struct UsedVms {
    put_off_max: Duration,
    created: Instant,
    /// When the function was last called, in microseconds since `created`; nothing before the first call.
    called_us: AtomicU64,
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    next: u64,
    vms: VecDeque<(Ticket, Box<Vm>, ServePath)>,
}

/// Names one that waits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Ticket(u64);

/// That there was no call yet.
const NEVER: u64 = u64::MAX;

impl UsedVms {
    pub(super) fn new(put_off_max: Duration, now: Instant) -> Self {
        Self { put_off_max, created: now, called_us: AtomicU64::new(NEVER), waiting: Mutex::default() }
    }

    /// Takes note of a call; says how long its VM should wait when it has served.
    pub(super) fn called(&self, now: Instant) -> Duration {
        let now_us = u64::try_from(now.saturating_duration_since(self.created).as_micros()).unwrap_or(NEVER - 1);
        match self.called_us.swap(now_us, Ordering::Relaxed) {
            NEVER => Duration::ZERO,
            before_us => put_off(Duration::from_micros(now_us.saturating_sub(before_us)), self.put_off_max),
        }
    }

    pub(super) fn add(&self, vm: Box<Vm>, serve_path: ServePath) -> Ticket {
        let mut waiting = self.waiting.lock();
        let ticket = Ticket(waiting.next);
        waiting.next += 1;
        waiting.vms.push_back((ticket, vm, serve_path));
        ticket
    }

    /// The VM of `ticket`, if it still waits.
    pub(super) fn take(&self, ticket: Ticket) -> Option<(Box<Vm>, ServePath)> {
        let mut waiting = self.waiting.lock();
        let at = waiting.vms.iter().position(|(waits, ..)| *waits == ticket)?;
        waiting.vms.remove(at).map(|(_, vm, serve_path)| (vm, serve_path))
    }

    /// The one that has waited longest.
    pub(super) fn take_any(&self) -> Option<(Box<Vm>, ServePath)> {
        self.waiting.lock().vms.pop_front().map(|(_, vm, serve_path)| (vm, serve_path))
    }

    pub(super) fn count(&self) -> u32 {
        u32::try_from(self.waiting.lock().vms.len()).unwrap_or(u32::MAX)
    }
}

/// How long a VM waits whose function was called `gap` after the call before.
fn put_off(gap: Duration, put_off_max: Duration) -> Duration {
    let wait = (gap / SHARE_OF_GAP).min(put_off_max);
    if wait < PUT_OFF_MIN { Duration::ZERO } else { wait }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn only_what_is_called_now_and_then_waits_and_never_for_long() {
        let waits = |gap: Duration| put_off(gap, 30 * MS);
        assert_eq!([MS / 10, 15 * MS].map(waits), [Duration::ZERO; 2]);
        assert_eq!([16 * MS, 80 * MS, 3_600_000 * MS].map(waits), [2 * MS, 10 * MS, 30 * MS]);
        assert_eq!(put_off(80 * MS, Duration::ZERO), Duration::ZERO);
    }

    #[test]
    fn the_first_call_and_those_right_behind_one_another_do_not_wait() {
        let start = Instant::now();
        let used = UsedVms::new(30 * MS, start);
        let calls = [40, 41, 121, 122].map(|at_ms| used.called(start + at_ms * MS));
        assert_eq!(calls, [Duration::ZERO, Duration::ZERO, 10 * MS, Duration::ZERO]);
    }
}
