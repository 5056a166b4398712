//! One SERVER span for each invocation, in the words of the OpenTelemetry semantic conventions (HTTP and FaaS).
//!
//! A call from one function to another is told twice: the callee's span has the caller's as its parent, and the caller's
//! has a link to the callee's (see [`super::callees`]).

use std::time::{Duration, SystemTime};

use forerun_types::{GenericReason, Outcome, ServePath};
use opentelemetry::trace::{Event, SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};

use crate::event::{InvocationEvent, Phases};

/// The route of calls by name, from function to function.
const INTERNAL_ROUTE: &str = "internal";

/// The span of `event`, as yet without links to the calls it made.
pub(super) fn span(event: &InvocationEvent) -> SpanData {
    let start_time = SystemTime::UNIX_EPOCH + Duration::from_micros(event.started_unix_us);
    SpanData {
        span_context: context(event),
        parent_span_id: event.parent_span.map_or(SpanId::INVALID, |span| SpanId::from_bytes(span.to_bytes())),
        parent_span_is_remote: event.parent_span.is_some() && event.caller.is_none(),
        span_kind: SpanKind::Server,
        name: name(event).into(),
        start_time,
        end_time: start_time + Duration::from_micros(event.phases.total_us),
        attributes: attributes(event),
        dropped_attributes_count: 0,
        events: events(start_time, &event.phases),
        links: SpanLinks::default(),
        status: status(event),
        instrumentation_scope: InstrumentationScope::builder("forerun").build(),
    }
}

/// How others refer to the span of `event`.
pub(super) fn context(event: &InvocationEvent) -> SpanContext {
    SpanContext::new(
        TraceId::from_bytes(event.trace.trace_id.to_bytes()),
        SpanId::from_bytes(event.trace.span_id.to_bytes()),
        TraceFlags::SAMPLED,
        false,
        TraceState::NONE,
    )
}

/// Whether the VM had to be made for this request.
pub(super) fn is_cold_start(serve_path: ServePath) -> bool {
    match serve_path {
        ServePath::Ready | ServePath::RolledBack | ServePath::Reused => false,
        ServePath::Specialized
        | ServePath::Generic(
            GenericReason::NoImage
            | GenericReason::BelowThreshold
            | GenericReason::AllTaken
            | GenericReason::Control
            | GenericReason::ControlRolledBack
            | GenericReason::ControlSpecialized
            | GenericReason::RetriedReady
            | GenericReason::RetriedRolledBack
            | GenericReason::RetriedSpecialized
            | GenericReason::Quarantined
            | GenericReason::Sampled
            | GenericReason::Disabled,
        ) => true,
    }
}

/// `error.type`: how the invocation failed, if it did.
pub(super) fn error_type(event: &InvocationEvent) -> Option<String> {
    match event.outcome {
        Outcome::Ok if event.status < 500 => None,
        Outcome::Ok => Some(event.status.to_string()),
        Outcome::Trap
        | Outcome::Timeout
        | Outcome::OutOfMemory
        | Outcome::NoResponse
        | Outcome::GuestError
        | Outcome::ResponseTooLarge
        | Outcome::ClientGone
        | Outcome::NoVm
        | Outcome::Rejected => Some(event.outcome.label().to_owned()),
    }
}

fn name(event: &InvocationEvent) -> String {
    match &*event.class.route {
        INTERNAL_ROUTE => format!("{} {}", event.class.method, event.function),
        route => format!("{} {route}", event.class.method),
    }
}

fn attributes(event: &InvocationEvent) -> Vec<KeyValue> {
    let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    let mut attributes = vec![
        KeyValue::new("faas.name", event.function.to_string()),
        KeyValue::new("faas.version", event.revision.to_string()),
        KeyValue::new("faas.trigger", "http"),
        KeyValue::new("faas.invocation_id", event.id.to_string()),
        KeyValue::new("faas.coldstart", is_cold_start(event.serve_path)),
        KeyValue::new("http.request.method", if event.class.method == "OTHER" { "_OTHER" } else { event.class.method }),
        KeyValue::new("http.response.status_code", i64::from(event.status)),
        KeyValue::new("http.request.body.size", number(event.bytes_in)),
        KeyValue::new("http.response.body.size", number(event.bytes_out)),
        KeyValue::new("forerun.serve_path", event.serve_path.label()),
        KeyValue::new("forerun.outcome", event.outcome.label()),
        KeyValue::new("forerun.guest.busy_us", number(event.busy_us)),
        KeyValue::new("forerun.guest.memory_peak_bytes", number(event.memory_bytes_peak)),
    ];
    if &*event.class.route != INTERNAL_ROUTE {
        attributes.push(KeyValue::new("http.route", event.class.route.to_string()));
    }
    if !event.app.is_empty() {
        attributes.push(KeyValue::new("forerun.app", event.app.to_string()));
    }
    if let Some(caller) = &event.caller {
        attributes.push(KeyValue::new("forerun.caller", caller.to_string()));
    }
    if let Some(cpu_us) = event.cpu_us {
        attributes.push(KeyValue::new("forerun.guest.cpu_us", number(cpu_us)));
    }
    if let Some(error_type) = error_type(event) {
        attributes.push(KeyValue::new("error.type", error_type));
    }
    attributes
}

/// When each phase ended, as far as it was reached.
fn events(start_time: SystemTime, phases: &Phases) -> SpanEvents {
    let Phases { routed_us: _, admitted_us, deployed_us, first_byte_us, total_us: _ } = *phases;
    let reached = [("admitted", admitted_us), ("deployed", deployed_us), ("first byte", first_byte_us)];
    let reached = reached.into_iter().filter(|(_, end_us)| *end_us > 0);
    let mut events = SpanEvents::default();
    events.events = reached
        .map(|(name, end_us)| Event::new(name, start_time + Duration::from_micros(end_us), Vec::new(), 0))
        .collect();
    events
}

fn status(event: &InvocationEvent) -> Status {
    match error_type(event) {
        None => Status::Unset,
        Some(error_type) => Status::error(error_type),
    }
}
