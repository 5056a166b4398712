//! Headers of requests and responses: what is checked, what is taken out, what is put in.
//!
//! Hop-by-hop headers (RFC 9110, 7.6.1) concern one connection and end here, in both directions.

use forerun_types::{InvocationId, TraceContext};
use http::header::{self, CONTENT_LENGTH, HOST, HeaderMap, HeaderName, HeaderValue, UPGRADE};
use http::request::Parts;
use http::{Method, Request, Version};

use crate::connection::HEADER_COUNT_MAX;
use crate::problem::Refusal;

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// Host of HTTP/1.0 requests that name none.
const DEFAULT_HOST: HeaderValue = HeaderValue::from_static("localhost");

/// Refuses what no function could answer.
pub(super) fn check<B>(request: &Request<B>, header_bytes_max: usize) -> Result<(), Refusal> {
    if request.method() == Method::CONNECT {
        return Err(Refusal::ConnectRefused);
    }
    let bytes: usize = request.headers().iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    if bytes > header_bytes_max || request.headers().len() > HEADER_COUNT_MAX {
        return Err(Refusal::HeadersTooLarge);
    }
    if request.headers().get(UPGRADE).is_some_and(|wanted| !wanted.as_bytes().eq_ignore_ascii_case(b"h2c")) {
        return Err(Refusal::UpgradeRefused);
    }
    check_host(request)
}

/// HTTP/1.1 wants exactly one host (RFC 9112, 3.2); HTTP/1.0 none.
fn check_host<B>(request: &Request<B>) -> Result<(), Refusal> {
    let mut named = request.headers().get_all(HOST).iter();
    let (first, second) = (named.next(), named.next());
    let valid = match (first, second) {
        (None, _) => request.uri().host().is_some() || request.version() == Version::HTTP_10,
        (Some(host), None) => is_host(host.as_bytes()),
        (Some(_), Some(_)) => false,
    };
    if valid { Ok(()) } else { Err(Refusal::BadHost) }
}

fn is_host(host: &[u8]) -> bool {
    let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~:[]%".contains(byte);
    !host.is_empty() && host.iter().all(allowed)
}

/// The host asked for, with its port if it has one. An absolute target outranks the header (RFC 9112, 3.2.2).
pub(super) fn host<B>(request: &Request<B>) -> Option<&str> {
    match request.uri().authority() {
        Some(authority) => Some(authority.as_str()),
        None => request.headers().get(HOST)?.to_str().ok(),
    }
}

/// The caller's span; none if there is no header, more than one, or a malformed one.
pub(super) fn trace_parent(headers: &HeaderMap) -> Option<TraceContext> {
    let mut values = headers.get_all(TRACEPARENT).iter();
    match (values.next(), values.next()) {
        (Some(only), None) => TraceContext::parse(only.as_bytes()).ok(),
        (None | Some(_), _) => None,
    }
}

/// A length that is one number; anything else is hyper's to refuse.
pub(super) fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Makes a request's head fit for a guest.
pub(super) fn for_guest(parts: &mut Parts, trace: TraceContext) {
    let headers = &mut parts.headers;
    strip_hop_by_hop(headers);
    headers.remove(header::EXPECT);
    // Without a valid parent, a state would belong to another trace (Trace Context, 3.3.1.3).
    if headers.contains_key(TRACESTATE) && trace_parent(headers).is_none_or(|parent| parent.trace_id != trace.trace_id)
    {
        headers.remove(TRACESTATE);
    }
    headers.insert(TRACEPARENT, trace_header(trace));
    if parts.uri.authority().is_none() && !headers.contains_key(HOST) {
        headers.insert(HOST, DEFAULT_HOST);
    }
}

/// Makes a guest's request fit for another host: `trace` is the guest's span. A header that already
/// names a span of the same trace is one the guest made below its own, and stays.
pub(crate) fn for_network(headers: &mut HeaderMap, trace: TraceContext) {
    strip_hop_by_hop(headers);
    if trace_parent(headers).is_none_or(|own| own.trace_id != trace.trace_id) {
        headers.insert(TRACEPARENT, trace_header(trace));
    }
}

/// Takes out what concerns one connection only, with whatever else `Connection` names.
pub(super) fn strip_hop_by_hop(headers: &mut HeaderMap) {
    if !headers.keys().any(is_hop_by_hop) {
        return;
    }
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
        .filter(|name| *name != CONTENT_LENGTH && *name != HOST)
        .collect();
    for name in named {
        headers.remove(name);
    }
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
}

