//! Answers: the plain ones, and those whose body or headers are the point.
//! A failed write always means that the host closed the stream, so writers
//! stop at the first one.

use crate::request::Request;
use wasi::clocks::monotonic_clock;
use wasi::http::types::{Fields, IncomingBody, OutgoingBody, OutgoingResponse, ResponseOutparam};
use wasi::io::streams::{OutputStream, StreamError};

/// `blocking-write-and-flush` accepts at most this many bytes.
const CHUNK_BYTES: usize = 4096;

/// Sends status and headers, and gives the body to write.
pub(crate) fn start(out: ResponseOutparam, status: u16, headers: Fields) -> OutgoingBody {
    let response = OutgoingResponse::new(headers);
    response.set_status_code(status).expect("the paths ask for statuses that exist");
    let body = response.body().expect("a new response has its body");
    ResponseOutparam::set(out, Ok(response));
    body
}

/// Writes all of it, in the chunks that the interface takes.
pub(crate) fn write(stream: &OutputStream, bytes: &[u8]) -> Result<(), StreamError> {
    bytes.chunks(CHUNK_BYTES).try_for_each(|chunk| stream.blocking_write_and_flush(chunk))
}

pub(crate) fn with(out: ResponseOutparam, status: u16, content_type: &str, text: &str) {
    let headers = Fields::new();
    headers.set("content-type", &[content_type.as_bytes().to_vec()]).expect("the content type is a valid header");
    let body = start(out, status, headers);
    let stream = body.write().expect("a new body has its stream");
    let _ = write(&stream, text.as_bytes());
    drop(stream);
    let _ = OutgoingBody::finish(body, None);
}

pub(crate) fn text(out: ResponseOutparam, status: u16, text: &str) {
    with(out, status, "text/plain; charset=utf-8", text);
}

pub(crate) fn json(out: ResponseOutparam, json: &str) {
    with(out, 200, "application/json", json);
}

/// A string as JSON, quotes included.
pub(crate) fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for char in text.chars() {
        match char {
            '"' | '\\' => quoted.extend(['\\', char]),
            char if u32::from(char) < 0x20 => {
                quoted.push_str(&format!("\\u{:04x}", u32::from(char)));
            }
            char => quoted.push(char),
        }
    }
    quoted.push('"');
    quoted
}

pub(crate) fn sleep(ms: u64) {
    monotonic_clock::subscribe_duration(ms.saturating_mul(1_000_000)).block();
}

pub(crate) fn slow(request: &Request, out: ResponseOutparam) {
    let ms = request.number("ms", 100);
    sleep(ms);
    text(out, 200, &format!("slept {ms} ms\n"));
}

pub(crate) fn stall(request: &Request, out: ResponseOutparam) {
    let body = start(out, 200, Fields::new());
    let stream = body.write().expect("a new body has its stream");
    if write(&stream, b"first half\n").is_ok() {
        sleep(request.number("ms", 100));
        let _ = write(&stream, b"second half\n");
    }
    drop(stream);
    let _ = OutgoingBody::finish(body, None);
}

pub(crate) fn status(request: &Request, out: ResponseOutparam) {
    let code = u16::try_from(request.number("code", 200)).unwrap_or(200);
    let code = if (200..600).contains(&code) { code } else { 400 };
    let _ = OutgoingBody::finish(start(out, code, Fields::new()), None);
}

pub(crate) fn big(request: &Request, out: ResponseOutparam) {
    let body = start(out, 200, Fields::new());
    let stream = body.write().expect("a new body has its stream");
    let chunk = [b'x'; CHUNK_BYTES];
    let mut left_bytes = request.number("bytes", 1 << 20);
    while left_bytes > 0 {
        let take = usize::try_from(left_bytes).map_or(CHUNK_BYTES, |left| left.min(CHUNK_BYTES));
        if write(&stream, &chunk[..take]).is_err() {
            return;
        }
        left_bytes -= take as u64;
    }
    drop(stream);
    let _ = OutgoingBody::finish(body, None);
}

pub(crate) fn many_headers(request: &Request, out: ResponseOutparam) {
    let headers = Fields::new();
    let value = vec![b'v'; usize::try_from(request.number("bytes", 10)).unwrap_or(10)];
    for index in 0..request.number("count", 10) {
        if headers.append(&format!("x-many-{index}"), &value).is_err() {
            return text(out, 507, &format!("refused at header {index}\n"));
        }
    }
    let _ = OutgoingBody::finish(start(out, 200, headers), None);
}

/// A request's body to its end, or that it broke off.
pub(crate) fn read_all(body: &IncomingBody) -> Result<Vec<u8>, ()> {
    let input = body.stream().expect("the stream is taken once");
    let mut bytes = Vec::new();
    loop {
        match input.blocking_read(CHUNK_BYTES as u64) {
            Ok(piece) => bytes.extend(piece),
            Err(StreamError::Closed) => return Ok(bytes),
            Err(StreamError::LastOperationFailed(_)) => return Err(()),
        }
    }
}

/// Each piece goes back before the next one is read, so that a test can wait
/// for the echo of what it sent before it sends more.
pub(crate) fn echo(request: Request, out: ResponseOutparam) {
    let content_type = request.headers().get("content-type");
    let headers = Fields::new();
    if !content_type.is_empty() {
        let _ = headers.set("content-type", &content_type);
    }
    let incoming = request.into_body();
    let input = incoming.stream().expect("the stream is taken once");
    let body = start(out, 200, headers);
    let output = body.write().expect("a new body has its stream");
    let outcome = loop {
        match input.blocking_read(CHUNK_BYTES as u64) {
            Ok(bytes) => {
                if write(&output, &bytes).is_err() {
                    break Err(());
                }
            }
            Err(StreamError::Closed) => break Ok(()),
            // A torn request must not look like a complete answer.
            Err(StreamError::LastOperationFailed(_)) => break Err(()),
        }
    };
    drop(input);
    drop(output);
    match outcome {
        Ok(()) => {
            let trailers = IncomingBody::finish(incoming);
            let _ = OutgoingBody::finish(body, None);
            drop(trailers);
        }
        Err(()) => drop(body),
    }
}
