//! Requests by which a function is warmed up and tried: what they are, and which can be sent.
//!
//! Manifests are held to the same by the same functions, and say where in the text something is wrong. Nothing is sent here.

use serde::{Deserialize, Serialize};

/// Body of a warm-up request or of a made-up answer, in bytes: they are part of each revision's specification.
pub const BODY_BYTES_MAX: usize = 64 << 10;
const PATH_BYTES_MAX: usize = 8 << 10;
const METHOD_BYTES_MAX: usize = 32;
const CONTENT_TYPE_BYTES_MAX: usize = 256;

/// A request that exercises a function without doing harm.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WarmUpRequest {
    /// `GET`, `POST`, ...
    #[serde(default = "get")]
    pub method: String,
    /// Path and query.
    pub path: String,
    /// Body, as text.
    #[serde(default)]
    pub body: String,
    /// What the calls it makes of others are answered; without, none is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer_to_calls: Option<CallAnswer>,
}

/// An answer made up for the calls of a warm-up request: nobody is called.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CallAnswer {
    /// HTTP status.
    pub status: u16,
    /// Value of the header `content-type`.
    pub content_type: String,
    /// Body, as text.
    pub body: String,
}

impl Default for CallAnswer {
    fn default() -> Self {
        Self { status: 200, content_type: "application/json".to_owned(), body: String::new() }
    }
}

impl WarmUpRequest {
    /// Checks that a client could send this, and a server answer its calls so.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check(&self) -> Result<(), WarmUpFault> {
        require(is_method(&self.method), WarmUpFault::Method)?;
        require(is_path(&self.path), WarmUpFault::Path)?;
        require(is_body(&self.body), WarmUpFault::Body)?;
        let Some(answer) = &self.answer_to_calls else { return Ok(()) };
        require(is_status(answer.status.into()), WarmUpFault::Status)?;
        require(is_content_type(&answer.content_type), WarmUpFault::ContentType)?;
        require(is_body(&answer.body), WarmUpFault::Body)
    }
}

fn require(is_right: bool, fault: WarmUpFault) -> Result<(), WarmUpFault> {
    if is_right { Ok(()) } else { Err(fault) }
}

/// What is wrong with a warm-up request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WarmUpFault {
    /// Methods are upper-case words.
    #[error("its method is no upper-case word such as GET and POST")]
    Method,
    /// No path, or too long.
    #[error("its path does not start with `/`, has spaces or a fragment, or more than {PATH_BYTES_MAX} bytes")]
    Path,
    /// Too long.
    #[error("a body has more than {BODY_BYTES_MAX} bytes")]
    Body,
    /// Not one that an answer has.
    #[error("the status in `answer_to_calls` is not between 200 and 599")]
    Status,
    /// No value of a header.
    #[error("the content type in `answer_to_calls` is not printable, or has more than {CONTENT_TYPE_BYTES_MAX} bytes")]
    ContentType,
}

/// Whether a warm-up request can have this method.
pub fn is_method(text: &str) -> bool {
    !text.is_empty() && text.len() <= METHOD_BYTES_MAX && text.bytes().all(|byte| byte.is_ascii_uppercase())
}

/// Whether a warm-up request can have this path, query included.
pub fn is_path(text: &str) -> bool {
    let plain = |c: char| !c.is_whitespace() && !c.is_control() && c != '#';
    text.starts_with('/') && text.len() <= PATH_BYTES_MAX && text.chars().all(plain)
}

/// Whether a body is short enough for a warm-up request, or for what its calls are answered.
pub fn is_body(text: &str) -> bool {
    text.len() <= BODY_BYTES_MAX
}

/// Whether a call can be answered with this status.
pub fn is_status(status: u64) -> bool {
    (200..600).contains(&status)
}

/// Whether a call can be answered with this content type.
pub fn is_content_type(text: &str) -> bool {
    text.len() <= CONTENT_TYPE_BYTES_MAX && text.bytes().all(|byte| (b' '..0x7f).contains(&byte))
}

fn get() -> String {
    "GET".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_client_could_send_or_no_server_answer_is_named() {
        let usual =
            WarmUpRequest { method: "GET".into(), path: "/a?b=c".into(), body: "{}".into(), answer_to_calls: None };
        assert_eq!(usual.check(), Ok(()));
        let answered = |answer| WarmUpRequest { answer_to_calls: Some(answer), ..usual.clone() };
        assert_eq!(answered(CallAnswer::default()).check(), Ok(()));
        let long = "x".repeat(BODY_BYTES_MAX + 1);
        let wrong = [
            (WarmUpRequest { method: "get".into(), ..usual.clone() }, WarmUpFault::Method),
            (WarmUpRequest { path: "a".into(), ..usual.clone() }, WarmUpFault::Path),
            (WarmUpRequest { path: "/a b".into(), ..usual.clone() }, WarmUpFault::Path),
            (WarmUpRequest { path: "/#part".into(), ..usual.clone() }, WarmUpFault::Path),
            (WarmUpRequest { body: long.clone(), ..usual.clone() }, WarmUpFault::Body),
            (answered(CallAnswer { status: 100, ..CallAnswer::default() }), WarmUpFault::Status),
            (answered(CallAnswer { content_type: "a\nb".into(), ..CallAnswer::default() }), WarmUpFault::ContentType),
            (answered(CallAnswer { body: long, ..CallAnswer::default() }), WarmUpFault::Body),
        ];
        for (request, fault) in wrong {
            assert_eq!(request.check(), Err(fault), "{} {}", request.method, request.path);
        }
    }
}
