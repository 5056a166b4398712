//! Errors of the API: RFC 9457 problem details with a stable `reason`.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use forerun_store::{ComponentError, DeployError, RollbackError};
use serde::Serialize;

use crate::dashboard::TooMany;
use crate::functions::DeployFailure;

/// One problem. `reason` is for programs, `detail` for people.
#[derive(Debug, Serialize)]
pub(super) struct ApiError {
    title: &'static str,
    status: u16,
    reason: &'static str,
    detail: String,
}

impl ApiError {
    fn new(status: StatusCode, reason: &'static str, detail: impl Into<String>) -> Self {
        let title = status.canonical_reason().unwrap_or("Error");
        Self { title, status: status.as_u16(), reason, detail: detail.into() }
    }

    pub(super) fn unauthorized(detail: &str) -> Self {
        let hint = "send `Authorization: Bearer <token>` with the token in admin.token of the data directory";
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", format!("{detail}; {hint}"))
    }

    pub(super) fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_request", detail)
    }

    pub(super) fn unknown_function(name: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "unknown_function", format!("no function named `{name}` on this node"))
    }

    pub(super) fn no_history() -> Self {
        let detail = "this node keeps no history: its file could not be used, see the node's log";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "no_history", detail.to_owned())
    }

    pub(super) fn unknown_invocation(id: &str) -> Self {
        let detail = format!("invocation {id} is not among the recent ones of this node");
        Self::new(StatusCode::NOT_FOUND, "unknown_invocation", detail)
    }

    pub(super) fn too_many_told() -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, "too_many_told", "as many calls are known ahead as can be remembered")
    }

    pub(super) fn too_large(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", detail)
    }

    pub(super) fn digest_mismatch(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "digest_mismatch", detail)
    }

    pub(super) fn storage(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::INSUFFICIENT_STORAGE, "storage", detail)
    }
}

/// Paths that the API does not have.
pub(super) async fn unknown_path() -> ApiError {
    ApiError::new(StatusCode::NOT_FOUND, "unknown_path", "the API has no such path; see /v1/openapi.json")
}

impl From<TooMany> for ApiError {
    fn from(TooMany { readers_max }: TooMany) -> Self {
        let detail = format!("{readers_max} readers of the live feed is as many as there may be; close one");
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "too_many_readers", detail)
    }
}

impl From<DeployFailure> for ApiError {
    fn from(failure: DeployFailure) -> Self {
        let detail = failure.to_string();
        let (status, reason) = match &failure {
            DeployFailure::Spec { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "bad_specification"),
            DeployFailure::Load { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "bad_component"),
            DeployFailure::BadComponent { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "bad_component"),
            DeployFailure::HarmfulComponent { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "harmful_component"),
            DeployFailure::Store(DeployError::RouteTaken { .. })
            | DeployFailure::Rollback(RollbackError::RouteTaken { .. }) => (StatusCode::CONFLICT, "route_taken"),
            DeployFailure::Store(DeployError::ComponentMissing { .. })
            | DeployFailure::Component(ComponentError::Missing { .. }) => (StatusCode::CONFLICT, "component_missing"),
            DeployFailure::Store(DeployError::Storage(_))
            | DeployFailure::Storage(_)
            | DeployFailure::Component(_)
            | DeployFailure::Rollback(RollbackError::Storage(_)) => (StatusCode::INSUFFICIENT_STORAGE, "storage"),
            DeployFailure::Store(_) => (StatusCode::UNPROCESSABLE_ENTITY, "bad_deployment"),
            DeployFailure::Rollback(_) => (StatusCode::CONFLICT, "no_such_revision"),
            DeployFailure::Remove(_) => (StatusCode::NOT_FOUND, "unknown_function"),
        };
        Self::new(status, reason, detail)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, Json(self)).into_response();
        let content_type = HeaderValue::from_static("application/problem+json");
        response.headers_mut().insert(header::CONTENT_TYPE, content_type);
        response
    }
}
