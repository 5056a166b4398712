//! The component that is split: its top level, and what of its main module others enter.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;

use wasm_encoder::ComponentSectionId;
use wasmparser::{
    CanonicalFunction, CanonicalOption, ComponentAlias, ComponentExternalKind, ComponentInstance,
    ComponentOuterAliasKind, ComponentType, ExternalKind, Instance, Parser, Payload, TypeRef,
};

use super::features;
use super::module::{Module, index_u32};
use super::raw::{HEADER_BYTES, Section, append_section};
use super::refusal::SplitRefusal;
use super::{COLD_TABLE, EXPORT_PREFIX};

/// A component, read.
#[derive(Default)]
pub(super) struct Whole<'a> {
    pub(super) bytes: &'a [u8],
    /// Of the top level; a nested module or component is one.
    pub(super) sections: Vec<Section>,
    /// Index of the largest core module.
    pub(super) main: usize,
    /// The one instance of it.
    pub(super) main_instance: u32,
    modules: Vec<Outline<'a>>,
    instances: Vec<CoreInstance<'a>>,
    functions: Vec<CoreFunction<'a>>,
    /// Tables that are taken out of core instances: the instance and the name.
    tables: Vec<(u32, &'a str)>,
    /// Core functions that the canonical ABI enters beside the component's own: allocators, and what frees.
    auxiliary: Vec<u32>,
}

/// Functions of the main module that stay, whatever requests run.
pub(super) struct Pins {
    /// Entered before the component is complete.
    pub(super) early: BTreeSet<u32>,
    /// Entered by the canonical ABI beside the component's own, or by other modules.
    pub(super) entered: BTreeSet<u32>,
}

/// What has to be known of each core module.
#[derive(Default)]
struct Outline<'a> {
    range: Range<usize>,
    code_bytes: u64,
    /// Module and name of imported functions.
    imports: Vec<(&'a str, &'a str)>,
    /// Module and name of imported tables.
    table_imports: Vec<(&'a str, &'a str)>,
    /// Whether something of it runs when it is instantiated.
    has_start: bool,
}

