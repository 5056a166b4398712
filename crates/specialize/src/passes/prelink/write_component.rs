//! The component around the merged module, written.
//!
//! ```text
//! the component's own parts ─ host functions that need no memory ─ merged module ─ its exports
//!      ─ host functions with options ─ what stays apart ─ first lifted function ─ the rest of the parts
//! ```
//! The own parts keep their bytes and their order, so their numbers stay right. Core items are numbered anew, each
//! when it is first needed: everything they depend on came before them in the original, too.

use std::collections::HashMap;

use wasm_encoder::{
    Alias, CanonicalFunctionSection, Component as Output, ComponentAliasSection, ComponentSection, Encode, ExportKind,
    InstanceSection, ModuleArg,
};
use wasmparser::{ComponentAlias, ComponentOuterAliasKind};

use super::canonical::{Canon, CanonOption};
use super::component::{Component, Origin, Part, missing};
use super::customs;
use super::module::Space;
use super::refusal::PrelinkRefusal;
use super::select::Selection;
use super::write_module::{HOST, Merged};

/// Number of the section of a core module, as it stands in files.
const MODULE_ID: u8 = 1;

/// Core instances that the output has, and modules.
pub(super) struct Written {
    pub(super) bytes: Vec<u8>,
    pub(super) modules: u32,
    pub(super) core_instances: u32,
}

/// Writes the component with `module` in the place of the instances that joined.
pub(super) fn write<'a>(
    component: &Component<'a>,
    selection: &Selection,
    merged: &Merged<'_, 'a>,
    module: &[u8],
) -> Result<Written, PrelinkRefusal> {
    let mut writer = Writer::new(component, merged);
    let mut linked = false;
    for part in &component.parts {
        match part {
            Part::Section { id, bytes } => writer.section(*id, bytes),
            Part::Alias(alias) => writer.alias(outer(alias)?),
            Part::Custom { name, bytes } => {
                writer.flush();
                customs::write_outer(&mut writer.bytes, name, bytes);
            }
            Part::Lift { function, ty, options } => {
                if !linked {
                    linked = true;
                    writer.link(selection, module)?;
                }
                writer.lift(*function, *ty, options)?;
            }
        }
    }
    writer.flush();
    Ok(Written { bytes: writer.bytes, modules: writer.modules, core_instances: writer.core_instances })
}

/// The items that a module is given under one name: what each is called, and its number.
type Bundle<'n> = (&'n str, Vec<(String, Space, u32)>);

/// An item's number, by its space and where it comes from.
type Numbers<'a> = HashMap<(Space, Origin<'a>), u32>;

struct Writer<'m, 'a> {
    component: &'m Component<'a>,
    merged: &'m Merged<'m, 'a>,
    bytes: Vec<u8>,
    open: Open,
    numbers: Numbers<'a>,
    functions: u32,
    tables: u32,
    memories: u32,
    globals: u32,
    modules: u32,
    core_instances: u32,
    merged_instance: u32,
    apart_instances: HashMap<usize, u32>,
}

/// The section that grows: neighbours of one kind share one.
enum Open {
    None,
    Aliases(ComponentAliasSection),
    Canonical(CanonicalFunctionSection),
}

impl<'m, 'a> Writer<'m, 'a> {
    fn new(component: &'m Component<'a>, merged: &'m Merged<'m, 'a>) -> Self {
        Self {
            component,
            merged,
            bytes: Output::HEADER.to_vec(),
            open: Open::None,
            numbers: Numbers::new(),
            functions: 0,
            tables: 0,
            memories: 0,
            globals: 0,
            modules: 0,
            core_instances: 0,
            merged_instance: 0,
            apart_instances: HashMap::new(),
        }
    }

    /// Everything about core modules up to the first lifted function.
    fn link(&mut self, selection: &Selection, module: &[u8]) -> Result<(), PrelinkRefusal> {
        let mut items = Vec::new();
        for (canon, _, name) in self.merged.host_functions() {
            let number = self.core_item(Space::Function, Origin::Canon(canon))?;
            items.push((name, Space::Function, number));
        }
        let number = self.module(module);
        let arguments = if items.is_empty() { Vec::new() } else { vec![(HOST, items)] };
        self.merged_instance = self.instance(number, arguments);
        for index in &selection.apart {
            let instance = self.component.instances.get(*index).ok_or(missing("an instance"))?;
            let module = self.component.modules.get(instance.module).ok_or(missing("a core module"))?;
            let mut arguments: Vec<Bundle<'_>> = Vec::new();
            let mut places: HashMap<&str, usize> = HashMap::new();
            let mut named = std::collections::HashSet::new();
            for (import, origin) in module.imports.iter().zip(&instance.imports) {
                if !named.insert((import.module, import.name)) {
                    continue;
                }
                let space = space_of(&import.ty).ok_or(PrelinkRefusal::Tags)?;
                let item = (import.name.to_owned(), space, self.core_item(space, *origin)?);
                let place = *places.entry(import.module).or_insert(arguments.len());
                match arguments.get_mut(place) {
                    Some((_, items)) => items.push(item),
                    None => arguments.push((import.module, vec![item])),
                }
            }
            let number = self.module(module.bytes);
            let made = self.instance(number, arguments);
            self.apart_instances.insert(*index, made);
        }
        Ok(())
    }

