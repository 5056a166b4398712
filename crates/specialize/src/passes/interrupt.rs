//! The pass `interrupt`: a component whose code can be stopped, or made to wait, by a byte that its host writes.
//!
//! An engine that counts epochs compares two numbers at each entry of a function and in each loop. What is added here is
//! cheaper, and in fewer places. Each core module that needs it gets a memory of its own beside those it has, of one
//! page, with a flag in it, and *checks* in its code:
//!
//! ```text
//! i32.const 0   i32.load8_u $flag offset=64
//! if   i32.const 0x4000   memory.grow $flag   drop   end        a hint says that this is unlikely
//! ```
//!
//! The memory cannot grow. But before an engine says so it asks the host's limiter, which may answer with an error, and so
//! end the call, or take its time. No instruction of the guest's reaches that memory. The flag is up to begin with, so
//! that a start function, too, can be stopped. The component exports the instance [`INTERRUPT_INTERFACE`] with `flag0`,
//! `flag1`, ...: `func() -> list<u8>`, one for each flag: the list is the flag, at its place.
//!
//! It comes behind those that list or restore memories, which would take the flag's for the guest's, and behind all that add
//! loops. What comes behind it, `split`, moves bodies with their checks, and says what it adds to the bound below. No function
//! is added here and none moves, so that what was known of a function by its index before still holds.
//!
//! # Where checks are, and what runs between two of them
//!
//! 1. at the begin of each loop;
//! 2. after each call whose callee is not known: through a table or a reference, or a direct call that closes a circle of
//!    direct calls (some call of each circle does); before it if it takes its caller's place (`return_call` and the like);
//! 3. before each operator that could otherwise run too long after the last check. It is counted on all ways through a
//!    body at once: ways fork at branches and meet at labels, and nothing goes back but to a loop's check.
//!
//! The third needs numbers of each function, which is looked at after those it calls. On its ways, let
//!
//! ```text
//! entry(p)  be the most operators between the function's entry and point p on a way without check,
//! check(p)  the most operators between the last check and p on a way with one,
//! head(g)   the most that run in g, callees included, before its first check or its end: entry(p) over all p in g,
//!           and at a call of h, entry(p) + 1 + head(h).
//! ```
//!
//! An operator counts 1, one that works on a range of memory M/256, a call of a known g 1 + head(g), of an unknown callee
//! 1 + M/2, of an imported function 3M/8, where M is [`STRETCH_MAX`]. A check is put before an operator that counts n at
//! p if
//!
//! ```text
//! entry(p) + n > M/2   or   check(p) + n > M
//! ```
//!
//! *What is counted is so.* By the first of the two head(g) <= M/2 for each g, those not looked at yet included. Thus all n
//! <= M/2 + 1, thus a check makes room for any operator, thus check(p) <= M at each p, and when a known callee is back
//! no more than that ran since its last check. Where nobody followed the ways that lead to a point (something thrown is
//! caught, what was called by `return_call` and the like is back) check(p) is M, so that a check comes first.
//!
//! *The bound.* So between two checks in one function, with the known callees that are entered and left in between, at most
//! M operators run. An unknown callee is entered when at most M/2 - 1 ran since a check, and none of its caller's
//! entry is as near; at most M/2 run before its own first check or its end, and after its end there is a check. In all,
//!
//! ```text
//! at most  M  operators run between two checks,
//! ```
//!
//! however deep calls go. An imported function may be another module's, of which nothing is known here: on a way through a
//! function without checks at most one is called, after a check at most two, since more would count too much. Modules
//! import from earlier ones only, so the bound is at most 3 (number of modules) times as high. What the host does is
//! not counted, and nor is how long an operator takes.

mod body;
#[cfg(test)]
mod bound_tests;
mod calls;
mod connector;
mod places;
mod reach;

use wasm_encoder::{ConstExpr, Encode, ExportKind, MemoryType};

use self::places::{Place, Why};
use super::layout::{
    Additions, ComponentLayout, ModuleLayout, Raw, Unsupported, check_input, check_output, module_section,
};

/// Goes up whenever other bytes are made of some component than before.
pub const REVISION: u32 = 1;

/// The instance which the component then exports.
pub const INTERRUPT_INTERFACE: &str = "forerun:vm/interrupt@0.1.0";
/// What the names of its functions begin with that give a flag as a list of one byte; a number from 0 follows.
pub const FLAG: &str = "flag";
/// Where in its memory a flag is. Its own address and length come before it, in another line of the processor's cache.
pub const FLAG_OFFSET: u32 = 64;
/// By how many pages a check has the flag's memory grow: more than it ever can, and a number that hosts can tell.
pub const GROWTH_PAGES: u32 = 1 << 14;

/// Operators between two checks at most: some tens of microseconds.
pub const STRETCH_MAX: u32 = 100_000;
/// Modules with a flag: a component that was linked before has one, or two.
pub const MODULES_MAX: usize = 2;
/// Memories that a module may define, the flag's included: what the engine's pool has room for.
pub const MEMORIES_PER_MODULE_MAX: u32 = 4;

/// What a module exports the memory of its flag as; the component does not let anyone else see it.
const MODULE_FLAG: &str = "forerun:flag";
/// Where in its memory a flag's address and length are.
const HEAD_ADDRESS: u32 = 0;
const PAGES: u64 = 1;

/// A component with checks, and how many of which kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// The component.
    pub component: Vec<u8>,
    /// Core modules with a flag.
    pub modules: usize,
    /// Checks at the begin of loops.
    pub loops: usize,
    /// Checks at calls through tables and references.
    pub indirect: usize,
    /// Checks at direct calls that close a circle.
    pub circles: usize,
    /// Checks where so much may have run since the last one.
    pub stretches: usize,
}

