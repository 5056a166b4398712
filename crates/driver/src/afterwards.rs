//! Work that is done once a response is written, by the thread that has written it.
//!
//! What a program has to do when it has answered (put a VM back) could be a task of its own. The runtime would then wake
//! another thread for it, often before the response is written, and the VM would move to that thread's processor and back
//! with a later request. Of a Python function whose VMs are put back, on two cores, that cost 16 % of the requests over
//! two connections and a sixth of p99 over sixteen; over one without a pause nothing, since the next request waits then.
//!
//! So who writes responses collects such work ([`collect`]), and does it ([`begin`]) after each turn. Nothing here decides
//! what is short enough for that: work that may take longer belongs into a task.

use std::cell::RefCell;
use std::task::{Context, Waker};

use crate::program::BoxFuture;

/// Work that was left for after a response.
pub type Work = BoxFuture<()>;

thread_local! {
    /// Nothing where nobody collects.
    static COLLECTED: RefCell<Option<Vec<Work>>> = const { RefCell::new(None) };
}

/// Puts back what was there before, also when `poll` panics.
struct Outer(Option<Vec<Work>>);

impl Drop for Outer {
    fn drop(&mut self) {
        COLLECTED.set(self.0.take());
    }
}

/// Runs `poll`, and gives the work that was left meanwhile on this thread, in that order.
pub fn collect<R>(poll: impl FnOnce() -> R) -> (R, Vec<Work>) {
    let outer = Outer(COLLECTED.replace(Some(Vec::new())));
    let result = poll();
    let work = COLLECTED.take().unwrap_or_default();
    drop(outer);
    (result, work)
}

/// Leaves `work` for the one who writes the response.
///
/// # Errors
/// Nobody collects it on this thread now: here it is.
pub fn leave(work: Work) -> Result<(), Work> {
    COLLECTED.with_borrow_mut(|collected| match collected {
        Some(collected) => {
            collected.push(work);
            Ok(())
        }
        None => Err(work),
    })
}

/// Does as much of `work` as can be done without waiting; gives back what is left of it.
pub fn begin(mut work: Work) -> Option<Work> {
    let pending = work.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending();
    pending.then_some(work)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    fn counting(counter: &Arc<AtomicU32>) -> Work {
        let counter = Arc::clone(counter);
        Box::pin(async move {
            counter.fetch_add(1, Ordering::Relaxed);
        })
    }

    #[test]
    fn work_is_collected_on_this_thread_only_and_only_meanwhile() {
        let counter = Arc::new(AtomicU32::new(0));
        assert!(leave(counting(&counter)).is_err());
        let (result, work) = collect(|| {
            leave(counting(&counter)).ok().unwrap();
            let elsewhere = counting(&counter);
            assert!(std::thread::spawn(|| leave(elsewhere).is_err()).join().unwrap());
            let (inner, of_inner) = collect(|| leave(counting(&counter)).is_ok());
            assert_eq!((inner, of_inner.len()), (true, 1));
            leave(counting(&counter)).ok().unwrap();
            7
        });
        assert_eq!((result, work.len(), counter.load(Ordering::Relaxed)), (7, 2, 0));
        assert!(work.into_iter().all(|work| begin(work).is_none()));
        assert_eq!(counter.load(Ordering::Relaxed), 2);
        assert!(leave(counting(&counter)).is_err());
    }

    #[test]
    fn a_panic_leaves_nobody_collecting() {
        let panicked = std::panic::catch_unwind(|| collect(|| panic!("as a test wants it")));
        assert!(panicked.is_err());
        assert!(leave(Box::pin(async {})).is_err());
    }

    #[test]
    fn work_that_has_to_wait_is_given_back() {
        let mut waited = false;
        let wait_once = std::future::poll_fn(move |_| {
            if std::mem::replace(&mut waited, true) { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
        });
        let rest = begin(Box::pin(wait_once)).unwrap();
        assert!(begin(rest).is_none());
    }
}
