//! Functions and their revisions: list, look at, roll back, remove.

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use forerun_types::{FunctionName, RevisionNumber};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Shared;
use super::api_error::ApiError;
use crate::functions::{Change, FunctionView};

/// Reads a name from a path.
pub(super) fn name(text: &str) -> Result<FunctionName, ApiError> {
    text.parse().map_err(|error| ApiError::bad_request(format!("{error}")))
}

pub(super) async fn list(State(state): State<Shared>) -> Json<Vec<FunctionView>> {
    Json(state.functions.list())
}

pub(super) async fn one(State(state): State<Shared>, Path(text): Path<String>) -> Result<Json<FunctionView>, ApiError> {
    let name = name(&text)?;
    state.functions.get(&name).map(Json).ok_or_else(|| ApiError::unknown_function(&text))
}

pub(super) async fn remove(State(state): State<Shared>, Path(text): Path<String>) -> Result<StatusCode, ApiError> {
    state.functions.remove(&name(&text)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn revisions(
    State(state): State<Shared>,
    Path(text): Path<String>,
) -> Result<Json<Vec<Value>>, ApiError> {
    let name = name(&text)?;
    let active = state.functions.get(&name).ok_or_else(|| ApiError::unknown_function(&text))?.revision;
    let revisions = state.functions.revisions(&name).await.map_err(|error| ApiError::storage(error.to_string()))?;
    let one = |revision: &forerun_store::Revision| {
        json!({
            "revision": revision.number,
            "active": revision.number == active,
            "digest": revision.digest,
            "created_unix_ms": revision.created_unix_ms,
            "spec": revision.spec,
        })
    };
    Ok(Json(revisions.iter().map(one).collect()))
}

/// Which revision to go back to; the one before the active one if absent.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct RollbackRequest {
    #[serde(default)]
    to: Option<RevisionNumber>,
}

pub(super) async fn rollback(
    State(state): State<Shared>,
    Path(text): Path<String>,
    request: Result<Json<RollbackRequest>, JsonRejection>,
) -> Result<Json<Change>, ApiError> {
    let name = name(&text)?;
    if state.functions.get(&name).is_none() {
        return Err(ApiError::unknown_function(&text));
    }
    let Json(RollbackRequest { to }) = request.map_err(|rejection| ApiError::bad_request(rejection.body_text()))?;
    Ok(Json(state.functions.rollback(&name, to).await?))
}