/// Why a component has no checks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InterruptRefusal {
    /// Nothing can be added to it.
    #[error(transparent)]
    Unsupported(#[from] Unsupported),
    /// Each flag is a memory in each VM.
    #[error("{modules} core modules of the component need checks, at most {modules_max} get them")]
    TooManyModules {
        /// How many need them.
        modules: usize,
        /// The bound.
        modules_max: usize,
    },
    /// The engine would not take one more.
    #[error("core module {module} defines {memories} memories, with the flag's at most {memories_max} are possible")]
    TooManyMemories {
        /// Number of the module.
        module: u32,
        /// What it has.
        memories: u32,
        /// The bound.
        memories_max: u32,
    },
    /// All of its code comes to an end soon.
    #[error("no code of the component runs for long")]
    NothingToCheck,
}

impl InterruptRefusal {
    /// A short name, for metrics and labels.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Unsupported(reason) => reason.name(),
            Self::TooManyModules { .. } => "too-many-modules",
            Self::TooManyMemories { .. } => "too-many-memories",
            Self::NothingToCheck => "nothing-to-check",
        }
    }
}

/// How much may run between two checks, and what it is counted in; see above.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    stretch_max: u32,
}

impl Bounds {
    /// Before a function's first check.
    fn entry_max(&self) -> u32 {
        self.stretch_max / 2
    }

    /// Counted for a call of an imported function.
    fn import(&self) -> u32 {
        self.stretch_max / 8 * 3
    }

    /// Counted for an operator that works on a range.
    fn bulk(&self) -> u32 {
        self.stretch_max / 256
    }
}

/// Adds checks to a component.
///
/// # Errors
/// Why this component is left alone.
pub fn add_checks(component: &[u8]) -> Result<Checked, InterruptRefusal> {
    check_input(component)?;
    let layout = ComponentLayout::read(component)?;
    layout.require_free(INTERRUPT_INTERFACE)?;

    let bounds = Bounds { stretch_max: STRETCH_MAX };
    let mut replaced = Vec::new();
    let mut instances = Vec::new();
    let mut all = Vec::new();
    for part in &layout.parts {
        // Code of a module that is never instantiated does not run.
        let Some(instance) = part.instance else {
            continue;
        };
        let module = ModuleLayout::read(part.bytes)?;
        let places = places::find(&module.bodies()?, module.counts.functions_imported, &bounds)?;
        if places.iter().all(Vec::is_empty) {
            continue;
        }
        require_room(part.module, &module)?;
        replaced.push((part.module, add_to_module(&module, &places)?));
        instances.push(instance);
        all.extend(places.into_iter().flatten());
    }
    require_some(instances.len())?;

    let component = layout.rebuild(&replaced, &connector::appendix(&layout.counts, &instances));
    check_output(&component)?;
    Ok(checked(component, instances.len(), &all))
}

fn checked(component: Vec<u8>, modules: usize, places: &[Place]) -> Checked {
    let count = |why: Why| places.iter().filter(|place| place.why == why).count();
    Checked {
        component,
        modules,
        loops: count(Why::Loop),
        indirect: count(Why::Indirect),
        circles: count(Why::Circle),
        stretches: count(Why::Stretch),
    }
}

fn require_some(modules: usize) -> Result<(), InterruptRefusal> {
    match modules {
        0 => Err(InterruptRefusal::NothingToCheck),
        1..=MODULES_MAX => Ok(()),
        _ => Err(InterruptRefusal::TooManyModules { modules, modules_max: MODULES_MAX }),
    }
}

fn require_room(module: u32, layout: &ModuleLayout<'_>) -> Result<(), InterruptRefusal> {
    let memories = layout.counts.memories - layout.counts.memories_imported;
    if memories >= MEMORIES_PER_MODULE_MAX {
        let memories_max = MEMORIES_PER_MODULE_MAX;
        return Err(InterruptRefusal::TooManyMemories { module, memories, memories_max });
    }
    Ok(())
}

fn add_to_module(module: &ModuleLayout<'_>, places: &[Vec<Place>]) -> Result<Vec<u8>, Unsupported> {
    module.require_free(MODULE_FLAG)?;
    let memory = module.counts.memories;
    let bodies = body::rewrite(&module.bodies()?, places, module.counts.functions_imported, memory);
    let mut additions = Additions::default();
    additions.change_bodies(bodies.code);
    additions.hint_branches(&bodies.hints);
    additions.add(module_section::MEMORY, &flag_type());
    additions.add_export(MODULE_FLAG, ExportKind::Memory, memory);
    additions.add(module_section::DATA, &Raw(&flag_data(memory)));
    if module.section(module_section::DATA_COUNT).is_some() {
        // The section is a number, and there is one segment more.
        additions.add(module_section::DATA_COUNT, &Raw(&[]));
    }
    module.with(&additions)
}

fn flag_type() -> MemoryType {
    MemoryType { minimum: PAGES, maximum: Some(PAGES), memory64: false, shared: false, page_size_log2: None }
}

/// The segment that puts the flag up, and its address and length where the host looks for them.
fn flag_data(memory: u32) -> Vec<u8> {
    /// A segment that is put into a memory by its index.
    const ACTIVE: u32 = 2;
    let mut bytes = Vec::new();
    bytes.extend(FLAG_OFFSET.to_le_bytes());
    bytes.extend(1_u32.to_le_bytes());
    bytes.resize(FLAG_OFFSET as usize, 0);
    bytes.push(1);
    let mut segment = Vec::new();
    ACTIVE.encode(&mut segment);
    memory.encode(&mut segment);
    ConstExpr::i32_const(HEAD_ADDRESS.cast_signed()).encode(&mut segment);
    bytes.encode(&mut segment);
    segment
}
