//! Who called whom: W3C Trace Context (level 1) and the id of one invocation.
//!
//! Ids are made from random numbers that the caller brings; nothing here draws any. `tracestate` is
//! passed along untouched by the gateway and has no type here.

use std::fmt;
use std::str::FromStr;

use crate::digest::{hex, unhex};

/// 16 bytes that name one trace; never all zero.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceId([u8; 16]);

/// 8 bytes that name one span of a trace; never all zero.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SpanId([u8; 8]);

/// The id of one invocation, returned to the client as `x-request-id`; 32 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct InvocationId(u128);

/// One `traceparent`: the trace, the span that is calling, and whether it is sampled.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TraceContext {
    /// The trace all spans of one request tree share.
    pub trace_id: TraceId,
    /// The span that makes the call.
    pub span_id: SpanId,
    /// The `sampled` flag.
    pub sampled: bool,
}

/// Why a header is not a `traceparent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TraceParentError {
    /// Not `vv-<32 hex>-<16 hex>-ff`.
    #[error("traceparent is not of the form 00-<32 hex>-<16 hex>-<2 hex>")]
    Malformed,
    /// Version `ff` is forbidden.
    #[error("traceparent version ff is invalid")]
    InvalidVersion,
    /// An id of only zeros is forbidden.
    #[error("traceparent ids must not be all zero")]
    ZeroId,
}

impl TraceId {
    /// From a random number; zero, which the standard forbids, becomes one.
    pub fn from_random(random: u128) -> Self {
        Self(random.max(1).to_be_bytes())
    }

    /// The bytes, most significant first.
    pub fn to_bytes(self) -> [u8; 16] {
        self.0
    }
}

impl SpanId {
    /// From a random number; zero, which the standard forbids, becomes one.
    pub fn from_random(random: u64) -> Self {
        Self(random.max(1).to_be_bytes())
    }

    /// The bytes, most significant first.
    pub fn to_bytes(self) -> [u8; 8] {
        self.0
    }
}

impl InvocationId {
    /// From a random number.
    pub fn from_random(random: u128) -> Self {
        Self(random)
    }

    /// The number.
    pub fn as_u128(self) -> u128 {
        self.0
    }
}

impl TraceContext {
    /// Length of a version-00 `traceparent` header, in bytes.
    pub const HEADER_LENGTH: usize = 55;

    /// The same trace, with `span_id` as the calling span.
    pub fn child(self, span_id: SpanId) -> Self {
        Self { span_id, ..self }
    }

    /// Reads a header value. Later versions are read by their version-00 prefix, as the standard asks.
    ///
    /// # Errors
    /// Every malformed header, by name; the standard says to start a new trace then.
    pub fn parse(header: &[u8]) -> Result<Self, TraceParentError> {
        if header.len() < Self::HEADER_LENGTH || header[2] != b'-' || header[35] != b'-' || header[52] != b'-' {
            return Err(TraceParentError::Malformed);
        }
        let (mut version, mut trace, mut span, mut flags) = ([0; 1], [0; 16], [0; 8], [0; 1]);
        let well_formed = unhex(&header[..2], &mut version)
            && unhex(&header[3..35], &mut trace)
            && unhex(&header[36..52], &mut span)
            && unhex(&header[53..55], &mut flags);
        if !well_formed {
            return Err(TraceParentError::Malformed);
        }
        match version[0] {
            0xff => return Err(TraceParentError::InvalidVersion),
            0 if header.len() != Self::HEADER_LENGTH => return Err(TraceParentError::Malformed),
            _ if header.len() > Self::HEADER_LENGTH && header[Self::HEADER_LENGTH] != b'-' => {
                return Err(TraceParentError::Malformed);
            }
            _ => {}
        }
        if trace == [0; 16] || span == [0; 8] {
            return Err(TraceParentError::ZeroId);
        }
        Ok(Self { trace_id: TraceId(trace), span_id: SpanId(span), sampled: flags[0] & 1 == 1 })
    }
}

impl FromStr for TraceContext {
    type Err = TraceParentError;

    fn from_str(text: &str) -> Result<Self, TraceParentError> {
        Self::parse(text.as_bytes())
    }
}

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{}-{}-{:02x}", self.trace_id, self.span_id, u8::from(self.sampled))
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for InvocationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for InvocationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn reads_what_it_writes() {
        let context: TraceContext = EXAMPLE.parse().unwrap();
        assert!(context.sampled);
        assert_eq!(context.to_string(), EXAMPLE);
        let child = context.child(SpanId::from_random(0));
        assert_eq!(child.to_string(), "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000001-01");
    }

    #[test]
    fn refuses_by_name() {
        let check = |text: &str, error| assert_eq!(text.parse::<TraceContext>(), Err(error), "{text}");
        check("", TraceParentError::Malformed);
        check(&EXAMPLE.to_uppercase(), TraceParentError::Malformed);
        check(&format!("{EXAMPLE}-x"), TraceParentError::Malformed);
        check(&EXAMPLE.replacen("00", "ff", 1), TraceParentError::InvalidVersion);
        check("00-00000000000000000000000000000000-00f067aa0ba902b7-01", TraceParentError::ZeroId);
        check("00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01", TraceParentError::ZeroId);
    }

    #[test]
    fn reads_a_later_version_by_its_prefix() {
        let later = format!("{}-more", EXAMPLE.replacen("00", "01", 1));
        assert_eq!(later.parse::<TraceContext>().unwrap().to_string(), EXAMPLE);
        assert_eq!(later.replace("-more", "more").parse::<TraceContext>(), Err(TraceParentError::Malformed));
    }
}
