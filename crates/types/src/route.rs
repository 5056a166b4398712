//! Where a function answers: an optional host and an exact path or a path prefix.
//!
//! Only the pattern and the order between patterns; the table that is searched per request belongs to the gateway.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Longest route accepted, in bytes; request targets beyond it are legal but no function should claim one.
pub const ROUTE_LENGTH_MAX: usize = 1024;

/// `/cart`, `/cart/...` or `shop.example/cart/...`.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RoutePattern {
    /// Lower-case host name without port; `None` answers on every host.
    pub host: Option<String>,
    /// The path part.
    pub path: PathPattern,
}

/// The path part of a route.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum PathPattern {
    /// Exactly this path.
    Exact(String),
    /// This path and everything below it. Stored without the trailing `/...`; the whole site is the empty text.
    Prefix(String),
}

/// Why a text is not a route.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    /// No `/` in it.
    #[error("`{route}` is not a route: write a path such as /cart or /cart/..., with an optional host before it")]
    NoPath {
        /// The text as given.
        route: String,
    },
    /// Longer than [`ROUTE_LENGTH_MAX`].
    #[error("a route has at most {ROUTE_LENGTH_MAX} bytes, this one has {length}")]
    TooLong {
        /// Length found, in bytes.
        length: usize,
    },
    /// `...` stands anywhere but at the end after a `/`.
    #[error("`{route}`: the wildcard `...` may only stand at the end, after a `/`")]
    MisplacedWildcard {
        /// The text as given.
        route: String,
    },
    /// A space, control character, `?`, `#` or an empty, `.` or `..` path segment.
    #[error("`{route}`: a route is a plain path without query, fragment, spaces or `//`, `.` and `..` segments")]
    BadPath {
        /// The text as given.
        route: String,
    },
    /// The host part is not a host name.
    #[error("`{route}`: `{host}` is not a host name without a port")]
    BadHost {
        /// The text as given.
        route: String,
        /// Its host part.
        host: String,
    },
}

impl RoutePattern {
    /// Whether this pattern answers for `host` (lower case, no port) and `path`.
    pub fn matches(&self, host: &str, path: &str) -> bool {
        self.host.as_deref().is_none_or(|own| own == host) && self.path.matches(path)
    }

    /// Order of preference: the more specific pattern first. With a host before without; exact before
    /// prefix; longer prefix before shorter. Ties are broken by text so that the order is total.
    pub fn specificity(&self, other: &Self) -> Ordering {
        let rank = |pattern: &Self| {
            let exact = matches!(pattern.path, PathPattern::Exact(_));
            (pattern.host.is_some(), exact, pattern.path.as_str().len())
        };
        rank(other).cmp(&rank(self)).then_with(|| self.to_string().cmp(&other.to_string()))
    }
}

impl PathPattern {
    /// The literal part of the pattern.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Exact(path) | Self::Prefix(path) => path,
        }
    }

    /// Whether `path` is this path (exact) or equal to or below it (prefix).
    pub fn matches(&self, path: &str) -> bool {
        match self {
            Self::Exact(own) => own == path,
            Self::Prefix(own) => {
                path.strip_prefix(own.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            }
        }
    }
}

impl FromStr for RoutePattern {
    type Err = RouteError;

    fn from_str(text: &str) -> Result<Self, RouteError> {
        if text.len() > ROUTE_LENGTH_MAX {
            return Err(RouteError::TooLong { length: text.len() });
        }
        let route = || text.to_owned();
        let slash = text.find('/').ok_or_else(|| RouteError::NoPath { route: route() })?;
        let (host, path) = text.split_at(slash);
        let path = parse_path(path, text)?;
        if host.is_empty() {
            return Ok(Self { host: None, path });
        }
        if !is_host_name(host) {
            return Err(RouteError::BadHost { route: route(), host: host.to_owned() });
        }
        Ok(Self { host: Some(host.to_ascii_lowercase()), path })
    }
}

