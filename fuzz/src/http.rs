//! For `http`: the words of requests and settings that we read ourselves. Requests as such are read by hyper.

use forerun_types::{ComponentDigest, FunctionName, OutboundHost, RoutePattern, SessionSource, TraceContext};
use std::cmp::Ordering;
use std::fmt::Display;
use std::str::FromStr;

/// How many kinds of words there are.
pub const KINDS: u8 = 6;

/// Reads a word of one of the [`KINDS`]: refused in a few words, or it means the same when it is written and read again.
///
/// # Panics
/// If that does not hold.
pub fn read(kind: u8, bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    match kind % KINDS {
        0 => routes(&text),
        1 => drop(again::<TraceContext>(&text)),
        2 => hosts(&text),
        3 => drop(again::<SessionSource>(&text)),
        4 => drop(again::<FunctionName>(&text)),
        _ => drop(again::<ComponentDigest>(&text)),
    }
    // Header values need not be text.
    if let Ok(context) = TraceContext::parse(bytes) {
        let written = context.to_string();
        assert_eq!(written.len(), TraceContext::HEADER_LENGTH);
        assert_eq!(TraceContext::parse(written.as_bytes()), Ok(context));
    }
}

/// Two routes and a path, a line each.
fn routes(text: &str) {
    let mut lines = text.split('\n');
    let (first, second) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    let (host, path) = lines.next().and_then(|line| line.split_once('/')).unwrap_or(("host", "cart/1"));
    let path = format!("/{path}");
    let Some(first) = again::<RoutePattern>(first) else { return };
    let literal = first.path.as_str();
    let own = first.host.as_deref().unwrap_or(host);
    assert!(first.matches(own, literal), "a route answers on its own path");
    if first.matches(own, &path) {
        assert!(path.starts_with(literal));
    }
    if let Some(second) = again::<RoutePattern>(second) {
        let (there, back) = (first.specificity(&second), second.specificity(&first));
        assert_eq!(there, back.reverse());
        assert_eq!(there == Ordering::Equal, first == second);
    }
}

/// A pattern, and a host on the second line.
fn hosts(text: &str) {
    let (pattern, host) = text.split_once('\n').unwrap_or((text, "example.com"));
    let Some(pattern) = again::<OutboundHost>(pattern) else { return };
    for (https, port) in [(false, 80), (true, 443), (true, 8443)] {
        let allowed = pattern.allows(https, host, port);
        // Only what stands in the pattern, or a star, may open a host.
        let written = pattern.to_string();
        assert!(!allowed || written.contains('*') || written.contains(host), "{written} allows {host}");
    }
}

fn again<T: FromStr<Err: Display> + Display + PartialEq + std::fmt::Debug>(text: &str) -> Option<T> {
    match text.parse::<T>() {
        Ok(value) => {
            let written = value.to_string();
            match written.parse::<T>() {
                Ok(read) => assert_eq!(read, value, "{text:?} is written as {written:?}"),
                Err(error) => panic!("{text:?} is written as {written:?}: {error}"),
            }
            Some(value)
        }
        Err(error) => {
            assert!(!error.to_string().is_empty());
            None
        }
    }
}
