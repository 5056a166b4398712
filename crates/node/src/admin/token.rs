//! Who may use the API: whoever shows the token of the data directory.

use axum::extract::{Request, State};
use axum::http::header::AUTHORIZATION;
use axum::middleware::Next;
use axum::response::Response;

use super::Shared;
use super::api_error::ApiError;

const SCHEME: &[u8] = b"Bearer ";

/// Lets a request pass that carries the token.
pub(super) async fn require(State(state): State<Shared>, request: Request, next: Next) -> Result<Response, ApiError> {
    let shown = request.headers().get(AUTHORIZATION).and_then(|value| value.as_bytes().strip_prefix(SCHEME));
    match shown {
        Some(token) if state.token.matches(token) => Ok(next.run(request).await),
        Some(_) => Err(ApiError::unauthorized("the token is not this node's")),
        None => Err(ApiError::unauthorized("no bearer token")),
    }
}
