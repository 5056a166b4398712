//! The fast loop: route, admit, deploy, invoke, answer; one short function a phase.
//!
//! A request runs in the task of its connection; nothing is spawned and no lock is taken while there
//! is room. Requests of clients and calls between functions take the same way and differ in their
//! [`Origin`] only. What a guest does is the driver's, what is recorded is the record's.

mod headers;
mod request_body;
mod response_body;
mod timing;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use forerun_driver::{Body, BodyError, Caller, Chain, EndHook, Invocation, InvokeError, Reply, empty_body};
use forerun_telemetry::CallingInvocation;
use forerun_types::{InvocationId, Outcome};
use http::header::{CONTENT_LENGTH, HeaderValue};
use http::{Method, Request, Response, StatusCode};

pub(crate) use headers::for_network as outbound_headers;
pub(crate) use request_body::RequestBodyError;
pub(crate) use response_body::ResponseBody;

use crate::admission::Permit;
use crate::connection::InFlight;
use crate::core::Core;
use crate::ids::{FreshIds, fresh_ids, fresh_trace};
use crate::problem::Refusal;
use crate::record::{Ancestry, Record, micros};
use crate::routes::Target;
use request_body::RequestBody;
use response_body::{Flow, Peeked};
use timing::{Backstop, ServerTiming, TimedOut};

/// Who asks.
pub(crate) enum Origin {
    /// A client; the guard keeps its connection from being taken for idle.
    Client { in_flight: InFlight, https: bool, client: IpAddr },
    /// The operator, through the admin API.
    Operator,
    /// Another function of this node.
    Function(Caller),
}

/// How a request finds its function.
pub(crate) enum Address {
    /// By host and path.
    Route,
    /// It is known already.
    Known(Target),
    /// There is none, which is known already.
    Nowhere,
}

/// How long after a function's deadline the gateway stops it by force. The driver stops it at the
/// deadline and then knows more about it; this is for the case that it does not.
const GRACE: Duration = Duration::from_millis(100);

/// How much longer a client may take for what is left of its answer; then its connection is closed.
const LAST_BYTES: Duration = Duration::from_secs(2);

/// Answers one request, with a refusal if need be.
pub(crate) async fn serve<B>(
    core: &Arc<Core>,
    origin: Origin,
    address: Address,
    request: Request<B>,
) -> Response<ResponseBody>
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: RequestBodyError,
{
    let started = Instant::now();
    core.count(&core.counters.requests);
    let FreshIds { invocation: id, span } = fresh_ids();
    let routed = match check(core, &origin, &request).and_then(|()| route(core, address, &request)) {
        Ok(target) => target,
        Err(refusal) => return refuse(core, refusal, id, origin.into_guard()),
    };
    let ancestry = ancestry(core, &origin, request.headers(), span);
    let record = Arc::new(Record::new(core, routed, id, ancestry, request.method(), started));
    record.announce();
    match attempt(&record, &origin, request).await {
        Ok(answer) => {
            let mut response = answer.into_response(record, origin.into_guard());
            headers::finish(response.headers_mut(), id);
            response
        }
        Err((refusal, outcome)) => {
            record.refused(refusal.status(), outcome);
            refuse(core, refusal, id, origin.into_guard())
        }
    }
}

type Refused = (Refusal, Outcome);

/// From admission to the head of the answer.
async fn attempt<B>(record: &Arc<Record>, origin: &Origin, request: Request<B>) -> Result<Answer, Refused>
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: RequestBodyError,
{
    check_size(record, &request).map_err(rejected)?;
    let permit = admit(record).await.map_err(rejected)?;
    let limits = &record.function.spec.limits;
    let admitted = Instant::now();
    record.admitted(micros(admitted.saturating_duration_since(record.started)));
    let deadline = admitted + Duration::from_millis(limits.timeout_ms);
    origin.busy_until(&record.core, deadline);
    let request_method = request.method().clone();
    let request = for_guest(record, request);
    let mut backstop = Backstop::new(deadline + GRACE);
    let reply = invoke(record, permit, origin, deadline, request, &mut backstop).await?;
    answer(record, admitted, &request_method, reply, backstop).await
}

fn rejected(refusal: Refusal) -> Refused {
    (refusal, Outcome::Rejected)
}

