//! A thread beside those that serve, which puts VMs back while these go on with the next request.
//!
//! A task of the runtime would not do: the thread that has left it would take it up itself, and until it is done with it nobody
//! sees what has come meanwhile. What is worth a thread is decided elsewhere ([`pace`](super::pace)).

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, OnceLock};

use forerun_driver::afterwards::{self, Work};
use tokio::runtime::Handle;

/// Work that may wait while other work is done. Whoever would have to wait longer is done sooner elsewhere.
const WAITING_MAX: usize = 1;

/// Started for the first work, and ended with this.
#[derive(Default)]
pub(super) struct Aside(OnceLock<Option<SyncSender<(Work, Handle)>>>);

impl Aside {
    /// Has `work` done by the other thread, of which what has to wait becomes a task of `runtime`.
    ///
    /// # Errors
    /// There is no such thread, or it has too much to do: here it is.
    pub(super) fn leave(&self, work: Work, runtime: Handle) -> Result<(), Work> {
        let Some(queue) = self.0.get_or_init(start) else { return Err(work) };
        queue.try_send((work, runtime)).map_err(|error| match error {
            TrySendError::Full((work, _)) | TrySendError::Disconnected((work, _)) => work,
        })
    }
}

/// What one revision has done there.
pub(super) struct OfRevision {
    aside: Arc<Aside>,
    under_way: Arc<AtomicU32>,
}

/// Something is under way for as long as it is held.
struct UnderWay(Arc<AtomicU32>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl OfRevision {
    pub(super) fn new(aside: Arc<Aside>) -> Self {
        Self { aside, under_way: Arc::default() }
    }

    /// Whether nothing is under way.
    pub(super) fn is_done(&self) -> bool {
        self.under_way.load(Ordering::Relaxed) == 0
    }

    /// As [`Aside::leave`].
    pub(super) fn leave(&self, work: Work, runtime: Handle) -> Result<(), Work> {
        self.under_way.fetch_add(1, Ordering::Relaxed);
        let under_way = UnderWay(Arc::clone(&self.under_way));
        let counted = async move {
            work.await;
            drop(under_way);
        };
        self.aside.leave(Box::pin(counted), runtime)
    }
}

/// Nothing where no thread can be had.
fn start() -> Option<SyncSender<(Work, Handle)>> {
    let (queue, left) = sync_channel(WAITING_MAX);
    match std::thread::Builder::new().name("put-back".into()).spawn(move || put_back(&left)) {
        Ok(_) => Some(queue),
        Err(error) => {
            tracing::warn!(%error, "no thread puts VMs back beside those that serve");
            None
        }
    }
}

fn put_back(left: &Receiver<(Work, Handle)>) {
    for (work, runtime) in left {
        let _within = runtime.enter();
        if let Some(rest) = afterwards::begin(work) {
            runtime.spawn(rest);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn work_is_done_by_another_thread_and_what_waits_becomes_a_task() {
        let aside = Aside::default();
        let (said, heard) = mpsc::channel();
        let here = std::thread::current().id();
        let (go_on, wait) = tokio::sync::oneshot::channel::<()>();
        let work: Work = Box::pin(async move {
            said.send(std::thread::current().id() != here).unwrap();
            wait.await.unwrap();
            said.send(true).unwrap();
        });
        aside.leave(work, Handle::current()).ok().unwrap();
        assert!(heard.recv().unwrap());
        go_on.send(()).unwrap();
        while let Err(mpsc::TryRecvError::Empty) = heard.try_recv() {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn what_would_wait_for_long_is_given_back() {
        let aside = Aside::default();
        let (go_on, wait) = mpsc::channel::<()>();
        let (began, has_begun) = mpsc::channel();
        let blocking: Work = Box::pin(async move {
            began.send(()).unwrap();
            wait.recv().unwrap();
        });
        let revision = OfRevision::new(Arc::new(aside));
        assert!(revision.is_done());
        revision.leave(blocking, Handle::current()).ok().unwrap();
        has_begun.recv().unwrap();
        let left: Vec<bool> = (0..3).map(|_| revision.leave(Box::pin(async {}), Handle::current()).is_ok()).collect();
        assert_eq!(left, [true, false, false]);
        assert!(!revision.is_done());
        go_on.send(()).unwrap();
        while !revision.is_done() {
            std::thread::yield_now();
        }
    }
}
