//! What is learnt about one request while it passes, and the event made of it at its end.
//!
//! The record is shared by everything that works for the request: the call, both bodies, the end hook.
//! Whoever lets go of it last makes the event, so it is made exactly once and after everything else,
//! however the request ended. Nothing here decides anything.

use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime};

use forerun_driver::InvocationEnd;
use forerun_telemetry::{Announced, Arrival, CallingInvocation, InvocationEvent, Phases, RequestClass};
use forerun_types::{GenericReason, InvocationId, Outcome, ServePath, SessionKey, SpanId, TraceContext};
use http::{Method, StatusCode};

use crate::core::Core;
use crate::routes::{FunctionEntry, Target};

pub(crate) struct Record {
    pub(crate) core: Arc<Core>,
    pub(crate) function: Arc<FunctionEntry>,
    pub(crate) id: InvocationId,
    pub(crate) trace: TraceContext,
    pub(crate) started: Instant,
    pub(crate) routed_us: u64,
    facts: RequestFacts,
    admitted_us: AtomicU64,
    deployed_us: AtomicU64,
    first_byte_us: AtomicU64,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    status: AtomicU16,
    delivered: AtomicBool,
    /// The gateway's own judgement; it outranks what the driver saw.
    verdict: OnceLock<Outcome>,
    end: OnceLock<InvocationEnd>,
}

struct RequestFacts {
    route: Arc<str>,
    method: &'static str,
    parent_span: Option<SpanId>,
    session: Option<SessionKey>,
    caller: Option<CallingInvocation>,
}

/// Where a request comes from, for its record.
pub(crate) struct Ancestry {
    pub(crate) trace: TraceContext,
    pub(crate) parent_span: Option<SpanId>,
    pub(crate) session: Option<SessionKey>,
    pub(crate) caller: Option<CallingInvocation>,
}

/// No status was sent because the client had gone; nginx's number for it.
const STATUS_CLIENT_GONE: u16 = 499;

impl Record {
    pub(crate) fn new(
        core: &Arc<Core>,
        target: Target,
        id: InvocationId,
        ancestry: Ancestry,
        method: &Method,
        started: Instant,
    ) -> Self {
        let Ancestry { trace, parent_span, session, caller } = ancestry;
        Self {
            core: Arc::clone(core),
            function: target.function,
            id,
            trace,
            started,
            routed_us: micros(started.elapsed()),
            facts: RequestFacts { route: target.route, method: method_label(method), parent_span, session, caller },
            admitted_us: AtomicU64::new(0),
            deployed_us: AtomicU64::new(0),
            first_byte_us: AtomicU64::new(0),
            bytes_in: AtomicU64::new(0),
            bytes_out: AtomicU64::new(0),
            status: AtomicU16::new(STATUS_CLIENT_GONE),
            delivered: AtomicBool::new(false),
            verdict: OnceLock::new(),
            end: OnceLock::new(),
        }
    }

    /// Tells those who predict that the request has come.
    pub(crate) fn announce(&self) {
        let Some(arrivals) = self.core.arrivals.as_ref().filter(|_| self.core.announces()) else { return };
        let Some(turn) = self.function.arrivals().admit() else { return };
        let since_epoch = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        let arrival = Arrival {
            id: self.id,
            at_unix_us: micros(since_epoch.saturating_sub(self.started.elapsed())),
            function: self.function.spec.name.clone(),
            app: Arc::clone(self.function.app()),
            session: self.facts.session,
            caller: self.facts.caller.clone(),
        };
        arrivals.record(Announced::new(arrival, turn));
    }

    pub(crate) fn session(&self) -> Option<SessionKey> {
        self.facts.session
    }

    pub(crate) fn admitted(&self, at_us: u64) {
        self.admitted_us.store(at_us, Ordering::Relaxed);
    }

    pub(crate) fn answered(&self, status: StatusCode, deployed_us: u64, first_byte_us: u64) {
        self.status.store(status.as_u16(), Ordering::Relaxed);
        self.deployed_us.store(deployed_us, Ordering::Relaxed);
        self.first_byte_us.store(first_byte_us, Ordering::Relaxed);
    }

