//! The admin API, version 1: what the CLI and operators' tools use. JSON in and out, a bearer token for
//! everything but health, metrics, the API's own description and the files of the dashboard.
//!
//! It calls `Functions` and reads figures; it decides nothing by itself. Its description is
//! `openapi.json` beside this file, held to [`ROUTES`] by a test.

mod api_error;
mod components;
mod deployments;
mod functions;
mod history;
mod images;
mod invocations;
mod invoke;
mod learning;
mod logs;
mod status;
mod token;

use std::future::IntoFuture;
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware;
use axum::routing::{any, get, post, put};
use forerun_gateway::{BoundAddress, Gateway};
use forerun_store::{AdminToken, History};
use forerun_telemetry::{GuestLogs, Metrics, RecentInvocations};
use tokio::net::TcpListener;

use self::api_error::ApiError;
use crate::dashboard::{self, Feed};
use crate::functions::Functions;
use crate::learning::Learning;
use crate::splitting::Splitting;

/// What handlers work on.
pub(crate) struct AdminState {
    pub(crate) functions: Arc<Functions>,
    pub(crate) gateway: Gateway,
    pub(crate) gateway_addresses: Vec<BoundAddress>,
    pub(crate) logs: Arc<GuestLogs>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) recent: Arc<RecentInvocations>,
    /// Absent where its file cannot be used.
    pub(crate) history: Option<Arc<History>>,
    pub(crate) token: AdminToken,
    pub(crate) started: Instant,
    pub(crate) version: &'static str,
    pub(crate) learning: Arc<Learning>,
    /// Absent where no requests are sampled.
    pub(crate) splitting: Option<Arc<Splitting>>,
}

type Shared = Arc<AdminState>;

/// JSON bodies: a deployment of a large application with full environments.
const JSON_BYTES_MAX: usize = 16 << 20;

/// Every path of the API with its methods, as the description has them.
#[cfg(test)]
const ROUTES: &[(&str, &[&str])] = &[
    ("/health", &["get"]),
    ("/metrics", &["get"]),
    ("/v1/openapi.json", &["get"]),
    ("/v1/status", &["get"]),
    ("/v1/components/{digest}", &["put"]),
    ("/v1/deployments", &["post"]),
    ("/v1/functions", &["get"]),
    ("/v1/functions/{name}", &["get", "delete"]),
    ("/v1/functions/{name}/revisions", &["get"]),
    ("/v1/functions/{name}/rollback", &["post"]),
    ("/v1/functions/{name}/logs", &["get"]),
    ("/v1/functions/{name}/invoke/{path}", &["get", "post"]),
    ("/v1/images", &["get"]),
    ("/v1/invocations", &["get"]),
    ("/v1/invocations/{id}", &["get"]),
    ("/v1/invocations/{id}/explain", &["get"]),
    ("/v1/functions/{name}/prediction", &["get"]),
    ("/v1/functions/{name}/expected", &["post"]),
    ("/v1/functions/{name}/paths", &["get"]),
    ("/v1/functions/{name}/profile", &["get"]),
    ("/v1/history", &["get"]),
    ("/v1/learning", &["get", "put"]),
    ("/v1/calls", &["get"]),
    ("/v1/live", &["get"]),
];

/// Serves the API until it is stopped from outside.
pub(crate) async fn serve(listener: TcpListener, state: AdminState) {
    let (state, feed) = (Arc::new(state), Arc::new(Feed::new()));
    let served = axum::serve(listener, router(Arc::clone(&state), Arc::clone(&feed)));
    tokio::select! {
        Err(error) = served.into_future() => tracing::error!(%error, "the admin API has stopped"),
        () = feed.run(&state.recent, &state.gateway) => {}
    }
}

fn router(state: Shared, feed: Arc<Feed>) -> Router {
    let open = Router::new()
        .route("/health", get(status::health))
        .route("/metrics", get(status::metrics))
        .route("/v1/openapi.json", get(status::openapi));
    let guarded = Router::new()
        .route("/v1/status", get(status::status))
        .route("/v1/components/{digest}", put(components::put).layer(DefaultBodyLimit::disable()))
        .route("/v1/deployments", post(deployments::deploy))
        .route("/v1/functions", get(functions::list))
        .route("/v1/functions/{name}", get(functions::one).delete(functions::remove))
        .route("/v1/functions/{name}/revisions", get(functions::revisions))
        .route("/v1/functions/{name}/rollback", post(functions::rollback))
        .route("/v1/functions/{name}/logs", get(logs::read))
        .route("/v1/functions/{name}/invoke", any(invoke::at_root))
        .route("/v1/functions/{name}/invoke/", any(invoke::at_root))
        .route("/v1/functions/{name}/invoke/{*path}", any(invoke::at_path))
        .route("/v1/images", get(images::list))
        .route("/v1/invocations", get(invocations::latest))
        .route("/v1/invocations/{id}", get(invocations::one))
        .route("/v1/invocations/{id}/explain", get(learning::explain))
        .route("/v1/functions/{name}/prediction", get(learning::predict))
        .route("/v1/functions/{name}/expected", post(learning::tell))
        .route("/v1/functions/{name}/paths", get(learning::paths))
        .route("/v1/functions/{name}/profile", get(learning::profile))
        .route("/v1/learning", get(learning::view).put(learning::switch))
        .route("/v1/history", get(history::export))
        .route("/v1/calls", get(learning::calls))
        .route("/v1/live", get(async move || feed.subscribe().map_err(ApiError::from)))
        .layer(DefaultBodyLimit::max(JSON_BYTES_MAX))
        .route_layer(middleware::from_fn_with_state(Arc::clone(&state), token::require));
    open.merge(dashboard::assets()).merge(guarded).fallback(api_error::unknown_path).with_state(state)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_description_has_every_route_and_no_other() {
        let description: serde_json::Value = serde_json::from_str(status::OPENAPI).unwrap();
        let mut described: Vec<(String, Vec<String>)> = Vec::new();
        for (path, operations) in description["paths"].as_object().unwrap() {
            let methods = operations.as_object().unwrap().keys().filter(|key| *key != "parameters");
            let mut methods: Vec<_> = methods.cloned().collect();
            methods.sort();
            described.push((path.clone(), methods));
        }
        let mut expected: Vec<(String, Vec<String>)> = Vec::new();
        for (path, methods) in ROUTES {
            let mut methods: Vec<_> = methods.iter().map(ToString::to_string).collect();
            methods.sort();
            expected.push(((*path).to_owned(), methods));
        }
        described.sort();
        expected.sort();
        assert_eq!(described, expected);
    }

    #[test]
    fn every_reference_in_the_description_leads_somewhere() {
        fn references(value: &serde_json::Value, found: &mut Vec<String>) {
            match value {
                serde_json::Value::Object(map) => {
                    if let Some(serde_json::Value::String(reference)) = map.get("$ref") {
                        found.push(reference.clone());
                    }
                    map.values().for_each(|value| references(value, found));
                }
                serde_json::Value::Array(list) => list.iter().for_each(|value| references(value, found)),
                _ => {}
            }
        }
        let description: serde_json::Value = serde_json::from_str(status::OPENAPI).unwrap();
        let mut found = Vec::new();
        references(&description, &mut found);
        assert!(!found.is_empty());
        for reference in found {
            let pointer = reference.strip_prefix('#').unwrap();
            assert!(description.pointer(pointer).is_some(), "{reference}");
        }
    }
}
