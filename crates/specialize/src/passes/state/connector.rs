//! What is put at the component's end: the core module that calls every module's save and restore and gives their
//! memories as lists, and the instance that lets the host call that.

use wasm_encoder::{
    Alias, BlockType, CanonicalFunctionSection, CanonicalOption, CodeSection, ComponentAliasSection,
    ComponentTypeSection, ComponentValType, ConstExpr, EntityType, ExportKind, ExportSection, Function,
    FunctionSection, GlobalSection, GlobalType, ImportSection, InstanceSection, MemArg, MemoryType, Module, ModuleArg,
    PrimitiveValType, TypeSection, ValType,
};

use super::{MEMORY, MODULE_RESTORE, MODULE_SAVE, RESTORE, SAVE, STATE_INTERFACE, Stateful, count, module_memory};
use crate::passes::layout::{Appendix, Counts};

/// What the connector imports each module's functions and memories from.
const MODULES: &str = "modules";
/// What the connector exports the functions as that put a memory's first bytes back.
const MEMORY_READ: &str = "memory-read";

/// The sections after those of a component with `counts`, for the core instances that have something to put back.
pub(super) fn appendix(counts: &Counts, stateful: &[Stateful]) -> Vec<u8> {
    let modules = count(stateful.iter().filter(|module| module.has_globals).count());
    let memories = count(stateful.iter().map(|module| module.memories).sum());
    let mut appendix = Appendix::default();
    appendix.section(&parts_of_modules(stateful));
    appendix.core_module(&connector(modules, memories));

    let functions = (0..modules).flat_map(|module| [import_name(SAVE, module), import_name(RESTORE, module)]);
    let functions = functions.zip(counts.core_functions..).map(|(name, index)| (name, ExportKind::Func, index));
    let lists = (0..memories).map(|memory| import_name(MEMORY, memory));
    let lists = lists.zip(counts.core_memories..).map(|(name, index)| (name, ExportKind::Memory, index));
    let arguments: Vec<_> = functions.chain(lists).collect();
    let mut core_instances = InstanceSection::new();
    core_instances.export_items(arguments);
    core_instances.instantiate(counts.core_modules, [(MODULES, ModuleArg::Instance(counts.core_instances))]);
    appendix.section(&core_instances);

    let names = connector_exports(memories);
    let mut aliases = ComponentAliasSection::new();
    for name in &names {
        let (instance, kind) = (counts.core_instances + 1, ExportKind::Func);
        aliases.alias(Alias::CoreInstanceExport { instance, kind, name });
    }
    appendix.section(&aliases);

    let (nothing, list, bytes) = (counts.types, counts.types + 1, counts.types + 2);
    let no_parameters: [(&str, ComponentValType); 0] = [];
    let mut types = ComponentTypeSection::new();
    types.function().params(no_parameters).result(None);
    types.defined_type().list(ComponentValType::Primitive(PrimitiveValType::U8));
    types.function().params(no_parameters).result(Some(ComponentValType::Type(list)));
    appendix.section(&types);

    // In the order of `connector_exports`.
    let first = counts.core_functions + 2 * modules;
    let mut lifted = CanonicalFunctionSection::new();
    lifted.lift(first, nothing, []).lift(first + 1, nothing, []);
    for memory in 0..memories {
        let give = first + 2 + 2 * memory;
        let options = [CanonicalOption::Memory(counts.core_memories + memory), CanonicalOption::PostReturn(give + 1)];
        lifted.lift(give, bytes, options);
    }
    appendix.section(&lifted);

    let names = [SAVE.to_owned(), RESTORE.to_owned()]
        .into_iter()
        .chain((0..memories).map(|memory| import_name(MEMORY, memory)));
    let names: Vec<_> = names.collect();
    let functions: Vec<_> = names.iter().map(String::as_str).zip(counts.functions..).collect();
    appendix.export_instance(STATE_INTERFACE, counts.instances, &functions);
    appendix.finish()
}

