//! Whether a guest that has run for a tick should let others run.
//!
//! Where every thread that serves has a guest at work, what else has come waits for one of them, so each gives its thread
//! back at every tick. Where a thread is free, whatever comes is done by that: a guest that gave its own back would only be
//! taken up by the other one, on another processor and with cold caches. (Measured on two processors, one Python request of
//! 3.3 ms at a time: 395 such moves a second, and a tenth of the request's time.) It goes on then, but not for long: what it
//! has written, and a call that it has sent off, is on its way only when it has let go.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::runtime::Handle;

/// Ticks after which a guest lets go although a thread is free.
const TICKS_MAX: u32 = 2;

/// Guests at work at this moment. The threads that serve are the process's, and so is this.
static AT_WORK: AtomicUsize = AtomicUsize::new(0);

/// A guest is at work for as long as it is held.
pub(super) struct AtWork(());

/// How long one guest has run at a stretch.
#[derive(Default)]
pub(super) struct Turn {
    ticks: u32,
}

/// Whether all threads that serve are taken, seen by one that is about to serve a request: on every other one there is a guest
/// at work. What can wait or be left out should be then.
pub fn is_crowded() -> bool {
    is_crowded_with(AT_WORK.load(Ordering::Relaxed), threads())
}

/// Whether a processor is free beside the one that asks, which is about to serve a request or has just served one.
pub(super) fn has_room() -> bool {
    has_room_with(AT_WORK.load(Ordering::Relaxed), threads())
}

fn has_room_with(at_work: usize, threads: usize) -> bool {
    threads > 1 && !is_crowded_with(at_work, threads)
}

/// Threads that serve. Outside of a runtime nobody waits for one.
fn threads() -> usize {
    Handle::try_current().map_or(usize::MAX, |runtime| runtime.metrics().num_workers())
}

fn is_crowded_with(at_work: usize, threads: usize) -> bool {
    at_work >= threads.saturating_sub(1).max(1)
}

impl AtWork {
    pub(super) fn begin() -> Self {
        AT_WORK.fetch_add(1, Ordering::Relaxed);
        Self(())
    }
}

impl Drop for AtWork {
    fn drop(&mut self) {
        AT_WORK.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Turn {
    /// A tick is over: whether the guest should let others run, which begins its next turn.
    pub(super) fn is_over(&mut self) -> bool {
        self.is_over_with(AT_WORK.load(Ordering::Relaxed), threads())
    }

    fn is_over_with(&mut self, at_work: usize, threads: usize) -> bool {
        self.ticks += 1;
        let is_over = at_work >= threads || self.ticks >= TICKS_MAX;
        if is_over {
            *self = Self::default();
        }
        is_over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_crowded_where_all_other_threads_have_a_guest() {
        let crowded = [(0, 1), (1, 1), (0, 2), (1, 2), (2, 4), (3, 4)]
            .map(|(at_work, threads)| is_crowded_with(at_work, threads));
        assert_eq!(crowded, [false, true, false, true, false, true]);
    }

    #[test]
    fn there_is_room_beside_where_another_thread_is_free() {
        let room = [(0, 1), (0, 2), (1, 2), (2, 4), (3, 4)].map(|(at_work, threads)| has_room_with(at_work, threads));
        assert_eq!(room, [false, true, false, true, false]);
    }

    #[test]
    fn a_guest_lets_go_at_once_where_no_thread_is_free_and_soon_where_one_is() {
        let mut turn = Turn::default();
        let alone: Vec<bool> = (0..9).map(|_| turn.is_over_with(1, 2)).collect();
        assert_eq!(alone, [false, true, false, true, false, true, false, true, false]);
        assert!(turn.is_over_with(2, 2) && turn.is_over_with(1, 1), "none is free");
        assert!(!turn.is_over_with(1, 2), "its turn has begun anew");
    }
}
