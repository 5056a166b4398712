//! HTTP/2 streams: a task each, so that one slow guest does not hold up its neighbours on the connection.
//!
//! A stream whose client takes nothing more is not polled by hyper, so its body cannot notice that time
//! is up; the task does. It learns its deadline in a roundabout way: hyper calls the service and then,
//! in the same breath, hands the stream's future to the executor, so the newest deadline is the stream's.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use pin_project_lite::pin_project;
use tokio::time::Sleep;

use super::state::{ConnectionState, NEVER_MS};
use crate::core::Core;

#[derive(Clone)]
pub(super) struct StreamExecutor {
    connection: Arc<ConnectionState>,
    /// Moment zero of the deadlines.
    start: Instant,
}

impl StreamExecutor {
    pub(super) fn new(core: &Core, connection: &Arc<ConnectionState>) -> Self {
        Self { connection: Arc::clone(connection), start: core.moment(0) }
    }
}

impl<F> hyper::rt::Executor<F> for StreamExecutor
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, stream: F) {
        match self.connection.take_newest_stream() {
            Some(until_ms) => tokio::spawn(Bounded { stream, until_ms, start: self.start, timer: None }),
            None => tokio::spawn(stream),
        };
    }
}

pin_project! {
    /// A stream that is dropped, and thereby reset, when its time is up.
    struct Bounded<F> {
        #[pin]
        stream: F,
        until_ms: Arc<AtomicU64>,
        start: Instant,
        timer: Option<Pin<Box<Sleep>>>,
    }
}

impl<F: Future<Output = ()>> Future for Bounded<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        if this.stream.poll(context).is_ready() {
            return Poll::Ready(());
        }
        let until_ms = this.until_ms.load(Ordering::Relaxed);
        if until_ms == NEVER_MS {
            return Poll::Pending;
        }
        let until = *this.start + Duration::from_millis(until_ms);
        this.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until.into()))).as_mut().poll(context)
    }
}
