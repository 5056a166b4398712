//! The parts of a request that the paths look at. Bad parameters fall back to
//! the default the caller gives: this is a test instrument, not an API.

use wasi::http::types::{Fields, IncomingBody, IncomingRequest, Method};

/// A request whose body has not been touched.
pub(crate) struct Request {
    incoming: IncomingRequest,
    target: String,
}

impl Request {
    pub(crate) fn new(incoming: IncomingRequest) -> Self {
        let target = incoming.path_with_query().unwrap_or_default();
        Self { incoming, target }
    }

    pub(crate) fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    pub(crate) fn target(&self) -> &str {
        &self.target
    }

    pub(crate) fn headers(&self) -> Fields {
        self.incoming.headers()
    }

    pub(crate) fn authority(&self) -> String {
        self.incoming.authority().unwrap_or_default()
    }

    pub(crate) fn method(&self) -> Method {
        self.incoming.method()
    }

    /// The body, which takes the request with it.
    pub(crate) fn into_body(self) -> IncomingBody {
        self.incoming.consume().expect("the body is taken once")
    }

    /// A query parameter, percent-decoded.
    pub(crate) fn text(&self, name: &str) -> Option<String> {
        let (_, query) = self.target.split_once('?')?;
        query
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .find(|(key, _)| *key == name)
            .map(|(_, value)| percent_decoded(value))
    }

    /// A query parameter that is a number.
    pub(crate) fn number(&self, name: &str, default: u64) -> u64 {
        self.text(name).and_then(|value| value.parse().ok()).unwrap_or(default)
    }
}

fn percent_decoded(value: &str) -> String {
    let bytes = value.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = bytes.get(at + 1..at + 3).filter(|_| bytes[at] == b'%');
        match hex.and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok()) {
            Some(byte) => {
                decoded.push(byte);
                at += 3;
            }
            None => {
                decoded.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}
