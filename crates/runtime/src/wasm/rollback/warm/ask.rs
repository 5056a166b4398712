//! One request to a VM that no client waits for, and its whole answer.
//!
//! The gateway has no part in it: no admission, no events, no log. The guest runs where the future is polled.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use forerun_driver::{Body, Chain, full_body};
use forerun_types::{InvocationId, SpanId, TraceContext, TraceId, WarmRefusal, WarmUpRequest};
use http::{HeaderMap, Request, StatusCode, header};
use http_body::Body as HttpBody;
use wasmtime_wasi_http::WasiBody;

use crate::wasm::guest::{GuestExit, HeadSlot, enter};
use crate::wasm::vm::Vm;

/// Bytes of a body that is compared with another one.
const BODY_BYTES_MAX: usize = 4 << 20;
/// Guests that look at it find a name that is no one's.
const AUTHORITY: &str = "warm-up.invalid";

/// All of an answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
    trailers: Option<HeaderMap>,
}

/// A body that is being read.
struct Reading {
    head: http::response::Parts,
    body: WasiBody,
    bytes: BytesMut,
    trailers: Option<HeaderMap>,
}

/// Asks `vm`, whose deadline is set already. Gives the VM back if it has answered.
pub(super) async fn ask(mut vm: Box<Vm>, request: &WarmUpRequest) -> Result<(Box<Vm>, Answer), WarmRefusal> {
    let failed =
        |detail: String| WarmRefusal::Failed { detail: format!("{} {}: {detail}", request.method, request.path) };
    if let Some(draws) = &vm.store.data().draws {
        draws.answer_calls(request.answer_to_calls.clone());
    }
    let http = http_request(request).map_err(|error| failed(error.to_string()))?;
    let deadline = vm.store.data().deadline();
    let trace = TraceContext { trace_id: TraceId::from_random(0), span_id: SpanId::from_random(0), sampled: false };
    vm.begin(InvocationId::from_random(0), trace, Chain::begins(InvocationId::from_random(0), None), deadline);
    let slot = HeadSlot::default();
    let mut guest = enter(vm, http, false, slot.clone(), None);
    let (mut exit, mut reading, mut whole) = (None::<GuestExit>, None::<Reading>, false);
    let polled = std::future::poll_fn(|cx| {
        if exit.is_none()
            && let Poll::Ready(left) = guest.as_mut().poll(cx)
        {
            exit = Some(left);
        }
        if reading.is_none() {
            reading = match slot.take() {
                Some(Ok(response)) => Some(Reading::of(response)),
                Some(Err(code)) => return Poll::Ready(Err(format!("it answered with the error {code}"))),
                None => match &exit {
                    Some(left) => return Poll::Ready(Err(why_unanswered(left))),
                    None => None,
                },
            };
        }
        if let Some(reading) = reading.as_mut().filter(|_| !whole) {
            match reading.poll(cx) {
                Poll::Ready(Ok(())) => whole = true,
                Poll::Ready(Err(detail)) => return Poll::Ready(Err(detail)),
                Poll::Pending => {}
            }
        }
        if exit.is_some() && whole { Poll::Ready(Ok(())) } else { Poll::Pending }
    });
    let done = tokio::time::timeout_at(deadline.into(), polled).await;
    done.unwrap_or_else(|_| Err("it was not done in time".to_owned())).map_err(&failed)?;
    let (Some(exit), Some(reading)) = (exit, reading) else { return Err(failed("it has no answer".to_owned())) };
    exit.result.map_err(|error| failed(error.root_cause().to_string()))?;
    Ok((exit.vm, reading.done()))
}

fn why_unanswered(exit: &GuestExit) -> String {
    match &exit.result {
        Ok(()) => "it returned without setting a response".to_owned(),
        Err(error) => error.root_cause().to_string(),
    }
}

fn http_request(request: &WarmUpRequest) -> Result<Request<Body>, http::Error> {
    Request::builder()
        .method(request.method.as_str())
        .uri(request.path.as_str())
        .header(header::HOST, AUTHORITY)
        .header(header::CONTENT_LENGTH, request.body.len())
        .body(full_body(request.body.clone()))
}

impl Reading {
    fn of(response: http::Response<WasiBody>) -> Self {
        let (head, body) = response.into_parts();
        Self { head, body, bytes: BytesMut::new(), trailers: None }
    }

    /// Reads what is there; ready when the body has ended.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), String>> {
        loop {
            let frame = match std::task::ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                None => return Poll::Ready(Ok(())),
                Some(Err(error)) => return Poll::Ready(Err(error.to_string())),
                Some(Ok(frame)) => frame,
            };
            match frame.into_data() {
                Ok(data) if self.bytes.len() + data.len() > BODY_BYTES_MAX => {
                    return Poll::Ready(Err(format!("its answer has more than {BODY_BYTES_MAX} bytes")));
                }
                Ok(data) => self.bytes.extend_from_slice(&data),
                Err(frame) => self.trailers = frame.into_trailers().ok(),
            }
        }
    }

    fn done(self) -> Answer {
        let Self { head, bytes, trailers, .. } = self;
        Answer { status: head.status, headers: head.headers, body: bytes.freeze(), trailers }
    }
}
