//! The component around the rewritten module, with the loader behind everything that was there.

use wasm_encoder::{
    Alias, CanonicalFunctionSection, ComponentAliasSection, ComponentExportKind, ComponentImportSection,
    ComponentSection, ComponentSectionId, ComponentTypeRef, ComponentTypeSection, ComponentValType, ConstExpr,
    ElementSection, Elements, EntityType, ExportKind, ImportSection, InstanceSection, InstanceType, Module, ModuleArg,
    PrimitiveValType, RawSection, RefType, TableType, TypeSection, ValType,
};

use super::links::LOADER_SLOT;
use super::raw::{HEADER_BYTES, append_section};
use super::refusal::SplitRefusal;
use super::whole::Whole;
use super::{COLD_TABLE, LOADER_FUNCTION, LOADER_INTERFACE};

/// Writes the component with `main` in the place of its main module.
pub(super) fn rebuild(whole: &Whole<'_>, main: &[u8]) -> Result<Vec<u8>, SplitRefusal> {
    let mut file = whole.bytes[..HEADER_BYTES].to_vec();
    let mut modules = 0;
    for section in &whole.sections {
        let mut content = &whole.bytes[section.range.clone()];
        if section.id == u8::from(ComponentSectionId::CoreModule) {
            if modules == whole.main {
                content = main;
            }
            modules += 1;
        }
        append_section(&mut file, section.id, content);
    }
    append_loader(whole, &mut file);
    Ok(file)
}

/// Imports the loader, lowers it, and has a module of its own put it into slot 0.
fn append_loader(whole: &Whole<'_>, file: &mut Vec<u8>) {
    let counts = &whole.counts;

    let mut interface = InstanceType::new();
    let mut types = ComponentTypeSection::new();
    let slot = ComponentValType::Primitive(PrimitiveValType::U32);
    interface.ty().function().params([("slot", slot)]).result(None);
    interface.export(LOADER_FUNCTION, ComponentTypeRef::Func(0));
    types.instance(&interface);
    types.append_to_component(file);

    let mut imports = ComponentImportSection::new();
    imports.import(LOADER_INTERFACE, ComponentTypeRef::Instance(counts.types));
    imports.append_to_component(file);

    let mut aliases = ComponentAliasSection::new();
    aliases.alias(Alias::InstanceExport {
        instance: counts.instances,
        kind: ComponentExportKind::Func,
        name: LOADER_FUNCTION,
    });
    aliases.alias(Alias::CoreInstanceExport {
        instance: whole.main_instance,
        kind: ExportKind::Table,
        name: COLD_TABLE,
    });
    aliases.append_to_component(file);

    let mut canonical = CanonicalFunctionSection::new();
    canonical.lower(counts.functions, []);
    canonical.append_to_component(file);

    RawSection { id: ComponentSectionId::CoreModule.into(), data: &loader_module() }.append_to_component(file);

    let mut instances = InstanceSection::new();
    instances.export_items([
        (LOADER_FUNCTION, ExportKind::Func, whole.core_functions()),
        (COLD_TABLE, ExportKind::Table, counts.core_tables),
    ]);
    instances.instantiate(whole.modules(), [("vm", ModuleArg::Instance(whole.core_instances()))]);
    instances.append_to_component(file);
}

/// A module whose only work is its segment of elements.
fn loader_module() -> Vec<u8> {
    let mut types = TypeSection::new();
    types.ty().function([ValType::I32], []);
    let mut imports = ImportSection::new();
    imports.import("vm", LOADER_FUNCTION, EntityType::Function(0));
    let at_least_one =
        TableType { element_type: RefType::FUNCREF, minimum: 1, maximum: None, table64: false, shared: false };
    imports.import("vm", COLD_TABLE, at_least_one);
    let mut elements = ElementSection::new();
    let offset = ConstExpr::i32_const(LOADER_SLOT.cast_signed());
    elements.active(None, &offset, Elements::Functions([0][..].into()));
    let mut module = Module::new();
    module.section(&types).section(&imports).section(&elements);
    module.finish()
}
