//! One test binary: the rules are in `edges` and `files`, the other modules read what they look at.

mod document;
mod edges;
mod files;
mod packages;
mod reach;
mod repository;
mod rust_text;
