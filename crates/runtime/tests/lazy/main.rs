//! Split components in the driver: they answer as whole ones do, and what is missed is loaded within its bounds.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test may panic")]

mod bounds;
#[path = "../common/mod.rs"]
mod common;
mod flags;
mod guests;
mod parts;
