//! What can be seen of one request, and where two of them differ.

use std::fmt;

use bytes::Bytes;
use forerun_driver::{InvokeError, Reply};
use forerun_types::Outcome;
use http_body_util::{BodyExt, Limited};
use serde::Serialize;

use super::stage::Effects;

/// Bytes of a body that are compared; a longer one counts as broken off, in both.
const BODY_BYTES_MAX: usize = 16 << 20;
/// Characters of a text that a difference shows.
const SHOWN_CHARACTERS_MAX: usize = 200;

/// Everything that can be seen of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub(super) answer: Option<Answer>,
    /// How it ended, if that was said in time.
    pub(super) outcome: Option<Outcome>,
    pub(super) effects: Effects,
}

/// A response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    status: u16,
    headers: Vec<(String, Vec<u8>)>,
    /// The body, or `None` if it broke off.
    body: Option<Bytes>,
}

/// The first difference between two programs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// `status`, `outcome`, `headers`, `body`, `output`, `calls` or `key_values`.
    pub what: &'static str,
    /// That of the whole program, shortened.
    pub whole: String,
    /// That of the candidate, shortened.
    pub candidate: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is {} of the whole component, and {} of the candidate", self.what, self.whole, self.candidate)
    }
}

/// Reads a response to its end.
pub(super) async fn answer(reply: Result<Reply, InvokeError>) -> Option<Answer> {
    let (parts, body) = reply.ok()?.response.into_parts();
    let mut headers: Vec<(String, Vec<u8>)> =
        parts.headers.iter().map(|(name, value)| (name.to_string(), value.as_bytes().to_vec())).collect();
    headers.sort();
    let body = Limited::new(body, BODY_BYTES_MAX).collect().await.ok();
    Some(Answer { status: parts.status.as_u16(), headers, body: body.map(http_body_util::Collected::to_bytes) })
}

impl Seen {
    /// Where `other` differs.
    pub(super) fn difference(&self, other: &Self) -> Option<Difference> {
        let part = |of: fn(&Answer) -> String| move |seen: &Self| seen.answer.as_ref().map(of).unwrap_or_default();
        self.rough_difference(other)
            .or_else(|| differ("headers", self, other, part(|answer| format!("{:?}", answer.headers))))
            .or_else(|| differ("body", self, other, part(|answer| format!("{:?}", answer.body))))
            .or_else(|| differ("output", self, other, |seen| format!("{:?}", seen.effects.output)))
            .or_else(|| differ("calls", self, other, |seen| format!("{:?}", seen.effects.calls)))
            .or_else(|| differ("key_values", self, other, |seen| format!("{:?}", seen.effects.values)))
    }

    /// Where `other` differs in what does not depend on chance in any sensible function.
    pub(super) fn rough_difference(&self, other: &Self) -> Option<Difference> {
        let status = |seen: &Self| format!("{:?}", seen.answer.as_ref().map(|answer| answer.status));
        differ("status", self, other, status)
            .or_else(|| differ("outcome", self, other, |seen| format!("{:?}", seen.outcome.map(Outcome::label))))
    }
}

fn differ(what: &'static str, whole: &Seen, candidate: &Seen, of: impl Fn(&Seen) -> String) -> Option<Difference> {
    let (whole, candidate) = (of(whole), of(candidate));
    if whole == candidate {
        return None;
    }
    // From a little before the place where they part.
    let same = whole.chars().zip(candidate.chars()).take_while(|(a, b)| a == b).count();
    let shown = |text: &str| text.chars().skip(same.saturating_sub(40)).take(SHOWN_CHARACTERS_MAX).collect();
    Some(Difference { what, whole: shown(&whole), candidate: shown(&candidate) })
}