enum CoreInstance<'a> {
    Of { module: u32, arguments: Vec<(&'a str, u32)> },
    Exports(HashMap<&'a str, u32>),
}

#[derive(Clone, Copy)]
enum CoreFunction<'a> {
    Export { instance: u32, name: &'a str },
    Canonical,
}

impl<'a> Whole<'a> {
    /// Validates and reads a component, and refuses what may not be split.
    pub(super) fn read(bytes: &'a [u8]) -> Result<Self, SplitRefusal> {
        features::validate_input(bytes)?;
        let mut whole = Self { bytes, ..Self::default() };
        let mut nesting: Vec<bool> = Vec::new();
        for payload in Parser::new(0).parse_all(bytes) {
            let payload = payload?;
            if nesting.is_empty() {
                if let Some((id, range)) = payload.as_section() {
                    // The validator takes a module whose size leads beyond the end of the file.
                    if range.end > bytes.len() {
                        return Err(SplitRefusal::Malformed("a section ends behind the end of the file".into()));
                    }
                    whole.sections.push(Section { id, range });
                }
                whole.take(&payload)?;
            } else if nesting.iter().any(|is_component| *is_component) {
                refuse_modules_of_nested(&payload)?;
            }
            match payload {
                Payload::ModuleSection { .. } => nesting.push(false),
                Payload::ComponentSection { .. } => nesting.push(true),
                Payload::End(_) => drop(nesting.pop()),
                _ => {}
            }
        }
        whole.find_main()?;
        Ok(whole)
    }

    pub(super) fn main_module(&self) -> &'a [u8] {
        &self.bytes[self.modules[self.main].range.clone()]
    }

    /// The component with `main` in the place of its main module.
    pub(super) fn with_main(&self, main: &[u8]) -> Vec<u8> {
        let mut file = self.bytes[..HEADER_BYTES].to_vec();
        let mut modules = 0;
        for section in &self.sections {
            let mut content = &self.bytes[section.range.clone()];
            if section.id == u8::from(ComponentSectionId::CoreModule) {
                if modules == self.main {
                    content = main;
                }
                modules += 1;
            }
            append_section(&mut file, section.id, content);
        }
        file
    }

    /// Number of core modules.
    pub(super) fn modules(&self) -> u32 {
        index_u32(self.modules.len())
    }

    /// Bytes of code outside the main module.
    pub(super) fn other_code_bytes(&self) -> u64 {
        let others = self.modules.iter().enumerate().filter(|(index, _)| *index != self.main);
        others.map(|(_, module)| module.code_bytes).sum()
    }

    /// Functions of the main module that stay: its start function, and the few through which nearly every request goes, some
    /// of them when its VM is made, which a miss would spend: what the canonical ABI calls to have memory and to free it,
    /// and whatever other core modules import.
    pub(super) fn pins(&self, module: &Module<'_>) -> Pins {
        let auxiliary: BTreeSet<&str> = self.auxiliary.iter().filter_map(|function| self.in_main(*function)).collect();
        // Whatever it is called for: by convention it is called by the canonical ABI.
        let reallocs = module.exported_functions.keys().copied().filter(|name| name.starts_with("cabi_realloc"));
        let entered: BTreeSet<&str> = auxiliary.into_iter().chain(reallocs).collect();
        let imported = self.imported_by_others();
        let index = |name: &&str| module.exported_functions.get(name).copied();
        let mut pins =
            Pins { early: module.start.into_iter().collect(), entered: entered.iter().filter_map(index).collect() };
        let others_start = self.modules.iter().enumerate().any(|(at, other)| at != self.main && other.has_start);
        let by_others = if others_start { &mut pins.early } else { &mut pins.entered };
        by_others.extend(imported.iter().filter_map(index));
        pins
    }

    /// Names of the main module's functions that other core modules import.
    fn imported_by_others(&self) -> BTreeSet<&'a str> {
        let mut names = BTreeSet::new();
        for instance in &self.instances {
            let CoreInstance::Of { module, arguments } = instance else { continue };
            if *module as usize == self.main {
                continue;
            }
            let arguments: BTreeMap<&str, u32> = arguments.iter().copied().collect();
            for (from, name) in &self.modules[*module as usize].imports {
                let instance = arguments.get(from).copied();
                names.extend(instance.and_then(|instance| self.export_in_main(instance, name)));
            }
        }
        names
    }

    /// Whether something outside the main module can get at the table that it exports as `name`.
    pub(super) fn shares_table(&self, name: &str) -> bool {
        let taken = self.tables.contains(&(self.main_instance, name));
        taken || self.instances.iter().any(|instance| self.imports_table(instance, name))
    }

    fn imports_table(&self, instance: &CoreInstance<'_>, name: &str) -> bool {
        let CoreInstance::Of { module, arguments } = instance else { return false };
        let from_main = |from: &str| arguments.contains(&(from, self.main_instance));
        let imports = &self.modules[*module as usize].table_imports;
        imports.iter().any(|(from, imported)| *imported == name && from_main(from))
    }

    /// Under which name the main module exports a core function, if it is one of its functions.
    fn in_main(&self, function: u32) -> Option<&'a str> {
        match self.functions.get(function as usize)? {
            CoreFunction::Canonical => None,
            CoreFunction::Export { instance, name } => self.export_in_main(*instance, name),
        }
    }

    fn export_in_main(&self, instance: u32, name: &'a str) -> Option<&'a str> {
        // Each step leads to something defined before, so that this ends.
        match self.instances.get(instance as usize)? {
            CoreInstance::Of { module, .. } => (*module as usize == self.main).then_some(name),
            CoreInstance::Exports(exports) => self.in_main(*exports.get(name)?),
        }
    }

    fn find_main(&mut self) -> Result<(), SplitRefusal> {
        let largest = self.modules.iter().enumerate().max_by_key(|(_, module)| module.code_bytes);
        let Some((main, largest)) = largest else {
            return Err(SplitRefusal::NoModule);
        };
        let code_bytes: u64 = self.modules.iter().map(|module| module.code_bytes).sum();
        if code_bytes == 0 {
            return Err(SplitRefusal::NothingCold { functions: 0, pinned: 0 });
        }
        let largest_permille = largest.code_bytes * 1000 / code_bytes;
        if largest_permille < u64::from(MAIN_PERMILLE_MIN) {
            let largest_permille = u32::try_from(largest_permille).unwrap_or(0);
            return Err(SplitRefusal::SeveralModules { modules: self.modules(), largest_permille });
        }
        let is_main = |instance: &CoreInstance<'_>| matches!(instance, CoreInstance::Of { module, .. } if *module as usize == main);
        let of_main: Vec<usize> = (0..self.instances.len()).filter(|index| is_main(&self.instances[*index])).collect();
        let [instance] = of_main[..] else {
            return Err(SplitRefusal::InstantiatedTimes(index_u32(of_main.len())));
        };
        self.main = main;
        self.main_instance = index_u32(instance);
        Ok(())
    }

    fn take(&mut self, payload: &Payload<'a>) -> Result<(), SplitRefusal> {
        match payload {
            Payload::ModuleSection { unchecked_range, .. } => {
                self.modules.push(Outline::read(self.bytes, unchecked_range.clone())?);
            }
            Payload::ComponentTypeSection(section) => {
                for ty in section.clone() {
                    if let ComponentType::Resource { dtor: Some(destructor), .. } = ty? {
                        self.auxiliary.push(destructor);
                    }
                }
            }
            Payload::ComponentImportSection(section) => {
                for import in section.clone() {
                    refuse_module(import?.ty.kind())?;
                }
            }
            Payload::ComponentExportSection(section) => {
                for export in section.clone() {
                    refuse_module(export?.kind)?;
                }
            }
            Payload::ComponentAliasSection(section) => {
                for alias in section.clone() {
                    self.alias(&alias?)?;
                }
            }
            Payload::ComponentCanonicalSection(section) => {
                for function in section.clone() {
                    self.canonical(&function?)?;
                }
            }
            Payload::ComponentInstanceSection(section) => {
                for instance in section.clone() {
                    refuse_modules_passed_on(&instance?)?;
                }
            }
            Payload::InstanceSection(section) => {
                for instance in section.clone() {
                    self.instances.push(CoreInstance::new(instance?));
                }
            }
            Payload::ComponentStartSection { .. } => return Err(SplitRefusal::ComponentStart),
            _ => {}
        }
        Ok(())
    }

    fn alias(&mut self, alias: &ComponentAlias<'a>) -> Result<(), SplitRefusal> {
        match *alias {
            ComponentAlias::InstanceExport { kind, .. } => refuse_module(kind)?,
            ComponentAlias::CoreInstanceExport { kind, instance_index, name } => match kind {
                ExternalKind::Func | ExternalKind::FuncExact => {
                    self.functions.push(CoreFunction::Export { instance: instance_index, name });
                }
                ExternalKind::Table => self.tables.push((instance_index, name)),
                ExternalKind::Memory | ExternalKind::Global | ExternalKind::Tag => {}
            },
            ComponentAlias::Outer { kind, .. } => match kind {
                ComponentOuterAliasKind::CoreModule => return Err(SplitRefusal::ModuleAsValue),
                ComponentOuterAliasKind::Type
                | ComponentOuterAliasKind::CoreType
                | ComponentOuterAliasKind::Component => {}
            },
        }
        Ok(())
    }

    fn canonical(&mut self, function: &CanonicalFunction) -> Result<(), SplitRefusal> {
        let concurrency = |what: &dyn std::fmt::Debug| {
            let text = format!("{what:?}");
            Err(SplitRefusal::Concurrency(text.chars().take_while(char::is_ascii_alphanumeric).collect()))
        };
        let (options, is_lift) = match function {
            CanonicalFunction::Lift { options, .. } => (options, true),
            CanonicalFunction::Lower { options, .. } => (options, false),
            CanonicalFunction::ResourceNew { .. }
            | CanonicalFunction::ResourceDrop { .. }
            | CanonicalFunction::ResourceRep { .. } => {
                self.functions.push(CoreFunction::Canonical);
                return Ok(());
            }
            other => return concurrency(other),
        };
        for option in options {
            match option {
                CanonicalOption::Realloc(function) | CanonicalOption::PostReturn(function) => {
                    self.auxiliary.push(*function);
                }
                CanonicalOption::Async | CanonicalOption::Callback(_) => return concurrency(option),
                CanonicalOption::Gc | CanonicalOption::CoreType(_) => return Err(SplitRefusal::GcTypes),
                CanonicalOption::UTF8
                | CanonicalOption::UTF16
                | CanonicalOption::CompactUTF16
                | CanonicalOption::Memory(_) => {}
            }
        }
        if !is_lift {
            self.functions.push(CoreFunction::Canonical);
        }
        Ok(())
    }
}

