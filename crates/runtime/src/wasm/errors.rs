//! Translation between the contract's errors and those of `wasi:http`.

use forerun_driver::{BodyError, OutboundError};
use wasmtime_wasi_http::Error as HttpError;

/// What a guest is told when a body it reads ends early.
pub(super) fn body_error_to_guest(error: BodyError) -> HttpError {
    match error {
        BodyError::TooLarge { max_bytes } => HttpError::HttpRequestBodySize(Some(max_bytes)),
        BodyError::PeerGone => HttpError::ConnectionTerminated,
        BodyError::Timeout => HttpError::ConnectionReadTimeout,
        BodyError::Guest { detail } | BodyError::Malformed { detail } => HttpError::InternalError(Some(detail)),
    }
}

/// What the client's side is told when a guest's body ends early.
pub(super) fn body_error_from_guest(error: &HttpError) -> BodyError {
    BodyError::Guest { detail: error.to_string() }
}

/// What a guest is told when its outbound call has no answer.
pub(super) fn outbound_error_to_guest(error: OutboundError) -> HttpError {
    match error {
        OutboundError::Denied { .. } => HttpError::HttpRequestDenied,
        OutboundError::ForbiddenAddress { .. } => HttpError::DestinationIpProhibited,
        OutboundError::UnknownFunction { .. } => HttpError::DestinationNotFound,
        OutboundError::TooDeep { .. } => HttpError::LoopDetected,
        OutboundError::BadUri { .. } => HttpError::HttpRequestUriInvalid,
        OutboundError::Dns { detail, .. } => HttpError::DnsError { rcode: Some(detail), info_code: None },
        OutboundError::Connect { .. } => HttpError::ConnectionRefused,
        OutboundError::Tls { .. } => HttpError::TlsProtocolError,
        OutboundError::ConnectTimeout => HttpError::ConnectionTimeout,
        OutboundError::ResponseTimeout => HttpError::HttpResponseTimeout,
        OutboundError::Failed { detail } => HttpError::InternalError(Some(detail)),
        OutboundError::Protocol { .. } => HttpError::HttpProtocolError,
    }
}
