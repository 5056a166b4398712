//! forerun.toml and spin.toml: read, checked, and turned into function specifications.
//!
//! In the order of the flow: [`Manifest::load`] finds and reads the file (`read`), `document` parses it and holds
//! it against the shape declared by the types in `forerun_toml::raw` or `spin_toml::raw` (`shape`), and the rest of
//! those two modules gives it meaning. Everything wrong on the way is collected as [`Diagnostic`]s that point at a
//! line, and drawn by `render`. Nothing is deployed or run here, and components are not looked into.

mod build;
mod demo;
mod diagnostic;
mod document;
mod error;
mod forerun_toml;
mod function;
mod manifest;
mod nearest;
mod quantity;
mod read;
mod render;
mod schema;
mod shape;
mod source;
mod spanned;
mod spin_toml;
mod syntax;
mod watch;

pub use demo::{DEMO_FILE, Demo, DemoError, DemoStep};
pub use diagnostic::{Diagnostic, Record, Report, Severity};
pub use error::ManifestError;
pub use manifest::{Build, LoadOptions, Manifest, ManifestFunction, SourceCheck};
pub use read::{FORERUN_FILE, MANIFEST_BYTES_MAX, SPIN_FILE};
pub use schema::forerun_schema;
pub use source::{SourceError, read_component};
