//! HTTP with a node's admin API: requests with the token, answers of a bounded size, problems as errors.
//!
//! Which paths there are is known to the commands; they are described in `crates/node/src/admin/openapi.json`.

use std::io::{self, Read};
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::Value;
use ureq::http::{Method, Request, Response, StatusCode, header};
use ureq::{Agent, Body, SendBody, Timeout};

use super::answers::{Problem, Status};
use super::error::ClientError;
use super::find::{self, Token};
use crate::cli::values::NodeUrl;

/// Bytes of one JSON answer: a hundred thousand functions with their routes.
const ANSWER_BYTES_MAX: u64 = 64 << 20;
/// How long a connection may take, on slow networks too.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the node may take to answer where it only looks something up.
const LOOK_UP_TIMEOUT: Duration = Duration::from_secs(30);
/// How long it may take where it compiles: hundreds of large components on a small machine.
const WORK_TIMEOUT: Duration = Duration::from_secs(3600);
/// Set on every answer of a function and of the gateway, and on none of the API itself.
pub(super) const REQUEST_ID: &str = "x-request-id";
/// Our version; the node's is the same, or somebody has to be told.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// How long the node may take to begin its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Patience {
    /// It looks something up.
    LookUp,
    /// It compiles or stores.
    Work,
    /// As long as it takes; the node itself sets an end.
    Endless,
}

/// A node's admin API.
pub(super) struct Api {
    agent: Agent,
    url: NodeUrl,
    token: Token,
}

impl Api {
    /// The API at `url`. Nothing is sent yet.
    pub(super) fn new(url: NodeUrl, token: Token) -> Self {
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            // An operator may have any method in a function.
            .allow_non_standard_methods(true)
            .accept_encoding(ureq::config::AutoHeaderValue::None)
            .user_agent(format!("forerun/{VERSION}"))
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .timeout_resolve(Some(CONNECT_TIMEOUT));
        if find::is_this_machine(&url.host) {
            // A proxy is for other machines, and would see the token.
            config = config.proxy(None);
        }
        Self { agent: config.build().new_agent(), url, token }
    }

    /// Where the node is.
    pub(super) fn url(&self) -> &NodeUrl {
        &self.url
    }

    /// Version, addresses and figures of the node.
    pub(super) fn status(&self) -> Result<Status, ClientError> {
        self.understand(self.get("/v1/status")?)
    }

    /// What is at `path`.
    pub(super) fn get(&self, path: &str) -> Result<Value, ClientError> {
        let response = self.send(Method::GET, path, &[], SendBody::none(), Patience::LookUp)?;
        self.json(response)
    }

    /// Sends JSON; the node works on it.
    pub(super) fn post(&self, path: &str, value: &Value) -> Result<Value, ClientError> {
        self.send_json(Method::POST, path, value, Patience::Work)
    }

    /// Replaces what is at `path` by JSON.
    pub(super) fn set(&self, path: &str, value: &Value) -> Result<Value, ClientError> {
        self.send_json(Method::PUT, path, value, Patience::LookUp)
    }

    fn send_json(&self, method: Method, path: &str, value: &Value, patience: Patience) -> Result<Value, ClientError> {
        let text = value.to_string();
        let mut bytes = text.as_bytes();
        let headers = [("content-type", "application/json"), ("content-length", &text.len().to_string())];
        let response = self.send(method, path, &headers, SendBody::from_reader(&mut bytes), patience)?;
        self.json(response)
    }

    /// Uploads bytes.
    pub(super) fn put(&self, path: &str, mut bytes: &[u8]) -> Result<Value, ClientError> {
        let headers = [("content-type", "application/wasm"), ("content-length", &bytes.len().to_string())];
        let response = self.send(Method::PUT, path, &headers, SendBody::from_reader(&mut bytes), Patience::Work)?;
        self.json(response)
    }

    /// Removes what is at `path`.
    pub(super) fn delete(&self, path: &str) -> Result<(), ClientError> {
        let response = self.send(Method::DELETE, path, &[], SendBody::none(), Patience::LookUp)?;
        self.accepted(response).map(|_| ())
    }

    /// What is at `path`, as it comes.
    pub(super) fn stream(&self, path: &str) -> Result<impl Read + use<>, ClientError> {
        let response = self.send(Method::GET, path, &[], SendBody::none(), Patience::LookUp)?;
        Ok(self.accepted(response)?.into_body().into_reader())
    }

