//! Splits a component in two: what a request is expected to run stays, the rest becomes modules that are loaded when
//! they are called.
//!
//! ```text
//!   component ──► whole.rs    validated, read; what may not be split is refused by name
//!                 module.rs   its one large core module, and who calls whom in it
//!                 entry_table.rs  the table through which cold functions need no stub, if it has one
//!                 hot.rs      hot: probable, pinned or tiny · cold: the rest · dead: nobody can call it
//!                 groups.rs   cold functions that call one another, some hundred a group
//!                 links.rs    a slot for every cold function that is entered from outside its group
//!                 cold.rs     each group a core module; from the primary it imports what it uses
//!                 primary.rs  the module without its cold functions
//!                 body.rs     a body written for one of these modules
//!                 connect.rs  what stands between the primary and the groups
//!                 append.rs   the component, and behind it the loader's import in slot 0
//!                 bundle.rs   all groups in one file
//! ```
//!
//! In the primary hot bodies stay as they are, but for the indices of functions, which move together, the most probable
//! first. A call of a cold function becomes one of the dispatcher of its type, with the function's slot behind the
//! arguments. The dispatcher looks into the table `__cold`, has the loader (slot 0) fill the slot if it is empty, and
//! calls on. A group's own segments of elements fill the slots when the group is instantiated, in the same store as the
//! component. What is exported, or has its reference taken, has a stub, which does the same. What stands in the module's
//! own table has neither: its position holds the one entry of its type until a group puts the function there
//! (`entry_table.rs`).
//!
//! The loader is a call out of the component, which is forbidden while arguments are lowered, after a return, and in
//! destructors. What is entered there says so in a global, and a miss below it asks without a call: it tells the
//! table `__cold`, which is as large as it may be, to grow by the slot, which the host hears of, and turns in a loop
//! until the host has filled the slot at the end of an epoch (`connect.rs`). Before the component is complete there is
//! no loader at all: what runs then is pinned, with every function that it calls by name. What that calls through a
//! table is not known here; such calls are counted in the report ([`SplitReport::pinned_indirect_calls`]), and are one
//! reason to compare before publishing.
//!
//! Nothing is compiled here and nothing loaded; where groups are kept and how the loader finds the instance that they
//! belong to is the business of the driver.

mod append;
mod body;
mod bundle;
mod choice;
mod cold;
mod connect;
mod entry_table;
mod features;
mod groups;
mod hot;
mod index;
mod links;
mod module;
mod needs;
mod primary;
mod raw;
mod refusal;
mod report;
mod whole;

pub use bundle::{BUNDLE_TABLE_BYTES_MAX, Bundle, BundleError};
pub use choice::{Known, SplitPlan};
pub use entry_table::NoEntryTable;
pub use index::{GroupEntry, INDEX_BYTES_MAX, IndexError, SplitIndex};
pub use refusal::SplitRefusal;
pub use report::SplitReport;

use std::fmt;

use module::Module;
use whole::Whole;

/// Raised whenever something else is made of the same component and plan: the parts of two revisions do not fit together.
pub const REVISION: u32 = 4;
/// The interface that a split component imports beside its own: `load: func(slot: u32)`.
pub const LOADER_INTERFACE: &str = "forerun:vm/lazy@0.1.0";
/// Its function. When it returns, the slot is filled.
pub const LOADER_FUNCTION: &str = "load";
/// The table of cold functions, exported by the primary module. Only that module exports this name. It is as large as it
/// may ever be; who grows it by a number and [`ASKING`] asks for the slot or position of this number.
pub const COLD_TABLE: &str = "__cold";
/// More than any guest lets a table of its own grow by.
pub const ASKING: u32 = 1 << 30;
/// The global, exported by the primary module, that the host sets to 1 when it has filled what was asked for without a call.
pub const FILLED: &str = "__cold_filled";
/// The global in which a call through the main module's table leaves the position that it means.
const POSITION: &str = "__cold_position";
/// What the primary exports for its groups begins with this, too.
const EXPORT_PREFIX: &str = COLD_TABLE;
/// The name under which groups import what the primary exports.
pub const PRIMARY: &str = "primary";

/// A component in two parts.
pub struct Split {
    /// The component with the hot functions; it imports [`LOADER_INTERFACE`].
    pub primary: Vec<u8>,
    /// The cold functions. Slots of a group are consecutive, and groups are in the order of their slots.
    pub groups: Vec<ColdGroup>,
    /// What became of it.
    pub report: SplitReport,
}

/// Cold functions that are loaded together.
pub struct ColdGroup {
    /// A core module. It imports from [`PRIMARY`] and fills its slots of [`COLD_TABLE`] when it is instantiated.
    pub module: Vec<u8>,
    /// The first slot it fills; slot 0 is the loader's.
    pub first_slot: u32,
    /// The functions of its slots, by their index in the original module.
    pub entries: Vec<u32>,
    /// Positions of the main module's own table that it fills, ascending. The loader is called for one of them with the
    /// position behind the last slot: slots + position.
    pub positions: Vec<u32>,
    /// All its functions, by their index in the original module; those without a slot or position are called by their
    /// neighbours only.
    pub functions: Vec<u32>,
    /// Bytes of their bodies.
    pub code_bytes: u64,
}

/// Which core module of `component` is split, counted from 0 in the order in which the component defines them: the one
/// that [`Known::ByIndex`] speaks of.
///
/// # Errors
/// Why the component is not split.
pub fn main_module(component: &[u8]) -> Result<u32, SplitRefusal> {
    Whole::read(component).map(|whole| module::index_u32(whole.main))
}

impl fmt::Debug for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Split").field("report", &self.report).finish_non_exhaustive()
    }
}

/// Splits `component` as `plan` says.
///
/// # Errors
/// Why it stays whole.
pub fn split(component: &[u8], plan: &SplitPlan) -> Result<Split, SplitRefusal> {
    let whole = Whole::read(component)?;
    let module = Module::read(whole.main_module())?;
    let probabilities = plan.probabilities(&module)?;
    let pins = whole.pins(&module);
    let entry_table = entry_table::EntryTable::find(&whole, &module);
    let temperature = hot::choose(&module, &probabilities, plan, &pins, entry_table.as_ref().ok())?;
    let grouping = groups::form(&module, &temperature, &probabilities, plan);
    let no_entry_table = entry_table.as_ref().err().copied();
    let links = links::Links::new(&module, &temperature, grouping, entry_table.ok(), &pins.confined)?;
    let mut needs = needs::Needs::default();
    let groups = cold::emit_all(&module, &links, &mut needs)?;
    let mut report = SplitReport::new(&whole, &module, &temperature, &links, &needs, &pins);
    report.no_entry_table = no_entry_table;
    let main = primary::rewrite(&module, &temperature, &links, &needs, &probabilities)?;
    let primary = append::rebuild(&whole, &main)?;
    features::validate_output("primary", &primary)?;
    Ok(Split { primary, groups, report })
}
