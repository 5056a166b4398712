//! What is recorded of each invocation. No header values, bodies, query strings or client addresses.

use std::sync::Arc;

use forerun_types::{FunctionName, InvocationId, Outcome, RevisionNumber, ServePath, SessionKey, SpanId, TraceContext};

/// One invocation, after its end.
#[derive(Clone, Debug)]
pub struct InvocationEvent {
    /// Its id.
    pub id: InvocationId,
    /// When the request's head had been read, in microseconds since the Unix epoch.
    pub started_unix_us: u64,
    /// The function.
    pub function: FunctionName,
    /// The application of the function; empty if none.
    pub app: Arc<str>,
    /// The revision that served it.
    pub revision: RevisionNumber,
    /// What kind of request it was.
    pub class: RequestClass,
    /// Its own span.
    pub trace: TraceContext,
    /// The caller's span, when a `traceparent` came in or a function of the node called.
    pub parent_span: Option<SpanId>,
    /// The calling function of this node, if one called.
    pub caller: Option<FunctionName>,
    /// Who it comes from in the end, as far as the operator wants to tell clients apart: a keyed hash.
    pub session: Option<SessionKey>,
    /// Which rung served it.
    pub serve_path: ServePath,
    /// How it ended.
    pub outcome: Outcome,
    /// Status code sent.
    pub status: u16,
    /// Where the time went.
    pub phases: Phases,
    /// Time the guest held a thread, in microseconds: an upper bound of its CPU time.
    pub busy_us: u64,
    /// Time until the first byte in which it waited for what it had called, in microseconds.
    pub calls_us: u64,
    /// CPU time of guest and host calls, in microseconds, where it was measured: asking costs a system call.
    pub cpu_us: Option<u64>,
    /// Most linear memory the VM had, in bytes.
    pub memory_bytes_peak: u64,
    /// Bytes of the request's body.
    pub bytes_in: u64,
    /// Bytes of the response's body.
    pub bytes_out: u64,
}

/// A request that has just been routed: what prediction learns from, because by the end of the invocation the calls
/// that follow from it have been made.
#[derive(Clone, Debug)]
pub struct Arrival {
    /// The invocation's id.
    pub id: InvocationId,
    /// When the request's head had been read, in microseconds since the Unix epoch.
    pub at_unix_us: u64,
    /// The function.
    pub function: FunctionName,
    /// The application of the function; empty if none.
    pub app: Arc<str>,
    /// Who it comes from, as far as the operator wants to tell clients apart.
    pub session: Option<SessionKey>,
    /// The invocation of this node that called, if one did.
    pub caller: Option<CallingInvocation>,
}

/// An invocation that called another function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallingInvocation {
    /// Its function.
    pub function: FunctionName,
    /// Its id.
    pub id: InvocationId,
}

/// Requests that are likely to run the same code.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RequestClass {
    /// `GET`, `POST`, ...; methods outside RFC 9110 and `PATCH` are `OTHER`.
    pub method: &'static str,
    /// The route pattern that matched, or `internal` for calls by name.
    pub route: Arc<str>,
    /// Request body size as the position of its highest bit: 0 for none, n for sizes in `[2^(n-1), 2^n)`.
    pub size_bucket: u8,
}

/// Microseconds since the request's head had been read, at the end of each phase.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Phases {
    /// The function was known.
    pub routed_us: u64,
    /// The request was let in; the difference to `routed_us` is time in the queue.
    pub admitted_us: u64,
    /// A VM was ready to be entered.
    pub deployed_us: u64,
    /// The head of the response was there.
    pub first_byte_us: u64,
    /// The last byte was handed over and the VM had finished.
    pub total_us: u64,
}

#[cfg(test)]
pub(crate) mod tests {
    use forerun_types::{GenericReason, TraceId};

    use super::*;

    /// An event whose id is `number`, for tests of whatever takes events.
    pub(crate) fn event(number: u64) -> InvocationEvent {
        InvocationEvent {
            id: InvocationId::from_random(number.into()),
            started_unix_us: 1_700_000_000_000_000 + number,
            function: "cart".parse().unwrap(),
            app: "shop".into(),
            revision: RevisionNumber(3),
            class: RequestClass { method: "GET", route: "/cart/...".into(), size_bucket: 0 },
            trace: TraceContext {
                trace_id: TraceId::from_random(u128::from(number) + 1),
                span_id: SpanId::from_random(number + 1),
                sampled: true,
            },
            parent_span: None,
            caller: None,
            session: None,
            serve_path: ServePath::Generic(GenericReason::NoImage),
            outcome: Outcome::Ok,
            status: 200,
            phases: Phases { routed_us: 10, admitted_us: 20, deployed_us: 120, first_byte_us: 1_000, total_us: 2_000 },
            busy_us: 900,
            calls_us: 0,
            cpu_us: Some(800),
            memory_bytes_peak: 1 << 20,
            bytes_in: 7,
            bytes_out: 11,
        }
    }
}
