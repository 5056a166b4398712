//! One client connection: HTTP/1.1 or HTTP/2 by its first bytes, watched for idleness, slowness and shutdown.
//!
//! ```text
//!            first byte of a head            head complete
//!   idle ─────────────────────────► head ──────────────────► busy ──► idle
//!    │ idle_timeout                  │ header_read_timeout     │ deadline of the request (HTTP/1.1;
//!    ▼                               ▼                         ▼ HTTP/2 streams have their own)
//!  closed                          closed                    closed
//! ```
//! A connection has one timer. It is not set anew for each request: when it fires, the state is looked
//! at, and the timer set to the moment that matters then. It is only ever moved forward when a state is
//! entered whose limit comes sooner, which in the usual mix of requests is almost never.

mod registry;
mod state;
mod stream;
mod watchdog;

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use forerun_driver::afterwards;
use http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};

pub(crate) use registry::{Connections, Place};
pub(crate) use state::{ConnectionState, InFlight, Order};

use crate::core::Core;
use crate::serve::{Address, Origin, serve};
use state::WatchedStream;
use stream::StreamExecutor;
use watchdog::{Alarm, Watchdog};

/// Headers of one request: as many as hyper parses without a heap allocation. It answers more with 431 by
/// itself on HTTP/1.1; on HTTP/2, `serve` does.
pub(crate) const HEADER_COUNT_MAX: usize = 100;

/// Hyper's own lower bound of its HTTP/1.1 read buffer, which bounds a head.
const HTTP1_BUFFER_BYTES_MIN: usize = 8192;

/// Streams that a client reset before they were looked at; beyond it, the connection is closed
/// ("rapid reset", CVE-2023-44487). h2's own default.
const HTTP2_PENDING_RESETS_MAX: usize = 20;

/// Streams that this side reset because of a client's errors; beyond it, the connection is closed. h2's own default.
const HTTP2_LOCAL_RESETS_MAX: usize = 1024;

/// Serves requests on `stream` until it closes, is closed for a reason, or is cut.
pub(crate) async fn drive<S>(core: Arc<Core>, state: Arc<ConnectionState>, stream: S)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let builder = builder(&core, &state);
    let io = TokioIo::new(WatchedStream::new(stream, Arc::clone(&state)));
    let service = service_fn(|request: Request<Incoming>| {
        // Begun here and not in the future, which an HTTP/2 stream polls later, in a task of its own.
        let in_flight = state.begin(request.version());
        answer(Arc::clone(&core), Origin::Client { in_flight, https: state.https(), client: state.client() }, request)
    });
    let mut connection = pin!(builder.serve_connection(io, service));
    let mut watchdog = Watchdog::new(&core);
    let mut closing = false;
    poll_fn(|context| {
        state.register(context);
        // An error here is a client's: broken framing, reset, gone. There is nobody left to tell.
        let (polled, work) = afterwards::collect(|| connection.as_mut().poll(context));
        work.into_iter().filter_map(afterwards::begin).for_each(|rest| drop(tokio::spawn(rest)));
        if polled.is_ready() {
            return Poll::Ready(());
        }
        let alarm = watchdog.poll(context, &core, &state);
        let close = match (state.order(), alarm) {
            (Order::Cut, _) => return Poll::Ready(()),
            (Order::Finish, _) => true,
            (Order::Serve, Poll::Pending) => false,
            (Order::Serve, Poll::Ready(Alarm::Idle)) if !closing => true,
            (Order::Serve, Poll::Ready(Alarm::Idle | Alarm::SlowHead | Alarm::SlowReader)) => return Poll::Ready(()),
        };
        if close && !closing {
            closing = true;
            connection.as_mut().graceful_shutdown();
            return connection.as_mut().poll(context).map(|_| ());
        }
        Poll::Pending
    })
    .await;
}

async fn answer(
    core: Arc<Core>,
    origin: Origin,
    request: Request<Incoming>,
) -> Result<http::Response<crate::serve::ResponseBody>, Infallible> {
    Ok(serve(&core, origin, Address::Route, request).await)
}

fn builder(core: &Core, state: &Arc<ConnectionState>) -> auto::Builder<StreamExecutor> {
    let settings = &core.settings;
    let mut builder = auto::Builder::new(StreamExecutor::new(core, state));
    // Twice what is allowed is read, so that most of those who send too much can be told so properly.
    let header_bytes_hard_max = settings.header_bytes_max.saturating_mul(2);
    let buffer_bytes_max = header_bytes_hard_max.max(HTTP1_BUFFER_BYTES_MIN);
    builder.http1().header_read_timeout(None).max_buf_size(buffer_bytes_max);
    builder
        .http2()
        .max_concurrent_streams(settings.http2_streams_max)
        .max_header_list_size(u32::try_from(header_bytes_hard_max).unwrap_or(u32::MAX))
        .max_pending_accept_reset_streams(HTTP2_PENDING_RESETS_MAX)
        .max_local_error_reset_streams(HTTP2_LOCAL_RESETS_MAX);
    builder
}
