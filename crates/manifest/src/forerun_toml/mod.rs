//! `forerun.toml`, our own format: [`raw`] declares it, [`meaning`] turns it into function specifications.

pub(crate) mod meaning;
pub(crate) mod raw;

pub(crate) use meaning::{content, is_forerun};
