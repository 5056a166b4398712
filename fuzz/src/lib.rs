//! What the fuzz targets share. Each module serves the targets that its first line names.
//!
//! Nothing here depends on the fuzzer, so that an input that was found can be tried again from any test.

pub mod chains;
pub mod components;
pub mod engine;
pub mod http;
pub mod images;
pub mod manifest;
pub mod numbers;
pub mod records;
pub mod runs;
pub mod smith;
pub mod traces;
