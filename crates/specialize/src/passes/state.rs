//! The pass `state`: a component that can save and restore its mutable globals when its host tells it to.
//!
//! A used VM is put back to how it was by restoring its memories, which the host can do alone once it knows where they
//! are, and its globals, which only code in the module that defines them can. So each core module gets three functions,
//!
//! ```text
//! save:     copy[i] := global[i]        for each mutable global i that the module defines
//! restore:  global[i] := copy[i]
//! same:     whether copy[i] = global[i] for all of them, bit for bit
//! ```
//!
//! where the copies are globals of the module's own: 16 bytes each in a VM, whereas a second memory would take a
//! slot of the pool for a handful of values. One small core module more calls those of all modules, and the
//! component exports it as the instance [`STATE_INTERFACE`] with `save: func()`, `restore: func()` and, to check that, `same: func() -> bool`. Imported
//! globals are saved by the module that defines them. Instantiation is as it was: nothing is saved before the
//! host calls `save`, and `restore` before the first `save` traps.
//!
//! A VM can also be given the globals of another one that is made of the same component. The copies can be read and written
//! as numbers, each as 64 bits, a vector as two of them:
//!
//! ```text
//! copies() -> u32                             how many numbers
//! copy(number: u32) -> u64                    one of them
//! set-copy(number: u32, value: u64)           another value for it; `restore` has the global take it
//! grow0(pages: u32) -> bool                   the first memory gets larger, if it can
//! open-stream() -> u32                        one more handle of the guest's; its number
//! close-stream(handle: u32)                   gives one back; traps if it is none of a stream
//! ```
//!
//! The last two are there if the component imports `wasi:cli/stdout`. A guest's handles are known to nobody but itself; with
//! these a host that answers itself what is opened can have a VM hold the handles that another one does.
//!
//! Where the memories are the host learns from `memory0`, `memory1`, ...: `func() -> list<u8>`, one for each memory that
//! a core module defines. The list *is* the memory, from its first byte to its last, and nothing is copied to make it. Its
//! own address and length have to be in that memory; they are put over the first eight bytes, which are put back as soon
//! as the host has read them.
//!
//! Memory that has grown cannot be made smaller again, and the allocators of some languages have it grow in the first
//! request, since they begin with none. Where a component has an allocator for its host, the instance therefore has one
//! more function, `room: func(bytes: u32)`, to be called before `save`:
//!
//! ```text
//! room(bytes):  block := cabi_realloc(0, 0, 8, bytes)     memory grows, unless there is room already
//!               cabi_realloc(block, bytes, 8, 1)          the rest of the block is free for requests
//! ```
//!
//! Functions and globals are added behind those that a module has, whose indices and bodies stay as they are.
//!
//! A component in whose code something else changes during a request is refused, see [`Obstacle`].

mod allocator;
mod connector;
mod copies;
mod obstacle;

pub use obstacle::Obstacle;

use wasm_encoder::reencode::{Reencode, RoundtripReencoder};
use wasm_encoder::{ConstExpr, ExportKind, Function, GlobalType, ValType};

use super::layout::{
    Additions, ComponentLayout, ModuleLayout, Raw, Unsupported, check_input, check_output, module_section,
};
use super::memory_list;

/// The instance which the component then exports.
pub const STATE_INTERFACE: &str = "forerun:vm/state@0.1.0";
/// Its function without parameters or results that remembers all mutable globals.
pub const SAVE: &str = "save";
/// Its function without parameters or results that puts them back; traps if nothing was saved.
pub const RESTORE: &str = "restore";
/// Its function that says whether all mutable globals are as they were saved.
pub const SAME: &str = "same";
/// Its function that has memory for so many bytes, which the guest's allocator then has free; only there if the component
/// has an allocator for its host's use. May trap if there is not so much memory.
pub const ROOM: &str = "room";
/// Its function that says how many numbers all copies are.
pub const COPIES: &str = "copies";
/// Its function that gives one of them.
pub const COPY: &str = "copy";
/// Its function that has one of them be another; a later [`RESTORE`] has the global take it.
pub const SET_COPY: &str = "set-copy";
/// Its function that opens a stream to the guest's standard output and gives the number of its handle.
pub const OPEN_STREAM: &str = "open-stream";
/// Its function that gives such a handle back.
pub const CLOSE_STREAM: &str = "close-stream";
/// What the names of the functions begin with that make a memory larger; a number from 0 follows.
pub const GROW: &str = "grow";
/// What the names of the functions begin with that give a memory as a list of bytes; a number from 0 follows.
pub const MEMORY: &str = "memory";

