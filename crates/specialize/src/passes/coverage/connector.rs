//! What is put at the twin's end: the core module that gathers every module's marks, and the instance that lets the
//! host ask for them.

use wasm_encoder::{
    Alias, CanonicalFunctionSection, CanonicalOption, CodeSection, ComponentAliasSection, ComponentTypeSection,
    ComponentValType, ConstExpr, DataSection, EntityType, ExportKind, ExportSection, Function, FunctionSection,
    GlobalSection, GlobalType, ImportSection, InstanceSection, MemorySection, MemoryType, Module, ModuleArg,
    PrimitiveValType, TypeSection, ValType,
};

use super::{CLEAR, COVERAGE_INTERFACE, MEMORY, MODULE_MARKS, PAGE_BYTES, READ, marks_type, module_memory};
use crate::passes::layout::{Appendix, Counts, ExportedFunction};
use crate::passes::memory_list;

/// What the connector imports each module's marks from.
const MODULES: &str = "modules";
/// What it exports the gathered marks as.
const GATHERED: &str = "gathered";
/// The gathered marks come behind their own address and length, which is how a list is returned.
const HEAD_BYTES: u32 = 8;

/// A core module with marks.
pub(super) struct Marked {
    /// Its core instance.
    pub(super) instance: u32,
    /// How many functions it defines.
    pub(super) functions: u32,
}

/// A memory of the component's own, to be given as a list.
pub(super) struct Listed {
    /// The core instance that exports it.
    pub(super) instance: u32,
    /// Its number among those of its module.
    pub(super) number: usize,
}

/// Component types, as numbers after those that are there.
mod ty {
    pub(super) const LIST: u32 = 0;
    pub(super) const BYTES: u32 = 1;
    pub(super) const NOTHING: u32 = 2;
}

/// The sections after those of a component with `counts`.
pub(super) fn appendix(counts: &Counts, marked: &[Marked], listed: &[Listed]) -> Vec<u8> {
    let mut appendix = Appendix::default();
    let mut aliases = ComponentAliasSection::new();
    let kind = ExportKind::Memory;
    for module in marked {
        aliases.alias(Alias::CoreInstanceExport { instance: module.instance, kind, name: MODULE_MARKS });
    }
    for memory in listed {
        let name = module_memory(memory.number);
        aliases.alias(Alias::CoreInstanceExport { instance: memory.instance, kind, name: &name });
    }
    appendix.section(&aliases);
    appendix.core_module(&connector(marked, listed.len()));

    let names = imported_memories(marked.len(), listed.len());
    let arguments: Vec<_> =
        names.iter().zip(counts.core_memories..).map(|(name, index)| (name.as_str(), kind, index)).collect();
    let mut core_instances = InstanceSection::new();
    core_instances.export_items(arguments);
    core_instances.instantiate(counts.core_modules, [(MODULES, ModuleArg::Instance(counts.core_instances))]);
    appendix.section(&core_instances);

    let instance = counts.core_instances + 1;
    let mut aliases = ComponentAliasSection::new();
    aliases.alias(Alias::CoreInstanceExport { instance, kind, name: GATHERED });
    for name in &connector_functions(listed.len()) {
        aliases.alias(Alias::CoreInstanceExport { instance, kind: ExportKind::Func, name });
    }
    appendix.section(&aliases);

    let of = |ty: u32| counts.types + ty;
    let no_parameters: [(&str, ComponentValType); 0] = [];
    let mut types = ComponentTypeSection::new();
    types.defined_type().list(ComponentValType::Primitive(PrimitiveValType::U8));
    types.function().params(no_parameters).result(Some(ComponentValType::Type(of(ty::LIST))));
    types.function().params(no_parameters).result(None);
    appendix.section(&types);

    let gathered = counts.core_memories + count(names.len());
    let mut lifted = CanonicalFunctionSection::new();
    lifted.lift(counts.core_functions, of(ty::BYTES), [CanonicalOption::Memory(gathered)]);
    lifted.lift(counts.core_functions + 1, of(ty::NOTHING), []);
    let mut exported = vec![(READ.to_owned(), ty::BYTES), (CLEAR.to_owned(), ty::NOTHING)];
    let own = counts.core_memories + count(marked.len());
    for number in 0..count(listed.len()) {
        let give = counts.core_functions + 2 + 2 * number;
        let options = [CanonicalOption::Memory(own + number), CanonicalOption::PostReturn(give + 1)];
        lifted.lift(give, of(ty::BYTES), options);
        exported.push((format!("{MEMORY}{number}"), ty::BYTES));
    }
    appendix.section(&lifted);
    let functions = exported.iter().zip(counts.functions..);
    let functions: Vec<_> =
        functions.map(|((name, ty), index)| ExportedFunction { name, index, ty: of(*ty) }).collect();
    appendix.export_instance(COVERAGE_INTERFACE, counts, &functions);
    appendix.finish()
}

