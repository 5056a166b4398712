//! What is put at the component's end: the instance by which the host learns where the flags are.
//!
//! A list that a function of a component gives is a place in a memory. The lists here are the flags, each in its own
//! module's memory, and all of them lie at the same address: so one core function gives the address for all.

use wasm_encoder::{
    Alias, CanonicalFunctionSection, CanonicalOption, CodeSection, ComponentAliasSection, ComponentTypeSection,
    ComponentValType, ExportKind, ExportSection, Function, FunctionSection, InstanceSection, Module, ModuleArg,
    PrimitiveValType, TypeSection, ValType,
};

use super::{FLAG, HEAD_ADDRESS, INTERRUPT_INTERFACE, MODULE_FLAG};
use crate::passes::layout::{Appendix, Counts, ExportedFunction};

/// What the appended core module exports its one function as.
const HEAD: &str = "head";

/// Component types, as numbers after those that are there.
mod ty {
    pub(super) const LIST: u32 = 0;
    pub(super) const BYTES: u32 = 1;
}

/// The sections after those of a component with `counts`, in which the core `instances` have flags.
pub(super) fn appendix(counts: &Counts, instances: &[u32]) -> Vec<u8> {
    let mut appendix = Appendix::default();
    appendix.core_module(&connector());
    let mut core_instances = InstanceSection::new();
    let no_arguments: [(&str, ModuleArg); 0] = [];
    core_instances.instantiate(counts.core_modules, no_arguments);
    appendix.section(&core_instances);

    let mut aliases = ComponentAliasSection::new();
    for instance in instances {
        let kind = ExportKind::Memory;
        aliases.alias(Alias::CoreInstanceExport { instance: *instance, kind, name: MODULE_FLAG });
    }
    let kind = ExportKind::Func;
    aliases.alias(Alias::CoreInstanceExport { instance: counts.core_instances, kind, name: HEAD });
    appendix.section(&aliases);

    let of = |ty: u32| counts.types + ty;
    let no_parameters: [(&str, ComponentValType); 0] = [];
    let mut types = ComponentTypeSection::new();
    types.defined_type().list(ComponentValType::Primitive(PrimitiveValType::U8));
    types.function().params(no_parameters).result(Some(ComponentValType::Type(of(ty::LIST))));
    appendix.section(&types);

    let mut lifted = CanonicalFunctionSection::new();
    let mut names = Vec::new();
    for (number, memory) in (counts.core_memories..).take(instances.len()).enumerate() {
        lifted.lift(counts.core_functions, of(ty::BYTES), [CanonicalOption::Memory(memory)]);
        names.push(format!("{FLAG}{number}"));
    }
    appendix.section(&lifted);
    let functions = names.iter().zip(counts.functions..);
    let functions: Vec<_> =
        functions.map(|(name, index)| ExportedFunction { name, index, ty: of(ty::BYTES) }).collect();
    appendix.export_instance(INTERRUPT_INTERFACE, counts, &functions);
    appendix.finish()
}

/// The core module that says where, in any memory with a flag, the flag's address and length are.
fn connector() -> Vec<u8> {
    let mut types = TypeSection::new();
    types.ty().function([], [ValType::I32]);
    let mut functions = FunctionSection::new();
    functions.function(0);
    let mut exports = ExportSection::new();
    exports.export(HEAD, ExportKind::Func, 0);
    let mut head = Function::new([]);
    head.instructions().i32_const(HEAD_ADDRESS.cast_signed()).end();
    let mut code = CodeSection::new();
    code.function(&head);
    let mut module = Module::new();
    module.section(&types).section(&functions).section(&exports).section(&code);
    module.finish()
}
