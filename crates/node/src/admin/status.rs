//! Whether the node is well, what it counts, and what this API is.

use axum::Json;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use serde_json::{Value, json};

use super::Shared;

/// The description of the API.
pub(super) const OPENAPI: &str = include_str!("openapi.json");

pub(super) async fn health() -> &'static str {
    "ok\n"
}

pub(super) async fn openapi() -> impl IntoResponse {
    ([(CONTENT_TYPE, "application/json")], OPENAPI)
}

pub(super) async fn metrics(State(state): State<Shared>) -> impl IntoResponse {
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(CONTENT_TYPE, content_type)], state.metrics.encode())
}

pub(super) async fn status(State(state): State<Shared>) -> Json<Value> {
    let counters = state.gateway.counters();
    let scheme = |tls| if tls { "https" } else { "http" };
    let addresses: Vec<_> =
        state.gateway_addresses.iter().map(|bound| format!("{}://{}", scheme(bound.tls), bound.address)).collect();
    let refused: serde_json::Map<String, Value> =
        counters.refused_total.iter().map(|(why, count)| (why.label().to_owned(), json!(count))).collect();
    Json(json!({
        "version": state.version,
        "uptime_ms": u64::try_from(state.started.elapsed().as_millis()).unwrap_or(u64::MAX),
        "addresses": addresses,
        "functions": state.functions.list().len(),
        "connections": counters.connections,
        "in_flight": counters.in_flight,
        "queued": counters.queued_node,
        "requests_total": counters.requests_total,
        "refused_total": refused,
    }))
}
