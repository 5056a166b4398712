//! The history, row by row, as CSV or JSON lines: for spreadsheets, other tools, and `forerun replay`.
//!
//! Rows are read page by page by a thread that waits for whoever reads; nothing is held in memory.

use std::io::{self, Write};

use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use forerun_store::{ExportError, ExportFormat, ExportQuery, ExportTable};
use futures::stream;
use serde::Deserialize;
use tokio::sync::mpsc::{self, Sender};

use super::Shared;
use super::api_error::ApiError;
use super::functions::name;

/// Pages that wait for the reader; one is some 2 MB.
const PAGES_MAX: usize = 2;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    #[serde(default)]
    table: Table,
    #[serde(default)]
    format: Format,
    function: Option<String>,
    #[serde(default)]
    from_unix_us: u64,
    to_unix_us: Option<u64>,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Table {
    #[default]
    Invocations,
    Loads,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Format {
    #[default]
    Csv,
    Jsonl,
}

pub(super) async fn export(
    State(state): State<Shared>,
    wanted: Result<Query<Wanted>, QueryRejection>,
) -> Result<Response, ApiError> {
    let Query(wanted) = wanted.map_err(|rejection| ApiError::bad_request(rejection.body_text()))?;
    let history = state.history.clone().ok_or_else(ApiError::no_history)?;
    let query = ExportQuery {
        table: match wanted.table {
            Table::Invocations => ExportTable::Invocations,
            Table::Loads => ExportTable::Loads,
        },
        function: wanted.function.as_deref().map(name).transpose()?,
        from_unix_us: wanted.from_unix_us,
        to_unix_us: wanted.to_unix_us.unwrap_or(u64::MAX),
    };
    let (format, media_type) = match wanted.format {
        Format::Csv => (ExportFormat::Csv, "text/csv; charset=utf-8"),
        Format::Jsonl => (ExportFormat::JsonLines, "application/jsonl"),
    };
    let (sender, receiver) = mpsc::channel(PAGES_MAX);
    tokio::task::spawn_blocking(move || {
        let mut pages = Pages(sender.clone());
        match history.export(&query, format, &mut pages) {
            // Who does not want any more needs no word about it.
            Ok(_) | Err(ExportError::Output { .. }) => {}
            Err(ExportError::Storage(error)) => {
                tracing::error!(%error, "an export broke off");
                // The reader must not take what there is for everything.
                let _ = sender.blocking_send(Err(io::Error::other(error.to_string())));
            }
        }
    });
    let pages = stream::unfold(receiver, |mut receiver| async { receiver.recv().await.map(|page| (page, receiver)) });
    Ok(([(CONTENT_TYPE, media_type)], Body::from_stream(pages)).into_response())
}

/// Hands what is written on to the response's body, and waits when it is behind.
struct Pages(Sender<io::Result<Bytes>>);

impl Write for Pages {
    fn write(&mut self, page: &[u8]) -> io::Result<usize> {
        let sent = self.0.blocking_send(Ok(Bytes::copy_from_slice(page)));
        sent.map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        Ok(page.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
