//! What is put at the component's end: the core module that calls every module's save and restore and gives their
//! memories as lists, and the instance that lets the host call that.

use wasm_encoder::{
    Alias, BlockType, CanonicalFunctionSection, CanonicalOption, CodeSection, ComponentAliasSection,
    ComponentTypeSection, ComponentValType, ConstExpr, EntityType, ExportKind, ExportSection, Function,
    FunctionSection, GlobalSection, GlobalType, ImportSection, InstanceSection, MemoryType, Module, ModuleArg,
    PrimitiveValType, TypeSection, ValType,
};

use super::allocator::REALLOC;
use super::{
    MEMORY, MODULE_RESTORE, MODULE_SAME, MODULE_SAVE, RESTORE, ROOM, SAME, SAVE, STATE_INTERFACE, Stateful, count,
    module_memory,
};
use crate::passes::layout::{Appendix, Counts, ExportedFunction};
use crate::passes::memory_list;

/// What the connector imports each module's functions and memories from.
const MODULES: &str = "modules";
/// What the connector exports the functions as that put a memory's first bytes back.
const MEMORY_READ: &str = "memory-read";
/// What a module with globals exports for the connector, and how many those are.
const OF_GLOBALS: [(&str, &str); 3] = [(MODULE_SAVE, SAVE), (MODULE_RESTORE, RESTORE), (MODULE_SAME, SAME)];
const PER_MODULE: u32 = OF_GLOBALS.len() as u32;

/// What the connector connects.
#[derive(Clone, Copy)]
struct Parts {
    /// Modules with globals.
    modules: u32,
    memories: u32,
    has_room: bool,
}

impl Parts {
    /// Functions it imports; the allocator is the last.
    fn imported(self) -> u32 {
        self.allocator() + u32::from(self.has_room)
    }

    fn allocator(self) -> u32 {
        PER_MODULE * self.modules
    }
}

/// The sections after those of a component with `counts`, for the core instances that have something to put back;
/// `allocator` is the core instance that exports one.
pub(super) fn appendix(counts: &Counts, stateful: &[Stateful], allocator: Option<u32>) -> Vec<u8> {
    let parts = Parts {
        modules: count(stateful.iter().filter(|module| module.has_globals).count()),
        memories: count(stateful.iter().map(|module| module.memories).sum()),
        has_room: allocator.is_some(),
    };
    let mut appendix = Appendix::default();
    appendix.section(&parts_of_modules(stateful, allocator));
    appendix.core_module(&connector(parts));

    let mut core_instances = InstanceSection::new();
    core_instances.export_items(arguments(counts, parts));
    core_instances.instantiate(counts.core_modules, [(MODULES, ModuleArg::Instance(counts.core_instances))]);
    appendix.section(&core_instances);

    let mut aliases = ComponentAliasSection::new();
    for name in &connector_exports(parts) {
        let (instance, kind) = (counts.core_instances + 1, ExportKind::Func);
        aliases.alias(Alias::CoreInstanceExport { instance, kind, name });
    }
    appendix.section(&aliases);
    appendix.section(&types(counts));
    appendix.section(&lifted(counts, parts));

    let (names, types) = (exported_names(parts), exported_types(parts));
    let numbered = names.iter().zip(types).zip(counts.functions..);
    let functions: Vec<_> = numbered
        .map(|((name, ty), index)| ExportedFunction { name: name.as_str(), index, ty: counts.types + ty })
        .collect();
    appendix.export_instance(STATE_INTERFACE, counts, &functions);
    appendix.finish()
}

/// The connector's imports by name, as the component numbers them.
fn arguments(counts: &Counts, parts: Parts) -> Vec<(String, ExportKind, u32)> {
    let mut names = function_imports(parts);
    if parts.has_room {
        names.push(REALLOC.to_owned());
    }
    let functions = names.into_iter().zip(counts.core_functions..).map(|(name, index)| (name, ExportKind::Func, index));
    let lists = (0..parts.memories).map(|memory| import_name(MEMORY, memory));
    let lists = lists.zip(counts.core_memories..).map(|(name, index)| (name, ExportKind::Memory, index));
    functions.chain(lists).collect()
}

