//! The pass `coverage`: an instrumented twin of a component, which notes which of its functions ran.
//!
//! Each core module gets a memory of its own beside those it has, one byte for each function it defines. A function
//! first writes 1 to its byte; its locals and the rest of its body are as they were, byte for byte:
//!
//! ```text
//! i32.const 0   i32.const 1   i32.store8 $marks offset=<number of the function>
//! ```
//!
//! The component exports the instance [`COVERAGE_INTERFACE`] with `read: func() -> list<u8>`, the bytes of all modules
//! one after the other, and `clear: func()`. What each byte stands for is in the [`CoverageMap`] beside it. The twin
//! answers as the original does; it is a little slower, needs a little more memory, and its stack traces and debug
//! information are those of other code.
//!
//! Beside them it exports `memory0`, `memory1`, ...: `func() -> list<u8>`, one for each memory of the component's own
//! modules: the list is the memory, by which the host learns where it is, and can ask which of its pages were touched.
//! The memories of the marks are not among them.
//!
//! Whether a function *ran* is all that is noted: not how often, and not which way it took inside.

mod connector;
mod map;
mod names;

pub use map::{CoverageMap, CoveredFunction, CoveredModule, MapError};

use wasm_encoder::{Encode, ExportKind, Instruction, MemArg, MemoryType};
use wasmparser::FunctionBody;

use self::connector::{Listed, Marked};
use self::map::MapMaker;
use super::layout::{Additions, ComponentLayout, ModuleLayout, Unsupported, check_input, check_output, module_section};
use super::memory_list;

/// Goes up whenever another twin or another map is made of some component than before.
pub const REVISION: u32 = 2;

/// The instance which the twin exports.
pub const COVERAGE_INTERFACE: &str = "forerun:vm/coverage@0.1.0";
/// Its function that gives a byte for each function: 1 if it ran.
pub const READ: &str = "read";
/// Its function that forgets what ran.
pub const CLEAR: &str = "clear";

/// What the names of the functions begin with that give a memory as a list of bytes; a number from 0 follows.
pub const MEMORY: &str = "memory";

/// What a module exports its own memories under; a number follows.
const MODULE_MEMORY: &str = "forerun:touched";
/// What a module exports its marks under; the component does not let anyone else see them.
const MODULE_MARKS: &str = "forerun:marks";

/// Functions of one component; Python with its libraries has 30,000. Each is a byte to be read after a sampled request.
const FUNCTIONS_MAX: usize = 1 << 18;
/// Modules with functions and memories of theirs; the connector imports these and defines one, and may have a hundred.
const MODULES_MAX: usize = 99;
const PAGE_BYTES: u64 = 1 << 16;

/// A twin, and what its bytes stand for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Covered {
    /// The component.
    pub component: Vec<u8>,
    /// What `read` gives.
    pub map: CoverageMap,
}

/// Why a component has no twin.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CoverageRefusal {
    /// Nothing can be added to it.
    #[error(transparent)]
    Unsupported(#[from] Unsupported),
    /// Reading them all would take too long.
    #[error("the component has {functions} functions, at most {functions_max} are followed")]
    TooManyFunctions {
        /// What it has.
        functions: usize,
        /// The bound.
        functions_max: usize,
    },
    /// One core module cannot read the memories of so many.
    #[error("the component has {modules} core modules with functions, at most {modules_max} are followed")]
    TooManyModules {
        /// What it has.
        modules: usize,
        /// The bound.
        modules_max: usize,
    },
}

impl CoverageRefusal {
    /// A short name, for metrics and labels.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Unsupported(reason) => reason.name(),
            Self::TooManyFunctions { .. } => "too-many-functions",
            Self::TooManyModules { .. } => "too-many-modules",
        }
    }
}

