//! The component around the core modules, read: who is linked with what, seen through bundles and aliases.
//!
//! Core items are resolved as they are read, to where they come from. What stands at the component's own level
//! is kept as bytes, in its order, and does not change; whatever in it would need new numbers is refused.

use std::collections::HashMap;

use wasmparser::{
    CanonicalFunction, ComponentAlias, ComponentExternalKind, ComponentInstance, ComponentOuterAliasKind,
    ComponentType, Encoding, Instance, Parser, Payload, SectionLimited,
};

use super::PrelinkBounds;
use super::canonical::{Canon, CanonOption};
use super::module::{CoreModule, Space};
use super::refusal::{Oversized, PrelinkRefusal};

/// Where a core item comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Origin<'a> {
    /// A lowered function or a built-in of the host, by its place in [`Component::canons`].
    Canon(usize),
    /// An export of a module's instance, by its place in [`Component::instances`].
    Export { instance: usize, name: &'a str },
}

/// An instance of a core module.
pub(super) struct ModuleInstance<'a> {
    pub(super) module: usize,
    /// Where each import of the module comes from.
    pub(super) imports: Vec<Origin<'a>>,
}

/// What stands at the component's own level, or depends on what stands there.
pub(super) enum Part<'a> {
    /// A section that is copied.
    Section { id: u8, bytes: &'a [u8] },
    /// An alias that concerns no core item.
    Alias(ComponentAlias<'a>),
    /// A function of a core module, lifted.
    Lift { function: Origin<'a>, ty: u32, options: Vec<CanonOption<'a>> },
    /// A custom section.
    Custom { name: &'a str, bytes: &'a [u8] },
}

/// A component.
#[derive(Default)]
pub(super) struct Component<'a> {
    pub(super) modules: Vec<CoreModule<'a>>,
    pub(super) instances: Vec<ModuleInstance<'a>>,
    pub(super) canons: Vec<Canon<'a>>,
    pub(super) parts: Vec<Part<'a>>,
    /// Core instances of both kinds: of modules, and bundles of items.
    pub(super) core_instances: usize,
}

/// Reads a component that is valid.
pub(super) fn read<'a>(bytes: &'a [u8], bounds: &PrelinkBounds) -> Result<Component<'a>, PrelinkRefusal> {
    let mut reader = Reader { bytes, instance_bytes_max: bounds.instance_bytes_max, ..Reader::default() };
    for payload in Parser::new(0).parse_all(bytes) {
        reader.payload(payload.map_err(invalid)?)?;
    }
    let lowest = reader.component.canons.iter().all(|canon| canon.is_defined_before(reader.at_first_lift));
    match (reader.lifted, lowest) {
        (false, _) => Err(PrelinkRefusal::NothingLifted),
        (true, false) => Err(PrelinkRefusal::LowerAfterLift),
        (true, true) => Ok(reader.component),
    }
}

#[expect(clippy::needless_pass_by_value, reason = "it is given to `map_err`, which hands over the error")]
pub(super) fn invalid(error: wasmparser::Error) -> PrelinkRefusal {
    PrelinkRefusal::InvalidComponent { detail: error.to_string() }
}

pub(super) fn missing(what: &'static str) -> PrelinkRefusal {
    PrelinkRefusal::Inconsistent { what }
}

/// Numbers of functions and types at the component's level.
#[derive(Clone, Copy, Default)]
pub(super) struct Defined {
    pub(super) functions: u32,
    pub(super) types: u32,
}

enum CoreInstance<'a> {
    Module(usize),
    Bundle(HashMap<&'a str, Origin<'a>>),
}

#[derive(Clone, Copy, PartialEq)]
enum Level {
    Module,
    Component,
}

