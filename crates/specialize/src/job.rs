//! What goes into a worker and what comes out of it.

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::limits::{ERROR_DETAIL_BYTES_MAX, ERROR_NAME_BYTES_MAX};
use crate::{ProgressSender, SandboxReport, Usage};

/// Which kind of work a job asks for. The numbers are the business of whoever gives the work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct JobKind(pub u32);

/// One piece of work, as the supervisor takes it.
#[derive(Clone, Debug)]
pub struct Job {
    /// Which work.
    pub kind: JobKind,
    /// Its parameters as JSON, at most 16 MiB; not looked at on the way.
    pub parameters: Vec<u8>,
    /// The component's bytes, at most 256 MiB.
    pub component: Bytes,
}

/// One piece of work, as the function in the worker process gets it.
#[derive(Debug)]
pub struct JobInput {
    /// Which work.
    pub kind: JobKind,
    /// Its parameters as JSON; see [`Self::read_parameters`].
    pub parameters: Vec<u8>,
    /// The component's bytes.
    pub component: Vec<u8>,
    /// Threads it may have at the same time, the main one included.
    pub threads_max: u32,
    /// Where to say how far it got.
    pub progress: ProgressSender,
}

impl JobInput {
    /// The parameters as the type that the work expects.
    ///
    /// # Errors
    /// `parameters` when they are not of that shape.
    pub fn read_parameters<T: DeserializeOwned>(&self) -> Result<T, JobError> {
        serde_json::from_slice(&self.parameters).map_err(|error| JobError::new("parameters", error))
    }
}

/// Why the work could not be done, in its own words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{name}: {detail}")]
#[serde(deny_unknown_fields)]
pub struct JobError {
    /// Short and stable, for metrics and decisions: `invalid_component`, `unsupported_gc`, ...
    pub name: String,
    /// For people.
    pub detail: String,
}

impl JobError {
    /// An error called `name`; both texts are cut to their bounds (64 and 4096 bytes).
    #[expect(clippy::needless_pass_by_value, reason = "callers hand over texts and errors alike, without a `&`")]
    pub fn new(name: &str, detail: impl ToString) -> Self {
        Self { name: name.to_owned(), detail: detail.to_string() }.bounded()
    }

    /// With texts no longer than their bounds: an error may come from a process that is not trusted.
    pub(crate) fn bounded(self) -> Self {
        Self { name: cut(self.name, ERROR_NAME_BYTES_MAX), detail: cut(self.detail, ERROR_DETAIL_BYTES_MAX) }
    }
}

/// `text` cut to at most `bytes_max` bytes at a character's border.
pub(crate) fn cut(mut text: String, bytes_max: usize) -> String {
    text.truncate(text.floor_char_boundary(bytes_max));
    text
}

/// What a worker made, whole and with its checksum verified. The checksum says that nothing was torn;
/// it does not say that the worker was honest.
#[derive(Clone, Debug)]
pub struct Artifact {
    /// The bytes that the work returned.
    pub bytes: Vec<u8>,
    /// BLAKE3 of the bytes.
    pub checksum: [u8; 32],
    /// What the worker stood behind.
    pub sandbox: SandboxReport,
    /// What it used.
    pub usage: Usage,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_cut_between_characters() {
        let error = JobError::new(&"ä".repeat(100), "ö".repeat(10_000));
        assert_eq!(error.name.len(), 64);
        assert_eq!(error.detail.len(), 4096);
        assert_eq!(cut("aä".into(), 2), "a");
    }
}
