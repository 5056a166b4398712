//! A function's log, to its present end or as it grows.

use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use forerun_telemetry::guest_logs::{Followed, LogFollower};
use futures::stream::{self, Stream, StreamExt};
use serde::Deserialize;

use super::Shared;
use super::api_error::ApiError;
use super::functions::name;

/// Lines given at once; more is a file to be copied.
const LINES_MAX: usize = 100_000;

#[derive(Deserialize)]
pub(super) struct Wanted {
    #[serde(default = "hundred")]
    lines: usize,
    #[serde(default)]
    follow: bool,
}

fn hundred() -> usize {
    100
}

pub(super) async fn read(
    State(state): State<Shared>,
    Path(text): Path<String>,
    Query(Wanted { lines, follow }): Query<Wanted>,
) -> Result<Response, ApiError> {
    let name = name(&text)?;
    if state.functions.get(&name).is_none() {
        return Err(ApiError::unknown_function(&text));
    }
    let lines = lines.min(LINES_MAX);
    let failed = |error: std::io::Error| ApiError::storage(format!("the log cannot be read: {error}"));
    let body = if follow {
        let (past, follower) = state.logs.follow(&name, lines).map_err(failed)?;
        let past = stream::iter([Ok(Bytes::from(joined(&past)))]);
        Body::from_stream(past.chain(lines_of(follower)))
    } else {
        Body::from(joined(&state.logs.tail(&name, lines).map_err(failed)?))
    };
    Ok(([(CONTENT_TYPE, "text/plain; charset=utf-8")], body).into_response())
}

fn joined(lines: &[String]) -> String {
    lines.iter().flat_map(|line| [line.as_str(), "\n"]).collect()
}

fn lines_of(follower: LogFollower) -> impl Stream<Item = Result<Bytes, std::convert::Infallible>> {
    stream::unfold(follower, |mut follower| async move {
        let text = match follower.next().await {
            Followed::Line(line) => format!("{line}\n"),
            Followed::Lagged(lines) => format!("[{lines} lines left out: they came too fast; see the log file]\n"),
            Followed::Ended => return None,
        };
        Some((Ok(Bytes::from(text)), follower))
    })
}