/// Whether the request is one that any function could answer.
fn check<B>(core: &Core, origin: &Origin, request: &Request<B>) -> Result<(), Refusal> {
    match origin {
        Origin::Client { .. } if core.is_draining() => Err(Refusal::Draining),
        Origin::Client { .. } => headers::check(request, core.settings.header_bytes_max),
        Origin::Operator | Origin::Function(_) => Ok(()),
    }
}

/// The function that answers.
fn route<B>(core: &Core, address: Address, request: &Request<B>) -> Result<Target, Refusal> {
    match address {
        Address::Known(target) => Ok(target),
        Address::Nowhere => Err(Refusal::NoRoute),
        Address::Route => {
            core.routes.load().by_route(host_of(request), request.uri().path()).cloned().ok_or(Refusal::NoRoute)
        }
    }
}

/// The host by which a request is routed; empty if it names none.
pub(crate) fn host_of<B>(request: &Request<B>) -> &str {
    headers::host(request).unwrap_or_default()
}

/// The invocation's own span, and who is above it.
fn ancestry(core: &Core, origin: &Origin, headers: &http::HeaderMap, span: forerun_types::SpanId) -> Ancestry {
    let session = match origin {
        Origin::Function(caller) => {
            return Ancestry {
                trace: caller.trace.child(span),
                parent_span: Some(caller.trace.span_id),
                session: caller.chain.session,
                caller: Some(CallingInvocation { function: caller.function.clone(), id: caller.invocation }),
            };
        }
        Origin::Client { client, .. } => core.sessions.key(*client, headers),
        Origin::Operator => None,
    };
    match headers::trace_parent(headers) {
        Some(parent) => {
            Ancestry { trace: parent.child(span), parent_span: Some(parent.span_id), session, caller: None }
        }
        None => Ancestry { trace: fresh_trace(span), parent_span: None, session, caller: None },
    }
}

/// A body that says that it is too long is not even begun.
fn check_size<B>(record: &Record, request: &Request<B>) -> Result<(), Refusal> {
    let announced = request.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    match announced {
        Some(bytes) if bytes > record.function.spec.limits.request_body_bytes_max => Err(Refusal::RequestTooLarge),
        Some(_) | None => Ok(()),
    }
}

/// A place for the invocation, after waiting for one if need be.
async fn admit(record: &Record) -> Result<Permit, Refusal> {
    let (admission, node) = (&record.function.admission, &record.core.node_gate);
    match admission.try_admit(node) {
        Some(permit) => Ok(permit),
        None => Box::pin(admission.admit(node)).await,
    }
}

/// The request as the guest sees it: no hop-by-hop headers, the invocation's own span, a bounded and counted body.
fn for_guest<B>(record: &Arc<Record>, request: Request<B>) -> Request<Body>
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: RequestBodyError,
{
    let (mut parts, body) = request.into_parts();
    // Hyper keeps its upgrade handle here; a guest's request carries none of it.
    parts.extensions.clear();
    headers::for_guest(&mut parts, record.trace);
    let body = if body.is_end_stream() { empty_body() } else { RequestBody::boxed(body, Arc::clone(record)) };
    Request::from_parts(parts, body)
}

/// Calls the program and waits for the head of its answer.
async fn invoke(
    record: &Arc<Record>,
    permit: Permit,
    origin: &Origin,
    deadline: Instant,
    request: Request<Body>,
    backstop: &mut Backstop,
) -> Result<Reply, Refused> {
    let on_end = Arc::clone(record);
    let end = EndHook::new(move |end| {
        on_end.ended(end);
        drop(permit);
    });
    let (chain, https) = (origin.chain(record), origin.https());
    let invocation = Invocation { id: record.id, trace: record.trace, chain, https, deadline, end };
    let call = Arc::clone(&record.function.program).invoke(invocation, request);
    match backstop.bound(call).await {
        Ok(Ok(reply)) => Ok(reply),
        Ok(Err(error)) => Err(failed(record, &error)),
        Err(TimedOut) => Err((Refusal::Timeout, Outcome::Timeout)),
    }
}

