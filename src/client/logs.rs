//! `forerun logs`: lines of a function's log as they are, or as they come.
//!
//! An interrupt ends the process at once, as for any reader of a stream; each line is written whole before.

use std::io::{BufRead, BufReader, Read};

use serde_json::{Value, json};

use super::api::Api;
use super::error::ClientError;
use crate::cli::meaning::Logs;
use crate::cli::output::Output;

/// Bytes of one line; the node keeps shorter ones. What is longer is shown in pieces.
const LINE_BYTES_MAX: u64 = 1 << 20;

/// Shows lines of a log.
pub(super) fn logs(output: &Output, api: &Api, wanted: &Logs) -> Result<(), ClientError> {
    let Logs { function, follow, lines } = wanted;
    let body = api.stream(&format!("/v1/functions/{function}/logs?lines={lines}&follow={follow}"))?;
    let mut reader = BufReader::new(body);
    let mut line = Vec::new();
    let mut any = false;
    loop {
        line.clear();
        let read = reader.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line);
        let count =
            read.map_err(|error| ClientError::BrokeOff { url: api.url().to_string(), reason: error.to_string() })?;
        if count == 0 {
            break;
        }
        any = true;
        let text = printable(&line);
        output.item(&text, &record(&text)).map_err(ClientError::Stdout)?;
    }
    if !any {
        output.note(&format!("{function} has written nothing yet"));
    }
    Ok(())
}

/// The line without its end. The node escapes what steers a terminal; another program may not.
fn printable(line: &[u8]) -> String {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let mut text = String::with_capacity(line.len());
    for character in String::from_utf8_lossy(line).chars() {
        if character.is_control() && character != '\t' {
            text.extend(character.escape_default());
        } else {
            text.push(character);
        }
    }
    text
}

/// `time invocation stream text` in its parts; a line of another form, such as a notice, as `text` alone.
fn record(line: &str) -> Value {
    let parts: Vec<&str> = line.splitn(4, ' ').collect();
    match parts.as_slice() {
        [time, invocation, stream @ ("stdout" | "stderr"), text] => {
            json!({ "time": time, "invocation": invocation, "stream": stream, "text": text })
        }
        _ => json!({ "text": line }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_have_parts_or_are_text() {
        let value = record("2026-11-23T20:00:09.563Z 32672fc7 stdout GET /cart/1 404");
        assert_eq!(value["text"], "GET /cart/1 404");
        assert_eq!(value["stream"], "stdout");
        assert_eq!(record("[3 lines left out]"), json!({ "text": "[3 lines left out]" }));
        assert_eq!(record(""), json!({ "text": "" }));
    }

    #[test]
    fn lines_cannot_steer_the_terminal() {
        assert_eq!(printable(b"a\tb\x1b[2J\r\xff\n"), "a\tb\\u{1b}[2J\\r\u{fffd}");
    }
}