    pub(crate) fn refused(&self, status: StatusCode, outcome: Outcome) {
        self.status.store(status.as_u16(), Ordering::Relaxed);
        self.judge(outcome);
    }

    /// The first judgement stands.
    pub(crate) fn judge(&self, outcome: Outcome) {
        let _ = self.verdict.set(outcome);
    }

    pub(crate) fn took(&self, bytes: usize) {
        self.bytes_in.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn gave(&self, bytes: usize) {
        self.bytes_out.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn delivered(&self) {
        self.delivered.store(true, Ordering::Relaxed);
    }

    pub(crate) fn ended(&self, end: InvocationEnd) {
        let _ = self.end.set(end);
    }

    /// How the invocation ended, if it has; the driver's word only.
    pub(crate) fn end(&self) -> Option<&InvocationEnd> {
        self.end.get()
    }

    fn outcome(&self) -> Outcome {
        let delivered = self.delivered.load(Ordering::Relaxed);
        match (self.verdict.get(), self.end.get()) {
            (Some(verdict), _) => *verdict,
            (None, None) => Outcome::ClientGone,
            // The guest was stopped after everything that counts had been sent: an answer to HEAD, for one.
            (None, Some(end)) if end.outcome == Outcome::ClientGone && delivered => Outcome::Ok,
            (None, Some(end)) if end.outcome == Outcome::Ok && !delivered => Outcome::ClientGone,
            (None, Some(end)) => end.outcome,
        }
    }

    fn event(&self) -> InvocationEvent {
        let total = self.started.elapsed();
        let started = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().saturating_sub(total);
        let bytes_in = self.bytes_in.load(Ordering::Relaxed);
        let end = self.end.get();
        InvocationEvent {
            id: self.id,
            started_unix_us: micros(started),
            function: self.function.spec.name.clone(),
            app: Arc::clone(self.function.app()),
            revision: self.function.revision,
            class: RequestClass {
                method: self.facts.method,
                route: Arc::clone(&self.facts.route),
                size_bucket: size_bucket(bytes_in),
            },
            trace: self.trace,
            parent_span: self.facts.parent_span,
            caller: self.facts.caller.as_ref().map(|caller| caller.function.clone()),
            session: self.facts.session,
            serve_path: end.map_or(ServePath::Generic(GenericReason::NoImage), |end| end.serve_path),
            outcome: self.outcome(),
            status: self.status.load(Ordering::Relaxed),
            phases: self.phases(micros(total)),
            busy_us: end.map_or(0, |end| micros(end.busy)),
            calls_us: end.map_or(0, |end| micros(end.waited_for_calls)),
            cpu_us: end.and_then(|end| end.cpu).map(micros),
            memory_bytes_peak: end.map_or(0, |end| end.memory_bytes_peak),
            bytes_in,
            bytes_out: self.bytes_out.load(Ordering::Relaxed),
        }
    }

    fn phases(&self, total_us: u64) -> Phases {
        Phases {
            routed_us: self.routed_us,
            admitted_us: self.admitted_us.load(Ordering::Relaxed),
            deployed_us: self.deployed_us.load(Ordering::Relaxed),
            first_byte_us: self.first_byte_us.load(Ordering::Relaxed),
            total_us,
        }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let event = self.event();
        if let Some(end) = self.end.get()
            && !end.detail.is_empty()
        {
            tracing::warn!(
                function = %event.function, request_id = %event.id, outcome = event.outcome.label(),
                detail = end.detail, "invocation failed"
            );
        }
        self.core.events.record(event);
    }
}

pub(crate) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// The position of the highest bit: 0 for 0, n for `[2^(n-1), 2^n)`.
fn size_bucket(bytes: u64) -> u8 {
    u8::try_from(u64::BITS - bytes.leading_zeros()).unwrap_or(u8::MAX)
}

fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        Method::TRACE => "TRACE",
        Method::PATCH => "PATCH",
        _ => "OTHER",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_fall_into_the_bucket_of_their_highest_bit() {
        for (bytes, bucket) in [(0, 0), (1, 1), (2, 2), (3, 2), (4, 3), (1023, 10), (1024, 11), (u64::MAX, 64)] {
            assert_eq!(size_bucket(bytes), bucket, "{bytes}");
        }
    }
}
