//! What can be wrong with an image file. A file with any of these is removed, counted, and never given out.

use serde::{Deserialize, Serialize};

/// Why a file was refused.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum Flaw {
    /// Shorter or longer than its header says, or too short to have one.
    #[error("the file is torn: its length is not what it says")]
    Torn,
    /// The authentication code does not fit the content: damaged, changed, or written with another secret.
    #[error("the file is damaged or was tampered with: its authentication code does not fit")]
    Tampered,
    /// Authentic or not, it is the image of another key.
    #[error("the file holds the image of another key")]
    OtherKey,
    /// Made for another engine, other engine settings or another CPU.
    #[error("the image was made for another engine, engine settings or CPU")]
    ForeignEngine,
    /// Not a file of ours, or of a format this release no longer reads.
    #[error("the file is not an image file that this release reads")]
    ForeignFormat,
    /// A later release wrote it.
    #[error("the file was written by a newer release (format {found})")]
    NewerFormat {
        /// Its format version.
        found: u32,
    },
    /// Larger than an image may be.
    #[error("the file has {bytes} bytes, at most {max} are accepted")]
    TooLarge {
        /// Its size, in bytes.
        bytes: u64,
        /// What is accepted, in bytes.
        max: u64,
    },
}

impl Flaw {
    /// Stable label: metrics, the admin API.
    pub fn label(self) -> &'static str {
        match self {
            Self::Torn => "torn",
            Self::Tampered => "tampered",
            Self::OtherKey => "other_key",
            Self::ForeignEngine => "foreign_engine",
            Self::ForeignFormat => "foreign_format",
            Self::NewerFormat { .. } => "newer_format",
            Self::TooLarge { .. } => "too_large",
        }
    }
}
