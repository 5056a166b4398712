//! The content address of a component: SHA-256 over its bytes, as OCI registries write it.
//!
//! It names content; it does not authenticate it. What is executed is authenticated separately.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

const PREFIX: &str = "sha256:";

/// SHA-256 of a component's bytes, written `sha256:<64 hex digits>`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ComponentDigest([u8; 32]);

/// Why a text is not a component digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DigestError {
    /// The text does not begin with `sha256:`.
    #[error("a digest starts with `sha256:`")]
    UnknownAlgorithm,
    /// Not 64 lower-case hexadecimal digits after the prefix.
    #[error("a sha256 digest has 64 lower-case hexadecimal digits")]
    BadHex,
}

impl ComponentDigest {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// The 32 bytes of the hash.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The 64 hexadecimal digits without the `sha256:` prefix; usable as a file name.
    pub fn hex(&self) -> String {
        hex(&self.0)
    }

    /// The first 12 digits, for people.
    pub fn short(&self) -> String {
        hex(&self.0[..6])
    }
}

/// `bytes` as lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text
}

/// Fills `out` from exactly `2 * out.len()` lower-case hexadecimal digits; false if `text` is anything else.
pub(crate) fn unhex(text: &[u8], out: &mut [u8]) -> bool {
    if text.len() != out.len() * 2 {
        return false;
    }
    let nibble = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    for (byte, pair) in out.iter_mut().zip(text.chunks_exact(2)) {
        let (Some(high), Some(low)) = (nibble(pair[0]), nibble(pair[1])) else {
            return false;
        };
        *byte = high << 4 | low;
    }
    true
}

impl fmt::Display for ComponentDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", self.hex())
    }
}

impl fmt::Debug for ComponentDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for ComponentDigest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        let digits = text.strip_prefix(PREFIX).ok_or(DigestError::UnknownAlgorithm)?;
        let mut bytes = [0; 32];
        if unhex(digits.as_bytes(), &mut bytes) { Ok(Self(bytes)) } else { Err(DigestError::BadHex) }
    }
}

impl TryFrom<String> for ComponentDigest {
    type Error = DigestError;

    fn try_from(text: String) -> Result<Self, DigestError> {
        text.parse()
    }
}

impl From<ComponentDigest> for String {
    fn from(digest: ComponentDigest) -> Self {
        digest.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes() {
        let digest = ComponentDigest::of(b"abc");
        assert_eq!(digest.to_string(), "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(digest.to_string().parse(), Ok(digest));
    }

    #[test]
    fn refuses_other_texts_by_name() {
        assert_eq!("md5:00".parse::<ComponentDigest>(), Err(DigestError::UnknownAlgorithm));
        assert_eq!("sha256:00".parse::<ComponentDigest>(), Err(DigestError::BadHex));
        let upper = ComponentDigest::of(b"").to_string().to_uppercase().replace("SHA256", "sha256");
        assert_eq!(upper.parse::<ComponentDigest>(), Err(DigestError::BadHex));
    }
}
