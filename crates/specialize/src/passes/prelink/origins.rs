//! Which module each function of a merged one came from, as a custom section: numbers of functions, each with the name of
//! the module that it and those after it are of.
//!
//! Only people and profiles read it. A section that somebody else wrote is as good as none: names that are wrong mislead
//! nobody but the reader.

use std::borrow::Cow;
use std::collections::BTreeMap;

use wasm_encoder::{CustomSection, Encode, Module, NameMap};
use wasmparser::{BinaryReader, ComponentName, ComponentNameSectionReader};

use super::component::{Component, Part};
use super::customs::COMPONENT_NAMES;
use super::live::Live;
use super::spaces::{Function, Spaces, count};

/// Name of the section.
pub(crate) const ORIGINS: &str = "forerun:origins";

/// Adds the section to the merged module.
pub(super) fn write(module: &mut Module, component: &Component<'_>, spaces: &Spaces<'_>, live: &Live) {
    let names = module_names(component);
    let mut origins = NameMap::new();
    let mut before = None;
    for (index, function) in spaces.functions.iter().enumerate().filter(|(index, _)| live.keeps(*index)) {
        let number = live.function(Function::Defined(count(index)));
        let of = spaces.slots.get(function.slot).map(|slot| slot.module);
        if let (Some(number), Some(of)) = (number, of.filter(|of| before != Some(*of))) {
            before = Some(of);
            origins.append(number, &names.get(&of).map_or_else(|| format!("module[{of}]"), |name| (*name).to_owned()));
        }
    }
    let mut data = Vec::new();
    origins.encode(&mut data);
    module.section(&CustomSection { name: Cow::Borrowed(ORIGINS), data: Cow::Owned(data) });
}

/// What a section says; from the first entry that cannot be read on it says nothing.
pub(crate) fn read(data: &[u8]) -> BTreeMap<u32, &str> {
    let Ok(names) = wasmparser::NameMap::new(BinaryReader::new(data, 0)) else { return BTreeMap::new() };
    names.into_iter().map_while(Result::ok).map(|naming| (naming.index, naming.name)).collect()
}

/// What the component calls its modules, or they themselves.
fn module_names<'a>(component: &Component<'a>) -> BTreeMap<usize, &'a str> {
    let mut names: BTreeMap<usize, &str> =
        component.modules.iter().enumerate().filter_map(|(number, module)| Some((number, module.name?))).collect();
    for part in &component.parts {
        let Part::Custom { name: COMPONENT_NAMES, bytes } = part else { continue };
        for part in ComponentNameSectionReader::new(BinaryReader::new(bytes, 0)).map_while(Result::ok) {
            if let ComponentName::CoreModules(modules) = part {
                let modules = modules.into_iter().map_while(Result::ok);
                names.extend(modules.map(|naming| (naming.index as usize, naming.name)));
            }
        }
    }
    names
}