/// What the connector imports: marks of all modules first, then memories of all modules.
fn imported_memories(marked: usize, listed: usize) -> Vec<String> {
    let marks = (0..marked).map(|number| format!("marks{number}"));
    marks.chain((0..listed).map(|number| format!("{MEMORY}{number}"))).collect()
}

/// What it exports: two functions for each memory.
fn connector_functions(listed: usize) -> Vec<String> {
    let lists = (0..listed).flat_map(|number| [format!("{MEMORY}{number}"), format!("{MEMORY}-read{number}")]);
    [READ.to_owned(), CLEAR.to_owned()].into_iter().chain(lists).collect()
}

/// Types of the connector's functions.
mod core_ty {
    pub(super) const ADDRESS: u32 = 0;
    pub(super) const NOTHING: u32 = 1;
    pub(super) const READ_ADDRESS: u32 = 2;
}

/// The core module: its own memory has the address and length of the list, then the marks as of the last `read`.
fn connector(marked: &[Marked], listed: usize) -> Vec<u8> {
    let marks: u32 = marked.iter().map(|module| module.functions).sum();
    let mut types = TypeSection::new();
    types.ty().function([], [ValType::I32]);
    types.ty().function([], []);
    types.ty().function([ValType::I32], []);
    // Any memory is at least as large.
    let any = MemoryType { minimum: 0, maximum: None, memory64: false, shared: false, page_size_log2: None };
    let memory_types = marked.iter().map(|module| marks_type(u64::from(module.functions)));
    let memory_types = memory_types.chain(std::iter::repeat_n(any, listed));
    let mut imports = ImportSection::new();
    let names = imported_memories(marked.len(), listed);
    for (name, memory) in names.iter().zip(memory_types) {
        imports.import(MODULES, name, EntityType::Memory(memory));
    }
    let gathered = count(names.len());
    let mut memories = MemorySection::new();
    memories.memory(gathered_type(marks));
    let mut functions = FunctionSection::new();
    functions.function(core_ty::ADDRESS).function(core_ty::NOTHING);
    let mut code = CodeSection::new();
    code.function(&read(marked, gathered)).function(&clear(marked));
    let mut globals = GlobalSection::new();
    for number in 0..count(listed) {
        let memory = count(marked.len()) + number;
        functions.function(core_ty::ADDRESS).function(core_ty::READ_ADDRESS);
        code.function(&memory_list::give(memory, number)).function(&memory_list::put_back(memory, number));
        globals.global(GlobalType { val_type: ValType::I64, mutable: true, shared: false }, &ConstExpr::i64_const(0));
    }
    let mut exports = ExportSection::new();
    exports.export(GATHERED, ExportKind::Memory, gathered);
    for (name, index) in connector_functions(listed).iter().zip(0..) {
        exports.export(name, ExportKind::Func, index);
    }
    let mut data = DataSection::new();
    let head = [HEAD_BYTES.to_le_bytes(), marks.to_le_bytes()].concat();
    data.active(gathered, &ConstExpr::i32_const(0), head);

    let mut module = Module::new();
    module.section(&types).section(&imports).section(&functions).section(&memories).section(&globals);
    module.section(&exports).section(&code).section(&data);
    module.finish()
}

/// Copies the marks of each module behind those before it, and gives the address of address and length.
fn read(marked: &[Marked], gathered: u32) -> Function {
    let mut function = Function::new([]);
    let mut code = function.instructions();
    let mut at = HEAD_BYTES;
    for (memory, module) in (0..).zip(marked) {
        code.i32_const(at.cast_signed()).i32_const(0).i32_const(module.functions.cast_signed());
        code.memory_copy(gathered, memory);
        at += module.functions;
    }
    code.i32_const(0).end();
    function
}

fn clear(marked: &[Marked]) -> Function {
    let mut function = Function::new([]);
    let mut code = function.instructions();
    for (memory, module) in (0..).zip(marked) {
        code.i32_const(0).i32_const(0).i32_const(module.functions.cast_signed()).memory_fill(memory);
    }
    code.end();
    function
}

fn gathered_type(marks: u32) -> MemoryType {
    let pages = (u64::from(HEAD_BYTES) + u64::from(marks)).div_ceil(PAGE_BYTES);
    MemoryType { minimum: pages, maximum: Some(pages), memory64: false, shared: false, page_size_log2: None }
}

/// A number of memories, of which a module may have a hundred.
fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