/// Makes the twin of a component.
///
/// # Errors
/// Why this component is left alone.
pub fn add_coverage(component: &[u8]) -> Result<Covered, CoverageRefusal> {
    check_input(component)?;
    let layout = ComponentLayout::read(component)?;
    layout.require_free(COVERAGE_INTERFACE)?;

    let module_names = layout.module_names();
    let mut map = MapMaker::default();
    let mut replaced = Vec::new();
    let mut marked = Vec::new();
    let mut listed = Vec::new();
    for part in &layout.parts {
        let Some(instance) = part.instance else {
            continue;
        };
        let module = ModuleLayout::read(part.bytes)?;
        let bodies = module.bodies()?;
        let memories = own_memories(&module);
        listed.extend((0..memories.len()).map(|number| Listed { instance, number }));
        if bodies.is_empty() {
            if !memories.is_empty() {
                let mut additions = Additions::default();
                export_memories(&module, &memories, &mut additions)?;
                replaced.push((part.module, module.with(&additions)?));
            }
            continue;
        }
        let functions = map.functions() + bodies.len();
        if functions > FUNCTIONS_MAX {
            return Err(CoverageRefusal::TooManyFunctions { functions, functions_max: FUNCTIONS_MAX });
        }
        replaced.push((part.module, mark_functions(&module, &bodies, &memories)?));
        // Bounded by `FUNCTIONS_MAX` just above.
        marked.push(Marked { instance, functions: u32::try_from(bodies.len()).unwrap_or(u32::MAX) });
        map.add_module(part.bytes, &module, &bodies, module_names.get(&part.module).copied())?;
    }
    if marked.len() > MODULES_MAX {
        return Err(CoverageRefusal::TooManyModules { modules: marked.len(), modules_max: MODULES_MAX });
    }

    // What finds no room is not looked at; compilers make one memory.
    listed.truncate(MODULES_MAX - marked.len());
    let component = layout.rebuild(&replaced, &connector::appendix(&layout.counts, &marked, &listed));
    check_output(&component)?;
    Ok(Covered { component, map: map.finish() })
}

/// Indices of the memories that a module defines and that can be given as lists.
fn own_memories(layout: &ModuleLayout<'_>) -> Vec<u32> {
    let own = (0..).zip(&layout.memories).skip(layout.counts.memories_imported as usize);
    own.filter(|(_, ty)| memory_list::can_be(ty)).map(|(memory, _)| memory).collect()
}

/// What the `number`th memory of a module is exported as.
fn module_memory(number: usize) -> String {
    format!("{MODULE_MEMORY}{number}")
}

fn export_memories(module: &ModuleLayout<'_>, memories: &[u32], additions: &mut Additions) -> Result<(), Unsupported> {
    for (number, memory) in memories.iter().enumerate() {
        let name = module_memory(number);
        if module.exports_name(&name) {
            return Err(Unsupported::NameTaken { name: MODULE_MEMORY });
        }
        additions.add_export(&name, ExportKind::Memory, *memory);
    }
    Ok(())
}

fn mark_functions(
    module: &ModuleLayout<'_>,
    bodies: &[FunctionBody<'_>],
    memories: &[u32],
) -> Result<Vec<u8>, Unsupported> {
    module.require_free(MODULE_MARKS)?;
    let memory = module.counts.memories;
    let mut changed = Vec::new();
    bodies.len().encode(&mut changed);
    for (number, body) in bodies.iter().enumerate() {
        mark_function(body, number as u64, memory, &mut changed)?;
    }
    let mut additions = Additions::default();
    additions.change_bodies(changed);
    additions.add(module_section::MEMORY, &marks_type(bodies.len() as u64));
    additions.add_export(MODULE_MARKS, ExportKind::Memory, memory);
    export_memories(module, memories, &mut additions)?;
    module.with(&additions)
}

fn mark_function(body: &FunctionBody<'_>, number: u64, memory: u32, changed: &mut Vec<u8>) -> Result<(), Unsupported> {
    let bytes = body.as_bytes();
    let locals_bytes = body.get_operators_reader()?.original_position() - body.range().start;
    let (locals, code) = bytes.split_at_checked(locals_bytes).unwrap_or((bytes, &[]));
    let mut mark = Vec::with_capacity(16);
    let place = MemArg { offset: number, align: 0, memory_index: memory };
    for instruction in [Instruction::I32Const(0), Instruction::I32Const(1), Instruction::I32Store8(place)] {
        instruction.encode(&mut mark);
    }
    (locals.len() + mark.len() + code.len()).encode(changed);
    changed.extend_from_slice(locals);
    changed.extend_from_slice(&mark);
    changed.extend_from_slice(code);
    Ok(())
}

/// The memory for `functions` marks, which never grows.
fn marks_type(functions: u64) -> MemoryType {
    let pages = functions.div_ceil(PAGE_BYTES);
    MemoryType { minimum: pages, maximum: Some(pages), memory64: false, shared: false, page_size_log2: None }
}
