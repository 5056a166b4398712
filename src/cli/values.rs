//! Single values of the command line: addresses, URLs, `KEY=VALUE`, headers, and why they are refused.
//!
//! Each is a pure function of a text.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::str::FromStr;

use forerun_types::FunctionName;

/// Bytes of a header given to `invoke`, as servers commonly allow for one.
const HEADER_BYTES_MAX: usize = 8 << 10;

/// A command line that is well formed and makes no sense. Shown as two lines; the second says what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UsageError {
    /// What is wrong.
    pub(crate) message: String,
    /// What to do.
    pub(crate) hint: String,
}

/// Where a node's admin port is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NodeUrl {
    /// Whether it is reached over TLS.
    pub(crate) tls: bool,
    /// Host name or address; an IPv6 address without brackets.
    pub(crate) host: String,
    /// Port.
    pub(crate) port: u16,
}

/// A text that is not shown in logs and debug output.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(pub(crate) String);

impl UsageError {
    /// An error with what to do about it.
    pub(crate) fn new(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { message: message.into(), hint: hint.into() }
    }
}

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\nhint: {}", self.message, self.hint)
    }
}

impl std::error::Error for UsageError {}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl fmt::Display for NodeUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        match self.host.contains(':') {
            true => write!(f, "{scheme}://[{}]:{}", self.host, self.port),
            false => write!(f, "{scheme}://{}:{}", self.host, self.port),
        }
    }
}

/// The name of a function.
pub(crate) fn function_name(text: &str) -> Result<FunctionName, UsageError> {
    text.parse().map_err(|error: forerun_types::NameError| {
        UsageError::new(error.to_string(), "`forerun functions` lists the names of a node")
    })
}

/// An address to listen on: `127.0.0.1:8080`, `[::]:8080`, `localhost:8080`, or a port of this machine alone.
pub(crate) fn listen_address(option: &str, text: &str) -> Result<SocketAddr, UsageError> {
    if let Ok(port) = text.parse::<u16>() {
        return Ok((Ipv4Addr::LOCALHOST, port).into());
    }
    if let Some(port) = text.strip_prefix("localhost:").and_then(|port| port.parse::<u16>().ok()) {
        return Ok((Ipv4Addr::LOCALHOST, port).into());
    }
    SocketAddr::from_str(text).map_err(|_| {
        let message = format!("--{option} {text}: not an address with a port");
        UsageError::new(message, "write 127.0.0.1:8080 for this machine only, 0.0.0.0:8080 for all its networks")
    })
}

/// The address of a node's admin port: `http://127.0.0.1:8081`, or without the scheme.
pub(crate) fn node_url(text: &str) -> Result<NodeUrl, UsageError> {
    let bad = || UsageError::new(format!("`{text}` is not the address of a node"), "write it as http://127.0.0.1:8081");
    let (tls, rest) = match text.split_once("://") {
        Some(("http", rest)) => (false, rest),
        Some(("https", rest)) => (true, rest),
        Some(_) => return Err(bad()),
        None => (false, text),
    };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let after_address = rest.rfind(']').map_or(0, |end| end + 1);
    let (host, port) = match rest[after_address..].find(':') {
        Some(colon) => {
            let (host, port) = rest.split_at(after_address + colon);
            (host, port[1..].parse().map_err(|_| bad())?)
        }
        None => (rest, if tls { 443 } else { 80 }),
    };
    let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let good = match bracketed {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_')),
    };
    if !good || port == 0 {
        return Err(bad());
    }
    Ok(NodeUrl { tls, host: bracketed.unwrap_or(host).to_owned(), port })
}

/// A URL that is passed on to another library: checked for its scheme and for characters no URL has.
pub(crate) fn http_url(option: &str, text: &str) -> Result<String, UsageError> {
    let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    let plain = |c: char| !c.is_whitespace() && !c.is_control();
    match rest {
        Some(rest) if !rest.is_empty() && !rest.starts_with('/') && rest.chars().all(plain) => Ok(text.to_owned()),
        Some(_) | None => {
            let message = format!("--{option} {text}: not an http or https URL");
            Err(UsageError::new(message, format!("write it as --{option} http://127.0.0.1:4318")))
        }
    }
}