/// What a module exports its own under; the component does not let anyone else see them.
const MODULE_SAVE: &str = "forerun:save";
const MODULE_RESTORE: &str = "forerun:restore";
const MODULE_SAME: &str = "forerun:same";
const MODULE_COPY: &str = "forerun:copy";
const MODULE_SET_COPY: &str = "forerun:set-copy";
/// The same for its memories; a number follows.
const MODULE_MEMORY: &str = "forerun:memory";

/// How the name of the instance begins that opens streams to standard output, whichever release of WASI 0.2 it is of.
const STDOUT_INSTANCE: &str = "wasi:cli/stdout@0.2.";

/// Memories of one component; compilers make one. A core module may have a hundred.
const MEMORIES_MAX: usize = 99;

/// Mutable globals of one module: compilers make one to a few, a dynamically linked library one for each symbol of
/// another. Far more would make `save` slower than a new VM.
const GLOBALS_PER_MODULE_MAX: u32 = 10_000;

/// Goes up whenever other bytes are made of some component than before.
pub const REVISION: u32 = 5;

/// A component with save and restore, and how much that took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stated {
    /// The component.
    pub component: Vec<u8>,
    /// Core modules that define mutable globals.
    pub modules: u32,
    /// Mutable globals, all together.
    pub globals: u32,
    /// Memories, all together.
    pub memories: u32,
    /// Whether [`ROOM`] is there.
    pub has_room: bool,
    /// Whether [`OPEN_STREAM`] and [`CLOSE_STREAM`] are there.
    pub has_streams: bool,
}

/// Why a component's VMs cannot be put back.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StateRefusal {
    /// Nothing can be added to it.
    #[error(transparent)]
    Unsupported(#[from] Unsupported),
    /// Something changes that nobody could restore.
    #[error("a used VM of it cannot be put back: {0}")]
    Obstacle(#[from] Obstacle),
    /// Saving them would take longer than it saves.
    #[error("core module {module} has {globals} mutable globals, at most {globals_max} are saved")]
    TooManyGlobals {
        /// Number of the module.
        module: u32,
        /// What it has.
        globals: u32,
        /// The bound.
        globals_max: u32,
    },
    /// A memory that is empty at first, has 64-bit addresses or pages of another size: no list can be it.
    #[error(
        "memory {memory} of core module {module} is empty at first, or has wide addresses or pages of its own size"
    )]
    UnusualMemory {
        /// Number of the module.
        module: u32,
        /// Index of the memory.
        memory: u32,
    },
    /// One core module cannot reach so many.
    #[error("the component has {memories} memories, at most {memories_max} are restored")]
    TooManyMemories {
        /// What it has.
        memories: usize,
        /// The bound.
        memories_max: usize,
    },
}

impl StateRefusal {
    /// A short name, for metrics and labels.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Unsupported(reason) => reason.name(),
            Self::Obstacle(obstacle) => obstacle.name(),
            Self::TooManyGlobals { .. } => "too-many-globals",
            Self::UnusualMemory { .. } => "unusual-memory",
            Self::TooManyMemories { .. } => "too-many-memories",
        }
    }
}

