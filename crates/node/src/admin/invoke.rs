//! Calling a function by name, whether it has routes or not.
//!
//! The request goes through the same admission as any other, without the API's own token.

use axum::body::Body as AxumBody;
use axum::extract::{Path, Request, State};
use axum::http::Uri;
use axum::http::header::{AUTHORIZATION, HOST, HeaderValue};
use axum::response::Response;
use forerun_driver::{Body, BodyError};
use http_body_util::BodyExt;

use super::Shared;
use super::api_error::ApiError;
use super::functions::name;

pub(super) async fn at_root(
    State(state): State<Shared>,
    Path(function): Path<String>,
    request: Request,
) -> Result<Response, ApiError> {
    call(state, &function, "", request).await
}

pub(super) async fn at_path(
    State(state): State<Shared>,
    Path((function, path)): Path<(String, String)>,
    request: Request,
) -> Result<Response, ApiError> {
    call(state, &function, &path, request).await
}

async fn call(state: Shared, function: &str, path: &str, request: Request) -> Result<Response, ApiError> {
    let name = name(function)?;
    let (mut parts, body) = request.into_parts();
    parts.uri = target(path, parts.uri.query())?;
    parts.headers.remove(AUTHORIZATION);
    parts.headers.insert(HOST, HeaderValue::from_str(&format!("{name}.forerun.internal")).map_err(bad)?);
    let request = Request::from_parts(parts, guest_body(body));
    let response = state.gateway.invoke(&name, request).await.map_err(|_| ApiError::unknown_function(function))?;
    Ok(response.map(AxumBody::new))
}

/// axum has decoded the path; what it may not hold in a URI is encoded again by going through a parser.
fn target(path: &str, query: Option<&str>) -> Result<Uri, ApiError> {
    let mut text = String::from("/");
    for byte in path.bytes() {
        let plain = byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/".contains(&byte);
        if plain {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    if let Some(query) = query {
        text.push('?');
        text.push_str(query);
    }
    text.parse().map_err(bad)
}

fn guest_body(body: AxumBody) -> Body {
    body.map_err(|error| BodyError::Malformed { detail: error.to_string() }).boxed_unsync()
}

fn bad(error: impl std::fmt::Display) -> ApiError {
    ApiError::bad_request(error.to_string())
}
