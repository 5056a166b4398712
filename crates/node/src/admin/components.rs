//! Upload of components, named by their content: the first half of a deployment.

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use forerun_types::ComponentDigest;
use forerun_types::limits::COMPONENT_BYTES_MAX;
use serde_json::{Value, json};

use super::Shared;
use super::api_error::ApiError;

/// Keeps a component. Uploading one that is there already is no error.
pub(super) async fn put(
    State(state): State<Shared>,
    Path(digest): Path<String>,
    body: Body,
) -> Result<Json<Value>, ApiError> {
    let digest: ComponentDigest = digest.parse().map_err(|error| ApiError::bad_request(format!("{error}")))?;
    let bytes = axum::body::to_bytes(body, COMPONENT_BYTES_MAX)
        .await
        .map_err(|error| ApiError::too_large(format!("{error}; at most {COMPONENT_BYTES_MAX} bytes are accepted")))?;
    let kept = state.functions.keep_component(bytes, digest).await?;
    match kept {
        Ok(bytes) => Ok(Json(json!({ "digest": digest, "bytes": bytes }))),
        Err(found) => Err(ApiError::digest_mismatch(format!("the body's digest is {found}, not {digest}"))),
    }
}
