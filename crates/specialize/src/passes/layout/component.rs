//! The top level of a component: its core modules with their instances, and how full each index space is.

use std::collections::BTreeMap;

use wasm_encoder::{
    Alias, Component, ComponentAliasSection, ComponentExportKind, ComponentExportSection, ComponentImportSection,
    ComponentInstanceSection, ComponentOuterAliasKind as ComponentOuterAlias, ComponentSection, ComponentTypeRef,
    Encode, NestedComponentSection,
};
use wasmparser::{
    BinaryReader, CanonicalFunction, ComponentAlias, ComponentExport, ComponentExternalKind, ComponentImport,
    ComponentInstance, ComponentName, ComponentOuterAliasKind, ComponentType, CustomSectionReader, ExternalKind,
    Instance, KnownCustom,
};

use super::Unsupported;
use super::sections::{RawSection, header, read_sections, write_section};

/// The numbers of a component's sections.
mod section_id {
    pub(super) const CUSTOM: u8 = 0;
    pub(super) const CORE_MODULE: u8 = 1;
    pub(super) const CORE_INSTANCE: u8 = 2;
    pub(super) const CORE_TYPE: u8 = 3;
    pub(super) const COMPONENT: u8 = 4;
    pub(super) const INSTANCE: u8 = 5;
    pub(super) const ALIAS: u8 = 6;
    pub(super) const TYPE: u8 = 7;
    pub(super) const CANONICAL: u8 = 8;
    pub(super) const START: u8 = 9;
    pub(super) const IMPORT: u8 = 10;
    pub(super) const EXPORT: u8 = 11;
}

/// How many of each there are, which is the index of the next one. Only what passes add to.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) types: u32,
    pub(crate) components: u32,
    pub(crate) functions: u32,
    pub(crate) instances: u32,
    pub(crate) core_modules: u32,
    pub(crate) core_instances: u32,
    pub(crate) core_functions: u32,
    pub(crate) core_memories: u32,
}

/// A core module that is written out in the component.
#[derive(Clone, Debug)]
pub(crate) struct CorePart<'a> {
    /// Its index as a core module.
    pub(crate) module: u32,
    pub(crate) bytes: &'a [u8],
    /// The index of its one core instance; `None` if it is never instantiated.
    pub(crate) instance: Option<u32>,
}

/// What was read of a valid component.
#[derive(Debug)]
pub(crate) struct ComponentLayout<'a> {
    bytes: &'a [u8],
    sections: Vec<RawSection<'a>>,
    pub(crate) counts: Counts,
    pub(crate) parts: Vec<CorePart<'a>>,
    export_names: Vec<&'a str>,
    /// Names of imported instances, with their indices.
    imported_instances: Vec<(&'a str, u32)>,
    nested_components: u32,
}

impl<'a> ComponentLayout<'a> {
    /// Reads a component that [`super::check_input`] found valid.
    pub(crate) fn read(bytes: &'a [u8]) -> Result<Self, Unsupported> {
        let sections = read_sections(bytes)?;
        let mut layout = Self {
            bytes,
            sections: Vec::new(),
            counts: Counts::default(),
            parts: Vec::new(),
            export_names: Vec::new(),
            imported_instances: Vec::new(),
            nested_components: 0,
        };
        for section in &sections {
            layout.count(section)?;
        }
        layout.sections = sections;
        Ok(layout)
    }

    /// Refuses a component that exports `name` itself.
    pub(crate) fn require_free(&self, name: &'static str) -> Result<(), Unsupported> {
        if self.export_names.contains(&name) {
            return Err(Unsupported::NameTaken { name });
        }
        Ok(())
    }

    /// The index of the instance that the component imports under a name that begins so.
    pub(crate) fn imported_instance(&self, name_start: &str) -> Option<u32> {
        self.imported_instances.iter().find(|(name, _)| name.starts_with(name_start)).map(|(_, index)| *index)
    }

    /// The built-in functions and adapters, in order.
    pub(crate) fn canonical_functions(&self) -> Result<Vec<CanonicalFunction>, Unsupported> {
        let mut functions = Vec::new();
        for section in self.sections.iter().filter(|section| section.id == section_id::CANONICAL) {
            for function in section.items::<CanonicalFunction>()? {
                functions.push(function?);
            }
        }
        Ok(functions)
    }

