//! Pre-linking against a real engine: what was merged answers, traps and logs as the original does.
//!
//! The original and the pre-linked component run side by side, each in a fresh store, with the same calls. Every
//! reason to refuse has a component that meets it, and generated and damaged components look for what nobody thought of.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test fails by panicking")]

#[path = "prelink/generated.rs"]
mod generated;
#[path = "prelink/harness.rs"]
mod harness;
#[path = "support/lifted.rs"]
mod lifted;
#[path = "prelink/linking.rs"]
mod linking;
#[path = "prelink/refusals.rs"]
mod refusals;
#[path = "prelink/shim.rs"]
mod shim;
#[path = "prelink/smith.rs"]
mod smith;
