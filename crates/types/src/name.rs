//! The name of a function: unique on a node, safe as a file name, a DNS label and a metric label.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// A DNS label has at most 63 octets (RFC 1035), and functions are addressed as `<name>.forerun.internal`.
pub const NAME_LENGTH_MAX: usize = 63;

/// Lower-case letters, digits and inner hyphens, starting with a letter; cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct FunctionName(Arc<str>);

/// Why a text is not a function name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing there.
    #[error("a function name must not be empty")]
    Empty,
    /// Longer than [`NAME_LENGTH_MAX`].
    #[error("a function name has at most {NAME_LENGTH_MAX} characters, this one has {length}")]
    TooLong {
        /// Length found, in bytes.
        length: usize,
    },
    /// A character outside `a-z`, `0-9`, `-`, or a hyphen or digit where none may stand.
    #[error(
        "`{name}` is not a function name: use lower-case letters, digits and inner hyphens, starting with a letter"
    )]
    BadCharacter {
        /// The text as given.
        name: String,
    },
}

impl FunctionName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for FunctionName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        if text.len() > NAME_LENGTH_MAX {
            return Err(NameError::TooLong { length: text.len() });
        }
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let well_formed =
            text.starts_with(|c: char| c.is_ascii_lowercase()) && !text.ends_with('-') && text.chars().all(allowed);
        if well_formed { Ok(Self(text.into())) } else { Err(NameError::BadCharacter { name: text.to_owned() }) }
    }
}

impl TryFrom<String> for FunctionName {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<FunctionName> for String {
    fn from(name: FunctionName) -> Self {
        name.0.as_ref().to_owned()
    }
}

impl Borrow<str> for FunctionName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for FunctionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for FunctionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_dns_labels_and_nothing_else() {
        for good in ["a", "cart", "cart-2", "a--b"] {
            assert_eq!(good.parse::<FunctionName>().unwrap().as_str(), good);
        }
        for bad in ["Cart", "2cart", "-a", "a-", "a.b", "a/b", "ä", "a b", "../x"] {
            assert!(matches!(bad.parse::<FunctionName>(), Err(NameError::BadCharacter { .. })), "{bad}");
        }
        assert_eq!("".parse::<FunctionName>(), Err(NameError::Empty));
        assert_eq!("a".repeat(64).parse::<FunctionName>(), Err(NameError::TooLong { length: 64 }));
    }
}