    /// What the component calls its core modules, by index, where it says.
    pub(crate) fn module_names(&self) -> BTreeMap<u32, &'a str> {
        let mut names = BTreeMap::new();
        for section in self.sections.iter().filter(|section| section.id == section_id::CUSTOM) {
            // Names are for people: one that cannot be read is no reason to leave the component alone.
            let Ok(custom) = CustomSectionReader::new(BinaryReader::new(section.contents, section.range.start)) else {
                continue;
            };
            let KnownCustom::ComponentName(subsections) = custom.as_known() else { continue };
            for subsection in subsections.into_iter().flatten() {
                if let ComponentName::CoreModules(modules) = subsection {
                    names.extend(modules.into_iter().flatten().map(|naming| (naming.index, naming.name)));
                }
            }
        }
        names
    }

    /// The component with some core modules replaced, each by its index, and with `appended` sections at its end.
    pub(crate) fn rebuild(&self, replaced: &[(u32, Vec<u8>)], appended: &[u8]) -> Vec<u8> {
        let grown: usize = replaced.iter().map(|(_, module)| module.len()).sum();
        let mut output = Vec::with_capacity(self.bytes.len() + grown + appended.len());
        output.extend_from_slice(header(self.bytes));
        let mut module = 0;
        for section in &self.sections {
            let mut contents = section.contents;
            if section.id == section_id::CORE_MODULE {
                if let Some((_, new)) = replaced.iter().find(|(index, _)| *index == module) {
                    contents = new;
                }
                module += 1;
            }
            write_section(&mut output, section.id, contents);
        }
        output.extend_from_slice(appended);
        output
    }

    fn count(&mut self, section: &RawSection<'a>) -> Result<(), Unsupported> {
        match section.id {
            section_id::CORE_MODULE => {
                let module = self.counts.core_modules;
                self.parts.push(CorePart { module, bytes: section.contents, instance: None });
                self.counts.core_modules += 1;
            }
            section_id::CORE_INSTANCE => self.count_core_instances(section)?,
            // Nothing that is added here refers to one.
            section_id::CORE_TYPE => {}
            section_id::COMPONENT => {
                check_nested(section.contents, self.nested_components)?;
                self.nested_components += 1;
                self.counts.components += 1;
            }
            section_id::INSTANCE => self.counts.instances += section.items::<ComponentInstance<'_>>()?.count(),
            section_id::ALIAS => self.count_aliases(section)?,
            section_id::TYPE => self.counts.types += section.items::<ComponentType<'_>>()?.count(),
            section_id::CANONICAL => self.count_canonical(section)?,
            section_id::IMPORT => {
                for import in section.items::<ComponentImport<'_>>()? {
                    let import = import?;
                    if import.ty.kind() == ComponentExternalKind::Instance {
                        self.imported_instances.push((import.name.name, self.counts.instances));
                    }
                    self.count_kind(import.ty.kind())?;
                }
            }
            section_id::EXPORT => {
                for export in section.items::<ComponentExport<'_>>()? {
                    let export = export?;
                    self.export_names.push(export.name.name);
                    self.count_kind(export.kind)?;
                }
            }
            // A start section runs once, at instantiation, and its results are values, which nothing here counts.
            section_id::START => {}
            // Custom sections; validation knows no other.
            _ => {}
        }
        Ok(())
    }

    fn count_core_instances(&mut self, section: &RawSection<'a>) -> Result<(), Unsupported> {
        for instance in section.items::<Instance<'_>>()? {
            if let Instance::Instantiate { module_index, .. } = instance? {
                let part = self.parts.get_mut(module_index as usize).ok_or(Unsupported::ModuleFromOutside)?;
                if part.instance.replace(self.counts.core_instances).is_some() {
                    return Err(Unsupported::InstantiatedTwice { module: module_index });
                }
            }
            self.counts.core_instances += 1;
        }
        Ok(())
    }

    fn count_aliases(&mut self, section: &RawSection<'a>) -> Result<(), Unsupported> {
        for alias in section.items::<ComponentAlias<'_>>()? {
            match alias? {
                ComponentAlias::InstanceExport { kind, .. } => self.count_kind(kind)?,
                ComponentAlias::CoreInstanceExport { kind, .. } => match kind {
                    ExternalKind::Func | ExternalKind::FuncExact => self.counts.core_functions += 1,
                    ExternalKind::Memory => self.counts.core_memories += 1,
                    ExternalKind::Table | ExternalKind::Global | ExternalKind::Tag => {}
                },
                ComponentAlias::Outer { kind, .. } => match kind {
                    ComponentOuterAliasKind::Type => self.counts.types += 1,
                    ComponentOuterAliasKind::CoreModule => return Err(Unsupported::ModuleFromOutside),
                    ComponentOuterAliasKind::Component => self.counts.components += 1,
                    ComponentOuterAliasKind::CoreType => {}
                },
            }
        }
        Ok(())
    }

    fn count_canonical(&mut self, section: &RawSection<'a>) -> Result<(), Unsupported> {
        for function in section.items::<CanonicalFunction>()? {
            match function? {
                CanonicalFunction::Lift { .. } => self.counts.functions += 1,
                // Every other one is a built-in for core code.
                _ => self.counts.core_functions += 1,
            }
        }
        Ok(())
    }

    fn count_kind(&mut self, kind: ComponentExternalKind) -> Result<(), Unsupported> {
        match kind {
            ComponentExternalKind::Func => self.counts.functions += 1,
            ComponentExternalKind::Type => self.counts.types += 1,
            ComponentExternalKind::Instance => self.counts.instances += 1,
            ComponentExternalKind::Module => return Err(Unsupported::ModuleFromOutside),
            ComponentExternalKind::Component => self.counts.components += 1,
            ComponentExternalKind::Value => {}
        }
        Ok(())
    }
}

