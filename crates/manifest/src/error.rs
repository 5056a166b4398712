//! Why a manifest could not be loaded.
//!
//! Anything about its content is a [`Report`]; the rest is about finding and reading the file.

use std::path::PathBuf;

use crate::diagnostic::Report;
use crate::read::{FORERUN_FILE, MANIFEST_BYTES_MAX, SPIN_FILE};

/// Why there is no manifest to work with. Messages end with what to do.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// Nothing at that path.
    #[error("`{}` does not exist\nhint: give the path of a {FORERUN_FILE}, or of the folder that holds it", path.display())]
    NotFound {
        /// As given.
        path: PathBuf,
    },
    /// A folder without a manifest.
    #[error("no {FORERUN_FILE} and no {SPIN_FILE} in `{}`\nhint: create a {FORERUN_FILE} there, or give the path of one", folder.display())]
    NoManifest {
        /// The folder that was searched.
        folder: PathBuf,
    },
    /// A device, socket or pipe.
    #[error("`{}` is neither a file nor a folder\nhint: give the path of a {FORERUN_FILE}", path.display())]
    NotAFile {
        /// As given.
        path: PathBuf,
    },
    /// The operating system refused.
    #[error("cannot read `{}`: {reason}\nhint: check that the file may be read by this user", path.display())]
    Unreadable {
        /// The manifest.
        path: PathBuf,
        /// The system's words. Text and not a source, so that the message is complete without a chain.
        reason: String,
    },
    /// Larger than [`MANIFEST_BYTES_MAX`].
    #[error("`{}` is larger than {MANIFEST_BYTES_MAX} bytes, which no manifest needs\nhint: is it a component instead of a manifest?", path.display())]
    TooLarge {
        /// The manifest.
        path: PathBuf,
    },
    /// Not text.
    #[error("`{}` is not UTF-8 text (line {line})\nhint: is it a component instead of a manifest?", path.display())]
    NotText {
        /// The manifest.
        path: PathBuf,
        /// Line of the first byte that is not UTF-8, from 1.
        line: usize,
    },
    /// The content is refused. Warnings are in the report as well.
    #[error("{}", .0.render(false))]
    Invalid(Box<Report>),
}

impl ManifestError {
    /// The findings in the content, if it came to reading it.
    pub fn report(&self) -> Option<&Report> {
        match self {
            Self::Invalid(report) => Some(report),
            Self::NotFound { .. }
            | Self::NoManifest { .. }
            | Self::NotAFile { .. }
            | Self::Unreadable { .. }
            | Self::TooLarge { .. }
            | Self::NotText { .. } => None,
        }
    }
}
