//! What is put at the component's end: the core module that calls every module's save and restore and gives their
//! memories as lists, and the instance that lets the host call that.

use wasm_encoder::{
    Alias, BlockType, CanonicalFunctionSection, CanonicalOption, CodeSection, ComponentAliasSection,
    ComponentExportKind, ComponentTypeSection, ComponentValType, ConstExpr, EntityType, ExportKind, ExportSection,
    Function, FunctionSection, GlobalSection, GlobalType, ImportSection, InstanceSection, InstructionSink, MemoryType,
    Module, ModuleArg, PrimitiveValType, TypeSection, ValType,
};

use super::allocator::REALLOC;
use super::{
    CLOSE_STREAM, COPIES, COPY, GROW, MEMORY, MODULE_COPY, MODULE_RESTORE, MODULE_SAME, MODULE_SAVE, MODULE_SET_COPY,
    OPEN_STREAM, RESTORE, ROOM, SAME, SAVE, SET_COPY, STATE_INTERFACE, Stateful, count, module_memory,
};
use crate::passes::layout::{Appendix, Counts, ExportedFunction};
use crate::passes::memory_list;

/// What the connector imports each module's functions and memories from.
const MODULES: &str = "modules";
/// What the connector exports the functions as that put a memory's first bytes back.
const MEMORY_READ: &str = "memory-read";
/// What a module with globals exports for the connector, and how many those are.
const OF_GLOBALS: [(&str, &str); 5] = [
    (MODULE_SAVE, SAVE),
    (MODULE_RESTORE, RESTORE),
    (MODULE_SAME, SAME),
    (MODULE_COPY, COPY),
    (MODULE_SET_COPY, SET_COPY),
];
const PER_MODULE: u32 = OF_GLOBALS.len() as u32;
/// What has to do with handles.
const OF_STREAMS: [&str; 2] = [OPEN_STREAM, CLOSE_STREAM];

/// What the connector connects.
#[derive(Clone, Copy)]
struct Parts<'a> {
    /// Of each module with globals, the numbers that its copies are.
    copies: &'a [u32],
    memories: u32,
    has_room: bool,
    has_streams: bool,
}

impl Parts<'_> {
    /// Modules with globals.
    fn modules(self) -> u32 {
        count(self.copies.len())
    }

    /// Functions it imports.
    fn imported(self) -> u32 {
        self.open_stream() + if self.has_streams { OF_STREAMS.len() as u32 } else { 0 }
    }

    /// The first of [`OF_STREAMS`].
    fn open_stream(self) -> u32 {
        self.allocator() + u32::from(self.has_room)
    }

    fn allocator(self) -> u32 {
        PER_MODULE * self.modules()
    }
}

