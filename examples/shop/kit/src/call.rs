//! One function calling another over `wasi:http`. A function of the same app is
//! `http://<name>.forerun.internal`; the variable `<NAME>_URL` names another
//! place, so the same components run on any host. No retries: a caller knows
//! better than this file whether a second attempt is safe.

use crate::serve::{CHUNK_BYTES, Reply, parsed, read_all};
use miniserde::{Deserialize, Serialize, json};
use std::fmt;
use wasi::http::outgoing_handler;
use wasi::http::types::{
    ErrorCode, Fields, FutureIncomingResponse, IncomingBody, Method, OutgoingBody, OutgoingRequest, Scheme,
};

/// Why a call brought no usable answer.
pub enum CallError {
    /// `<NAME>_URL` is not `http://host[:port]` or `https://host[:port]`.
    BadUrl(String),
    /// The host could not or would not make the call.
    Failed(ErrorCode),
    /// The body broke off or is too long.
    Body(&'static str),
    /// It answered, with this status and this text.
    Status(u16, String),
    /// It answered 200 with something else than was agreed.
    NotUnderstood,
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadUrl(url) => write!(f, "its address is no http address: {url}"),
            Self::Failed(code) => write!(f, "no answer: {}", reason(code)),
            Self::Body(why) => write!(f, "half an answer: {why}"),
            Self::Status(status, text) => write!(f, "status {status}: {}", text.trim_end()),
            Self::NotUnderstood => f.write_str("an answer nobody understands"),
        }
    }
}

impl CallError {
    /// The reply of a function that can't go on without the one it called.
    pub fn into_reply(self, function: &str) -> Reply {
        Reply::error(502, &format!("{function}: {self}"))
    }
}

/// The reasons worth telling apart; printing all forty would double the component.
fn reason(code: &ErrorCode) -> &'static str {
    match code {
        ErrorCode::DnsError(_) | ErrorCode::DestinationNotFound => "there is no such host",
        ErrorCode::ConnectionRefused => "connection refused",
        ErrorCode::DnsTimeout | ErrorCode::ConnectionTimeout | ErrorCode::HttpResponseTimeout => "it took too long",
        ErrorCode::HttpRequestDenied => "the host does not allow the call",
        ErrorCode::LoopDetected => "the functions call one another in a circle",
        _ => "the connection failed",
    }
}

/// A call under way. Several may be, which is why starting and waiting are two steps.
pub struct Pending(FutureIncomingResponse);

/// Starts `GET path` of a function, passing the visitor's cookie on.
pub fn get(function: &str, path: &str, cookie: Option<&str>) -> Result<Pending, CallError> {
    let request = request(function, Method::Get, path, cookie)?;
    outgoing_handler::handle(request, None).map(Pending).map_err(CallError::Failed)
}

/// Starts `POST path` of a function with one of the shop's words.
pub fn post(function: &str, path: &str, value: &impl Serialize) -> Result<Pending, CallError> {
    let request = request(function, Method::Post, path, None)?;
    let body = request.body().expect("a new request has its body");
    let pending = outgoing_handler::handle(request, None).map_err(CallError::Failed)?;
    let text = json::to_string(value).into_bytes();
    let stream = body.write().expect("a new body has its stream");
    // A host that could not make the call closes the stream; the answer says why.
    let _ = text.chunks(CHUNK_BYTES).try_for_each(|chunk| stream.blocking_write_and_flush(chunk));
    drop(stream);
    let _ = OutgoingBody::finish(body, None);
    Ok(Pending(pending))
}

impl Pending {
    /// Waits, and takes the answer for one of the shop's words.
    pub fn json<T: Deserialize>(self) -> Result<T, CallError> {
        self.0.subscribe().block();
        let answer = self.0.get().expect("it is ready").expect("it is taken once");
        let response = answer.map_err(CallError::Failed)?;
        let body = response.consume().expect("the body is taken once");
        let stream = body.stream().expect("the stream is taken once");
        let bytes = read_all(&stream).map_err(CallError::Body)?;
        drop(stream);
        drop(IncomingBody::finish(body));
        match response.status() {
            200..300 => parsed(&bytes).ok_or(CallError::NotUnderstood),
            status => Err(CallError::Status(status, String::from_utf8_lossy(&bytes).into_owned())),
        }
    }
}

fn request(function: &str, method: Method, path: &str, cookie: Option<&str>) -> Result<OutgoingRequest, CallError> {
    let variable = format!("{}_URL", function.to_uppercase());
    let base = std::env::var(variable).unwrap_or_else(|_| format!("http://{function}.forerun.internal"));
    let (scheme, authority) = match base.trim_end_matches('/').split_once("://") {
        Some(("http", authority)) => (Scheme::Http, authority),
        Some(("https", authority)) => (Scheme::Https, authority),
        Some(_) | None => return Err(CallError::BadUrl(base)),
    };
    let headers = Fields::new();
    if let Some(cookie) = cookie {
        assert!(headers.set("cookie", &[cookie.into()]).is_ok(), "it came in as a header");
    }
    let request = OutgoingRequest::new(headers);
    request
        .set_method(&method)
        .and_then(|()| request.set_scheme(Some(&scheme)))
        .and_then(|()| request.set_authority(Some(authority)))
        .and_then(|()| request.set_path_with_query(Some(path)))
        .map_err(|()| CallError::BadUrl(format!("{base}{path}")))?;
    Ok(request)
}
