//! Recent invocations: what was served, how, and where the time went.

use axum::Json;
use axum::extract::{Path, Query, State};
use forerun_telemetry::InvocationEvent;
use forerun_types::InvocationId;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Shared;
use super::api_error::ApiError;
use super::functions::name;

/// Invocations given at once.
const COUNT_MAX: usize = 1_000;

#[derive(Deserialize)]
pub(super) struct Wanted {
    #[serde(default)]
    function: Option<String>,
    #[serde(default = "twenty")]
    count: usize,
}

fn twenty() -> usize {
    20
}

pub(super) async fn latest(
    State(state): State<Shared>,
    Query(Wanted { function, count }): Query<Wanted>,
) -> Result<Json<Vec<Value>>, ApiError> {
    let function = function.as_deref().map(name).transpose()?;
    let events = state.recent.latest(function.as_ref(), count.min(COUNT_MAX));
    Ok(Json(events.iter().map(view).collect()))
}

pub(super) async fn one(State(state): State<Shared>, Path(text): Path<String>) -> Result<Json<Value>, ApiError> {
    let id = u128::from_str_radix(&text, 16)
        .map_err(|_| ApiError::bad_request("an invocation id has 32 hexadecimal digits"))?;
    let event = state.recent.get(InvocationId::from_random(id));
    event.map(|event| Json(view(&event))).ok_or_else(|| ApiError::unknown_invocation(&text))
}

pub(super) fn view(event: &InvocationEvent) -> Value {
    json!({
        "id": event.id.to_string(),
        "started_unix_us": event.started_unix_us,
        "function": event.function,
        "app": event.app,
        "revision": event.revision,
        "class": {
            "method": event.class.method,
            "route": event.class.route,
            "size_bucket": event.class.size_bucket,
        },
        "trace_id": event.trace.trace_id.to_string(),
        "span_id": event.trace.span_id.to_string(),
        "parent_span_id": event.parent_span.map(|span| span.to_string()),
        "caller": event.caller,
        "session": event.session.map(|session| session.to_string()),
        "serve_path": event.serve_path.label(),
        "why": event.serve_path.explanation(),
        "outcome": event.outcome.label(),
        "status": event.status,
        "phases": {
            "routed_us": event.phases.routed_us,
            "admitted_us": event.phases.admitted_us,
            "deployed_us": event.phases.deployed_us,
            "first_byte_us": event.phases.first_byte_us,
            "total_us": event.phases.total_us,
        },
        "busy_us": event.busy_us,
        "calls_us": event.calls_us,
        "cpu_us": event.cpu_us,
        "memory_bytes_peak": event.memory_bytes_peak,
        "bytes_in": event.bytes_in,
        "bytes_out": event.bytes_out,
    })
}