fn parse_path(path: &str, route: &str) -> Result<PathPattern, RouteError> {
    let (literal, wildcard) = match path.strip_suffix("/...") {
        Some(literal) => (literal, true),
        None => (path, false),
    };
    if literal.contains("...") {
        return Err(RouteError::MisplacedWildcard { route: route.to_owned() });
    }
    let plain = |c: char| !c.is_control() && !c.is_whitespace() && c != '?' && c != '#';
    // A trailing slash is a path of its own; only inner segments must not be empty.
    let inner = literal.strip_prefix('/').unwrap_or(literal);
    let inner = inner.strip_suffix('/').unwrap_or(inner);
    let segments_ok = inner.is_empty() || inner.split('/').all(|segment| !matches!(segment, "" | "." | ".."));
    if !literal.chars().all(plain) || !segments_ok || (wildcard && literal.ends_with('/')) {
        return Err(RouteError::BadPath { route: route.to_owned() });
    }
    Ok(if wildcard { PathPattern::Prefix(literal.to_owned()) } else { PathPattern::Exact(literal.to_owned()) })
}

/// RFC 1123 host name: dot-separated labels of letters, digits and inner hyphens.
fn is_host_name(host: &str) -> bool {
    let label_ok = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
    };
    host.len() <= 253 && host.split('.').all(label_ok)
}

impl TryFrom<String> for RoutePattern {
    type Error = RouteError;

    fn try_from(text: String) -> Result<Self, RouteError> {
        text.parse()
    }
}

impl From<RoutePattern> for String {
    fn from(route: RoutePattern) -> Self {
        route.to_string()
    }
}

impl fmt::Display for RoutePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.host.as_deref().unwrap_or(""))?;
        match &self.path {
            PathPattern::Exact(path) => f.write_str(path),
            PathPattern::Prefix(path) => write!(f, "{path}/..."),
        }
    }
}

impl fmt::Debug for RoutePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(text: &str) -> RoutePattern {
        text.parse().unwrap()
    }

    #[test]
    fn matches_exact_prefix_and_host() {
        assert!(route("/cart").matches("any", "/cart"));
        assert!(!route("/cart").matches("any", "/cart/"));
        assert!(!route("/cart").matches("any", "/cart/1"));
        assert!(route("/cart/...").matches("any", "/cart"));
        assert!(route("/cart/...").matches("any", "/cart/1/2"));
        assert!(!route("/cart/...").matches("any", "/carts"));
        assert!(route("/...").matches("any", "/"));
        assert!(route("/...").matches("any", "/x"));
        assert!(route("Shop.example/...").matches("shop.example", "/x"));
        assert!(!route("shop.example/...").matches("other.example", "/x"));
    }

    #[test]
    fn more_specific_comes_first() {
        let mut routes: Vec<_> = ["/...", "/a/...", "/a/b", "/a/b/...", "h.example/..."].map(route).into();
        routes.sort_by(RoutePattern::specificity);
        let order: Vec<_> = routes.iter().map(ToString::to_string).collect();
        assert_eq!(order, ["h.example/...", "/a/b", "/a/b/...", "/a/...", "/..."]);
    }

    #[test]
    fn reads_what_it_writes() {
        for text in ["/", "/...", "/cart", "/cart/", "/cart/...", "shop.example/cart/..."] {
            assert_eq!(route(text).to_string(), text);
        }
    }

    #[test]
    fn refuses_by_name() {
        let error = |text: &str| text.parse::<RoutePattern>().unwrap_err();
        assert!(matches!(error("cart"), RouteError::NoPath { .. }));
        assert!(matches!(error("/.../x"), RouteError::MisplacedWildcard { .. }));
        assert!(matches!(error("/x..."), RouteError::MisplacedWildcard { .. }));
        assert!(matches!(error("/a//b"), RouteError::BadPath { .. }));
        assert!(matches!(error("/a/../b"), RouteError::BadPath { .. }));
        assert!(matches!(error("/a?b"), RouteError::BadPath { .. }));
        assert!(matches!(error("/a/b//..."), RouteError::BadPath { .. }));
        assert!(matches!(error("bad host/x"), RouteError::BadHost { .. }));
        assert!(matches!(error("host:80/x"), RouteError::BadHost { .. }));
        assert!(matches!(error(&format!("/{}", "a".repeat(1024))), RouteError::TooLong { .. }));
    }
}
