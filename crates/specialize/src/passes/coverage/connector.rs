//! What is put at the twin's end: the core module that gathers every module's marks, and the instance that lets the
//! host ask for them.

use wasm_encoder::{
    Alias, CanonicalFunctionSection, CanonicalOption, CodeSection, ComponentAliasSection, ComponentTypeSection,
    ComponentValType, ConstExpr, DataSection, EntityType, ExportKind, ExportSection, Function, FunctionSection,
    ImportSection, InstanceSection, MemorySection, MemoryType, Module, ModuleArg, PrimitiveValType, TypeSection,
    ValType,
};

use super::{CLEAR, COVERAGE_INTERFACE, MODULE_MARKS, PAGE_BYTES, READ, marks_type};
use crate::passes::layout::{Appendix, Counts, ExportedFunction};

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

/// The sections after those of a component with `counts`.
pub(super) fn appendix(counts: &Counts, marked: &[Marked]) -> Vec<u8> {
    let mut appendix = Appendix::default();
    let mut aliases = ComponentAliasSection::new();
    for module in marked {
        let kind = ExportKind::Memory;
        aliases.alias(Alias::CoreInstanceExport { instance: module.instance, kind, name: MODULE_MARKS });
    }
    appendix.section(&aliases);
    appendix.core_module(&connector(marked));

    let memories = (0..marked.len()).map(import_name).zip(counts.core_memories..);
    let arguments: Vec<_> = memories.map(|(name, index)| (name, ExportKind::Memory, index)).collect();
    let gathered = counts.core_memories + u32::try_from(arguments.len()).unwrap_or(u32::MAX);
    let mut core_instances = InstanceSection::new();
    core_instances.export_items(arguments);
    core_instances.instantiate(counts.core_modules, [(MODULES, ModuleArg::Instance(counts.core_instances))]);
    appendix.section(&core_instances);

    let instance = counts.core_instances + 1;
    let mut aliases = ComponentAliasSection::new();
    aliases.alias(Alias::CoreInstanceExport { instance, kind: ExportKind::Memory, name: GATHERED });
    aliases.alias(Alias::CoreInstanceExport { instance, kind: ExportKind::Func, name: READ });
    aliases.alias(Alias::CoreInstanceExport { instance, kind: ExportKind::Func, name: CLEAR });
    appendix.section(&aliases);

    let (list, read, clear) = (counts.types, counts.types + 1, counts.types + 2);
    let no_parameters: [(&str, ComponentValType); 0] = [];
    let mut types = ComponentTypeSection::new();
    types.defined_type().list(ComponentValType::Primitive(PrimitiveValType::U8));
    types.function().params(no_parameters).result(Some(ComponentValType::Type(list)));
    types.function().params(no_parameters).result(None);
    appendix.section(&types);

    let mut lifted = CanonicalFunctionSection::new();
    lifted.lift(counts.core_functions, read, [CanonicalOption::Memory(gathered)]);
    lifted.lift(counts.core_functions + 1, clear, []);
    appendix.section(&lifted);
    let functions = [
        ExportedFunction { name: READ, index: counts.functions, ty: read },
        ExportedFunction { name: CLEAR, index: counts.functions + 1, ty: clear },
    ];
    appendix.export_instance(COVERAGE_INTERFACE, counts, &functions);
    appendix.finish()
}

/// The core module: its own memory has the address and length of the list, then the marks as of the last `read`.
fn connector(marked: &[Marked]) -> Vec<u8> {
    let marks: u32 = marked.iter().map(|module| module.functions).sum();
    let mut types = TypeSection::new();
    types.ty().function([], [ValType::I32]);
    types.ty().function([], []);
    let mut imports = ImportSection::new();
    for (module, marked) in marked.iter().enumerate() {
        let memory = EntityType::Memory(marks_type(u64::from(marked.functions)));
        imports.import(MODULES, &import_name(module), memory);
    }
    let mut functions = FunctionSection::new();
    functions.function(0).function(1);
    let gathered = u32::try_from(marked.len()).unwrap_or(u32::MAX);
    let mut memories = MemorySection::new();
    memories.memory(gathered_type(marks));
    let mut exports = ExportSection::new();
    exports.export(GATHERED, ExportKind::Memory, gathered);
    exports.export(READ, ExportKind::Func, 0).export(CLEAR, ExportKind::Func, 1);
    let mut code = CodeSection::new();
    code.function(&read(marked, gathered)).function(&clear(marked));
    let mut data = DataSection::new();
    let head = [HEAD_BYTES.to_le_bytes(), marks.to_le_bytes()].concat();
    data.active(gathered, &ConstExpr::i32_const(0), head);

    let mut module = Module::new();
    module.section(&types).section(&imports).section(&functions).section(&memories);
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

fn import_name(module: usize) -> String {
    format!("marks{module}")
}