#[derive(Default)]
struct Reader<'a> {
    bytes: &'a [u8],
    instance_bytes_max: usize,
    instance_bytes: usize,
    component: Component<'a>,
    /// What we are inside of, below the component itself.
    inside: Vec<Level>,
    core_instances: Vec<CoreInstance<'a>>,
    functions: Vec<Origin<'a>>,
    tables: Vec<Origin<'a>>,
    memories: Vec<Origin<'a>>,
    globals: Vec<Origin<'a>>,
    defined: Defined,
    lifted: bool,
    /// What is defined where the merged module will stand.
    at_first_lift: Defined,
}

impl<'a> Reader<'a> {
    fn payload(&mut self, payload: Payload<'a>) -> Result<(), PrelinkRefusal> {
        match (payload, self.inside.last().copied()) {
            (Payload::ModuleSection { unchecked_range, .. }, within) => {
                if within.is_none() {
                    let bytes = self.slice(unchecked_range)?;
                    self.component.modules.push(CoreModule::read(bytes).map_err(invalid)?);
                }
                self.inside.push(Level::Module);
            }
            (Payload::ComponentSection { unchecked_range, .. }, within) => {
                if within.is_none() {
                    let bytes = self.slice(unchecked_range)?;
                    self.component.parts.push(Part::Section { id: id::COMPONENT, bytes });
                }
                self.inside.push(Level::Component);
            }
            (Payload::End(_), _) => drop(self.inside.pop()),
            (Payload::ComponentAliasSection(aliases), Some(Level::Component)) => nested_aliases(aliases)?,
            (_, Some(Level::Module | Level::Component)) => {}
            (payload, None) => self.top_level(payload)?,
        }
        Ok(())
    }

    fn top_level(&mut self, payload: Payload<'a>) -> Result<(), PrelinkRefusal> {
        match payload {
            Payload::Version { encoding: Encoding::Module, .. } => return Err(PrelinkRefusal::CoreModule),
            Payload::Version { encoding: Encoding::Component, .. } => {}
            Payload::InstanceSection(instances) => {
                for instance in instances {
                    self.core_instance(instance.map_err(invalid)?)?;
                }
            }
            Payload::ComponentAliasSection(aliases) => {
                for alias in aliases {
                    self.alias(alias.map_err(invalid)?)?;
                }
            }
            Payload::ComponentCanonicalSection(functions) => {
                for function in functions {
                    self.canonical(function.map_err(invalid)?)?;
                }
            }
            Payload::ComponentTypeSection(types) => self.types(&types)?,
            Payload::ComponentImportSection(imports) => {
                for import in imports.clone() {
                    let kind = import.map_err(invalid)?.ty.kind();
                    self.define(kind, "imported")?;
                }
                self.copy(id::IMPORT, &imports)?;
            }
            Payload::ComponentExportSection(exports) => {
                for export in exports.clone() {
                    let kind = export.map_err(invalid)?.kind;
                    self.define(kind, "exported")?;
                }
                self.copy(id::EXPORT, &exports)?;
            }
            Payload::ComponentInstanceSection(instances) => {
                for instance in instances.clone() {
                    check_arguments(&instance.map_err(invalid)?)?;
                }
                self.copy(id::INSTANCE, &instances)?;
            }
            Payload::CoreTypeSection(_) => return Err(PrelinkRefusal::CoreTypes),
            Payload::ComponentStartSection { .. } => return Err(PrelinkRefusal::ComponentStart),
            Payload::CustomSection(custom) => {
                self.component.parts.push(Part::Custom { name: custom.name(), bytes: custom.data() });
            }
            _ => return Err(missing("a section of a component")),
        }
        Ok(())
    }

    fn core_instance(&mut self, instance: Instance<'a>) -> Result<(), PrelinkRefusal> {
        self.component.core_instances += 1;
        let made = match instance {
            Instance::Instantiate { module_index, args } => {
                let arguments = args.iter().map(|argument| (argument.name, argument.index as usize)).collect();
                CoreInstance::Module(self.module_instance(module_index as usize, &arguments)?)
            }
            Instance::FromExports(exports) => {
                let mut bundle = HashMap::with_capacity(exports.len());
                for export in exports {
                    let space = Space::of(export.kind).ok_or(PrelinkRefusal::Tags)?;
                    bundle.insert(export.name, self.core_item(space, export.index)?);
                }
                CoreInstance::Bundle(bundle)
            }
        };
        self.core_instances.push(made);
        Ok(())
    }