    fn lift(&mut self, function: Origin<'a>, ty: u32, options: &[CanonOption<'a>]) -> Result<(), PrelinkRefusal> {
        let function = self.core_item(Space::Function, function)?;
        let options = self.options(options)?;
        self.canonical().lift(function, ty, options);
        Ok(())
    }

    /// The number of a core item, which is made now if nobody needed it before.
    fn core_item(&mut self, space: Space, origin: Origin<'a>) -> Result<u32, PrelinkRefusal> {
        if let Some(number) = self.numbers.get(&(space, origin)) {
            return Ok(*number);
        }
        match origin {
            Origin::Canon(canon) => self.canon(canon)?,
            Origin::Export { instance, name } => self.export(space, instance, name)?,
        }
        let counter = match space {
            Space::Function => &mut self.functions,
            Space::Table => &mut self.tables,
            Space::Memory => &mut self.memories,
            Space::Global => &mut self.globals,
        };
        let number = *counter;
        *counter += 1;
        self.numbers.insert((space, origin), number);
        Ok(number)
    }

    fn canon(&mut self, canon: usize) -> Result<(), PrelinkRefusal> {
        match self.component.canons.get(canon).ok_or(missing("a function of the host"))? {
            Canon::Lower { function, options } => {
                let options = self.options(options)?;
                self.canonical().lower(*function, options);
            }
            Canon::ResourceNew(ty) => drop(self.canonical().resource_new(*ty)),
            Canon::ResourceDrop(ty) => drop(self.canonical().resource_drop(*ty)),
            Canon::ResourceRep(ty) => drop(self.canonical().resource_rep(*ty)),
        }
        Ok(())
    }

    fn export(&mut self, space: Space, instance: usize, name: &'a str) -> Result<(), PrelinkRefusal> {
        let exports = self.merged.exports;
        let (instance, name) = match exports.name_of(instance, name) {
            Some(export) => (self.merged_instance, export.name.as_str()),
            None => (*self.apart_instances.get(&instance).ok_or(missing("an instance apart"))?, name),
        };
        self.alias(Alias::CoreInstanceExport { instance, kind: space.kind(), name });
        Ok(())
    }

    /// Options refer to exports, so this goes one level deep.
    fn options(&mut self, options: &[CanonOption<'a>]) -> Result<Vec<wasm_encoder::CanonicalOption>, PrelinkRefusal> {
        let mut encoded = Vec::with_capacity(options.len());
        for option in options {
            let index = match option.origin() {
                Some((space, origin)) => self.core_item(space, origin)?,
                None => 0,
            };
            encoded.push(option.encoded(index));
        }
        Ok(encoded)
    }

    fn module(&mut self, bytes: &[u8]) -> u32 {
        self.section(MODULE_ID, bytes);
        self.modules += 1;
        self.modules - 1
    }

    /// An instance of a module, and the bundles that it is given.
    fn instance(&mut self, module: u32, arguments: Vec<Bundle<'_>>) -> u32 {
        self.flush();
        let mut section = InstanceSection::new();
        let mut bundles = Vec::with_capacity(arguments.len());
        for (name, items) in arguments {
            let exported: Vec<(&str, ExportKind, u32)> =
                items.iter().map(|(name, space, number)| (name.as_str(), space.kind(), *number)).collect();
            section.export_items(exported);
            bundles.push((name, ModuleArg::Instance(self.core_instances)));
            self.core_instances += 1;
        }
        section.instantiate(module, bundles);
        section.append_to_component(&mut self.bytes);
        self.core_instances += 1;
        self.core_instances - 1
    }

    fn section(&mut self, id: u8, bytes: &[u8]) {
        self.flush();
        self.bytes.push(id);
        bytes.encode(&mut self.bytes);
    }

    fn alias(&mut self, alias: Alias<'_>) {
        if !matches!(self.open, Open::Aliases(_)) {
            self.flush();
            self.open = Open::Aliases(ComponentAliasSection::new());
        }
        if let Open::Aliases(section) = &mut self.open {
            section.alias(alias);
        }
    }

    fn canonical(&mut self) -> &mut CanonicalFunctionSection {
        if !matches!(self.open, Open::Canonical(_)) {
            self.flush();
            self.open = Open::Canonical(CanonicalFunctionSection::new());
        }
        match &mut self.open {
            Open::Canonical(section) => section,
            Open::None | Open::Aliases(_) => unreachable!("opened above"),
        }
    }

    fn flush(&mut self) {
        match std::mem::replace(&mut self.open, Open::None) {
            Open::None => {}
            Open::Aliases(section) => section.append_to_component(&mut self.bytes),
            Open::Canonical(section) => section.append_to_component(&mut self.bytes),
        }
    }
}

fn space_of(ty: &wasmparser::TypeRef) -> Option<Space> {
    match ty {
        wasmparser::TypeRef::Func(_) | wasmparser::TypeRef::FuncExact(_) => Some(Space::Function),
        wasmparser::TypeRef::Table(_) => Some(Space::Table),
        wasmparser::TypeRef::Memory(_) => Some(Space::Memory),
        wasmparser::TypeRef::Global(_) => Some(Space::Global),
        wasmparser::TypeRef::Tag(_) => None,
    }
}

/// An alias of the component's level, to be written as it was read.
fn outer<'a>(alias: &ComponentAlias<'a>) -> Result<Alias<'a>, PrelinkRefusal> {
    match *alias {
        ComponentAlias::InstanceExport { kind, instance_index, name } => {
            Ok(Alias::InstanceExport { instance: instance_index, kind: kind.into(), name })
        }
        ComponentAlias::Outer { kind, count, index } => {
            let kind = match kind {
                ComponentOuterAliasKind::Type => wasm_encoder::ComponentOuterAliasKind::Type,
                ComponentOuterAliasKind::Component => wasm_encoder::ComponentOuterAliasKind::Component,
                ComponentOuterAliasKind::CoreModule | ComponentOuterAliasKind::CoreType => {
                    return Err(PrelinkRefusal::OuterCoreAlias);
                }
            };
            Ok(Alias::Outer { kind, count, index })
        }
        ComponentAlias::CoreInstanceExport { .. } => Err(missing("an alias of the component's level")),
    }
}
