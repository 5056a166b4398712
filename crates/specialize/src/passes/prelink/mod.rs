//! Pre-linking: the core modules that a component links anew in every VM become one module, once.
//!
//! A Python component is some 14 core modules that import from each other through two thousand names, five hundred
//! relocation globals and a table of six thousand entries. All of that is known before the first request: imports
//! between modules become direct calls, relocations become constants, tables are filled by the engine's image.
//!
//! ```text
//! read ─► select ─► join ─────► segments, bodies ─► exports ─► live ─────► write ─► validate
//!         which     index       tables, calls       used by    reached,    merged
//!         become    spaces      and sets            outside    constant    module
//!         one
//! ```
//! What it cannot merge it refuses by name ([`PrelinkRefusal`]), and that component stays as it was. It never merges
//! across component instances, never runs anything, and changes nothing that a host or another component can see.

mod bodies;
mod canonical;
mod component;
mod constant;
mod customs;
mod effects;
mod exports;
mod live;
mod module;
mod origins;
mod refusal;
mod segments;
mod select;
mod spaces;
mod write_component;
mod write_module;

use wasmparser::{Validator, WasmFeatures};

use self::component::Component;
use self::exports::Exports;
use self::live::{Live, LiveGlobal};
pub(crate) use self::origins::{ORIGINS, read as read_origins};
pub use self::refusal::{ApartReason, Oversized, PrelinkRefusal, Unsupported};
use self::spaces::{Spaces, count};
use self::write_module::Merged;

/// Goes up whenever other bytes are made of some component than before, or another one is refused; a test pins it to
/// what is made of a fixture.
pub const REVISION: u32 = 2;

/// How large things may be.
#[derive(Clone, Copy, Debug)]
pub struct PrelinkBounds {
    /// The component as it comes, in bytes.
    pub input_bytes_max: usize,
    /// Its core modules, each as often as it is instantiated, in bytes: a small component can name a large
    /// module a thousand times.
    pub instance_bytes_max: usize,
    /// The component that is made, in bytes.
    pub output_bytes_max: usize,
    /// Tables of the merged module.
    pub tables_max: usize,
}

impl Default for PrelinkBounds {
    /// Room for language runtimes several times over; as many tables as the engine of the node takes, but two for
    /// the passes behind this one.
    fn default() -> Self {
        Self { input_bytes_max: 256 << 20, instance_bytes_max: 512 << 20, output_bytes_max: 256 << 20, tables_max: 6 }
    }
}

/// A component whose core modules were merged.
#[derive(Debug)]
pub struct Prelinked {
    /// The component.
    pub bytes: Vec<u8>,
    /// What became of it.
    pub figures: PrelinkFigures,
}

/// What became of a component.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct PrelinkFigures {
    /// Core modules.
    pub modules: BeforeAfter,
    /// Core instances: of modules, and bundles that link them.
    pub core_instances: BeforeAfter,
    /// Functions with a body, in all instances.
    pub functions: BeforeAfter,
    /// Globals, in all instances.
    pub globals: BeforeAfter,
    /// Size in bytes.
    pub bytes: BeforeAfter,
}

impl std::fmt::Display for PrelinkFigures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { modules, core_instances, functions, globals, bytes } = self;
        write!(f, "core modules {modules}, core instances {core_instances}, ")?;
        write!(f, "functions {functions}, globals {globals}, bytes {bytes}")
    }
}

impl std::fmt::Display for BeforeAfter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} to {}", self.before, self.after)
    }
}

/// A number before and after a pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct BeforeAfter {
    /// Before.
    pub before: u64,
    /// After.
    pub after: u64,
}

/// Merges the core modules of a component.
///
/// # Errors
/// Why it stays as it is; see [`PrelinkRefusal`].
pub fn prelink(component: &[u8], bounds: &PrelinkBounds) -> Result<Prelinked, PrelinkRefusal> {
    within(Oversized::Input, component.len(), bounds.input_bytes_max)?;
    validate(component).map_err(component::invalid)?;
    let read = component::read(component, bounds)?;
    let selection = select::select(&read)?;
    let spaces = Spaces::join(&read, &selection.merged, bounds)?;
    let segments = segments::segments(&read, &spaces)?;
    let bodies = bodies::read(&read, &spaces)?;
    let exports = Exports::find(&read, &selection, &spaces)?;
    let live = Live::find(&spaces, &bodies, &segments, &exports)?;
    let merged = Merged { component: &read, spaces: &spaces, segments: &segments, exports: &exports, live: &live };
    let module = merged.write()?;
    within(Oversized::Output, module.len(), bounds.output_bytes_max)?;
    let written = write_component::write(&read, &selection, &merged, &module)?;
    within(Oversized::Output, written.bytes.len(), bounds.output_bytes_max)?;
    validate(&written.bytes).map_err(|error| PrelinkRefusal::InvalidOutput { detail: error.to_string() })?;
    let figures = figures(component.len(), &read, &selection.apart, &spaces, &live, &written);
    Ok(Prelinked { bytes: written.bytes, figures })
}

fn within(what: Oversized, bytes: usize, bytes_max: usize) -> Result<(), PrelinkRefusal> {
    if bytes <= bytes_max { Ok(()) } else { Err(PrelinkRefusal::TooLarge { what, bytes, bytes_max }) }
}

/// With what WebAssembly 3.0 and its components have: more than is merged, so that a refusal can name it.
fn validate(bytes: &[u8]) -> wasmparser::Result<()> {
    Validator::new_with_features(WasmFeatures::default()).validate_all(bytes).map(drop)
}

fn figures(
    bytes: usize,
    component: &Component<'_>,
    apart: &[usize],
    spaces: &Spaces<'_>,
    live: &Live,
    written: &write_component::Written,
) -> PrelinkFigures {
    let of = |before: usize, after: usize| BeforeAfter { before: before as u64, after: after as u64 };
    let modules = |instances: &mut dyn Iterator<Item = usize>, size: fn(&module::CoreModule<'_>) -> usize| -> usize {
        let instances = instances.filter_map(|index| component.instances.get(index));
        instances.filter_map(|instance| component.modules.get(instance.module)).map(size).sum()
    };
    let all = component.instances.len();
    let sum = |size: fn(&module::CoreModule<'_>) -> usize| {
        (modules(&mut (0..all), size), modules(&mut apart.iter().copied(), size))
    };
    let (functions, functions_apart) = sum(|module| module.bodies.len());
    let (globals, globals_apart) = sum(|module| module.globals.len());
    let functions_live = (0..spaces.functions.len()).filter(|index| live.keeps(*index)).count();
    let is_left = |index: &usize| matches!(live.global(count(*index)), Some(LiveGlobal::Number(_)));
    let globals_live = (0..spaces.globals.len()).filter(is_left).count();
    PrelinkFigures {
        modules: of(component.modules.len(), written.modules as usize),
        core_instances: of(component.core_instances, written.core_instances as usize),
        functions: of(functions, functions_live + functions_apart),
        globals: of(globals, globals_live + globals_apart),
        bytes: of(bytes, written.bytes.len()),
    }
}
