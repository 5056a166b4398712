//! `forerun export`: the history of invocations, as a file that other tools and `forerun replay` read.

use std::io::{self, BufReader};
use std::time::{SystemTime, UNIX_EPOCH};

use super::api::Api;
use super::error::ClientError;
use crate::cli::meaning::{Export, ExportRows};
use crate::cli::output::{Format, Output};

/// Bytes copied at a time.
const BUFFER_BYTES: usize = 1 << 16;

/// Copies the history to stdout, as CSV or, with `--json`, as JSON lines.
pub(super) fn export(output: &Output, api: &Api, wanted: &Export) -> Result<(), ClientError> {
    let table = match wanted.rows {
        ExportRows::Invocations => "invocations",
        ExportRows::Loads => "loads",
    };
    let format = match output.format {
        Format::Human => "csv",
        Format::Json => "jsonl",
    };
    let mut path = format!("/v1/history?table={table}&format={format}");
    if let Some(function) = &wanted.function {
        path.push_str(&format!("&function={function}"));
    }
    if let Some(since) = wanted.since {
        let from = SystemTime::now().checked_sub(since).and_then(|from| from.duration_since(UNIX_EPOCH).ok());
        path.push_str(&format!("&from_unix_us={}", from.unwrap_or_default().as_micros()));
    }
    let mut reader = BufReader::with_capacity(BUFFER_BYTES, api.stream(&path)?);
    let mut stdout = io::stdout().lock();
    copy(&mut reader, &mut stdout, api)
}

/// Reading and writing fail for different reasons, and the reader of an error must know which.
fn copy(from: &mut impl io::BufRead, to: &mut impl io::Write, api: &Api) -> Result<(), ClientError> {
    loop {
        let broke_off =
            |error: io::Error| ClientError::BrokeOff { url: api.url().to_string(), reason: error.to_string() };
        let piece = from.fill_buf().map_err(broke_off)?;
        if piece.is_empty() {
            return to.flush().map_err(ClientError::Stdout);
        }
        to.write_all(piece).map_err(ClientError::Stdout)?;
        let bytes = piece.len();
        from.consume(bytes);
    }
}