/// Nested components that only shape types are in every component that the usual tools make; those with code
/// of their own are refused, because what is appended here would not reach into them.
fn check_nested(bytes: &[u8], component: u32) -> Result<(), Unsupported> {
    // Each level is shorter than the one around it, and the validator bounded how deep they go.
    for section in read_sections(bytes)? {
        match section.id {
            section_id::CORE_MODULE | section_id::CORE_INSTANCE => {
                return Err(Unsupported::NestedModules { component });
            }
            section_id::COMPONENT => check_nested(section.contents, component)?,
            _ => {}
        }
    }
    Ok(())
}

/// A function of an exported instance.
pub(crate) struct ExportedFunction<'a> {
    pub(crate) name: &'a str,
    /// Its index in the component that exports it.
    pub(crate) index: u32,
    /// The index of its type there.
    pub(crate) ty: u32,
}

/// A component that imports functions and exports them under their names.
fn passing_on(functions: &[ExportedFunction<'_>]) -> Component {
    let mut aliases = ComponentAliasSection::new();
    let mut imports = ComponentImportSection::new();
    let mut exports = ComponentExportSection::new();
    for (number, function) in (0..).zip(functions) {
        aliases.alias(Alias::Outer { kind: ComponentOuterAlias::Type, count: 1, index: function.ty });
        imports.import(argument_name(function.name).as_str(), ComponentTypeRef::Func(number));
        exports.export(function.name, ComponentExportKind::Func, number, None);
    }
    let mut component = Component::new();
    component.section(&aliases).section(&imports).section(&exports);
    component
}

/// Imports and exports of one name would be taken for each other by people.
fn argument_name(name: &str) -> String {
    format!("own-{name}")
}

/// Sections to be put at a component's end, one after the other.
#[derive(Debug, Default)]
pub(crate) struct Appendix {
    bytes: Vec<u8>,
}

impl Appendix {
    pub(crate) fn section(&mut self, section: &impl ComponentSection) {
        section.append_to_component(&mut self.bytes);
    }

    pub(crate) fn core_module(&mut self, module: &[u8]) {
        self.bytes.push(section_id::CORE_MODULE);
        module.encode(&mut self.bytes);
    }

    /// Exports component functions as the instance `name`, by a component that only passes them on. An instance written
    /// as a list of exports would do, but wasmtime 48 numbers those in another order each time it compiles them, and the
    /// same component must give the same code.
    pub(crate) fn export_instance(&mut self, name: &str, counts: &Counts, functions: &[ExportedFunction<'_>]) {
        self.section(&NestedComponentSection(&passing_on(functions)));
        let mut instances = ComponentInstanceSection::new();
        let arguments =
            functions.iter().map(|function| (argument_name(function.name), ComponentExportKind::Func, function.index));
        instances.instantiate(counts.components, arguments);
        self.section(&instances);
        let mut exports = ComponentExportSection::new();
        exports.export(name, ComponentExportKind::Instance, counts.instances, None);
        self.section(&exports);
    }

    pub(crate) fn finish(self) -> Vec<u8> {
        self.bytes
    }
}
