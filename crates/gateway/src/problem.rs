//! Answers the gateway gives itself: RFC 9457 problem documents with a named reason.
//!
//! Nothing of a guest's inside is ever in one; that goes to the log.

use bytes::Bytes;
use forerun_types::{InvocationId, Outcome};
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Response, StatusCode};

/// Why a request was not answered by a function. Stable labels for metrics and for the `reason` member.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Refusal {
    /// No route matches.
    NoRoute,
    /// HTTP/1.1 without `Host`, or one that is no host.
    BadHost,
    /// More header bytes than allowed.
    HeadersTooLarge,
    /// `CONNECT`.
    ConnectRefused,
    /// `Upgrade` to anything.
    UpgradeRefused,
    /// `Content-Length` above the function's limit.
    RequestTooLarge,
    /// The function's queue is full.
    FunctionQueueFull,
    /// The node's queue is full.
    NodeQueueFull,
    /// No place came free in time.
    QueueTimeout,
    /// The node is shutting down.
    Draining,
    /// No VM could be made.
    NoVm,
    /// No answer in time.
    Timeout,
    /// The guest crashed.
    Trap,
    /// The guest ran out of memory.
    OutOfMemory,
    /// The guest gave no answer.
    NoResponse,
    /// The guest gave an answer that is none.
    BadResponse,
}

impl Refusal {
    /// Every value, in order; for metrics that must exist before the first request.
    pub const ALL: [Self; 16] = [
        Self::NoRoute,
        Self::BadHost,
        Self::HeadersTooLarge,
        Self::ConnectRefused,
        Self::UpgradeRefused,
        Self::RequestTooLarge,
        Self::FunctionQueueFull,
        Self::NodeQueueFull,
        Self::QueueTimeout,
        Self::Draining,
        Self::NoVm,
        Self::Timeout,
        Self::Trap,
        Self::OutOfMemory,
        Self::NoResponse,
        Self::BadResponse,
    ];