/// Component types, as numbers after those that are there.
mod ty {
    pub(super) const NOTHING: u32 = 0;
    pub(super) const TRUTH: u32 = 1;
    pub(super) const SIZE: u32 = 2;
    pub(super) const LIST: u32 = 3;
    pub(super) const BYTES: u32 = 4;
}

fn types(counts: &Counts) -> ComponentTypeSection {
    let no_parameters: [(&str, ComponentValType); 0] = [];
    let primitive = ComponentValType::Primitive;
    let mut types = ComponentTypeSection::new();
    types.function().params(no_parameters).result(None);
    types.function().params(no_parameters).result(Some(primitive(PrimitiveValType::Bool)));
    types.function().params([("bytes", primitive(PrimitiveValType::U32))]).result(None);
    types.defined_type().list(primitive(PrimitiveValType::U8));
    types.function().params(no_parameters).result(Some(ComponentValType::Type(counts.types + ty::LIST)));
    types
}

/// Of the functions that are no memories.
fn plain_types(parts: Parts) -> Vec<u32> {
    let room = parts.has_room.then_some(ty::SIZE);
    [ty::NOTHING, ty::NOTHING, ty::TRUTH].into_iter().chain(room).collect()
}

/// In the order of [`exported_names`].
fn exported_types(parts: Parts) -> Vec<u32> {
    plain_types(parts).into_iter().chain((0..parts.memories).map(|_| ty::BYTES)).collect()
}

/// In the order of [`exported_names`].
fn lifted(counts: &Counts, parts: Parts) -> CanonicalFunctionSection {
    let mut next = counts.core_functions + parts.imported();
    let of = |ty: u32| counts.types + ty;
    let mut lifted = CanonicalFunctionSection::new();
    for ty in plain_types(parts) {
        lifted.lift(next, of(ty), []);
        next += 1;
    }
    for memory in 0..parts.memories {
        let options = [CanonicalOption::Memory(counts.core_memories + memory), CanonicalOption::PostReturn(next + 1)];
        lifted.lift(next, of(ty::BYTES), options);
        next += 2;
    }
    lifted
}

/// Functions of all modules first, then memories of all modules: each kind has numbers of its own.
fn parts_of_modules(stateful: &[Stateful], allocator: Option<u32>) -> ComponentAliasSection {
    let mut aliases = ComponentAliasSection::new();
    for module in stateful.iter().filter(|module| module.has_globals) {
        for (name, _) in OF_GLOBALS {
            aliases.alias(Alias::CoreInstanceExport { instance: module.instance, kind: ExportKind::Func, name });
        }
    }
    if let Some(instance) = allocator {
        aliases.alias(Alias::CoreInstanceExport { instance, kind: ExportKind::Func, name: REALLOC });
    }
    for module in stateful {
        for memory in 0..module.memories {
            let (instance, kind, name) = (module.instance, ExportKind::Memory, module_memory(memory));
            aliases.alias(Alias::CoreInstanceExport { instance, kind, name: &name });
        }
    }
    aliases
}

/// What the connector imports of the modules' functions.
fn function_imports(parts: Parts) -> Vec<String> {
    (0..parts.modules).flat_map(|module| OF_GLOBALS.map(|(_, name)| import_name(name, module))).collect()
}

/// What it exports, beside the memories.
fn plain_exports(parts: Parts) -> Vec<String> {
    let room = parts.has_room.then_some(ROOM);
    [SAVE, RESTORE, SAME].into_iter().chain(room).map(str::to_owned).collect()
}

fn connector_exports(parts: Parts) -> Vec<String> {
    let lists = (0..parts.memories).flat_map(|memory| [import_name(MEMORY, memory), import_name(MEMORY_READ, memory)]);
    plain_exports(parts).into_iter().chain(lists).collect()
}

/// The functions of the component's instance.
fn exported_names(parts: Parts) -> Vec<String> {
    plain_exports(parts).into_iter().chain((0..parts.memories).map(|memory| import_name(MEMORY, memory))).collect()
}

/// Types of the connector's functions.
mod core_ty {
    pub(super) const NOTHING: u32 = 0;
    pub(super) const TRUTH: u32 = 1;
    pub(super) const SIZE: u32 = 2;
    pub(super) const REALLOC: u32 = 3;
}