/// Share of all code that the main module must hold; below it a split would leave most of the code as it is.
const MAIN_PERMILLE_MIN: u32 = 500;

impl<'a> Outline<'a> {
    fn read(component: &'a [u8], range: Range<usize>) -> Result<Self, SplitRefusal> {
        let mut outline = Self { range: range.clone(), ..Self::default() };
        for payload in Parser::new(0).parse_all(&component[range]) {
            match payload? {
                Payload::ImportSection(section) => {
                    for import in section.into_imports() {
                        let import = import?;
                        match import.ty {
                            TypeRef::Func(_) | TypeRef::FuncExact(_) => {
                                outline.imports.push((import.module, import.name));
                            }
                            TypeRef::Table(_) => outline.table_imports.push((import.module, import.name)),
                            _ => {}
                        }
                    }
                }
                Payload::ExportSection(section) => {
                    for export in section {
                        if export?.name.starts_with(EXPORT_PREFIX) {
                            return Err(SplitRefusal::NameTaken(COLD_TABLE.to_owned()));
                        }
                    }
                }
                Payload::StartSection { .. } => outline.has_start = true,
                Payload::CodeSectionStart { size, .. } => outline.code_bytes = u64::from(size),
                _ => {}
            }
        }
        Ok(outline)
    }
}

