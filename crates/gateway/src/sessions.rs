//! Which session a client's request belongs to: a keyed hash of what the operator said tells clients apart.
//!
//! The key of the hash is random and lives as long as the process, so that nobody can go from a session back to an
//! address or a cookie, not even with what the node keeps on disk.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;

use forerun_types::{SessionKey, SessionSource};
use http::HeaderMap;
use http::header::COOKIE;

/// Makes session keys.
pub(crate) struct Sessions {
    source: SessionSource,
    /// SipHash under a key from the system's randomness.
    hash: RandomState,
}

impl Sessions {
    pub(crate) fn new(source: SessionSource) -> Self {
        Self { source, hash: RandomState::new() }
    }

    /// The session of a request, if it says.
    pub(crate) fn key(&self, client: IpAddr, headers: &HeaderMap) -> Option<SessionKey> {
        let key = |hash| Some(SessionKey::from_hash(hash));
        match &self.source {
            SessionSource::None => None,
            SessionSource::Client => key(self.hash.hash_one(client)),
            SessionSource::Header(name) => key(self.hash.hash_one(headers.get(name)?.as_bytes())),
            SessionSource::Cookie(name) => key(self.hash.hash_one(cookie(headers, name)?)),
        }
    }
}

/// The value of the first cookie of this name (RFC 6265: names are compared as they are written).
fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a [u8]> {
    let lines = headers.get_all(COOKIE).iter().map(|value| value.as_bytes());
    let pairs = lines.flat_map(|line| line.split(|byte| *byte == b';')).map(<[u8]>::trim_ascii);
    pairs.filter_map(|pair| pair.strip_prefix(name.as_bytes())?.strip_prefix(b"=")).next()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn the_same_session_has_the_same_key_and_another_start_another() {
        let source = SessionSource::Cookie("sid".to_owned());
        let sessions = Sessions::new(source.clone());
        let key = |line| sessions.key(CLIENT, &headers(&[("cookie", line)]));
        assert!(key("sid=7").is_some());
        assert_eq!(key("sid=7"), key("theme=dark; sid=7;x=1"));
        assert_ne!(key("sid=7"), key("sid=8"));
        assert_ne!(key("sid=7"), Sessions::new(source).key(CLIENT, &headers(&[("cookie", "sid=7")])));
    }

    #[test]
    fn who_does_not_say_has_no_session() {
        let by_cookie = Sessions::new(SessionSource::Cookie("sid".to_owned()));
        for line in ["", "sid", "asid=7", "side=7", ";;;"] {
            assert_eq!(by_cookie.key(CLIENT, &headers(&[("cookie", line)])), None, "{line}");
        }
        assert_eq!(Sessions::new(SessionSource::None).key(CLIENT, &HeaderMap::new()), None);
        let by_header = Sessions::new(SessionSource::Header("x-session".to_owned()));
        assert_eq!(by_header.key(CLIENT, &HeaderMap::new()), None);
        assert!(by_header.key(CLIENT, &headers(&[("x-session", "a")])).is_some());
        assert!(Sessions::new(SessionSource::Client).key(CLIENT, &HeaderMap::new()).is_some());
    }
}
