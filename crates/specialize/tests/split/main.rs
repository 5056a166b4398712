//! Split components do what whole ones do: on a real engine, over fixtures and generated modules, with hot sets drawn
//! at random. A seed reproduces a case: `FORERUN_SPLIT_SEED=17 cargo test --workspace --test split` runs only that
//! one, and `FORERUN_SPLIT_CASES` says how many there are.

#![allow(clippy::unwrap_used, clippy::print_stderr, missing_docs, reason = "a test may panic")]

mod compare;
mod confined;
mod engine;
mod entry_table;
mod everything;
mod fixtures;
mod flags;
mod generated;
mod modules;
mod refusals;
mod seeds;
mod shape;
