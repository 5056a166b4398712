//! The documentation held to the code: reference pages are generated, links resolve, options exist, commands run.
//!
//! Where a page has fallen behind, `FORERUN_BLESS=1 cargo test --test docs` writes its generated parts anew.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    missing_docs,
    unreachable_pub,
    reason = "a test fails by panicking, or says why not"
)]

mod generated;
mod getting_started;
mod links;
mod names;
mod options;
mod pages;
mod reference;
#[path = "../support/mod.rs"]
mod support;