const HOP_BY_HOP: [HeaderName; 6] =
    [header::CONNECTION, KEEP_ALIVE, PROXY_CONNECTION, header::TE, header::TRANSFER_ENCODING, UPGRADE];

fn is_hop_by_hop(name: &HeaderName) -> bool {
    HOP_BY_HOP.contains(name)
}

/// What every response carries.
pub(super) fn finish(headers: &mut HeaderMap, id: InvocationId) {
    let mut digits = [0; 32];
    hex(&id.as_u128().to_be_bytes(), &mut digits);
    headers.insert(X_REQUEST_ID, ascii(&digits));
}

fn trace_header(trace: TraceContext) -> HeaderValue {
    let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
    hex(&trace.trace_id.to_bytes(), &mut text[3..35]);
    hex(&trace.span_id.to_bytes(), &mut text[36..52]);
    text[54] = if trace.sampled { b'1' } else { b'0' };
    ascii(&text)
}

/// A header of characters that are all allowed in one.
pub(super) fn ascii(text: &[u8]) -> HeaderValue {
    HeaderValue::from_bytes(text).unwrap_or(HeaderValue::from_static(""))
}

fn hex(bytes: &[u8], digits: &mut [u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (byte, pair) in bytes.iter().zip(digits.chunks_exact_mut(2)) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
    }

    const EXAMPLE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn writes_traces_and_ids_as_their_types_do() {
        let trace: TraceContext = EXAMPLE.parse().unwrap();
        assert_eq!(trace_header(trace), EXAMPLE);
        assert_eq!(trace_header(TraceContext { sampled: false, ..trace }), EXAMPLE.replace("-01", "-00"));
        let id = InvocationId::from_random(0x1234_5678_9abc_def0 << 3);
        let mut response = HeaderMap::new();
        finish(&mut response, id);
        assert_eq!(response[X_REQUEST_ID], id.to_string());
    }

    #[test]
    fn strips_hop_by_hop_headers_and_those_connection_names() {
        let mut some =
            headers(&[("connection", "x-mine, Close , content-length"), ("x-mine", "1"), ("te", "trailers")]);
        some.extend(headers(&[("content-length", "3"), ("x-other", "2"), ("upgrade", "h2c")]));
        strip_hop_by_hop(&mut some);
        assert_eq!(some, headers(&[("content-length", "3"), ("x-other", "2")]));
    }

    #[test]
    fn a_state_survives_only_with_its_parent() {
        let state = |parent: &'static str, trace: &str| {
            let request = Request::builder().header("traceparent", parent).header("tracestate", "a=b");
            let mut parts = request.body(()).unwrap().into_parts().0;
            for_guest(&mut parts, trace.parse().unwrap());
            assert_eq!(parts.headers[TRACEPARENT], trace);
            parts.headers.contains_key(TRACESTATE)
        };
        assert!(state(EXAMPLE, EXAMPLE));
        assert!(!state("junk", EXAMPLE));
    }

    #[test]
    fn refuses_by_name() {
        let refused = |request: http::request::Builder| check(&request.body(()).unwrap(), 1000).err();
        let get = || Request::get("/");
        assert_eq!(refused(get().header("host", "a:80")), None);
        assert_eq!(refused(get().header("host", "[::1]:80")), None);
        assert_eq!(refused(get()), Some(Refusal::BadHost));
        assert_eq!(refused(get().version(Version::HTTP_10)), None);
        assert_eq!(refused(get().header("host", "a").header("host", "b")), Some(Refusal::BadHost));
        assert_eq!(refused(get().header("host", "a/b")), Some(Refusal::BadHost));
        assert_eq!(refused(get().header("host", "u@a")), Some(Refusal::BadHost));
        assert_eq!(refused(Request::connect("a:443")), Some(Refusal::ConnectRefused));
        assert_eq!(refused(get().header("host", "a").header("upgrade", "websocket")), Some(Refusal::UpgradeRefused));
        assert_eq!(refused(get().header("host", "a").header("upgrade", "h2c")), None);
        assert_eq!(refused(get().header("host", "a").header("x", "y".repeat(1000))), Some(Refusal::HeadersTooLarge));
    }
}
