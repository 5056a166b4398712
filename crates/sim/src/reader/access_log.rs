//! Access logs of web servers: common and combined format, or one JSON object a line.
//!
//! A function is a method and a path, with identifiers in the path replaced by `{id}`; the client's address is the
//! session. JSON keys are those that nginx, Caddy, Traefik and Envoy are usually told to write.

use super::lines::Lines;
use super::{Context, TraceError, columns, time};
use crate::trace::{Invocation, UNKNOWN};
use forerun_predict::hash;
use serde_json::Value;

/// Kinds told apart; further paths share one, so that a scan of random paths cannot fill the memory.
const KINDS_MAX: usize = 200_000;

struct Entry {
    at_us: u64,
    client: String,
    method: String,
    path: String,
}

/// Reads the lines.
pub fn read(lines: &mut Lines<'_>, context: &mut Context<'_>) -> Result<(), TraceError> {
    let scope = context.directory.scopes.number("site");
    while let Some(line) = lines.next_line()? {
        let entry = if line.trim_start().starts_with('{') { json_entry(&line) } else { common_entry(&line) };
        let entry = entry.map_err(|problem| lines.error(problem))?;
        let mut name = format!("{} {}", entry.method, generalise(&entry.path));
        if context.directory.kinds.len() >= KINDS_MAX {
            name = format!("{} (other)", entry.method);
        }
        let kind = context.directory.kinds.number(&name);
        (context.sink)(Invocation {
            at_us: entry.at_us,
            function: context.directory.function(scope, kind),
            scope,
            kind,
            session: hash::bytes(entry.client.as_bytes()) | 1,
            caller: UNKNOWN,
            count: 1,
            duration_us: 0,
        })?;
    }
    Ok(())
}

/// `host ident user [time] "METHOD path HTTP/1.1" status bytes ...`
fn common_entry(line: &str) -> Result<Entry, String> {
    let client = line.split(' ').next().unwrap_or_default();
    let (_, rest) = line.split_once('[').ok_or("no `[` before the time")?;
    let (stamp, rest) = rest.split_once(']').ok_or("no `]` after the time")?;
    let at_us = time::parse_log(stamp).ok_or_else(|| format!("`{}` is not a time", columns::clip(stamp)))?;
    let (_, rest) = rest.split_once('"').ok_or("no `\"` before the request")?;
    let (request, _) = rest.split_once('"').ok_or("no `\"` after the request")?;
    let mut words = request.split(' ');
    // Broken requests are logged as `-` or as raw bytes; they are one function of their own.
    let method = words.next().filter(|word| is_method(word)).unwrap_or("-");
    let path = words.next().unwrap_or("-");
    Ok(Entry { at_us, client: client.to_owned(), method: method.to_owned(), path: path.to_owned() })
}

fn json_entry(line: &str) -> Result<Entry, String> {
    let value: Value = serde_json::from_str(line).map_err(|error| format!("not JSON: {error}"))?;
    let object = value.get("request").filter(|request| request.is_object()).unwrap_or(&value);
    let pick = |names: &[&str]| names.iter().find_map(|name| value.get(name).or_else(|| object.get(name)));
    let stamp =
        pick(&["time", "timestamp", "@timestamp", "ts", "time_local", "time_iso8601", "start_time", "StartUTC"]);
    let stamp = stamp.ok_or("no time: looked for time, timestamp, @timestamp, ts, time_local, time_iso8601")?;
    let at_us = json_time(stamp).ok_or_else(|| format!("`{}` is not a time", columns::clip(&stamp.to_string())))?;
    let string = |names: &[&str]| pick(names).and_then(Value::as_str).unwrap_or_default().to_owned();
    let path = string(&["path", "uri", "url", "request_uri", "RequestPath", ":path"]);
    if path.is_empty() {
        return Err("no path: looked for path, uri, url, request_uri".to_owned());
    }
    let method = string(&["method", "request_method", "RequestMethod", ":method"]);
    let client = string(&["remote_addr", "remote_ip", "client_ip", "client", "ClientHost", "host", "x_forwarded_for"]);
    Ok(Entry { at_us, client, method: if method.is_empty() { "GET".to_owned() } else { method }, path })
}