/// The sections after those of a component with `counts`, for the core instances that have something to put back;
/// `allocator` is the core instance that exports one, `stdout` the instance that the component imports for that.
pub(super) fn appendix(counts: &Counts, stateful: &[Stateful], allocator: Option<u32>, stdout: Option<u32>) -> Vec<u8> {
    let copies: Vec<_> = stateful.iter().map(|module| module.copies).filter(|copies| *copies > 0).collect();
    let parts = Parts {
        copies: &copies,
        memories: count(stateful.iter().map(|module| module.memories).sum()),
        has_room: allocator.is_some(),
        has_streams: stdout.is_some(),
    };
    let mut appendix = Appendix::default();
    appendix.section(&parts_of_modules(stateful, allocator));
    if let Some(instance) = stdout {
        let (aliases, built_in) = stream_calls(counts, instance);
        appendix.section(&aliases);
        appendix.section(&built_in);
    }
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
    // The function and the type that `stream_calls` took from the instance have the next numbers.
    let taken = u32::from(parts.has_streams);
    let counts = &Counts { types: counts.types + taken, functions: counts.functions + taken, ..*counts };
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

/// The host's function that opens a stream, and what closes one, for core code.
fn stream_calls(counts: &Counts, instance: u32) -> (ComponentAliasSection, CanonicalFunctionSection) {
    let mut aliases = ComponentAliasSection::new();
    aliases.alias(Alias::InstanceExport { instance, kind: ComponentExportKind::Func, name: "get-stdout" });
    aliases.alias(Alias::InstanceExport { instance, kind: ComponentExportKind::Type, name: "output-stream" });
    let mut built_in = CanonicalFunctionSection::new();
    built_in.lower(counts.functions, []).resource_drop(counts.types);
    (aliases, built_in)
}

/// The connector's imports by name, as the component numbers them.
fn arguments(counts: &Counts, parts: Parts<'_>) -> Vec<(String, ExportKind, u32)> {
    let mut names = function_imports(parts);
    if parts.has_room {
        names.push(REALLOC.to_owned());
    }
    if parts.has_streams {
        names.extend(OF_STREAMS.map(str::to_owned));
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
    pub(super) const COUNT: u32 = 5;
    pub(super) const GET: u32 = 6;
    pub(super) const SET: u32 = 7;
    pub(super) const GROWTH: u32 = 8;
    pub(super) const TAKE: u32 = 9;
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
    let (number, value) = (primitive(PrimitiveValType::U32), primitive(PrimitiveValType::U64));
    types.function().params(no_parameters).result(Some(number));
    types.function().params([("number", number)]).result(Some(value));
    types.function().params([("number", number), ("value", value)]).result(None);
    types.function().params([("pages", number)]).result(Some(primitive(PrimitiveValType::Bool)));
    types.function().params([("handle", number)]).result(None);
    types
}

/// Of the functions that are no memories.
fn plain_types(parts: Parts<'_>) -> Vec<u32> {
    let room = parts.has_room.then_some(ty::SIZE);
    let streams = [ty::COUNT, ty::TAKE].into_iter().filter(|_| parts.has_streams);
    let always = [ty::NOTHING, ty::NOTHING, ty::TRUTH, ty::COUNT, ty::GET, ty::SET];
    always.into_iter().chain(room).chain(streams).collect()
}

/// In the order of [`exported_names`].
fn exported_types(parts: Parts<'_>) -> Vec<u32> {
    let of_memories = [ty::BYTES, ty::GROWTH].into_iter().flat_map(|ty| (0..parts.memories).map(move |_| ty));
    plain_types(parts).into_iter().chain(of_memories).collect()
}

/// In the order of [`exported_names`].
fn lifted(counts: &Counts, parts: Parts<'_>) -> CanonicalFunctionSection {
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
    for _ in 0..parts.memories {
        lifted.lift(next, of(ty::GROWTH), []);
        next += 1;
    }
    lifted
}

/// Functions of all modules first, then memories of all modules: each kind has numbers of its own.
fn parts_of_modules(stateful: &[Stateful], allocator: Option<u32>) -> ComponentAliasSection {
    let mut aliases = ComponentAliasSection::new();
    for module in stateful.iter().filter(|module| module.copies > 0) {
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
fn function_imports(parts: Parts<'_>) -> Vec<String> {
    (0..parts.modules()).flat_map(|module| OF_GLOBALS.map(|(_, name)| import_name(name, module))).collect()
}

/// What it exports, beside the memories.
fn plain_exports(parts: Parts<'_>) -> Vec<String> {
    let room = parts.has_room.then_some(ROOM);
    let streams = OF_STREAMS.into_iter().filter(|_| parts.has_streams);
    let always = [SAVE, RESTORE, SAME, COPIES, COPY, SET_COPY];
    always.into_iter().chain(room).chain(streams).map(str::to_owned).collect()
}

fn connector_exports(parts: Parts<'_>) -> Vec<String> {
    let lists = (0..parts.memories).flat_map(|memory| [import_name(MEMORY, memory), import_name(MEMORY_READ, memory)]);
    plain_exports(parts).into_iter().chain(lists).chain(of_memories(GROW, parts)).collect()
}

/// The names of what there is once for each memory.
fn of_memories(what: &str, parts: Parts<'_>) -> impl Iterator<Item = String> {
    (0..parts.memories).map(move |memory| import_name(what, memory))
}

/// The functions of the component's instance.
fn exported_names(parts: Parts<'_>) -> Vec<String> {
    plain_exports(parts).into_iter().chain(of_memories(MEMORY, parts)).chain(of_memories(GROW, parts)).collect()
}

/// Types of the connector's functions.
mod core_ty {
    pub(super) const NOTHING: u32 = 0;
    pub(super) const GIVES_NUMBER: u32 = 1;
    pub(super) const TAKES_NUMBER: u32 = 2;
    pub(super) const REALLOC: u32 = 3;
    pub(super) const GET: u32 = 4;
    pub(super) const SET: u32 = 5;
    pub(super) const GROWTH: u32 = 6;
}

/// The core module: `save`, `restore` and `same` for all, whether `save` was called, the copies, room, handles, each memory
/// as a list, and how it grows.
fn connector(parts: Parts<'_>) -> Vec<u8> {
    let mut types = TypeSection::new();
    types.ty().function([], []);
    types.ty().function([], [ValType::I32]);
    types.ty().function([ValType::I32], []);
    types.ty().function([ValType::I32; 4], [ValType::I32]);
    types.ty().function([ValType::I32], [ValType::I64]);
    types.ty().function([ValType::I32, ValType::I64], []);
    types.ty().function([ValType::I32], [ValType::I32]);
    let mut functions = FunctionSection::new();
    for ty in
        [core_ty::NOTHING, core_ty::NOTHING, core_ty::GIVES_NUMBER, core_ty::GIVES_NUMBER, core_ty::GET, core_ty::SET]
    {
        functions.function(ty);
    }
    let mut globals = GlobalSection::new();
    let mutable = |val_type| GlobalType { val_type, mutable: true, shared: false };
    globals.global(mutable(ValType::I32), &ConstExpr::i32_const(0));
    let mut code = CodeSection::new();
    code.function(&save(parts)).function(&restore(parts)).function(&same(parts));
    code.function(&copies(parts)).function(&copy(parts)).function(&set_copy(parts));
    if parts.has_room {
        functions.function(core_ty::TAKES_NUMBER);
        code.function(&room(parts));
    }
    if parts.has_streams {
        functions.function(core_ty::GIVES_NUMBER).function(core_ty::TAKES_NUMBER);
        code.function(&open_stream(parts)).function(&close_stream(parts));
    }
    for memory in 0..parts.memories {
        functions.function(core_ty::GIVES_NUMBER).function(core_ty::TAKES_NUMBER);
        globals.global(mutable(ValType::I64), &ConstExpr::i64_const(0));
        let kept = 1 + memory;
        code.function(&memory_list::give(memory, kept)).function(&memory_list::put_back(memory, kept));
    }
    for memory in 0..parts.memories {
        functions.function(core_ty::GROWTH);
        code.function(&grow(memory));
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

fn imports(parts: Parts<'_>) -> ImportSection {
    let mut imports = ImportSection::new();
    let of_module = [core_ty::NOTHING, core_ty::NOTHING, core_ty::GIVES_NUMBER, core_ty::GET, core_ty::SET];
    for (name, ty) in function_imports(parts).iter().zip(of_module.iter().cycle()) {
        imports.import(MODULES, name, EntityType::Function(*ty));
    }
    if parts.has_room {
        imports.import(MODULES, REALLOC, EntityType::Function(core_ty::REALLOC));
    }
    if parts.has_streams {
        for (name, ty) in OF_STREAMS.into_iter().zip([core_ty::GIVES_NUMBER, core_ty::TAKES_NUMBER]) {
            imports.import(MODULES, name, EntityType::Function(ty));
        }
    }
    // Any memory is at least as large.
    let any = MemoryType { minimum: 0, maximum: None, memory64: false, shared: false, page_size_log2: None };
    for memory in 0..parts.memories {
        imports.import(MODULES, &import_name(MEMORY, memory), EntityType::Memory(any));
    }
    imports
}

fn save(parts: Parts<'_>) -> Function {
    let mut function = Function::new([]);
    let mut code = function.instructions();
    for module in 0..parts.modules() {
        code.call(PER_MODULE * module);
    }
    code.i32_const(1).global_set(0).end();
    function
}

fn restore(parts: Parts<'_>) -> Function {
    let mut function = Function::new([]);
    let mut code = function.instructions();
    code.global_get(0).i32_eqz().if_(BlockType::Empty).unreachable().end();
    for module in 0..parts.modules() {
        code.call(PER_MODULE * module + 1);
    }
    code.end();
    function
}

/// Something was saved, and every module has what was.
fn same(parts: Parts<'_>) -> Function {
    let mut function = Function::new([]);
    let mut code = function.instructions();
    code.global_get(0);
    for module in 0..parts.modules() {
        code.call(PER_MODULE * module + 2).i32_and();
    }
    code.end();
    function
}

/// How many numbers the copies are.
fn copies(parts: Parts<'_>) -> Function {
    let mut function = Function::new([]);
    // Bounded by the component's size.
    function.instructions().i32_const(parts.copies.iter().sum::<u32>().cast_signed()).end();
    function
}

/// The module's copy that has that number; traps where there is none.
fn copy(parts: Parts<'_>) -> Function {
    of_its_module(parts, |code, get, first| {
        code.local_get(0).i32_const(first).i32_sub().call(get + 3).return_();
    })
}

fn set_copy(parts: Parts<'_>) -> Function {
    of_its_module(parts, |code, get, first| {
        code.local_get(0).i32_const(first).i32_sub().local_get(1).call(get + 4).return_();
    })
}

/// Does something with the functions of the module that has the copy with the number in local 0. `act` gets the index of
/// the module's first function and the number of its first copy.
fn of_its_module(parts: Parts<'_>, act: impl Fn(&mut InstructionSink<'_>, u32, i32)) -> Function {
    let mut function = Function::new([]);
    let mut code = function.instructions();
    let mut first = 0_i32;
    for (module, copies) in (0..).zip(parts.copies) {
        let end = first + copies.cast_signed();
        code.local_get(0).i32_const(end).i32_lt_u().if_(BlockType::Empty);
        act(&mut code, PER_MODULE * module, first);
        code.end();
        first = end;
    }
    code.unreachable().end();
    function
}

/// The handle of a stream that was not open before.
fn open_stream(parts: Parts<'_>) -> Function {
    let mut function = Function::new([]);
    function.instructions().call(parts.open_stream()).end();
    function
}

fn close_stream(parts: Parts<'_>) -> Function {
    let mut function = Function::new([]);
    function.instructions().local_get(0).call(parts.open_stream() + 1).end();
    function
}

/// Whether a memory could be made larger by so many of its pages.
fn grow(memory: u32) -> Function {
    let mut function = Function::new([]);
    function.instructions().local_get(0).memory_grow(memory).i32_const(-1).i32_ne().end();
    function
}

/// A block as large as that, made as small as can be at once: what is between stays with the allocator. Nobody keeps the
/// block's address, so its one byte is never given back.
fn room(parts: Parts<'_>) -> Function {
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
