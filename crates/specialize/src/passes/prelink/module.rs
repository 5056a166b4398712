//! One core module, read: everything that a merge needs to know of it, as it stands in the file.
//!
//! What is not merged is noted, not refused: only a module that should join has to be without it.

use std::collections::HashMap;

use wasmparser::{
    CompositeInnerType, Data, Element, ExternalKind, FuncType, FunctionBody, Global, Import, KnownCustom, MemoryType,
    Name, Parser, Payload, RecGroup, RefType, SubType, TableInit, TableType, TypeRef, ValType,
};

use super::refusal::Unsupported;

/// The index spaces of core modules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Space {
    Function,
    Table,
    Memory,
    Global,
}

impl Space {
    /// The space of a kind of item; tags are in none of ours.
    pub(super) fn of(kind: ExternalKind) -> Option<Self> {
        match kind {
            ExternalKind::Func | ExternalKind::FuncExact => Some(Self::Function),
            ExternalKind::Table => Some(Self::Table),
            ExternalKind::Memory => Some(Self::Memory),
            ExternalKind::Global => Some(Self::Global),
            ExternalKind::Tag => None,
        }
    }

    /// The kind of its items.
    pub(super) fn kind(self) -> wasm_encoder::ExportKind {
        match self {
            Self::Function => wasm_encoder::ExportKind::Func,
            Self::Table => wasm_encoder::ExportKind::Table,
            Self::Memory => wasm_encoder::ExportKind::Memory,
            Self::Global => wasm_encoder::ExportKind::Global,
        }
    }
}

/// A core module.
#[derive(Default)]
pub(super) struct CoreModule<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) types: Vec<FuncType>,
    pub(super) imports: Vec<Import<'a>>,
    /// Types of the functions it defines.
    pub(super) functions: Vec<u32>,
    pub(super) tables: Vec<TableType>,
    pub(super) memories: Vec<MemoryType>,
    pub(super) globals: Vec<Global<'a>>,
    pub(super) exports: HashMap<&'a str, (Space, u32)>,
    pub(super) has_start: bool,
    pub(super) elements: Vec<Element<'a>>,
    pub(super) data: Vec<Data<'a>>,
    pub(super) bodies: Vec<FunctionBody<'a>>,
    /// What it calls itself.
    pub(super) name: Option<&'a str>,
    pub(super) function_names: HashMap<u32, &'a str>,
    pub(super) customs: Vec<(&'a str, &'a [u8])>,
    /// The first thing in it that is not merged.
    pub(super) unsupported: Option<Unsupported>,
}

impl<'a> CoreModule<'a> {
    /// Reads a module that is valid.
    pub(super) fn read(bytes: &'a [u8]) -> wasmparser::Result<Self> {
        let mut module = Self { bytes, ..Self::default() };
        for payload in Parser::new(0).parse_all(bytes) {
            module.section(payload?)?;
        }
        Ok(module)
    }

    /// How many functions it imports: the number of the first one it defines.
    pub(super) fn functions_imported(&self) -> usize {
        self.imports.iter().filter(|import| matches!(import.ty, TypeRef::Func(_) | TypeRef::FuncExact(_))).count()
    }