    fn module_instance(&mut self, number: usize, arguments: &HashMap<&str, usize>) -> Result<usize, PrelinkRefusal> {
        let module = self.component.modules.get(number).ok_or(missing("a core module"))?;
        self.instance_bytes = self.instance_bytes.saturating_add(module.bytes.len());
        let (bytes, bytes_max) = (self.instance_bytes, self.instance_bytes_max);
        if bytes > bytes_max {
            return Err(PrelinkRefusal::TooLarge { what: Oversized::Instances, bytes, bytes_max });
        }
        let mut imports = Vec::with_capacity(module.imports.len());
        for import in &module.imports {
            let argument = *arguments.get(import.module).ok_or(missing("an argument of a core module"))?;
            imports.push(self.export(argument, import.name)?);
        }
        self.component.instances.push(ModuleInstance { module: number, imports });
        Ok(self.component.instances.len() - 1)
    }

    /// What `name` is in a core instance.
    fn export(&self, core_instance: usize, name: &'a str) -> Result<Origin<'a>, PrelinkRefusal> {
        match self.core_instances.get(core_instance).ok_or(missing("a core instance"))? {
            CoreInstance::Module(instance) => Ok(Origin::Export { instance: *instance, name }),
            CoreInstance::Bundle(items) => items.get(name).copied().ok_or(missing("an item of a core instance")),
        }
    }

    fn alias(&mut self, alias: ComponentAlias<'a>) -> Result<(), PrelinkRefusal> {
        match alias {
            ComponentAlias::CoreInstanceExport { kind, instance_index, name } => {
                let space = Space::of(kind).ok_or(PrelinkRefusal::Tags)?;
                let origin = self.export(instance_index as usize, name)?;
                self.space(space).push(origin);
                return Ok(());
            }
            ComponentAlias::InstanceExport { kind, .. } => self.define(kind, "aliased")?,
            ComponentAlias::Outer { kind, .. } => match kind {
                ComponentOuterAliasKind::CoreModule | ComponentOuterAliasKind::CoreType => {
                    return Err(PrelinkRefusal::OuterCoreAlias);
                }
                ComponentOuterAliasKind::Type => self.define(ComponentExternalKind::Type, "aliased")?,
                ComponentOuterAliasKind::Component => {}
            },
        }
        self.component.parts.push(Part::Alias(alias));
        Ok(())
    }

    fn canonical(&mut self, function: CanonicalFunction) -> Result<(), PrelinkRefusal> {
        let canon = match function {
            CanonicalFunction::Lift { core_func_index, type_index, options } => {
                if !self.lifted {
                    self.lifted = true;
                    self.at_first_lift = self.defined;
                }
                let function = self.core_item(Space::Function, core_func_index)?;
                let options = self.options(&options)?;
                self.defined.functions += 1;
                self.component.parts.push(Part::Lift { function, ty: type_index, options });
                return Ok(());
            }
            CanonicalFunction::Lower { func_index, options } => {
                Canon::Lower { function: func_index, options: self.options(&options)? }
            }
            CanonicalFunction::ResourceNew { resource } => Canon::ResourceNew(resource),
            CanonicalFunction::ResourceDrop { resource } => Canon::ResourceDrop(resource),
            CanonicalFunction::ResourceRep { resource } => Canon::ResourceRep(resource),
            // Everything else concerns tasks, streams, futures and threads.
            _ => return Err(PrelinkRefusal::AsyncBuiltin),
        };
        self.functions.push(Origin::Canon(self.component.canons.len()));
        self.component.canons.push(canon);
        Ok(())
    }

    fn options(&self, options: &[wasmparser::CanonicalOption]) -> Result<Vec<CanonOption<'a>>, PrelinkRefusal> {
        let read = |option: &_| CanonOption::read(option, |space, index| self.core_item(space, index));
        options.iter().map(read).collect()
    }