/// A time as text, or as a number of seconds, milliseconds or microseconds since the epoch.
fn json_time(value: &Value) -> Option<u64> {
    if let Some(text) = value.as_str() {
        return time::parse_iso(text).or_else(|| time::parse_log(text));
    }
    let number = value.as_f64().filter(|number| *number >= 0.0)?;
    // Seconds reach 1e11 in the year 5138; milliseconds and microseconds of this century lie above.
    let seconds = if number < 1e11 {
        number
    } else if number < 1e14 {
        number / 1e3
    } else {
        number / 1e6
    };
    (seconds < columns::SECONDS_MAX).then_some((seconds * 1e6) as u64)
}

fn is_method(word: &str) -> bool {
    (1..=10).contains(&word.len()) && word.bytes().all(|byte| byte.is_ascii_uppercase())
}

/// A path without its query, host and identifiers.
fn generalise(path: &str) -> String {
    let path = path.split_once("://").map_or(path, |(_, rest)| rest.find('/').map_or("/", |slash| &rest[slash..]));
    let path = path.split(['?', '#']).next().unwrap_or_default();
    let segments = path.split('/').map(|segment| if is_identifier(segment) { "{id}" } else { segment });
    let mut general = segments.collect::<Vec<_>>().join("/");
    // Long paths are noise or attacks; their beginning tells them apart well enough.
    if let Some((end, _)) = general.char_indices().nth(200) {
        general.truncate(end);
    }
    general
}

/// Numbers, and words of at least eight characters that are hexadecimal or a third digits.
fn is_identifier(segment: &str) -> bool {
    let digits = segment.bytes().filter(u8::is_ascii_digit).count();
    let hexadecimal = segment.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    digits > 0 && (digits == segment.len() || segment.len() >= 8 && (hexadecimal || digits * 3 >= segment.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn combined_lines_are_understood() {
        let line = r#"203.0.113.9 - frank [10/Oct/2000:13:55:36 -0700] "GET /users/1234/cart?x=1 HTTP/1.0" 200 2326 "-" "agent""#;
        let entry = common_entry(line).unwrap();
        assert_eq!((entry.at_us, entry.client.as_str()), (971_211_336_000_000, "203.0.113.9"));
        assert_eq!(generalise(&entry.path), "/users/{id}/cart");
    }

    #[test]
    fn json_lines_are_understood() {
        let nginx = r#"{"time_iso8601":"2024-11-15T16:57:50+00:00","remote_addr":"::1","request_method":"POST","request_uri":"/a"}"#;
        let caddy = r#"{"ts":1731689870.25,"request":{"remote_ip":"::1","method":"POST","uri":"/a"}}"#;
        for (line, at_us) in [(nginx, 1_731_689_870_000_000), (caddy, 1_731_689_870_250_000)] {
            let entry = json_entry(line).unwrap();
            assert_eq!((entry.at_us, entry.method.as_str(), entry.path.as_str()), (at_us, "POST", "/a"));
        }
        assert!(json_entry(r#"{"path":"/a"}"#).is_err_and(|problem| problem.contains("no time")));
    }

    #[test]
    fn identifiers_are_replaced() {
        assert_eq!(generalise("https://x.test/item/3f2504e0-4f89-11d3-9a0c-0305e82c3301"), "/item/{id}");
        assert_eq!(generalise("/v2/cafe/decade"), "/v2/cafe/decade");
    }

    proptest! {
        #[test]
        fn no_line_panics(line in "\\PC{0,200}") {
            let _ = (common_entry(&line), json_entry(&line), generalise(&line));
        }
    }
}
