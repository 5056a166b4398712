//! What is written down about an image beside its code: when, how long it took, which kind it is.
//!
//! It is for people and for planning. Nothing here decides whether an image may be used.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Longest label, in bytes: it is a metric label and a column of a table.
pub const LABEL_BYTES_MAX: usize = 32;

/// A short word for the kind of an image, such as `t0` or `t2`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ImageLabel(Box<str>);

/// The text is no label.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("an image label has 1 to {LABEL_BYTES_MAX} lower-case letters, digits and hyphens")]
pub struct LabelError;

impl ImageLabel {
    /// Takes a text that is a label.
    ///
    /// # Errors
    /// [`LabelError`] if it is not 1 to [`LABEL_BYTES_MAX`] lower-case letters, digits and hyphens.
    pub fn new(text: &str) -> Result<Self, LabelError> {
        let fits = (1..=LABEL_BYTES_MAX).contains(&text.len());
        let plain = text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'));
        if fits && plain { Ok(Self(text.into())) } else { Err(LabelError) }
    }

    /// The word itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ImageLabel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for ImageLabel {
    type Error = LabelError;

    fn try_from(text: String) -> Result<Self, LabelError> {
        Self::new(&text)
    }
}

impl From<ImageLabel> for String {
    fn from(label: ImageLabel) -> Self {
        label.0.into()
    }
}

/// What is known about one image.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageMeta {
    /// When its build began, in Unix time. For display only: clocks jump.
    pub created_unix_ms: u64,
    /// How long the build took.
    pub build_ms: u64,
    /// Its kind.
    pub label: ImageLabel,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_short_plain_words() {
        assert_eq!(ImageLabel::new("t2-cold").map(|label| label.to_string()), Ok("t2-cold".into()));
        for text in ["", "T2", "a b", "\u{1b}[31m", &"x".repeat(LABEL_BYTES_MAX + 1)] {
            assert_eq!(ImageLabel::new(text), Err(LabelError), "{text:?}");
        }
        assert!(serde_json::from_str::<ImageLabel>("\"../x\"").is_err());
    }
}