/// Adds save and restore to a component.
///
/// # Errors
/// Why this component's VMs cannot be put back, or why nothing can be added to it.
pub fn add_state_calls(component: &[u8]) -> Result<Stated, StateRefusal> {
    check_input(component)?;
    let layout = ComponentLayout::read(component)?;
    layout.require_free(STATE_INTERFACE)?;
    if let Some(obstacle) = obstacle::find_in_component(&layout)? {
        return Err(obstacle.into());
    }

    let mut replaced = Vec::new();
    let mut stateful = Vec::new();
    let mut allocators = Vec::new();
    let (mut globals, mut memories) = (0, 0);
    for part in &layout.parts {
        // A module that is never instantiated has no state.
        let Some(instance) = part.instance else {
            continue;
        };
        let module = ModuleLayout::read(part.bytes)?;
        if let Some(obstacle) = obstacle::find_in_module(part.module, &module)? {
            return Err(obstacle.into());
        }
        if allocator::is_exported(&module)? {
            allocators.push(instance);
        }
        let saved = mutable_globals(part.module, &module)?;
        let own_memories = own_memories(part.module, &module)?;
        if !saved.is_empty() || !own_memories.is_empty() {
            replaced.push((part.module, add_to_module(&module, &saved, &own_memories)?));
            let copies = copies::numbers(&saved);
            stateful.push(Stateful { instance, copies, memories: own_memories.len() });
            globals += saved.len();
            memories += own_memories.len();
        }
    }
    if memories > MEMORIES_MAX {
        return Err(StateRefusal::TooManyMemories { memories, memories_max: MEMORIES_MAX });
    }

    // Of several, nobody says which one serves requests.
    let allocator = if let [only] = allocators[..] { Some(only) } else { None };
    let build = |stdout| {
        let component = layout.rebuild(&replaced, &connector::appendix(&layout.counts, &stateful, allocator, stdout));
        check_output(&component).map(|()| component)
    };
    let stdout = layout.imported_instance(STDOUT_INSTANCE);
    // An instance of that name may have nothing of what it should.
    let with_streams = stdout.and_then(|stdout| build(Some(stdout)).ok());
    let has_streams = with_streams.is_some();
    let component = with_streams.map_or_else(|| build(None), Ok)?;
    let modules = stateful.iter().filter(|module| module.copies > 0).count();
    // All are bounded by the component's size.
    let (modules, globals, memories) = (count(modules), count(globals), count(memories));
    Ok(Stated { component, modules, globals, memories, has_room: allocator.is_some(), has_streams })
}

/// A core module with something to put back.
struct Stateful {
    /// Its core instance.
    instance: u32,
    /// Numbers that its copies are; if there are any, it exports the functions that have to do with them.
    copies: u32,
    /// How many memories it exports as [`MODULE_MEMORY`] and a number.
    memories: usize,
}

/// Indices of the memories that a module defines.
fn own_memories(module: u32, layout: &ModuleLayout<'_>) -> Result<Vec<u32>, StateRefusal> {
    let own = (0_u32..).zip(&layout.memories).skip(layout.counts.memories_imported as usize);
    own.map(
        |(memory, ty)| {
            if memory_list::can_be(ty) { Ok(memory) } else { Err(StateRefusal::UnusualMemory { module, memory }) }
        },
    )
    .collect()
}

/// What the `number`th memory of a module is exported as.
fn module_memory(number: usize) -> String {
    format!("{MODULE_MEMORY}{number}")
}

/// A global to be saved.
struct Saved {
    index: u32,
    ty: ValType,
}

fn mutable_globals(module: u32, layout: &ModuleLayout<'_>) -> Result<Vec<Saved>, StateRefusal> {
    let mut saved = Vec::new();
    for (global, index) in layout.globals_defined.iter().zip(layout.counts.globals_imported..) {
        if global.mutable {
            let ty = RoundtripReencoder.val_type(global.content_type);
            let ty = ty.map_err(|error| Unsupported::Invalid { reason: error.to_string() })?;
            saved.push(Saved { index, ty });
        }
    }
    let globals = count(saved.len());
    if globals > GLOBALS_PER_MODULE_MAX {
        return Err(StateRefusal::TooManyGlobals { module, globals, globals_max: GLOBALS_PER_MODULE_MAX });
    }
    Ok(saved)
}

