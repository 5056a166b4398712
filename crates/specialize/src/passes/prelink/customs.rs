//! Names and custom sections: what a trap's backtrace shows, and what tools left in the modules.
//!
//! Functions keep their names. Sections that speak of places in the code or of numbers of a module are left out, since
//! a wrong place is worse than none: debug information, relocations, branch hints. The names of locals go too.

use std::borrow::Cow;
use std::collections::HashSet;

use wasm_encoder::{ComponentNameSection, ComponentSection, CustomSection, Module, NameMap, NameSection};
use wasmparser::{BinaryReader, ComponentName, ComponentNameSectionReader};

use super::component::Component;
use super::live::Live;
use super::module::CoreModule;
use super::spaces::{Function, Spaces, count};

/// The name of the custom section with a component's names.
pub(super) const COMPONENT_NAMES: &str = "component-name";

/// Adds the names and custom sections of the instances that joined.
pub(super) fn write(module: &mut Module, component: &Component<'_>, spaces: &Spaces<'_>, live: &Live) {
    let joined = || spaces.slots.iter().filter_map(|slot| component.modules.get(slot.module));
    let mut written = HashSet::new();
    for (name, bytes) in joined().flat_map(|module| &module.customs) {
        // A module that is instantiated twice, or was made by the same tools, says the same again.
        if survives(name) && written.insert((*name, *bytes)) {
            module.section(&CustomSection { name: Cow::Borrowed(name), data: Cow::Borrowed(bytes) });
        }
    }
    let mut section = NameSection::new();
    section.functions(&function_names(component, spaces, live));
    module.section(&section);
}

/// Adds a custom section of the component's own level, without what would be wrong in it.
pub(super) fn write_outer(sink: &mut Vec<u8>, name: &str, bytes: &[u8]) {
    if name == COMPONENT_NAMES {
        append(sink, &outer_names(bytes));
    } else {
        append(sink, &CustomSection { name: Cow::Borrowed(name), data: Cow::Borrowed(bytes) });
    }
}

fn append(sink: &mut Vec<u8>, section: &impl ComponentSection) {
    section.append_to_component(sink);
}

fn survives(name: &str) -> bool {
    let gone = ["dylink", "dylink.0", "linking", "sourceMappingURL", "external_debug_info", "build_id"];
    let families = [".debug_", "reloc.", "metadata.code.", "core"];
    !gone.contains(&name) && !families.iter().any(|family| name.starts_with(family))
}

fn function_names(component: &Component<'_>, spaces: &Spaces<'_>, live: &Live) -> NameMap {
    let mut names = NameMap::new();
    for (index, import) in spaces.imports.iter().enumerate() {
        if let Some(number) = live.function(Function::Imported(count(index))) {
            names.append(number, import.name);
        }
    }
    for (index, function) in spaces.functions.iter().enumerate().filter(|(index, _)| live.keeps(*index)) {
        let module = spaces.slots.get(function.slot).and_then(|slot| component.modules.get(slot.module));
        let name = module.and_then(|module| name_in(module, function.body));
        if let (Some(number), Some(name)) = (live.function(Function::Defined(count(index))), name) {
            names.append(number, name);
        }
    }
    names
}

fn name_in<'a>(module: &CoreModule<'a>, body: usize) -> Option<&'a str> {
    module.function_names.get(&count(module.functions_imported() + body)).copied()
}

/// The names of the component's own level; core items have other numbers now. From the first part that cannot be read on
/// they are left out.
fn outer_names(bytes: &[u8]) -> ComponentNameSection {
    let mut section = ComponentNameSection::new();
    for part in ComponentNameSectionReader::new(BinaryReader::new(bytes, 0)).map_while(Result::ok) {
        match part {
            ComponentName::Component { name, .. } => section.component(name),
            ComponentName::Types(names) => section.types(&copied(names)),
            ComponentName::Instances(names) => section.instances(&copied(names)),
            ComponentName::Components(names) => section.components(&copied(names)),
            ComponentName::Funcs(names) => section.funcs(&copied(names)),
            ComponentName::Values(names) => section.values(&copied(names)),
            ComponentName::CoreFuncs(_)
            | ComponentName::CoreGlobals(_)
            | ComponentName::CoreMemories(_)
            | ComponentName::CoreTables(_)
            | ComponentName::CoreTags(_)
            | ComponentName::CoreModules(_)
            | ComponentName::CoreInstances(_)
            | ComponentName::CoreTypes(_)
            | ComponentName::Unknown { .. } => {}
        }
    }
    section
}

fn copied(names: wasmparser::NameMap<'_>) -> NameMap {
    let mut map = NameMap::new();
    for naming in names.into_iter().map_while(Result::ok) {
        map.append(naming.index, naming.name);
    }
    map
}
