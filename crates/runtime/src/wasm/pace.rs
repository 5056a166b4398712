//! How a function is called, and so when and by whom the VM of a request is put back or freed.
//!
//! That takes a processor, the caches and the process's memory map from whoever runs meanwhile, and behind the request of a
//! function that is called now and then it is often the rest of a chain of calls that does: the shop's checkout, six
//! functions, took a quarter longer for it (1.51 ms against 1.08, all VMs put back). So such a function's VM waits for a
//! share of the time between its calls.
//!
//! One that is called without a pause, one request after the other, would have each request wait for the VM of the one
//! before: .11 of the .29 ms of a small Python request. Where a processor is free, another thread puts the VM back then,
//! and the next request has another VM. A second processor and a second VM take turns with cold caches, though, so it is
//! done for no other: where a client pauses for a millisecond, that request took .36 ms so and .25 without; over two
//! connections on two processors 6 % fewer were answered.
//!
//! What is decided here is what the calls so far speak for; whether it can be done is seen when the request has ended.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A VM waits for the time since its function's call before, divided by this.
const SHARE_OF_GAP: u32 = 8;
/// Shorter times are not worth a timer.
const PUT_OFF_MIN: Duration = Duration::from_millis(2);
/// A request that comes so soon behind the end of the one before finds that one's VM still at being put back.
const PAUSE_US_MAX: u64 = 200;
/// Calls in a row without a pause from which on the next one is expected to come without one, too.
const IN_A_ROW_MIN: u32 = 16;

/// When and by whom the VM of a request is put back or freed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum PutBack {
    /// At once, by the thread that has written the response.
    Here,
    /// At once, by a thread beside those that serve, if that can be.
    Aside,
    /// After so long.
    Later(Duration),
}

/// Of one revision.
pub(super) struct Pace {
    put_off_max: Duration,
    created: Instant,
    /// When the function was last called, in microseconds since `created`; [`NEVER`] before the first call.
    called_us: AtomicU64,
    /// When a request last ended.
    ended_us: AtomicU64,
    /// Calls so far that came without a pause, one after the other.
    in_a_row: AtomicU32,
}

/// That there was none yet.
const NEVER: u64 = u64::MAX;

impl Pace {
    pub(super) fn new(put_off_max: Duration, now: Instant) -> Self {
        let never = || AtomicU64::new(NEVER);
        Self { put_off_max, created: now, called_us: never(), ended_us: never(), in_a_row: AtomicU32::new(0) }
    }

    /// Takes note of a call; says what should become of its VM. `has_room`: whether a processor is free beside its own.
    pub(super) fn called(&self, now: Instant, has_room: bool) -> PutBack {
        let now_us = self.since_created(now);
        let before_us = self.called_us.swap(now_us, Ordering::Relaxed);
        if before_us == NEVER {
            return PutBack::Here;
        }
        let in_a_row = if has_room && self.came_at_once(before_us, now_us) {
            self.in_a_row.load(Ordering::Relaxed).saturating_add(1)
        } else {
            0
        };
        // Of calls at the same time one may be lost: they are none of those that are counted.
        self.in_a_row.store(in_a_row, Ordering::Relaxed);
        match put_off(Duration::from_micros(now_us.saturating_sub(before_us)), self.put_off_max) {
            Duration::ZERO if in_a_row >= IN_A_ROW_MIN => PutBack::Aside,
            Duration::ZERO => PutBack::Here,
            wait => PutBack::Later(wait),
        }
    }

    /// Takes note of the end of a request.
    pub(super) fn ended(&self, now: Instant) {
        self.ended_us.store(self.since_created(now), Ordering::Relaxed);
    }

    /// Whether a call at `now_us` came right behind the end of the one that came at `before_us`.
    fn came_at_once(&self, before_us: u64, now_us: u64) -> bool {
        let ended_us = self.ended_us.load(Ordering::Relaxed);
        ended_us != NEVER && ended_us >= before_us && now_us.saturating_sub(ended_us) <= PAUSE_US_MAX
    }

    fn since_created(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.created).as_micros()).unwrap_or(NEVER - 1)
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
    const US: Duration = Duration::from_micros(1);

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
        let pace = Pace::new(30 * MS, start);
        let calls = [40, 41, 121, 122].map(|at_ms| pace.called(start + at_ms * MS, true));
        assert_eq!(calls, [PutBack::Here, PutBack::Here, PutBack::Later(10 * MS), PutBack::Here]);
    }

    /// Calls `calls` times, each for 300 µs, with `pause` behind it.
    fn call(pace: &Pace, now: &mut Instant, calls: u32, pause: Duration) -> Vec<PutBack> {
        let one = |_| {
            let put_back = pace.called(*now, true);
            *now += 300 * US;
            pace.ended(*now);
            *now += pause;
            put_back
        };
        (0..calls).map(one).collect()
    }

    #[test]
    fn another_thread_puts_back_where_calls_come_one_after_the_other_without_a_pause() {
        let mut now = Instant::now();
        let pace = Pace::new(30 * MS, now);
        let hurried = call(&pace, &mut now, IN_A_ROW_MIN + 3, 50 * US);
        let expected = |number| if number < IN_A_ROW_MIN as usize { PutBack::Here } else { PutBack::Aside };
        assert_eq!(hurried, (0..hurried.len()).map(expected).collect::<Vec<_>>());
        // The first behind the pause could not know of it.
        now += MS;
        assert!(call(&pace, &mut now, 40, MS).iter().all(|put_back| *put_back == PutBack::Here));
        assert_eq!(call(&pace, &mut now, IN_A_ROW_MIN + 1, 50 * US).last(), Some(&PutBack::Aside), "and again");
    }

    #[test]
    fn not_where_no_processor_is_free() {
        let start = Instant::now();
        let pace = Pace::new(30 * MS, start);
        let mut now = start;
        for number in 0..60 {
            assert_eq!(pace.called(now, false), PutBack::Here, "{number}");
            pace.ended(now + 10 * US);
            now += 20 * US;
        }
        // One that was not free is enough to begin anew.
        call(&pace, &mut now, IN_A_ROW_MIN, 50 * US);
        assert_eq!(pace.called(now, false), PutBack::Here);
        assert_eq!(call(&pace, &mut now, 1, 50 * US), [PutBack::Here]);
    }

    #[test]
    fn not_where_the_one_before_has_not_ended() {
        let start = Instant::now();
        let pace = Pace::new(30 * MS, start);
        assert!((0..60).all(|number| pace.called(start + number * US, true) == PutBack::Here));
    }
}
