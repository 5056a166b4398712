//! `spin.toml` version 2 with HTTP triggers, accepted as it is.
//!
//! [`raw`] declares the keys, [`meaning`] turns them into function specifications, [`variables`] fills in templates,
//! [`hosts`] translates what may be called, and [`unsupported`] is the list of what is not supported. Components are
//! not looked into: one that imports Spin's own interfaces is refused later, by the runtime.

mod hosts;
mod meaning;
mod raw;
mod unsupported;
mod variables;

pub(crate) use meaning::{content, is_spin};