fn add_to_module(layout: &ModuleLayout<'_>, saved: &[Saved], memories: &[u32]) -> Result<Vec<u8>, Unsupported> {
    for name in [MODULE_SAVE, MODULE_RESTORE, MODULE_SAME, MODULE_COPY, MODULE_SET_COPY] {
        layout.require_free(name)?;
    }
    let counts = layout.counts;
    let mut additions = Additions::default();
    for (number, memory) in memories.iter().enumerate() {
        let name = module_memory(number);
        if layout.exports_name(&name) {
            return Err(Unsupported::NameTaken { name: MODULE_MEMORY });
        }
        additions.add_export(&name, ExportKind::Memory, *memory);
    }
    if saved.is_empty() {
        return layout.with(&additions);
    }
    // `func()`, `func() -> i32`, `func(i32) -> i64` and `func(i32, i64)`.
    let types: [&[u8]; 4] = [&[0x60, 0, 0], &[0x60, 0, 1, 0x7f], &[0x60, 1, 0x7f, 1, 0x7e], &[0x60, 2, 0x7f, 0x7e, 0]];
    for ty in types {
        additions.add(module_section::TYPE, &Raw(ty));
    }
    let [nothing, truth, get, set] = [0, 1, 2, 3].map(|ty| counts.types + ty);

    let mut save = Function::new([]);
    let mut restore = Function::new([]);
    let mut same = Function::new([]);
    same.instructions().i32_const(1);
    for (global, copy) in saved.iter().zip(counts.globals..) {
        additions.add(module_section::GLOBAL, &Copy { ty: global.ty });
        save.instructions().global_get(global.index).global_set(copy);
        restore.instructions().global_get(copy).global_set(global.index);
        and_is_same(&mut same, global, copy);
    }
    let functions = [
        (MODULE_SAVE, save, nothing),
        (MODULE_RESTORE, restore, nothing),
        (MODULE_SAME, same, truth),
        (MODULE_COPY, copies::get(saved, counts.globals), get),
        (MODULE_SET_COPY, copies::set(saved, counts.globals), set),
    ];
    for ((name, mut function, ty), index) in functions.into_iter().zip(counts.functions..) {
        function.instructions().end();
        additions.add(module_section::FUNCTION, &ty);
        additions.add(module_section::CODE, &function);
        additions.add_export(name, ExportKind::Func, index);
    }
    layout.with(&additions)
}

/// Floats by their bits: a number that is none equals no other, and zeros have signs.
fn and_is_same(same: &mut Function, global: &Saved, copy: u32) {
    let mut code = same.instructions();
    match global.ty {
        ValType::I32 => code.global_get(global.index).global_get(copy).i32_eq(),
        ValType::I64 => code.global_get(global.index).global_get(copy).i64_eq(),
        ValType::F32 => {
            code.global_get(global.index).i32_reinterpret_f32().global_get(copy).i32_reinterpret_f32().i32_eq()
        }
        ValType::F64 => {
            code.global_get(global.index).i64_reinterpret_f64().global_get(copy).i64_reinterpret_f64().i64_eq()
        }
        ValType::V128 => code.global_get(global.index).global_get(copy).i8x16_eq().i8x16_all_true(),
        // Refused as an obstacle before this; what cannot be compared is not the same.
        ValType::Ref(_) => code.i32_const(0),
    };
    code.i32_and();
}

/// A global that holds another's value.
struct Copy {
    ty: ValType,
}

impl wasm_encoder::Encode for Copy {
    fn encode(&self, sink: &mut Vec<u8>) {
        GlobalType { val_type: self.ty, mutable: true, shared: false }.encode(sink);
        let zero = match self.ty {
            ValType::I32 => ConstExpr::i32_const(0),
            ValType::I64 => ConstExpr::i64_const(0),
            ValType::F32 => ConstExpr::f32_const(0.0.into()),
            ValType::F64 => ConstExpr::f64_const(0.0.into()),
            ValType::V128 => ConstExpr::v128_const(0),
            // Refused as an obstacle before this.
            ValType::Ref(reference) => ConstExpr::ref_null(reference.heap_type),
        };
        zero.encode(sink);
    }
}

/// A number of things in a component, which has fewer bytes than this has values.
fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