    /// Sends any request; whatever comes back is the answer. Header names are in lower case.
    pub(super) fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: SendBody<'_>,
        patience: Patience,
    ) -> Result<Response<Body>, ClientError> {
        let token = format!("Bearer {}", self.token.secret.0);
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.url));
        request = request.header(header::AUTHORIZATION, token);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(body).map_err(|error| self.unreachable(&error))?;
        let timeout = match patience {
            Patience::LookUp => Some(LOOK_UP_TIMEOUT),
            Patience::Work => Some(WORK_TIMEOUT),
            Patience::Endless => None,
        };
        let request = self.agent.configure_request(request).timeout_recv_response(timeout).build();
        self.agent.run(request).map_err(|error| self.failed(error))
    }

    /// The error in an answer of the API, which is none of a function's. Reads all of it.
    pub(super) fn problem(&self, response: Response<Body>) -> ClientError {
        let status = response.status();
        if status == StatusCode::UNAUTHORIZED {
            let url = self.url.to_string();
            return ClientError::TokenRefused { url, source_of_token: self.token.from.clone() };
        }
        if !is_problem(&response) || response.headers().contains_key(REQUEST_ID) {
            let detail = format!("it answered {status} to a question of the admin API");
            return ClientError::NotANode { url: self.url.to_string(), detail };
        }
        let bytes = match self.bytes(response) {
            Ok(bytes) => bytes,
            Err(error) => return error,
        };
        match serde_json::from_slice::<Problem>(&bytes) {
            Ok(problem) if problem.reason == "unknown_path" => self.not_understood(&problem.detail),
            Ok(Problem { detail, reason }) => ClientError::Problem { detail, reason, status: status.as_u16() },
            Err(_) => ClientError::NotANode { url: self.url.to_string(), detail: format!("it answered {status}") },
        }
    }

    /// Gives an answer its shape.
    pub(super) fn understand<T: DeserializeOwned>(&self, value: Value) -> Result<T, ClientError> {
        serde_json::from_value(value)
            .map_err(|error| self.not_understood(&format!("its answer is new to it ({error})")))
    }

    fn accepted(&self, response: Response<Body>) -> Result<Response<Body>, ClientError> {
        if response.status().is_success() { Ok(response) } else { Err(self.problem(response)) }
    }

    fn json(&self, response: Response<Body>) -> Result<Value, ClientError> {
        let response = self.accepted(response)?;
        let bytes = self.bytes(response)?;
        let url = self.url.to_string();
        serde_json::from_slice(&bytes)
            .map_err(|_| ClientError::NotANode { url, detail: "its answer is not JSON".into() })
    }

    fn bytes(&self, response: Response<Body>) -> Result<Vec<u8>, ClientError> {
        let url = self.url.to_string();
        match response.into_body().into_with_config().limit(ANSWER_BYTES_MAX).read_to_vec() {
            Ok(bytes) => Ok(bytes),
            Err(ureq::Error::BodyExceedsLimit(_)) => {
                Err(ClientError::NotANode { url, detail: format!("its answer has over {ANSWER_BYTES_MAX} bytes") })
            }
            Err(error) => Err(ClientError::BrokeOff { url, reason: plain(&error) }),
        }
    }

    /// Something the node or we do not know: of another version, or no node at all.
    fn not_understood(&self, detail: &str) -> ClientError {
        let url = self.url.to_string();
        let status = self.send(Method::GET, "/v1/status", &[], SendBody::none(), Patience::LookUp);
        let bytes = status.and_then(|response| self.bytes(response)).unwrap_or_default();
        match serde_json::from_slice::<Status>(&bytes) {
            Ok(status) if status.version != VERSION => {
                ClientError::OtherVersion { url, theirs: status.version, ours: VERSION, detail: detail.to_owned() }
            }
            Ok(_) | Err(_) => ClientError::NotANode { url, detail: detail.to_owned() },
        }
    }

    fn failed(&self, error: ureq::Error) -> ClientError {
        let url = self.url.to_string();
        match error {
            ureq::Error::Timeout(which) => ClientError::TimedOut { url, what: slow(which).into() },
            ureq::Error::Io(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                ClientError::NoNode { tried: vec![url] }
            }
            ureq::Error::Io(error) if is_hang_up(error.kind()) => {
                ClientError::NotTaken { url, reason: error.to_string() }
            }
            ureq::Error::Protocol(_) | ureq::Error::LargeResponseHeader(..) => {
                ClientError::NotANode { url, detail: plain(&error) }
            }
            other => self.unreachable(&plain(&other)),
        }
    }

    fn unreachable(&self, reason: &dyn std::fmt::Display) -> ClientError {
        ClientError::Unreachable { url: self.url.to_string(), reason: reason.to_string() }
    }
}

