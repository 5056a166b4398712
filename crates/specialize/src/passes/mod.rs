//! Passes: from a component to another component that does the same and starts sooner, or shows more of itself.
//!
//! A pass takes the bytes of a component and gives the bytes of another, or the reason why it leaves this one alone.
//! It is pure: the same bytes in, the same bytes out, and no clock, file or engine. What it is given was written by a
//! stranger: it is validated first, nothing in it makes a pass panic, and what a pass makes is validated again.
//!
//! No machine code is made here, and nothing is decided about when a pass is worth its time.

pub mod body_hash;
mod chain;
pub mod coverage;
pub mod interrupt;
mod layout;
mod memory_list;
pub mod prelink;
mod report;
pub mod split;
pub mod state;

pub use chain::{Pass, apply, known, revision};
pub use layout::Unsupported;
pub use report::{Made, MalformedMade, PassReport};
