//! Which hosts a function may call beyond its application: `scheme://host:port` patterns.
//!
//! The pattern only. Resolving names and refusing private addresses behind a public name is the gateway's.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// One allowed destination: `https://api.example.com`, `http://*.example.com:8080`, `https://*:*`.
///
/// Without a port, the scheme's own (80 or 443) is meant. `*` as host is every host, `*.example.com`
/// every host below `example.com` (not itself); `*` as scheme is `http` and `https`; `*` as port every port.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct OutboundHost {
    scheme: Scheme,
    host: Host,
    port: Port,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Scheme {
    Any,
    Http,
    Https,
}

#[derive(Clone, PartialEq, Eq, Hash)]
enum Host {
    Any,
    Below(String),
    Exactly(String),
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Port {
    Any,
    OfScheme,
    Exactly(u16),
}

/// Why a text is not an outbound host pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OutboundHostError {
    /// Not `scheme://...`.
    #[error("`{text}`: write an allowed host as scheme://host or scheme://host:port")]
    NoScheme {
        /// The text as given.
        text: String,
    },
    /// A scheme other than `http`, `https` or `*`.
    #[error("`{text}`: only http and https can be called, not `{scheme}`")]
    UnsupportedScheme {
        /// The text as given.
        text: String,
        /// Its scheme.
        scheme: String,
    },
    /// Not a host, or with a path behind it.
    #[error("`{text}`: `{host}` is not a host name, an address, `*` or `*.name` (no path, query or user)")]
    BadHost {
        /// The text as given.
        text: String,
        /// Its host part.
        host: String,
    },
    /// Not a port number or `*`.
    #[error("`{text}`: `{port}` is not a port between 1 and 65535")]
    BadPort {
        /// The text as given.
        text: String,
        /// Its port part.
        port: String,
    },
}

impl OutboundHost {
    /// Whether a call to `scheme://host:port` is allowed by this pattern. `host` in lower case, IPv6 without brackets.
    pub fn allows(&self, https: bool, host: &str, port: u16) -> bool {
        let scheme_ok = match self.scheme {
            Scheme::Any => true,
            Scheme::Http => !https,
            Scheme::Https => https,
        };
        let port_ok = match self.port {
            Port::Any => true,
            Port::OfScheme => port == if https { 443 } else { 80 },
            Port::Exactly(own) => own == port,
        };
        let host_ok = match &self.host {
            Host::Any => true,
            Host::Exactly(own) => own == host,
            Host::Below(parent) => {
                host.strip_suffix(parent.as_str()).is_some_and(|sub| sub.len() > 1 && sub.ends_with('.'))
            }
        };
        scheme_ok && port_ok && host_ok
    }

    /// Whether the pattern names one literal host; only then may a private address, or a function of
    /// another application, stand behind it.
    pub fn names_one_host(&self) -> bool {
        matches!(self.host, Host::Exactly(_))
    }
}

impl FromStr for OutboundHost {
    type Err = OutboundHostError;

