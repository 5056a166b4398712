//! What the parts of one connection tell each other: atomics, because HTTP/2 streams run in tasks of their own.

use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::task::{Context, Poll};

use futures::task::AtomicWaker;
use http::Version;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A moment that never comes.
pub(crate) const NEVER_MS: u64 = u64::MAX;

/// What the node wants of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Order {
    /// Go on.
    Serve,
    /// Close when the requests under way are answered.
    Finish,
    /// Close now.
    Cut,
}

pub(crate) struct ConnectionState {
    order: AtomicU8,
    waker: AtomicWaker,
    https: bool,
    client: IpAddr,
    http2: AtomicBool,
    requests_under_way: AtomicU32,
    requests_total: AtomicU64,
    /// Bytes came in since the last head was complete.
    head_begun: AtomicBool,
    /// When the request under way must be over; HTTP/1.1 only.
    busy_until_ms: AtomicU64,
    /// The deadline of the stream that was begun last; HTTP/2 only. See `stream`.
    newest_stream: Mutex<Option<Arc<AtomicU64>>>,
}

/// Held as long as a request of the connection is under way, its answer included.
pub(crate) struct InFlight {
    connection: Arc<ConnectionState>,
    stream_until_ms: Option<Arc<AtomicU64>>,
}

impl ConnectionState {
    pub(crate) fn new(https: bool, client: IpAddr) -> Self {
        Self {
            order: AtomicU8::new(0),
            waker: AtomicWaker::new(),
            https,
            client,
            http2: AtomicBool::new(false),
            requests_under_way: AtomicU32::new(0),
            requests_total: AtomicU64::new(0),
            head_begun: AtomicBool::new(false),
            busy_until_ms: AtomicU64::new(NEVER_MS),
            newest_stream: Mutex::new(None),
        }
    }

    /// Changes the order and tells the connection's task. An order is never taken back.
    pub(crate) fn command(&self, order: Order) {
        let code = match order {
            Order::Serve => 0,
            Order::Finish => 1,
            Order::Cut => 2,
        };
        self.order.fetch_max(code, Ordering::Release);
        self.waker.wake();
    }

    pub(crate) fn order(&self) -> Order {
        match self.order.load(Ordering::Acquire) {
            0 => Order::Serve,
            1 => Order::Finish,
            _ => Order::Cut,
        }
    }

    pub(crate) fn register(&self, context: &Context<'_>) {
        self.waker.register(context.waker());
    }

    pub(crate) fn https(&self) -> bool {
        self.https
    }

    /// The other end, as the network knows it.
    pub(crate) fn client(&self) -> IpAddr {
        self.client
    }

    /// A request's head is complete.
    pub(crate) fn begin(self: &Arc<Self>, version: Version) -> InFlight {
        self.head_begun.store(false, Ordering::Relaxed);
        self.requests_total.fetch_add(1, Ordering::Relaxed);
        self.requests_under_way.fetch_add(1, Ordering::Relaxed);
        let stream_until_ms = (version == Version::HTTP_2).then(|| self.begin_stream());
        InFlight { connection: Arc::clone(self), stream_until_ms }
    }

    fn begin_stream(&self) -> Arc<AtomicU64> {
        self.http2.store(true, Ordering::Relaxed);
        let until_ms = Arc::new(AtomicU64::new(NEVER_MS));
        *self.newest_stream.lock() = Some(Arc::clone(&until_ms));
        until_ms
    }

    pub(super) fn take_newest_stream(&self) -> Option<Arc<AtomicU64>> {
        self.newest_stream.lock().take()
    }

    pub(super) fn is_http2(&self) -> bool {
        self.http2.load(Ordering::Relaxed)
    }

    pub(crate) fn requests_under_way(&self) -> u32 {
        self.requests_under_way.load(Ordering::Relaxed)
    }

    pub(super) fn requests_total(&self) -> u64 {
        self.requests_total.load(Ordering::Relaxed)
    }

    pub(super) fn head_begun(&self) -> bool {
        self.head_begun.load(Ordering::Relaxed)
    }

    pub(super) fn busy_until_ms(&self) -> u64 {
        self.busy_until_ms.load(Ordering::Relaxed)
    }

    fn bytes_came(&self) {
        if !self.head_begun() && self.requests_under_way() == 0 {
            self.head_begun.store(true, Ordering::Relaxed);
        }
    }
}

impl InFlight {
    pub(crate) fn is_http2(&self) -> bool {
        self.stream_until_ms.is_some()
    }

    /// The request must be over by then; what is left of it is cut off afterwards.
    pub(crate) fn busy_until(&self, until_ms: u64) {
        match &self.stream_until_ms {
            Some(stream) => stream.store(until_ms, Ordering::Relaxed),
            None => self.connection.busy_until_ms.store(until_ms, Ordering::Relaxed),
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.connection.busy_until_ms.store(NEVER_MS, Ordering::Relaxed);
        self.connection.requests_under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A stream that tells the connection's state when bytes come in.
pub(super) struct WatchedStream<S> {
    inner: S,
    state: Arc<ConnectionState>,
}

impl<S> WatchedStream<S> {
    pub(super) fn new(inner: S, state: Arc<ConnectionState>) -> Self {
        Self { inner, state }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for WatchedStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.inner).poll_read(context, buffer);
        if buffer.filled().len() > before {
            self.state.bytes_came();
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for WatchedStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(context, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}
