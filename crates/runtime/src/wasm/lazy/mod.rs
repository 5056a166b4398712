//! Split programs: the code of a component's cold functions, loaded when they are called.
//!
//! ```text
//!   guest calls a cold function ─► its slot is empty ─► load(slot)                         loader
//!     ─► group of the slot                                                                 layout
//!     ─► code: loaded before ── machine code on disk ── wasm, compiled now, one at a time  groups
//!     ─► the instance that the group belongs to                                            find
//!     ─► the group instantiated in the VM's store: its segment fills the slots             loader
//!     ─► counted, and told to whoever learns                                               groups
//!
//!   the same where the component may not be left ─► table told to grow ─► epoch ended ─► as above  asked
//! ```
//!
//! What a split program is and how it is made is the business of `forerun-specialize`; here it is a component that
//! imports one interface more, and modules that fit it. A VM that has loaded a group serves no further request, since
//! finding the instance spends its store ([`find`]).

mod asked;
mod failure;
mod find;
mod groups;
mod layout;
mod loader;
mod vm_groups;

pub use failure::LazyFailure;
pub use groups::{CodeFrom, ColdCode, ColdSource, Miss, MissListener, SplitProgram};
pub use layout::{ColdFills, ColdLayout, ColdLayoutError};

pub(super) use asked::{Asking, answer};
pub(super) use find::{FindInstance, ProbeTrap};
pub(super) use groups::{ColdGroups, Compiles};
pub(super) use loader::add_to_linker;
pub(super) use vm_groups::VmGroups;
