//! The only unsafe code of the project: what neither wasmtime nor another library checks for us, each with
//! its proof.
#![allow(unsafe_code, reason = "this folder is where it lives")]

mod fingerprint;
mod flags;
mod guest_memory;
mod image;
mod module;
mod pages;
mod time_slice;

pub(crate) use fingerprint::{Fingerprint, Fingerprinter, PIECE_BYTES, Piece, fetch_ahead};
pub(crate) use flags::{FlaggedStore, Flags, Raised};
#[cfg(test)]
pub(crate) use guest_memory::swap_out;
pub(crate) use guest_memory::{make_own, make_present, with_bytes};
pub(crate) use image::load_image;
pub(crate) use module::{CompiledModule, load_compiled_module, load_module};
pub(crate) use pages::{PAGE_BYTES, ScanError, Span, Tracker, Watch};
pub use time_slice::let_others_go_first;
