//! Incoming requests and their replies. Bodies come in whole, up to a limit;
//! they go out whole or piece by piece.

use crate::host;
use crate::words::Problem;
use miniserde::{Deserialize, Serialize, json};
use wasi::http::types::{
    Fields, IncomingBody, IncomingRequest, Method, OutgoingBody, OutgoingResponse, ResponseOutparam,
};
use wasi::io::streams::{InputStream, StreamError};

/// Nothing that the shop's functions tell each other comes near this.
pub const BODY_BYTES_MAX: usize = 64 * 1024;
/// `blocking-write-and-flush` accepts at most this many bytes.
pub(crate) const CHUNK_BYTES: usize = 4096;

/// A request, read as a whole.
pub struct Request {
    /// In capitals, as on the wire.
    pub method: String,
    /// Without the query and without a slash at the end; the root is empty.
    pub path: String,
    query: String,
    headers: Fields,
    body: Vec<u8>,
}

impl Request {
    /// Method and path segments, to match on.
    pub fn route(&self) -> (&str, Vec<&str>) {
        (&self.method, self.path.split('/').skip(1).collect())
    }

    /// The first value of a header, when it is text.
    pub fn header(&self, name: &str) -> Option<String> {
        String::from_utf8(self.headers.get(name).into_iter().next()?).ok()
    }

    /// A number in the query, or the default.
    pub fn number(&self, name: &str, default: u32) -> u32 {
        self.query
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .find(|(key, _)| *key == name)
            .and_then(|(_, value)| value.parse().ok())
            .unwrap_or(default)
    }

    /// Whether a person in a browser is asking, who wants a page and not data.
    pub fn from_browser(&self) -> bool {
        self.header("accept").is_some_and(|accept| accept.contains("text/html"))
    }

    /// The body as one of the shop's words, or the reply that says what is wrong.
    pub fn json<T: Deserialize>(&self) -> Result<T, Reply> {
        parsed(&self.body).ok_or_else(|| Reply::error(400, "the body is not what this path takes"))
    }

    fn read(incoming: IncomingRequest) -> Result<Self, Reply> {
        let target = incoming.path_with_query().unwrap_or_default();
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let mut request = Self {
            method: name(&incoming.method()),
            path: path.trim_end_matches('/').to_owned(),
            query: query.to_owned(),
            headers: incoming.headers(),
            body: Vec::new(),
        };
        let body = incoming.consume().map_err(|()| Reply::error(500, "the body was taken"))?;
        let stream = body.stream().map_err(|()| Reply::error(500, "the body was taken"))?;
        request.body = read_all(&stream).map_err(|why| Reply::error(413, why))?;
        drop(stream);
        drop(IncomingBody::finish(body));
        Ok(request)
    }
}

/// One of the shop's words, if that is what the text is.
pub(crate) fn parsed<T: Deserialize>(text: &[u8]) -> Option<T> {
    json::from_str(std::str::from_utf8(text).ok()?).ok()
}

/// The stream to its end, or why not.
pub(crate) fn read_all(stream: &InputStream) -> Result<Vec<u8>, &'static str> {
    let mut bytes = Vec::new();
    loop {
        match stream.blocking_read(BODY_BYTES_MAX as u64) {
            Ok(more) if bytes.len() + more.len() > BODY_BYTES_MAX => return Err("the body is too long"),
            Ok(more) => bytes.extend(more),
            Err(StreamError::Closed) => return Ok(bytes),
            Err(StreamError::LastOperationFailed(_)) => return Err("the body broke off"),
        }
    }
}

fn name(method: &Method) -> String {
    match method {
        Method::Get => "GET",
        Method::Head => "HEAD",
        Method::Post => "POST",
        Method::Put => "PUT",
        Method::Delete => "DELETE",
        Method::Connect => "CONNECT",
        Method::Options => "OPTIONS",
        Method::Trace => "TRACE",
        Method::Patch => "PATCH",
        Method::Other(other) => other,
    }
    .to_owned()
}

/// An answer to a request.
pub struct Reply {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Body,
}

enum Body {
    Whole(Vec<u8>),
    Pieces(Box<dyn Iterator<Item = String>>),
}

impl Reply {
    fn new(status: u16, content_type: &str, body: Body) -> Self {
        Self { status, headers: vec![("content-type", content_type.to_owned())], body }
    }

    /// One of the shop's words.
    pub fn json(status: u16, value: &impl Serialize) -> Self {
        let text = json::to_string(value) + "\n";
        Self::new(status, "application/json", Body::Whole(text.into_bytes()))
    }

    /// `{"error": why}`
    pub fn error(status: u16, why: &str) -> Self {
        Self::json(status, &Problem { error: why.to_owned() })
    }

    /// There is nothing at that path, or not with that method.
    pub fn no_such_path() -> Self {
        Self::error(404, "no such path")
    }

    /// A page.
    pub fn html(status: u16, page: String) -> Self {
        Self::new(status, "text/html; charset=utf-8", Body::Whole(page.into_bytes()))
    }

    /// Text that is sent as it is made.
    pub fn lines(lines: impl Iterator<Item = String> + 'static) -> Self {
        Self::new(200, "text/plain; charset=utf-8", Body::Pieces(Box::new(lines)))
    }

    /// Sends a browser on to another page.
    pub fn see(location: String) -> Self {
        Self::new(303, "text/plain", Body::Whole(Vec::new())).with("location", location)
    }

    /// The same reply with one more header.
    pub fn with(mut self, name: &'static str, value: String) -> Self {
        self.headers.push((name, value));
        self
    }

    /// A write that fails means that the client went away: the rest is not made.
    fn send(self, out: ResponseOutparam) {
        let headers = Fields::new();
        for (name, value) in &self.headers {
            assert!(headers.append(name, value.as_bytes()).is_ok(), "the shop's headers are valid");
        }
        let response = OutgoingResponse::new(headers);
        response.set_status_code(self.status).expect("the shop's statuses exist");
        let body = response.body().expect("a new response has its body");
        ResponseOutparam::set(out, Ok(response));
        let stream = body.write().expect("a new body has its stream");
        let write =
            |bytes: &[u8]| bytes.chunks(CHUNK_BYTES).try_for_each(|chunk| stream.blocking_write_and_flush(chunk));
        let sent = match self.body {
            Body::Whole(bytes) => write(&bytes),
            Body::Pieces(mut pieces) => pieces.try_for_each(|piece| write(piece.as_bytes())),
        };
        drop(stream);
        if sent.is_ok() {
            let _ = OutgoingBody::finish(body, None);
        }
    }
}

/// Reads, answers, logs one line and replies.
pub fn serve(answer: fn(&Request) -> Reply, incoming: IncomingRequest, out: ResponseOutparam) {
    let reply = match Request::read(incoming) {
        Ok(request) => {
            let reply = answer(&request);
            let path = if request.path.is_empty() { "/" } else { &request.path };
            host::log(&format!("{} {path} {}", request.method, reply.status));
            reply
        }
        Err(reply) => reply,
    };
    reply.send(out);
}
