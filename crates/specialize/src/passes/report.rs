//! What came of the passes, and how it travels: behind the machine code, in the one artifact of a worker.
//!
//! ```text
//!  machine code │ reports, JSON │ length of the reports, 4 bytes, little-endian
//! ```
//! The reports stand behind the code so that tens of megabytes need not be moved for them. A worker is not trusted:
//! everything that is read here has a bound.

use serde::{Deserialize, Serialize};

use crate::job::cut;

/// Longest name of a pass or refusal, in bytes.
const NAME_BYTES_MAX: usize = 32;
/// Longest text of a report, in bytes.
const DETAIL_BYTES_MAX: usize = 500;
/// Most reports of one artifact.
const REPORTS_MAX: usize = 8;
/// Longest JSON of all reports: room for texts in which every character is escaped.
const JSON_BYTES_MAX: usize = 32 << 10;
/// Bytes of the length at the end.
const LENGTH_BYTES: usize = 4;

/// What came of one pass.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PassReport {
    /// Its name.
    pub pass: String,
    /// The name of the reason, if it left the component as it was.
    pub refusal: Option<String>,
    /// What it did, or why it did not, for people.
    pub detail: String,
}

impl PassReport {
    /// A pass changed the component.
    pub fn applied(pass: &str, detail: &str) -> Self {
        Self { pass: pass.to_owned(), refusal: None, detail: detail.to_owned() }.bounded()
    }

    /// A pass left it as it was.
    pub fn refused(pass: &str, refusal: &str, detail: &str) -> Self {
        Self { pass: pass.to_owned(), refusal: Some(refusal.to_owned()), detail: detail.to_owned() }.bounded()
    }

    /// Whether the component is another now.
    pub fn is_applied(&self) -> bool {
        self.refusal.is_none()
    }

    fn bounded(self) -> Self {
        Self {
            pass: cut(self.pass, NAME_BYTES_MAX),
            refusal: self.refusal.map(|refusal| cut(refusal, NAME_BYTES_MAX)),
            detail: cut(self.detail, DETAIL_BYTES_MAX),
        }
    }
}

/// Machine code, and how its component was changed before.
#[derive(Debug, PartialEq, Eq)]
pub struct Made {
    /// The code.
    pub code: Vec<u8>,
    /// What came of each pass, in order.
    pub passes: Vec<PassReport>,
}

/// An artifact is no code with reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the artifact of the worker says nothing readable about its passes")]
pub struct MalformedMade;

impl Made {
    /// As one artifact.
    pub fn into_artifact(self) -> Vec<u8> {
        let Self { mut code, mut passes } = self;
        passes.truncate(REPORTS_MAX);
        let passes: Vec<_> = passes.into_iter().map(PassReport::bounded).collect();
        let json = serde_json::to_vec(&passes).expect("texts are always JSON");
        assert!(json.len() <= JSON_BYTES_MAX, "bounded texts have a bounded length");
        code.extend(&json);
        code.extend((json.len() as u32).to_le_bytes());
        code
    }

    /// From an artifact.
    ///
    /// # Errors
    /// [`MalformedMade`] if it is none, or says more than may be said.
    pub fn from_artifact(mut artifact: Vec<u8>) -> Result<Self, MalformedMade> {
        let (rest, length) = artifact.split_last_chunk::<LENGTH_BYTES>().ok_or(MalformedMade)?;
        let json_bytes = u32::from_le_bytes(*length) as usize;
        let code_bytes = rest.len().checked_sub(json_bytes).filter(|_| json_bytes <= JSON_BYTES_MAX);
        let code_bytes = code_bytes.ok_or(MalformedMade)?;
        let passes: Vec<PassReport> = serde_json::from_slice(&rest[code_bytes..]).map_err(|_| MalformedMade)?;
        if passes.len() > REPORTS_MAX {
            return Err(MalformedMade);
        }
        let passes = passes.into_iter().map(PassReport::bounded).collect();
        artifact.truncate(code_bytes);
        Ok(Self { code: artifact, passes })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_goes_in_comes_out() {
        let passes = vec![PassReport::applied("a", "2 → 1"), PassReport::refused("b", "too_large", "too \"large\"")];
        let made = Made { code: b"machine code".to_vec(), passes: passes.clone() };
        let artifact = made.into_artifact();
        assert!(artifact.starts_with(b"machine code"));
        let made = Made::from_artifact(artifact).unwrap();
        assert_eq!((made.code.as_slice(), &made.passes), (&b"machine code"[..], &passes));
        assert!(made.passes[0].is_applied() && !made.passes[1].is_applied());
    }

    #[test]
    fn long_texts_are_cut() {
        let long = "\u{1}".repeat(10_000);
        let many = vec![PassReport::refused(&long, &long, &long); 20];
        let made = Made::from_artifact(Made { code: Vec::new(), passes: many }.into_artifact()).unwrap();
        assert_eq!((made.passes.len(), made.passes[0].detail.len()), (REPORTS_MAX, DETAIL_BYTES_MAX));
    }

    proptest! {
        #[test]
        fn no_artifact_makes_it_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..64), length in 0..80u32) {
            let _ = Made::from_artifact(bytes.clone());
            bytes.extend(length.to_le_bytes());
            let _ = Made::from_artifact(bytes);
        }
    }
}
