//! Answers to outbound calls that nobody gave: a manifest says what the calls of a warm-up request are answered.

use forerun_types::CallAnswer;
use http::{Response, header};

use crate::body::{Body, full_body};

/// The answer to a call.
///
/// # Errors
/// A status or content type that no answer can have; a checked specification has none such.
pub fn made_up_answer(answer: &CallAnswer) -> http::Result<Response<Body>> {
    Response::builder()
        .status(answer.status)
        .header(header::CONTENT_TYPE, &answer.content_type)
        .header(header::CONTENT_LENGTH, answer.body.len())
        .body(full_body(answer.body.clone()))
}