    /// The refusal for an invocation that ended with `outcome` before it had answered.
    pub(crate) fn from_outcome(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Trap => Self::Trap,
            Outcome::Timeout => Self::Timeout,
            Outcome::OutOfMemory => Self::OutOfMemory,
            Outcome::NoResponse | Outcome::ClientGone => Self::NoResponse,
            Outcome::Ok | Outcome::GuestError | Outcome::ResponseTooLarge => Self::BadResponse,
            Outcome::NoVm => Self::NoVm,
            Outcome::Rejected => Self::NodeQueueFull,
        }
    }

    /// Stable label.
    pub fn label(self) -> &'static str {
        self.facts().label
    }

    /// Status code of the answer.
    pub fn status(self) -> StatusCode {
        self.facts().status
    }

    fn facts(self) -> Facts {
        let facts = |status, label, detail| Facts { status, label, detail };
        match self {
            Self::NoRoute => facts(StatusCode::NOT_FOUND, "no_route", "no function answers at this host and path"),
            Self::BadHost => facts(StatusCode::BAD_REQUEST, "bad_host", "the request names no valid host"),
            Self::HeadersTooLarge => facts(
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                "headers_too_large",
                "the request's headers are larger than this node accepts",
            ),
            Self::ConnectRefused => facts(
                StatusCode::NOT_IMPLEMENTED,
                "connect_refused",
                "this node is not a proxy: CONNECT is not offered",
            ),
            Self::UpgradeRefused => facts(
                StatusCode::NOT_IMPLEMENTED,
                "upgrade_refused",
                "functions answer HTTP requests: protocol upgrades are not offered",
            ),
            Self::RequestTooLarge => facts(
                StatusCode::PAYLOAD_TOO_LARGE,
                "request_too_large",
                "the request's body is longer than the function accepts",
            ),
            Self::FunctionQueueFull => facts(
                StatusCode::TOO_MANY_REQUESTS,
                "function_queue_full",
                "the function is at its concurrency limit and its queue is full",
            ),
            Self::NodeQueueFull => {
                facts(StatusCode::SERVICE_UNAVAILABLE, "node_queue_full", "the node is busy and its queue is full")
            }
            Self::QueueTimeout => facts(StatusCode::SERVICE_UNAVAILABLE, "queue_timeout", "no place came free in time"),
            Self::Draining => facts(StatusCode::SERVICE_UNAVAILABLE, "draining", "the node is shutting down"),
            Self::NoVm => facts(StatusCode::SERVICE_UNAVAILABLE, "no_vm", "no sandbox was free for the function"),
            Self::Timeout => facts(StatusCode::GATEWAY_TIMEOUT, "timeout", "the function gave no answer in time"),
            Self::Trap => facts(StatusCode::INTERNAL_SERVER_ERROR, "trap", "the function crashed"),
            Self::OutOfMemory => {
                facts(StatusCode::INTERNAL_SERVER_ERROR, "out_of_memory", "the function used more memory than it may")
            }
            Self::NoResponse => {
                facts(StatusCode::INTERNAL_SERVER_ERROR, "no_response", "the function ended without an answer")
            }
            Self::BadResponse => {
                facts(StatusCode::INTERNAL_SERVER_ERROR, "bad_response", "the function's answer is not valid")
            }
        }
    }

    /// Whether trying again soon can help, and the client should be told so.
    fn retry_later(self) -> bool {
        match self {
            Self::FunctionQueueFull | Self::NodeQueueFull | Self::QueueTimeout | Self::Draining | Self::NoVm => true,
            Self::NoRoute
            | Self::BadHost
            | Self::HeadersTooLarge
            | Self::ConnectRefused
            | Self::UpgradeRefused
            | Self::RequestTooLarge
            | Self::Timeout
            | Self::Trap
            | Self::OutOfMemory
            | Self::NoResponse
            | Self::BadResponse => false,
        }
    }

    /// Whether the connection is of no more use: its next request would have to be found behind a body
    /// nobody wants, or its client is lost.
    pub(crate) fn ends_connection(self) -> bool {
        match self {
            Self::BadHost | Self::HeadersTooLarge | Self::ConnectRefused | Self::RequestTooLarge | Self::Draining => {
                true
            }
            Self::NoRoute
            | Self::UpgradeRefused
            | Self::FunctionQueueFull
            | Self::NodeQueueFull
            | Self::QueueTimeout
            | Self::NoVm
            | Self::Timeout
            | Self::Trap
            | Self::OutOfMemory
            | Self::NoResponse
            | Self::BadResponse => false,
        }
    }

    /// The answer, without the headers every answer gets.
    pub(crate) fn response(self, id: InvocationId) -> Response<Bytes> {
        let Facts { status, label, detail } = self.facts();
        let title = status.canonical_reason().unwrap_or("Error");
        let body = format!(
            "{{\"type\":\"about:blank\",\"title\":\"{title}\",\"status\":{},\"detail\":\"{detail}\",\"reason\":\"{label}\",\"request_id\":\"{id}\"}}\n",
            status.as_u16()
        );
        let mut response = Response::new(Bytes::from(body));
        *response.status_mut() = status;
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if self.retry_later() {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER_SECONDS));
        }
        response
    }
}

struct Facts {
    status: StatusCode,
    label: &'static str,
    detail: &'static str,
}

/// Queues here are drained in far less than a second or not at all; one is the smallest value there is.
const RETRY_AFTER_SECONDS: &str = "1";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_distinct_and_in_order() {
        for (index, refusal) in Refusal::ALL.into_iter().enumerate() {
            assert_eq!(refusal as usize, index);
            assert!(Refusal::ALL[..index].iter().all(|earlier| earlier.label() != refusal.label()));
        }
    }

    #[test]
    fn names_the_reason_and_says_when_to_come_back() {
        let response = Refusal::FunctionQueueFull.response(InvocationId::from_random(7));
        assert_eq!(response.status(), 429);
        assert_eq!(response.headers()[RETRY_AFTER], "1");
        let body = std::str::from_utf8(response.body()).unwrap();
        assert!(body.contains("\"reason\":\"function_queue_full\""), "{body}");
        assert!(body.contains("00000000000000000000000000000007"), "{body}");
        assert!(!Refusal::NoRoute.response(InvocationId::from_random(7)).headers().contains_key(RETRY_AFTER));
    }
}