    fn section(&mut self, payload: Payload<'a>) -> wasmparser::Result<()> {
        match payload {
            Payload::TypeSection(groups) => {
                for group in groups {
                    self.type_group(group?);
                }
            }
            Payload::ImportSection(imports) => {
                for import in imports.into_imports() {
                    self.import(import?);
                }
            }
            Payload::FunctionSection(types) => self.functions = collect(types)?,
            Payload::TableSection(tables) => {
                for table in tables {
                    let table = table?;
                    self.note(matches!(table.init, TableInit::Expr(_)), Unsupported::TableInitializer);
                    self.table_type(table.ty);
                    self.tables.push(table.ty);
                }
            }
            Payload::MemorySection(memories) => {
                self.memories = collect(memories)?;
                let shared = self.memories.iter().any(|memory| memory.shared);
                self.note(shared, Unsupported::SharedMemory);
            }
            Payload::TagSection(_) => self.note(true, Unsupported::Tag),
            Payload::GlobalSection(globals) => {
                for global in globals {
                    let global = global?;
                    self.note(!is_number(global.ty.content_type), Unsupported::Global);
                    self.note(global.ty.shared, Unsupported::Shared);
                    self.globals.push(global);
                }
            }
            Payload::ExportSection(exports) => {
                for export in exports {
                    let export = export?;
                    match Space::of(export.kind) {
                        Some(space) => drop(self.exports.insert(export.name, (space, export.index))),
                        None => self.note(true, Unsupported::Tag),
                    }
                }
            }
            Payload::StartSection { .. } => self.has_start = true,
            Payload::ElementSection(elements) => self.elements = collect(elements)?,
            Payload::DataSection(data) => self.data = collect(data)?,
            Payload::CodeSectionEntry(body) => self.bodies.push(body),
            Payload::CustomSection(custom) => match custom.as_known() {
                KnownCustom::Name(names) => self.names(names),
                _ => self.customs.push((custom.name(), custom.data())),
            },
            // Everything else repeats what is said elsewhere, or is no part of a core module.
            _ => {}
        }
        Ok(())
    }

    fn type_group(&mut self, group: RecGroup) {
        self.note(group.is_explicit_rec_group(), Unsupported::RecursionGroup);
        for SubType { is_final, supertype_idx, composite_type } in group.into_types() {
            self.note(!is_final, Unsupported::OpenType);
            self.note(supertype_idx.is_some(), Unsupported::Subtype);
            self.note(composite_type.shared, Unsupported::Shared);
            let described = composite_type.descriptor_idx.is_some() || composite_type.describes_idx.is_some();
            self.note(described, Unsupported::GcType);
            if let CompositeInnerType::Func(function) = composite_type.inner {
                let named = function.params().iter().chain(function.results()).any(|ty| names_a_type(*ty));
                self.note(named, Unsupported::TypedReference);
                self.types.push(function);
            } else {
                self.note(true, Unsupported::GcType);
                // So that the numbers of the types after it stay right.
                self.types.push(FuncType::new([], []));
            }
        }
    }

    fn import(&mut self, import: Import<'a>) {
        match import.ty {
            TypeRef::Func(_) => {}
            TypeRef::FuncExact(_) => self.note(true, Unsupported::TypedReference),
            TypeRef::Table(table) => self.table_type(table),
            TypeRef::Memory(memory) => self.note(memory.shared, Unsupported::SharedMemory),
            TypeRef::Global(global) => {
                self.note(!is_number(global.content_type), Unsupported::Global);
                self.note(global.shared, Unsupported::Shared);
            }
            TypeRef::Tag(_) => self.note(true, Unsupported::Tag),
        }
        self.imports.push(import);
    }

    fn table_type(&mut self, table: TableType) {
        self.note(table.shared, Unsupported::Shared);
        self.note(names_a_type(ValType::Ref(table.element_type)), Unsupported::TypedReference);
    }

    /// Names are for display: from the first that cannot be read on they are left out.
    fn names(&mut self, sections: wasmparser::NameSectionReader<'a>) {
        for section in sections.map_while(Result::ok) {
            match section {
                Name::Module { name, .. } => self.name = Some(name),
                Name::Function(names) => {
                    let names = names.into_iter().map_while(Result::ok);
                    self.function_names.extend(names.map(|naming| (naming.index, naming.name)));
                }
                _ => {}
            }
        }
    }

    fn note(&mut self, found: bool, what: Unsupported) {
        if found && self.unsupported.is_none() {
            self.unsupported = Some(what);
        }
    }
}

fn collect<'a, T: wasmparser::FromReader<'a>>(
    section: wasmparser::SectionLimited<'a, T>,
) -> wasmparser::Result<Vec<T>> {
    section.into_iter().collect()
}

fn is_number(ty: ValType) -> bool {
    matches!(ty, ValType::I32 | ValType::I64 | ValType::F32 | ValType::F64)
}

/// Whether a type has the number of another in it, which would have to change.
fn names_a_type(ty: ValType) -> bool {
    matches!(ty, ValType::Ref(reference) if is_concrete(reference))
}

fn is_concrete(reference: RefType) -> bool {
    !matches!(reference.heap_type(), wasmparser::HeapType::Abstract { .. })
}
