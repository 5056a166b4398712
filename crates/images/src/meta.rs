//! What is written down about an image beside its code: when, how long it took, which kind it is, what its component
//! went through before.
//!
//! It is for people and for planning. Nothing here decides whether an image may be used.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Longest label, in bytes: it is a metric label and a column of a table.
pub const LABEL_BYTES_MAX: usize = 32;
/// Longest text of a note, in bytes.
const NOTE_BYTES_MAX: usize = 240;
/// Most notes of an image.
const NOTES_MAX: usize = 8;

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

/// What came of one step before the code was made, for people.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PassNote {
    /// The step.
    pub pass: NoteText,
    /// Whether it changed anything.
    pub applied: bool,
    /// What it did, or why it did nothing.
    pub detail: NoteText,
}

/// A short text without characters that files or terminals take for something else.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub struct NoteText(Box<str>);

/// Notes, as many as an image may have.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(from = "Vec<PassNote>", into = "Vec<PassNote>")]
pub struct PassNotes(Vec<PassNote>);

impl NoteText {
    /// The first 240 bytes of a text; what is no printable ASCII, a quotation mark or a backslash becomes `'`.
    pub fn new(text: &str) -> Self {
        let plain = |character| match character {
            '"' | '\\' => '\'',
            ' '..='~' => character,
            _ => '\'',
        };
        Self(text.chars().map(plain).take(NOTE_BYTES_MAX).collect::<String>().into())
    }

    /// The text itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for NoteText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<String> for NoteText {
    fn from(text: String) -> Self {
        Self::new(&text)
    }
}

impl From<NoteText> for String {
    fn from(text: NoteText) -> Self {
        text.0.into()
    }
}

impl PassNotes {
    /// The first eight of `notes`.
    pub fn new(notes: impl IntoIterator<Item = PassNote>) -> Self {
        Self(notes.into_iter().take(NOTES_MAX).collect())
    }

    /// The notes, in order.
    pub fn iter(&self) -> impl Iterator<Item = &PassNote> {
        self.0.iter()
    }
}

impl From<Vec<PassNote>> for PassNotes {
    fn from(notes: Vec<PassNote>) -> Self {
        Self::new(notes)
    }
}

impl From<PassNotes> for Vec<PassNote> {
    fn from(notes: PassNotes) -> Self {
        notes.0
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
    /// What its component went through before its code was made.
    pub passes: PassNotes,
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

    #[test]
    fn notes_are_bounded_whatever_they_say() {
        let text = NoteText::new(&"ä\"\\\u{1b}".repeat(1000));
        assert_eq!(text.as_str(), "'".repeat(NOTE_BYTES_MAX));
        let note = PassNote { pass: text.clone(), applied: false, detail: text };
        let passes = PassNotes::new(vec![note; 100]);
        let label = ImageLabel::new(&"x".repeat(LABEL_BYTES_MAX)).unwrap();
        let meta = ImageMeta { created_unix_ms: u64::MAX, build_ms: u64::MAX, label, passes };
        let json = serde_json::to_string(&meta).unwrap();
        assert!(json.len() <= crate::format::META_BYTES_MAX, "{}", json.len());
        assert_eq!(serde_json::from_str::<ImageMeta>(&json).unwrap(), meta);
    }
}
