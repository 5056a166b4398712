//! Deploying functions whose components have been uploaded.

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use forerun_types::{ComponentDigest, FunctionSpec};
use serde::Deserialize;

use super::Shared;
use super::api_error::ApiError;
use crate::functions::{Change, Source, Wanted};

/// A deployment: all of it happens, or nothing.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Request {
    functions: Vec<One>,
    /// Functions of this application that are not listed are removed.
    #[serde(default)]
    prune_app: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct One {
    spec: FunctionSpec,
    component: ComponentDigest,
}

pub(super) async fn deploy(
    State(state): State<Shared>,
    request: Result<Json<Request>, JsonRejection>,
) -> Result<Json<Vec<Change>>, ApiError> {
    let Json(Request { functions, prune_app }) =
        request.map_err(|rejection| ApiError::bad_request(rejection.body_text()))?;
    let wanted = functions.into_iter().map(|one| Wanted { spec: one.spec, source: Source::Stored(one.component) });
    Ok(Json(state.functions.deploy(wanted.collect(), prune_app).await?))
}
