//! `scheme://host:port` of a call, and whether it is this node itself.

use std::fmt;
use std::net::IpAddr;

use forerun_driver::OutboundError;
use forerun_types::OutboundHost;
use http::Uri;

use crate::gateway::BoundAddress;

/// Where a call goes: host in lower case, IPv6 without brackets, no trailing dot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Destination {
    https: bool,
    host: String,
    port: u16,
}

impl Destination {
    pub(crate) fn of(uri: &Uri) -> Result<Self, OutboundError> {
        let bad = |detail: &str| OutboundError::BadUri { detail: detail.to_owned() };
        let https = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            Some(_) => return Err(bad("only http and https can be called")),
            None => return Err(bad("it has no scheme")),
        };
        let authority = uri.authority().ok_or_else(|| bad("it has no host"))?;
        if authority.as_str().contains('@') {
            return Err(bad("user names and passwords do not belong there"));
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        if host.is_empty() {
            return Err(bad("it has no host"));
        }
        let port = authority.port_u16().unwrap_or(if https { 443 } else { 80 });
        Ok(Self { https, host, port })
    }

    pub(crate) fn https(&self) -> bool {
        self.https
    }

    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn is_allowed_by(&self, allowed: &OutboundHost) -> bool {
        allowed.allows(self.https, &self.host, self.port)
    }

    fn has_default_port(&self) -> bool {
        self.port == if self.https { 443 } else { 80 }
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.https { "https" } else { "http" };
        if self.host.contains(':') {
            write!(f, "{scheme}://[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{scheme}://{}:{}", self.host, self.port)
        }
    }
}

/// Under which names this node answers.
pub(crate) struct OwnHosts {
    /// Hosts, some with a port.
    named: Vec<(String, Option<u16>)>,
    bound: Vec<BoundAddress>,
}

impl OwnHosts {
    pub(crate) fn new(named: &[String], bound: &[BoundAddress]) -> Self {
        let split = |host: &String| match host.rsplit_once(':') {
            Some((name, port)) if port.parse::<u16>().is_ok() && !name.contains(':') => {
                (name.to_ascii_lowercase(), port.parse().ok())
            }
            Some(_) | None => (host.trim_matches(['[', ']']).to_ascii_lowercase(), None),
        };
        Self { named: named.iter().map(split).collect(), bound: bound.to_vec() }
    }

    /// A name without a port stands for the ports of its scheme and those listened on.
    pub(crate) fn contains(&self, to: &Destination) -> bool {
        self.bound.iter().any(|bound| is_bound(bound, to)) || self.named.iter().any(|own| self.is_named(own, to))
    }

    fn is_named(&self, (host, port): &(String, Option<u16>), to: &Destination) -> bool {
        let port_ok = match port {
            Some(port) => *port == to.port,
            None => to.has_default_port() || self.bound.iter().any(|bound| bound.address.port() == to.port),
        };
        *host == to.host && port_ok
    }
}

/// An address listened on, by number or, for the machine's own, as `localhost`.
fn is_bound(bound: &BoundAddress, to: &Destination) -> bool {
    if bound.address.port() != to.port || bound.tls != to.https {
        return false;
    }
    let own = bound.address.ip();
    match to.host.parse::<IpAddr>() {
        Ok(asked) => asked == own || (own.is_unspecified() && asked.is_loopback()),
        Err(_) => to.host == "localhost" && (own.is_loopback() || own.is_unspecified()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn to(uri: &str) -> Destination {
        Destination::of(&uri.parse().unwrap()).unwrap()
    }

    #[test]
    fn reads_hosts_as_they_are_compared() {
        assert_eq!(to("http://Shop.Example./x").to_string(), "http://shop.example:80");
        assert_eq!(to("https://[::1]/x").to_string(), "https://[::1]:443");
        for bad in ["/path", "ftp://a/", "http://u:p@a/"] {
            assert!(matches!(Destination::of(&bad.parse().unwrap()), Err(OutboundError::BadUri { .. })), "{bad}");
        }
    }

    #[test]
    fn knows_itself() {
        let bound = |address: &str, tls| BoundAddress { address: address.parse().unwrap(), tls };
        let own = OwnHosts::new(
            &["shop.example".to_owned(), "other.example:81".to_owned()],
            &[bound("127.0.0.1:8080", false), bound("0.0.0.0:8443", true)],
        );
        for inside in [
            "http://localhost:8080/",
            "http://127.0.0.1:8080/",
            "https://localhost:8443/",
            "https://127.0.0.1:8443/",
            "https://shop.example/",
            "http://SHOP.example:8080/",
            "http://other.example:81/",
        ] {
            assert!(own.contains(&to(inside)), "{inside}");
        }
        for outside in [
            "https://localhost:8080/",
            "http://localhost/",
            "http://shop.example:5432/",
            "http://other.example/",
            "http://10.0.0.1:8080/",
        ] {
            assert!(!own.contains(&to(outside)), "{outside}");
        }
    }
}