/// The core module: `save`, `restore` and `same` for all, whether `save` was called, room, and each memory as a list.
fn connector(parts: Parts) -> Vec<u8> {
    let mut types = TypeSection::new();
    types.ty().function([], []);
    types.ty().function([], [ValType::I32]);
    types.ty().function([ValType::I32], []);
    types.ty().function([ValType::I32; 4], [ValType::I32]);
    let mut functions = FunctionSection::new();
    functions.function(core_ty::NOTHING).function(core_ty::NOTHING).function(core_ty::TRUTH);
    let mut globals = GlobalSection::new();
    let mutable = |val_type| GlobalType { val_type, mutable: true, shared: false };
    globals.global(mutable(ValType::I32), &ConstExpr::i32_const(0));
    let mut code = CodeSection::new();
    code.function(&save(parts)).function(&restore(parts)).function(&same(parts));
    if parts.has_room {
        functions.function(core_ty::SIZE);
        code.function(&room(parts));
    }
    for memory in 0..parts.memories {
        functions.function(core_ty::TRUTH).function(core_ty::SIZE);
        globals.global(mutable(ValType::I64), &ConstExpr::i64_const(0));
        let kept = 1 + memory;
        code.function(&memory_list::give(memory, kept)).function(&memory_list::put_back(memory, kept));
    }
    let mut exports = ExportSection::new();
    for (name, index) in connector_exports(parts).iter().zip(parts.imported()..) {
        exports.export(name, ExportKind::Func, index);
    }
    let mut module = Module::new();
    let imports = imports(parts);
    module.section(&types).section(&imports).section(&functions).section(&globals).section(&exports).section(&code);
    module.finish()
}

fn imports(parts: Parts) -> ImportSection {
    let mut imports = ImportSection::new();
    let of_module = [core_ty::NOTHING, core_ty::NOTHING, core_ty::TRUTH];
    for (name, ty) in function_imports(parts).iter().zip(of_module.iter().cycle()) {
        imports.import(MODULES, name, EntityType::Function(*ty));
    }
    if parts.has_room {
        imports.import(MODULES, REALLOC, EntityType::Function(core_ty::REALLOC));
    }
    // Any memory is at least as large.
    let any = MemoryType { minimum: 0, maximum: None, memory64: false, shared: false, page_size_log2: None };
    for memory in 0..parts.memories {
        imports.import(MODULES, &import_name(MEMORY, memory), EntityType::Memory(any));
    }
    imports
}

fn save(parts: Parts) -> Function {
    let mut function = Function::new([]);
    let mut code = function.instructions();
    for module in 0..parts.modules {
        code.call(PER_MODULE * module);
    }
    code.i32_const(1).global_set(0).end();
    function
}

fn restore(parts: Parts) -> Function {
    let mut function = Function::new([]);
    let mut code = function.instructions();
    code.global_get(0).i32_eqz().if_(BlockType::Empty).unreachable().end();
    for module in 0..parts.modules {
        code.call(PER_MODULE * module + 1);
    }
    code.end();
    function
}

/// Something was saved, and every module has what was.
fn same(parts: Parts) -> Function {
    let mut function = Function::new([]);
    let mut code = function.instructions();
    code.global_get(0);
    for module in 0..parts.modules {
        code.call(PER_MODULE * module + 2).i32_and();
    }
    code.end();
    function
}

/// A block as large as that, made as small as can be at once: what is between stays with the allocator. Nobody keeps the
/// block's address, so its one byte is never given back.
fn room(parts: Parts) -> Function {
    const ALIGNMENT: i32 = 8;
    let (bytes, allocator) = (0, parts.allocator());
    let mut function = Function::new([]);
    let mut code = function.instructions();
    code.i32_const(0).i32_const(0).i32_const(ALIGNMENT).local_get(bytes).call(allocator);
    code.local_get(bytes).i32_const(ALIGNMENT).i32_const(1).call(allocator).drop().end();
    function
}

fn import_name(what: &str, number: u32) -> String {
    format!("{what}{number}")
}
