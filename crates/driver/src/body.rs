//! The body type of requests and responses, in both directions, and what can go wrong in one.

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full};

/// A streaming body. Polling a response body may run the guest; dropping it before its end stops the guest.
pub type Body = UnsyncBoxBody<Bytes, BodyError>;

/// Why a body ended early.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// Longer than the function's limit.
    #[error("the body is longer than the allowed {max_bytes} bytes")]
    TooLarge {
        /// The limit, in bytes.
        max_bytes: u64,
    },
    /// The other side of the connection left.
    #[error("the peer closed the connection before the end of the body")]
    PeerGone,
    /// No time left for the whole invocation.
    #[error("the invocation ran out of time")]
    Timeout,
    /// The guest failed after it had begun to answer.
    #[error("the function failed while streaming: {detail}")]
    Guest {
        /// What happened, for the log.
        detail: String,
    },
    /// Broken framing.
    #[error("malformed body: {detail}")]
    Malformed {
        /// What was wrong.
        detail: String,
    },
}

/// A body with nothing in it.
pub fn empty_body() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// A body of one piece.
pub fn full_body(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}