fn failed(record: &Record, error: &InvokeError) -> Refused {
    // The end hook's detail is logged with the record; this is for a driver that only says it here.
    if record.end().is_none_or(|end| end.detail.is_empty()) {
        let (function, id) = (&record.function.spec.name, record.id);
        tracing::warn!(%function, request_id = %id, outcome = error.outcome.label(), detail = error.detail, "invocation failed");
    }
    (Refusal::from_outcome(error.outcome), error.outcome)
}

/// An answer whose first bytes are known.
struct Answer {
    response: Response<()>,
    body: Peeked,
}

/// Polls the body once before the head is sent: most guests have said everything by then, and a whole
/// body can be sent with its length and in one piece; and a guest that fails at once still gets an error page.
async fn answer(
    record: &Arc<Record>,
    admitted: Instant,
    method: &Method,
    reply: Reply,
    backstop: Backstop,
) -> Result<Answer, Refused> {
    let (mut parts, body) = reply.response.into_parts();
    headers::strip_hop_by_hop(&mut parts.headers);
    let no_content = matches!(parts.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let bodyless = no_content || *method == Method::HEAD;
    let declared = if bodyless { Some(0) } else { headers::content_length(&parts.headers) };
    let limit = record.function.spec.limits.response_body_bytes_max;
    let body = Flow::new(body, limit, declared, backstop).peek().await;
    let body = body.map_err(|error| failed_at_once(record, &error))?;
    let head_at = Instant::now();
    let timing = ServerTiming {
        routed_us: record.routed_us,
        admitted_us: micros(admitted.saturating_duration_since(record.started)),
        deploy_us: micros(reply.deploy),
        head_us: micros(head_at.saturating_duration_since(record.started)),
        serve_path: reply.serve_path,
    };
    record.answered(parts.status, timing.admitted_us + timing.deploy_us, timing.head_us);
    parts.headers.append(timing::SERVER_TIMING, timing.header());
    Ok(Answer { response: Response::from_parts(parts, ()), body })
}

fn failed_at_once(record: &Record, error: &BodyError) -> Refused {
    let outcome = match (error, record.end()) {
        (BodyError::Timeout, _) => Outcome::Timeout,
        (BodyError::TooLarge { .. }, _) => Outcome::ResponseTooLarge,
        (_, Some(end)) if end.outcome != Outcome::Ok => end.outcome,
        (BodyError::Guest { .. } | BodyError::PeerGone | BodyError::Malformed { .. }, _) => Outcome::GuestError,
    };
    (Refusal::from_outcome(outcome), outcome)
}

impl Answer {
    fn into_response(self, record: Arc<Record>, guard: Option<InFlight>) -> Response<ResponseBody> {
        self.response.map(|()| ResponseBody::of_function(self.body, record, guard))
    }
}

/// The gateway's own answer.
fn refuse(core: &Core, refusal: Refusal, id: InvocationId, guard: Option<InFlight>) -> Response<ResponseBody> {
    core.counters.refused[refusal as usize].fetch_add(1, Ordering::Relaxed);
    let guard_is_http1 = guard.as_ref().is_some_and(|guard| !guard.is_http2());
    let mut response = refusal.response(id).map(|body| ResponseBody::of_gateway(body, guard));
    // HTTP/2 has no such header; there, a stream is all that ends.
    if refusal.ends_connection() && guard_is_http1 {
        response.headers_mut().insert(http::header::CONNECTION, HeaderValue::from_static("close"));
    }
    headers::finish(response.headers_mut(), id);
    response
}

impl Origin {
    fn chain(&self, record: &Record) -> Chain {
        match self {
            Self::Client { .. } | Self::Operator => Chain::begins(record.id, record.session()),
            Self::Function(caller) => caller.chain.goes_on(),
        }
    }

    fn https(&self) -> bool {
        match self {
            Self::Client { https, .. } => *https,
            Self::Operator | Self::Function(_) => false,
        }
    }

    fn busy_until(&self, core: &Core, deadline: Instant) {
        match self {
            Self::Client { in_flight, .. } => in_flight.busy_until(core.millis(deadline + GRACE + LAST_BYTES)),
            Self::Operator | Self::Function(_) => {}
        }
    }

    fn into_guard(self) -> Option<InFlight> {
        match self {
            Self::Client { in_flight, .. } => Some(in_flight),
            Self::Operator | Self::Function(_) => None,
        }
    }
}
