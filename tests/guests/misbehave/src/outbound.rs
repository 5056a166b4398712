//! One outbound request, with the method and body of the request that asked
//! for it. The answer is 200 with status and body of what came back, or 502
//! with the error: a test reads which of the two it was.

use crate::request::Request;
use crate::response::{self, text};
use wasi::http::outgoing_handler;
use wasi::http::types::{
    ErrorCode, Fields, IncomingBody, IncomingResponse, Method, OutgoingBody, OutgoingRequest, ResponseOutparam, Scheme,
};
use wasi::io::streams::StreamError;

/// Answers are read up to here; more than any test sends through.
const ANSWER_BYTES_MAX: usize = 16 << 20;

pub(crate) fn call(request: Request, out: ResponseOutparam) {
    let Some(url) = request.text("url") else {
        return text(out, 400, "say ?url=\n");
    };
    match send(&url, request) {
        Ok((status, body)) => {
            let head = format!("status {status}\n");
            let bytes = [head.as_bytes(), &body].concat();
            let body = response::start(out, 200, Fields::new());
            let stream = body.write().expect("a new body has its stream");
            let _ = response::write(&stream, &bytes);
            drop(stream);
            let _ = OutgoingBody::finish(body, None);
        }
        Err(error) => text(out, 502, &format!("outbound failed: {error}\n")),
    }
}

fn send(url: &str, request: Request) -> Result<(u16, Vec<u8>), String> {
    let method = request.method();
    let outgoing = outgoing(url, &method)?;
    let body = outgoing.body().map_err(|()| "the body is gone")?;
    let answer = outgoing_handler::handle(outgoing, None).map_err(|error| named(&error))?;
    // A host that refuses the call closes the body as well: its answer says why.
    let forwarded = forward(request, body);
    answer.subscribe().block();
    let response =
        answer.get().ok_or("not ready after the wait")?.map_err(|()| "taken twice")?.map_err(|error| named(&error))?;
    forwarded.map_err(|error| format!("request body: {error}"))?;
    Ok((response.status(), read(response)?))
}

/// Calls `url` and cares for no answer.
pub(crate) fn visit(url: &str) {
    let Ok(request) = outgoing(url, &Method::Get) else { return };
    if let Ok(answer) = outgoing_handler::handle(request, None) {
        answer.subscribe().block();
    }
}

fn outgoing(url: &str, method: &Method) -> Result<OutgoingRequest, String> {
    let (scheme, rest) = url.split_once("://").ok_or("not a URL")?;
    let scheme = match scheme {
        "http" => Scheme::Http,
        "https" => Scheme::Https,
        other => Scheme::Other(other.to_owned()),
    };
    let (authority, path) = match rest.find('/') {
        Some(slash) => rest.split_at(slash),
        None => (rest, "/"),
    };
    let request = OutgoingRequest::new(Fields::new());
    let built = request
        .set_method(method)
        .and_then(|()| request.set_scheme(Some(&scheme)))
        .and_then(|()| request.set_authority(Some(authority)))
        .and_then(|()| request.set_path_with_query(Some(path)));
    match built {
        Ok(()) => Ok(request),
        Err(()) => Err("the host refused a part of the URL".to_owned()),
    }
}

fn forward(request: Request, body: OutgoingBody) -> Result<(), String> {
    let incoming = request.into_body();
    let input = incoming.stream().map_err(|()| "the body was taken twice")?;
    let output = body.write().map_err(|()| "the body was taken twice")?;
    loop {
        match input.blocking_read(4096) {
            Ok(bytes) => response::write(&output, &bytes).map_err(|error| format!("{error:?}"))?,
            Err(StreamError::Closed) => break,
            Err(StreamError::LastOperationFailed(error)) => return Err(error.to_debug_string()),
        }
    }
    drop(output);
    OutgoingBody::finish(body, None).map_err(|error| named(&error))
}

fn read(response: IncomingResponse) -> Result<Vec<u8>, String> {
    let body = response.consume().map_err(|()| "the body was taken twice")?;
    let stream = body.stream().map_err(|()| "the body was taken twice")?;
    let mut bytes = Vec::new();
    while bytes.len() < ANSWER_BYTES_MAX {
        match stream.blocking_read(65_536) {
            Ok(chunk) => bytes.extend(chunk),
            Err(StreamError::Closed) => break,
            Err(StreamError::LastOperationFailed(error)) => return Err(error.to_debug_string()),
        }
    }
    drop(stream);
    drop(IncomingBody::finish(body));
    Ok(bytes)
}

fn named(error: &ErrorCode) -> String {
    format!("{error:?}")
}