impl<'a> CoreInstance<'a> {
    fn new(instance: Instance<'a>) -> Self {
        match instance {
            Instance::Instantiate { module_index, args } => Self::Of {
                module: module_index,
                arguments: args.iter().map(|argument| (argument.name, argument.index)).collect(),
            },
            Instance::FromExports(exports) => {
                let functions = exports.iter().filter(|export| export.kind == ExternalKind::Func);
                Self::Exports(functions.map(|export| (export.name, export.index)).collect())
            }
        }
    }
}

/// Nested components may wrap and rename; core code in them would be out of reach.
fn refuse_modules_of_nested(payload: &Payload<'_>) -> Result<(), SplitRefusal> {
    match payload {
        Payload::ModuleSection { .. } | Payload::InstanceSection(_) => Err(SplitRefusal::NestedModules),
        Payload::ComponentAliasSection(section) => {
            for alias in section.clone() {
                if let ComponentAlias::Outer { kind: ComponentOuterAliasKind::CoreModule, .. } = alias? {
                    return Err(SplitRefusal::NestedModules);
                }
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

fn refuse_module(kind: ComponentExternalKind) -> Result<(), SplitRefusal> {
    if kind == ComponentExternalKind::Module { Err(SplitRefusal::ModuleAsValue) } else { Ok(()) }
}

fn refuse_modules_passed_on(instance: &ComponentInstance<'_>) -> Result<(), SplitRefusal> {
    let kinds: Vec<ComponentExternalKind> = match instance {
        ComponentInstance::Instantiate { args, .. } => args.iter().map(|argument| argument.kind).collect(),
        ComponentInstance::FromExports(exports) => exports.iter().map(|export| export.kind).collect(),
    };
    if kinds.contains(&ComponentExternalKind::Module) { Err(SplitRefusal::ModuleAsValue) } else { Ok(()) }
}