    fn from_str(text: &str) -> Result<Self, OutboundHostError> {
        let given = || text.to_owned();
        let (scheme, rest) = text.split_once("://").ok_or_else(|| OutboundHostError::NoScheme { text: given() })?;
        let scheme = match scheme {
            "*" => Scheme::Any,
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            other => return Err(OutboundHostError::UnsupportedScheme { text: given(), scheme: other.to_owned() }),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = split_port(rest);
        let port = match port {
            None => Port::OfScheme,
            Some("*") => Port::Any,
            Some(digits) => match digits.parse::<u16>() {
                Ok(number) if number > 0 => Port::Exactly(number),
                Ok(_) | Err(_) => return Err(OutboundHostError::BadPort { text: given(), port: digits.to_owned() }),
            },
        };
        let bad_host = || OutboundHostError::BadHost { text: given(), host: host.to_owned() };
        let host = parse_host(host).ok_or_else(bad_host)?;
        Ok(Self { scheme, host, port })
    }
}

/// Splits `host:port`; the colons inside a bracketed IPv6 address do not count.
fn split_port(text: &str) -> (&str, Option<&str>) {
    let after_address = text.rfind(']').map_or(0, |end| end + 1);
    match text[after_address..].find(':') {
        Some(colon) => (&text[..after_address + colon], Some(&text[after_address + colon + 1..])),
        None => (text, None),
    }
}

fn parse_host(text: &str) -> Option<Host> {
    if text == "*" {
        return Some(Host::Any);
    }
    if let Some(address) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return address.parse::<std::net::Ipv6Addr>().ok().map(|address| Host::Exactly(address.to_string()));
    }
    let (below, name) = match text.strip_prefix("*.") {
        Some(name) => (true, name),
        None => (false, text),
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    if name.is_empty() || name.len() > 253 || !name.chars().all(plain) || name.split('.').any(str::is_empty) {
        return None;
    }
    let name = name.to_ascii_lowercase();
    Some(if below { Host::Below(name) } else { Host::Exactly(name) })
}

impl TryFrom<String> for OutboundHost {
    type Error = OutboundHostError;

    fn try_from(text: String) -> Result<Self, OutboundHostError> {
        text.parse()
    }
}

impl From<OutboundHost> for String {
    fn from(host: OutboundHost) -> Self {
        host.to_string()
    }
}

impl fmt::Display for OutboundHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.scheme {
            Scheme::Any => "*://",
            Scheme::Http => "http://",
            Scheme::Https => "https://",
        })?;
        match &self.host {
            Host::Any => f.write_str("*")?,
            Host::Below(parent) => write!(f, "*.{parent}")?,
            Host::Exactly(host) if host.contains(':') => write!(f, "[{host}]")?,
            Host::Exactly(host) => f.write_str(host)?,
        }
        match self.port {
            Port::OfScheme => Ok(()),
            Port::Any => f.write_str(":*"),
            Port::Exactly(port) => write!(f, ":{port}"),
        }
    }
}

impl fmt::Debug for OutboundHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(pattern: &str, https: bool, host: &str, port: u16) -> bool {
        pattern.parse::<OutboundHost>().unwrap().allows(https, host, port)
    }

    #[test]
    fn allows_what_is_written_and_nothing_else() {
        assert!(allows("https://api.example.com", true, "api.example.com", 443));
        assert!(!allows("https://api.example.com", true, "api.example.com", 8443));
        assert!(!allows("https://api.example.com", false, "api.example.com", 443));
        assert!(!allows("https://api.example.com", true, "api.example.com.evil.test", 443));
        assert!(allows("http://*.example.com:8080", false, "a.b.example.com", 8080));
        assert!(!allows("http://*.example.com", false, "example.com", 80));
        assert!(!allows("http://*.example.com", false, "evilexample.com", 80));
        assert!(allows("*://*:*", true, "anything", 1));
        assert!(allows("http://[::1]:80", false, "::1", 80));
    }

    #[test]
    fn reads_what_it_writes() {
        for text in ["https://a.example", "http://*.a.example:8080", "*://*:*", "http://[::1]:81", "http://10.0.0.1"] {
            assert_eq!(text.parse::<OutboundHost>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn refuses_by_name() {
        let error = |text: &str| text.parse::<OutboundHost>().unwrap_err();
        assert!(matches!(error("a.example"), OutboundHostError::NoScheme { .. }));
        assert!(matches!(error("postgres://a"), OutboundHostError::UnsupportedScheme { .. }));
        assert!(matches!(error("http://a/b"), OutboundHostError::BadHost { .. }));
        assert!(matches!(error("http://u@a"), OutboundHostError::BadHost { .. }));
        assert!(matches!(error("http://a:0"), OutboundHostError::BadPort { .. }));
        assert!(matches!(error("http://a:x"), OutboundHostError::BadPort { .. }));
    }
}
