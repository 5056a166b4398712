//! Which requests belong together: the key of a session, and where an operator wants it to be read from.
//!
//! The key is a keyed hash: it tells two clients apart and tells nobody who they are. How it is made is the gateway's.

use std::fmt;
use std::str::FromStr;

/// Bytes of the name of a cookie or header; longer ones are a mistake.
const NAME_BYTES_MAX: usize = 128;

/// A session, for as long as the node runs: the next start makes other keys of the same clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionKey(u64);

impl SessionKey {
    /// The key that is this hash.
    pub fn from_hash(hash: u64) -> Self {
        Self(hash)
    }

    /// The hash.
    pub fn as_u64(self) -> u64 {
        self.0
    }
}

impl fmt::Display for SessionKey {
    /// 16 hexadecimal digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// What tells the sessions of clients apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum SessionSource {
    /// Nothing: all calls of an application are one sequence.
    None,
    /// The client's network address. Clients behind one proxy are one session.
    #[default]
    Client,
    /// The value of this cookie.
    Cookie(String),
    /// The value of this header, in small letters.
    Header(String),
}

/// The text is none of `none`, `client`, `cookie:NAME` and `header:NAME`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a session is told by `none`, `client`, `cookie:NAME` or `header:NAME`")]
pub struct SessionSourceError;

impl FromStr for SessionSource {
    type Err = SessionSourceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once(':') {
            None if text == "none" => Ok(Self::None),
            None if text == "client" => Ok(Self::Client),
            Some(("cookie", name)) if is_token(name) => Ok(Self::Cookie(name.to_owned())),
            Some(("header", name)) if is_token(name) => Ok(Self::Header(name.to_ascii_lowercase())),
            Some(_) | None => Err(SessionSourceError),
        }
    }
}

impl fmt::Display for SessionSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Client => f.write_str("client"),
            Self::Cookie(name) => write!(f, "cookie:{name}"),
            Self::Header(name) => write!(f, "header:{name}"),
        }
    }
}

/// A token of RFC 9110: what names of headers and cookies are made of.
fn is_token(name: &str) -> bool {
    let is_token_byte = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    (1..=NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(is_token_byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_can_be_read_back() {
        for text in ["none", "client", "cookie:sid", "header:x-session"] {
            assert_eq!(text.parse::<SessionSource>().unwrap().to_string(), text);
        }
        assert_eq!("header:X-Session".parse(), Ok(SessionSource::Header("x-session".to_owned())));
    }

    #[test]
    fn nonsense_is_refused() {
        for text in
            ["", "clients", "cookie:", "cookie:a b", "header:a\n", "ip:1", ":", &format!("cookie:{}", "x".repeat(129))]
        {
            assert_eq!(text.parse::<SessionSource>(), Err(SessionSourceError), "{text}");
        }
    }
}
