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
//!                 bundle.rs   all groups in one file
//! ```
//!
//! In the primary hot bodies stay as they are, but for the indices of functions, which move together, the most probable
//! first. A call of a cold function becomes one of the dispatcher of its type, with the function's slot behind the
//! arguments. The dispatcher looks into the table `__cold`, has the slot filled if it is empty, and calls on. A group's own segments of elements fill the slots when the group is instantiated, in the same store as the
//! component. What is exported, or has its reference taken, has a stub, which does the same. What stands in the module's
//! own table has neither: its position holds the one entry of its type until a group puts the function there
//! (`entry_table.rs`).
//!
//! For that nobody leaves the component, which is forbidden while arguments are lowered, after a return, and in destructors,
//! where language runtimes may call just about anything: what frees an object calls its type's destructor through a table,
//! what allocates may collect garbage first. The table, which is as large as it may be, is told to grow by the slot; the
//! host hears of that, and has the slot filled before the guest goes on (`connect.rs`).
//!
//! A VM that has loaded a group may not be entered again, so that none can be made which does so as it is made: what runs
//! before the component is complete is pinned, with every function that it calls by name. What that calls through a
//! table is not known here; such calls are counted in the report ([`SplitReport::pinned_indirect_calls`]), and are one
//! reason to compare before publishing.
//!
//! # Behind other passes
//!
//! A component may look at flags (the pass `interrupt`) and have its state saved (`state`); it is split behind both. Checks
//! go with the bodies that they are in, each with the hint that says how unlikely it is, and the memory of the flag is
//! imported as any other. What is added here has no loops, and every circle of calls goes through a body that was there
//! before, with its check: a dispatcher, stub or entry calls nothing but what its caller called. So no more than the
//! operators of a call are added to each of the calls that run between two checks: for P parameters at most 2 P + 25, where
//! the call itself moves P values. The host's time to load a group is not counted, as that of other calls is not. The one
//! global that is added is set directly before it is read, so that nobody has to put it back.
//!
//! Nothing is compiled here and nothing loaded; where groups are kept and how the instance is found that they belong to is
//! the business of the driver.

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
pub const REVISION: u32 = 5;
/// The table of cold functions, exported by the primary module. Only that module exports this name. It is as large as it
/// may ever be; who grows it by a number and [`ASKING`] asks for the slot or position of this number.
pub const COLD_TABLE: &str = "__cold";
/// More than any guest lets a table of its own grow by.
pub const ASKING: u32 = 1 << 30;
/// The global in which a call through the main module's table leaves the position that it means.
const POSITION: &str = "__cold_position";
/// What the primary exports for its groups begins with this, too.
const EXPORT_PREFIX: &str = COLD_TABLE;
/// The name under which groups import what the primary exports.
pub const PRIMARY: &str = "primary";

/// A component in two parts.
pub struct Split {
    /// The component with the hot functions.
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
    /// The first slot it fills.
    pub first_slot: u32,
    /// The functions of its slots, by their index in the original module.
    pub entries: Vec<u32>,
    /// Positions of the main module's own table that it fills, ascending. One of them is asked for by the position
    /// behind the last slot: slots + position.
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
    let links = links::Links::new(&module, &temperature, grouping, entry_table.ok())?;
    let mut needs = needs::Needs::default();
    let groups = cold::emit_all(&module, &links, &mut needs)?;
    let mut report = SplitReport::new(&whole, &module, &temperature, &links, &needs, &pins);
    report.no_entry_table = no_entry_table;
    let main = primary::rewrite(&module, &temperature, &links, &needs, &probabilities)?;
    let primary = whole.with_main(&main);
    features::validate_output("primary", &primary)?;
    Ok(Split { primary, groups, report })
}