/// `KEY=VALUE`; the value may hold further `=` and may be empty.
pub(crate) fn key_value(option: &str, text: &str) -> Result<(String, String), UsageError> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        Some(_) | None => {
            let message = format!("--{option} {text}: not KEY=VALUE");
            Err(UsageError::new(message, format!("write it as --{option} LOG=info")))
        }
    }
}

/// `Name: value`, as a pair with the name in lower case.
pub(crate) fn header(text: &str) -> Result<(String, String), UsageError> {
    let bad =
        || UsageError::new(format!("`{}` is not a header", text.escape_debug()), "write it as -H 'accept: text/html'");
    let (name, value) = text.split_once(':').ok_or_else(bad)?;
    let value = value.trim();
    // RFC 9110, section 5.6.2: the characters of a token.
    let token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    let good = !name.is_empty() && name.chars().all(token) && !value.chars().any(|c| c.is_control() && c != '\t');
    if good && text.len() <= HEADER_BYTES_MAX { Ok((name.to_ascii_lowercase(), value.to_owned())) } else { Err(bad()) }
}

/// A method, in upper case.
pub(crate) fn method(text: &str) -> Result<String, UsageError> {
    let good = !text.is_empty() && text.len() <= 32 && text.chars().all(|c| c.is_ascii_alphabetic() || c == '-');
    if good {
        Ok(text.to_ascii_uppercase())
    } else {
        Err(UsageError::new(format!("-X {}: not a method", text.escape_debug()), "write it as -X POST"))
    }
}

/// Path and query of a request.
pub(crate) fn request_path(text: &str) -> Result<String, UsageError> {
    let plain = |c: char| !c.is_whitespace() && !c.is_control() && c != '#';
    if text.starts_with('/') && text.chars().all(plain) {
        Ok(text.to_owned())
    } else {
        let message = format!("`{}` is not a path", text.escape_debug());
        Err(UsageError::new(message, "a path starts with `/` and has no spaces; write a space as %20"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listen_addresses() {
        let address = |text| listen_address("listen", text).map(|address| address.to_string());
        assert_eq!(address("8080").unwrap(), "127.0.0.1:8080");
        assert_eq!(address("localhost:0").unwrap(), "127.0.0.1:0");
        assert_eq!(address("[::]:80").unwrap(), "[::]:80");
        for bad in ["", ":8080", "127.0.0.1", "65536", "example.com:80", "http://127.0.0.1:80"] {
            assert!(address(bad).unwrap_err().hint.contains("0.0.0.0:8080"), "{bad}");
        }
    }

    #[test]
    fn node_urls() {
        let url = |text| node_url(text).map(|url| url.to_string());
        assert_eq!(url("127.0.0.1:8081").unwrap(), "http://127.0.0.1:8081");
        assert_eq!(url("https://node.example/").unwrap(), "https://node.example:443");
        assert_eq!(url("http://[::1]:81").unwrap(), "http://[::1]:81");
        for bad in ["", "ftp://a:1", "http://", "http://a:0", "http://a:x", "http://a/b", "u@a:1", "[::1", "a b", "::1"]
        {
            assert!(url(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn pairs_headers_methods_and_paths() {
        assert_eq!(key_value("env", "A=b=c").unwrap(), ("A".into(), "b=c".into()));
        assert!(key_value("env", "A").is_err() && key_value("env", "=b").is_err());
        assert_eq!(header("Content-Type:  text/html ").unwrap(), ("content-type".into(), "text/html".into()));
        assert!(header("no colon").is_err() && header("a b: c").is_err() && header("a: b\r\nc: d").is_err());
        assert_eq!(method("post").unwrap(), "POST");
        assert!(method("").is_err() && method("GET /").is_err());
        assert!(request_path("/a?b=c").is_ok() && request_path("a").is_err() && request_path("/a b").is_err());
        assert!(http_url("otlp-endpoint", "http://a:4318").is_ok() && http_url("otlp-endpoint", "a:4318").is_err());
    }

    #[test]
    fn secrets_are_not_shown() {
        assert!(!format!("{:?}", Secret("hunter2".to_owned())).contains("hunter2"));
    }
}