/// Whether an answer says it is a problem document (RFC 9457).
pub(super) fn is_problem(response: &Response<Body>) -> bool {
    let content_type = response.headers().get(header::CONTENT_TYPE);
    content_type.is_some_and(|value| value.as_bytes().starts_with(b"application/problem+json"))
}

/// Whether the other end closed while we were sending: connections that cannot be made end otherwise.
fn is_hang_up(kind: io::ErrorKind) -> bool {
    matches!(kind, io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted)
}

fn slow(which: Timeout) -> &'static str {
    match which {
        Timeout::Resolve => "its name was not found",
        Timeout::Connect => "no connection",
        Timeout::SendRequest | Timeout::SendBody => "sending",
        _ => "waiting for the answer",
    }
}

/// The library's words without the prefix that says it is the library's.
fn plain(error: &ureq::Error) -> String {
    match error {
        ureq::Error::HostNotFound => "there is no such host".into(),
        ureq::Error::Io(error) => error.to_string(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::testing::{Canned, api_of};

    #[test]
    fn json_goes_out_with_the_token_and_comes_back() {
        let server = Canned::answer("200 OK", "application/json", r#"{"a":1}"#);
        let api = api_of(&server);
        let answer = api.post("/v1/x", &serde_json::json!({ "b": 2 })).unwrap();
        assert_eq!(answer["a"], 1);
        let seen = server.seen();
        assert!(seen.starts_with("POST /v1/x HTTP/1.1\r\n") && seen.ends_with(r#"{"b":2}"#), "{seen}");
        assert!(seen.contains("authorization: Bearer secret\r\n") && seen.contains("content-length: 7\r\n"), "{seen}");
        assert!(!seen.contains("chunked"), "{seen}");
    }

    #[test]
    fn problems_become_errors_with_detail_and_hint() {
        let body = r#"{"title":"x","status":404,"reason":"unknown_function","detail":"no function named `a`"}"#;
        let server = Canned::answer("404 Not Found", "application/problem+json", body);
        let error = api_of(&server).get("/v1/functions/a").unwrap_err();
        assert_eq!(error.to_string(), "no function named `a`");
        assert!(error.hint().contains("forerun functions"));
    }

    #[test]
    fn a_refused_token_says_where_it_came_from() {
        let server = Canned::answer("401 Unauthorized", "application/problem+json", "{}");
        let error = api_of(&server).get("/v1/status").unwrap_err();
        assert!(matches!(error, ClientError::TokenRefused { .. }) && error.hint().contains("the test"), "{error}");
    }

    #[test]
    fn what_is_no_node_is_called_so() {
        let cases = [
            ("200 OK", "text/html", "<html>"),
            ("404 Not Found", "text/html", "<html>"),
            ("404 Not Found", "application/problem+json", "[]"),
            ("200 OK", "application/json", r#"{"uptime":1}"#),
            ("302 Found\r\nlocation: http://192.0.2.1/", "text/html", ""),
        ];
        for (status, content_type, body) in cases {
            let server = Canned::answer(status, content_type, body);
            let error = api_of(&server).status().unwrap_err();
            assert!(matches!(error, ClientError::NotANode { .. }), "{status}: {error}");
        }
        let server = Canned::raw(b"SSH-2.0-OpenSSH_9.6\r\n\r\n");
        let error = api_of(&server).status().unwrap_err();
        assert!(matches!(error, ClientError::NotANode { .. } | ClientError::Unreachable { .. }), "{error}");
    }

    #[test]
    fn another_version_is_named() {
        let unknown = r#"{"title":"x","status":404,"reason":"unknown_path","detail":"no such path"}"#;
        let status = r#"{"version":"9.9.9","uptime_ms":1,"addresses":[]}"#;
        let server = Canned::answers(&[
            ("404 Not Found", "application/problem+json", unknown),
            ("200 OK", "application/json", status),
        ]);
        let error = api_of(&server).get("/v1/new").unwrap_err();
        assert!(matches!(&error, ClientError::OtherVersion { theirs, .. } if theirs == "9.9.9"), "{error}");
    }

    #[test]
    fn a_cut_off_answer_and_a_closed_port_are_told_apart() {
        let server = Canned::raw(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{");
        let error = api_of(&server).get("/v1/functions").unwrap_err();
        assert!(matches!(error, ClientError::BrokeOff { .. }), "{error}");
        let server = Canned::raw(b"");
        let api = api_of(&server);
        drop(server);
        assert!(api.get("/").is_err());
    }
}