/// Functions of all modules first, then memories of all modules: each kind has numbers of its own.
fn parts_of_modules(stateful: &[Stateful]) -> ComponentAliasSection {
    let mut aliases = ComponentAliasSection::new();
    for module in stateful.iter().filter(|module| module.has_globals) {
        for name in [MODULE_SAVE, MODULE_RESTORE] {
            aliases.alias(Alias::CoreInstanceExport { instance: module.instance, kind: ExportKind::Func, name });
        }
    }
    for module in stateful {
        for memory in 0..module.memories {
            let (instance, kind, name) = (module.instance, ExportKind::Memory, module_memory(memory));
            aliases.alias(Alias::CoreInstanceExport { instance, kind, name: &name });
        }
    }
    aliases
}

fn connector_exports(memories: u32) -> Vec<String> {
    let lists = (0..memories).flat_map(|memory| [import_name(MEMORY, memory), import_name(MEMORY_READ, memory)]);
    [SAVE.to_owned(), RESTORE.to_owned()].into_iter().chain(lists).collect()
}

/// The core module: `save` and `restore` for all, whether `save` was called, and each memory as a list.
fn connector(modules: u32, memories: u32) -> Vec<u8> {
    let mut types = TypeSection::new();
    types.ty().function([], []);
    types.ty().function([], [ValType::I32]);
    types.ty().function([ValType::I32], []);
    let mut imports = ImportSection::new();
    for module in 0..modules {
        imports.import(MODULES, &import_name(SAVE, module), EntityType::Function(0));
        imports.import(MODULES, &import_name(RESTORE, module), EntityType::Function(0));
    }
    // Any memory is at least as large.
    let any = MemoryType { minimum: 0, maximum: None, memory64: false, shared: false, page_size_log2: None };
    for memory in 0..memories {
        imports.import(MODULES, &import_name(MEMORY, memory), EntityType::Memory(any));
    }
    let mut functions = FunctionSection::new();
    functions.function(0).function(0);
    let mut globals = GlobalSection::new();
    let mutable = |val_type| GlobalType { val_type, mutable: true, shared: false };
    globals.global(mutable(ValType::I32), &ConstExpr::i32_const(0));
    let mut code = CodeSection::new();
    code.function(&save(modules)).function(&restore(modules));
    for memory in 0..memories {
        functions.function(1).function(2);
        globals.global(mutable(ValType::I64), &ConstExpr::i64_const(0));
        code.function(&give(memory)).function(&put_back(memory));
    }
    let mut exports = ExportSection::new();
    for (name, index) in connector_exports(memories).iter().zip(2 * modules..) {
        exports.export(name, ExportKind::Func, index);
    }
    let mut module = Module::new();
    module.section(&types).section(&imports).section(&functions).section(&globals).section(&exports).section(&code);
    module.finish()
}

fn save(modules: u32) -> Function {
    let mut function = Function::new([]);
    let mut code = function.instructions();
    for module in 0..modules {
        code.call(2 * module);
    }
    code.i32_const(1).global_set(0).end();
    function
}

fn restore(modules: u32) -> Function {
    let mut function = Function::new([]);
    let mut code = function.instructions();
    code.global_get(0).i32_eqz().if_(BlockType::Empty).unreachable().end();
    for module in 0..modules {
        code.call(2 * module + 1);
    }
    code.end();
    function
}

/// Where the list's address and length are while the host reads them: over the memory's first bytes.
fn head(memory: u32) -> MemArg {
    MemArg { offset: 0, align: 3, memory_index: memory }
}

/// Keeps the memory's first bytes, puts address 0 and the memory's length over them, and gives the address of that.
fn give(memory: u32) -> Function {
    let mut function = Function::new([]);
    let mut code = function.instructions();
    code.i32_const(0).i64_load(head(memory)).global_set(1 + memory);
    // A page has 2^16 bytes, and the length is the upper half of the two numbers.
    code.i32_const(0).memory_size(memory).i64_extend_i32_u().i64_const(48).i64_shl().i64_store(head(memory));
    code.i32_const(0).end();
    function
}

/// The host has read address and length.
fn put_back(memory: u32) -> Function {
    let mut function = Function::new([]);
    let mut code = function.instructions();
    code.i32_const(0).global_get(1 + memory).i64_store(head(memory)).end();
    function
}

fn import_name(what: &str, number: u32) -> String {
    format!("{what}{number}")
}