    fn types(&mut self, types: &SectionLimited<'a, ComponentType<'a>>) -> Result<(), PrelinkRefusal> {
        for ty in types.clone() {
            if let ComponentType::Resource { dtor: Some(_), .. } = ty.map_err(invalid)? {
                return Err(PrelinkRefusal::ResourceDestructor);
            }
            self.defined.types += 1;
        }
        self.copy(id::TYPE, types)
    }

    /// Counts an item of the component's level; a core module may not be one.
    fn define(&mut self, kind: ComponentExternalKind, how: &'static str) -> Result<(), PrelinkRefusal> {
        match kind {
            ComponentExternalKind::Module => return Err(PrelinkRefusal::ModuleAsValue { how }),
            ComponentExternalKind::Func => self.defined.functions += 1,
            ComponentExternalKind::Type => self.defined.types += 1,
            ComponentExternalKind::Value | ComponentExternalKind::Instance | ComponentExternalKind::Component => {}
        }
        Ok(())
    }

    fn copy<T>(&mut self, id: u8, section: &SectionLimited<'a, T>) -> Result<(), PrelinkRefusal> {
        let bytes = self.slice(section.range())?;
        self.component.parts.push(Part::Section { id, bytes });
        Ok(())
    }

    fn slice(&self, range: std::ops::Range<usize>) -> Result<&'a [u8], PrelinkRefusal> {
        self.bytes.get(range).ok_or(missing("the bytes of a section"))
    }

    fn core_item(&self, space: Space, index: u32) -> Result<Origin<'a>, PrelinkRefusal> {
        let items = match space {
            Space::Function => &self.functions,
            Space::Table => &self.tables,
            Space::Memory => &self.memories,
            Space::Global => &self.globals,
        };
        items.get(index as usize).copied().ok_or(missing("a core item"))
    }

    fn space(&mut self, space: Space) -> &mut Vec<Origin<'a>> {
        match space {
            Space::Function => &mut self.functions,
            Space::Table => &mut self.tables,
            Space::Memory => &mut self.memories,
            Space::Global => &mut self.globals,
        }
    }
}

/// Numbers of the sections that are copied, as they stand in files.
mod id {
    pub(super) const COMPONENT: u8 = 4;
    pub(super) const INSTANCE: u8 = 5;
    pub(super) const TYPE: u8 = 7;
    pub(super) const IMPORT: u8 = 10;
    pub(super) const EXPORT: u8 = 11;
}

/// A nested component is copied as it is, so no number in it may mean a core item around it.
fn nested_aliases<'a>(aliases: SectionLimited<'a, ComponentAlias<'a>>) -> Result<(), PrelinkRefusal> {
    for alias in aliases {
        let alias = alias.map_err(invalid)?;
        if let ComponentAlias::Outer {
            kind: ComponentOuterAliasKind::CoreModule | ComponentOuterAliasKind::CoreType,
            ..
        } = alias
        {
            return Err(PrelinkRefusal::OuterCoreAlias);
        }
    }
    Ok(())
}

fn check_arguments(instance: &ComponentInstance<'_>) -> Result<(), PrelinkRefusal> {
    let is_module = |kind| kind == ComponentExternalKind::Module;
    let passes_a_module = match instance {
        ComponentInstance::Instantiate { args, .. } => args.iter().any(|argument| is_module(argument.kind)),
        ComponentInstance::FromExports(exports) => exports.iter().any(|export| is_module(export.kind)),
    };
    if passes_a_module { Err(PrelinkRefusal::ModuleAsValue { how: "passed on" }) } else { Ok(()) }
}
