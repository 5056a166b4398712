//! Split programs: the code of a component's cold functions, loaded when they are called.
//!
//! ```text
//!   guest calls a cold function ─► its slot is empty ─► tells a full table to grow          loader
//!     ─► group of the slot                                                                 layout
//!     ─► code: loaded before ── machine code on disk ── wasm, compiled now, one at a time  groups
//!     ─► the instance that the group belongs to                                            find
//!     ─► the group instantiated in the VM's store: its segment fills the slots             loader
//!     ─► counted, and told to whoever learns                                               groups
//! ```
//!
//! What a split program is and how it is made is the business of `forerun-specialize`; here it is a component that
//! asks for what it has not, and modules that fit it. A VM that has loaded a group serves no further request, since
//! finding the instance spends its store ([`find`]).

mod failure;
mod find;
mod groups;
mod layout;
mod loader;
mod vm_groups;

pub use failure::LazyFailure;
pub use groups::{CodeFrom, ColdCode, ColdSource, Miss, MissListener, SplitProgram};
pub use layout::{ColdFills, ColdLayout, ColdLayoutError};

pub(super) use find::{FindInstance, ProbeTrap};
pub(super) use groups::{ColdGroups, Compiles};
pub(super) use loader::{asked_for, load_when_asked};
pub(super) use vm_groups::VmGroups;
