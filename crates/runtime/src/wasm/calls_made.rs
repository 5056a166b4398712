//! How long a guest waits, while it serves one request, for what it has called.
//!
//! Whatever it does meanwhile counts as waiting, too: what is wanted is the time that would be there without its calls,
//! at most.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// The calls of one VM's request; shared by the parts of a VM.
#[derive(Clone, Default)]
pub(super) struct CallsMade(Arc<Mutex<Waiting>>);

#[derive(Default)]
struct Waiting {
    /// Which request this is, so that a call that outlives its own is not counted for the next one.
    request: u64,
    under_way: u32,
    /// Since when at least one has been.
    since: Option<Instant>,
    before: Duration,
}

/// A call that has no answer yet; it has one, or is given up, when this is dropped.
pub(super) struct UnderWay {
    calls: CallsMade,
    request: u64,
}

impl CallsMade {
    /// Another request begins.
    pub(super) fn forget(&self) {
        let mut waiting = self.0.lock();
        *waiting = Waiting { request: waiting.request.wrapping_add(1), ..Waiting::default() };
    }

    /// A call is made.
    pub(super) fn begin(&self) -> UnderWay {
        let mut waiting = self.0.lock();
        if waiting.under_way == 0 {
            waiting.since = Some(Instant::now());
        }
        waiting.under_way += 1;
        UnderWay { calls: self.clone(), request: waiting.request }
    }

    /// Time in which at least one was under way, until now.
    pub(super) fn waited(&self) -> Duration {
        let waiting = self.0.lock();
        waiting.before + waiting.since.map_or(Duration::ZERO, |since| since.elapsed())
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut waiting = self.calls.0.lock();
        if waiting.request != self.request {
            return;
        }
        waiting.under_way -= 1;
        if waiting.under_way == 0
            && let Some(since) = waiting.since.take()
        {
            waiting.before += since.elapsed();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAUSE: Duration = Duration::from_millis(5);

    #[test]
    fn time_counts_once_however_many_calls_are_under_way() {
        let calls = CallsMade::default();
        assert_eq!(calls.waited(), Duration::ZERO);
        let began = Instant::now();
        let (first, second) = (calls.begin(), calls.begin());
        std::thread::sleep(PAUSE);
        drop(first);
        std::thread::sleep(PAUSE);
        assert!(calls.waited() >= 2 * PAUSE);
        drop(second);
        let waited = calls.waited();
        assert!((2 * PAUSE..=began.elapsed()).contains(&waited), "{waited:?}");
        std::thread::sleep(PAUSE);
        assert_eq!(calls.waited(), waited);
    }

    #[test]
    fn a_call_that_outlives_its_request_is_nothing_to_the_next_one() {
        let calls = CallsMade::default();
        let left_behind = calls.begin();
        calls.forget();
        let own = calls.begin();
        drop(left_behind);
        std::thread::sleep(PAUSE);
        assert!(calls.waited() >= PAUSE);
        drop(own);
    }
}
