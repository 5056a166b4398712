//! The core module that is split: its index spaces, its bodies, and who refers to whom.

use std::collections::{BTreeMap, BTreeSet};

use wasmparser::{
    ConstExpr, ElementItems, ExternalKind, FuncType, FunctionBody, GlobalType, KnownCustom, MemoryType, Name, Operator,
    Parser, Payload, TableInit, TableType, TypeRef,
};

use super::EXPORT_PREFIX;
use super::raw::Section;
use super::refusal::SplitRefusal;

/// A core module, read. It has been validated as a part of its component.
#[derive(Default)]
pub(super) struct Module<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) sections: Vec<Section>,
    pub(super) types: Vec<FuncType>,
    /// Types of all functions by index, imported ones first.
    pub(super) function_types: Vec<u32>,
    /// Imported functions; the index of the first defined one.
    pub(super) imported: usize,
    pub(super) tables: Vec<TableType>,
    pub(super) memories: Vec<MemoryType>,
    pub(super) globals: Vec<GlobalType>,
    /// Types of tags.
    pub(super) tags: Vec<u32>,
    pub(super) start: Option<u32>,
    pub(super) exported_functions: BTreeMap<&'a str, u32>,
    /// Defined functions, in order.
    pub(super) bodies: Vec<Body<'a>>,
    /// Functions that something other than code refers to: exports, elements, initial values.
    pub(super) referenced: BTreeSet<u32>,
    pub(super) names: BTreeMap<u32, &'a str>,
}

/// A defined function.
pub(super) struct Body<'a> {
    pub(super) raw: FunctionBody<'a>,
    /// Functions that it calls by name, each once, in the order of their first call.
    pub(super) calls: Vec<u32>,
    /// Functions that it takes a reference of.
    pub(super) references: Vec<u32>,
    /// Whether it uses segments of data or elements, which no other module can name.
    pub(super) uses_segments: bool,
    /// Calls through tables.
    pub(super) indirect_calls: u32,
}

impl<'a> Module<'a> {
    pub(super) fn read(bytes: &'a [u8]) -> Result<Self, SplitRefusal> {
        let mut module = Self { bytes, ..Self::default() };
        for payload in Parser::new(0).parse_all(bytes) {
            let payload = payload?;
            if let Some((id, range)) = payload.as_section() {
                module.sections.push(Section { id, range });
            }
            module.take(payload)?;
        }
        Ok(module)
    }

    /// Number of functions, imported and defined.
    pub(super) fn functions(&self) -> usize {
        self.function_types.len()
    }

    /// Indices of the defined functions with their bodies.
    pub(super) fn defined(&self) -> impl Iterator<Item = (u32, &Body<'a>)> {
        (index_u32(self.imported)..).zip(&self.bodies)
    }

    /// The body of a function, if it is defined here.
    pub(super) fn body(&self, function: u32) -> Option<&Body<'a>> {
        self.bodies.get((function as usize).checked_sub(self.imported)?)
    }

    /// The type of a function, by index.
    pub(super) fn type_index(&self, function: u32) -> u32 {
        self.function_types[function as usize]
    }

    /// The content of the section `id`, if there is one.
    pub(super) fn section(&self, id: u8) -> Option<&'a [u8]> {
        let section = self.sections.iter().find(|section| section.id == id)?;
        self.bytes.get(section.range.clone())
    }

    fn take(&mut self, payload: Payload<'a>) -> Result<(), SplitRefusal> {
        match payload {
            Payload::TypeSection(section) => {
                for ty in section.into_iter_err_on_gc_types() {
                    self.types.push(ty?);
                }
            }
            Payload::ImportSection(section) => {
                for import in section.into_imports() {
                    self.import(import?.ty);
                }
                self.imported = self.function_types.len();
            }
            Payload::FunctionSection(section) => {
                for ty in section {
                    self.function_types.push(ty?);
                }
            }
            Payload::TableSection(section) => {
                for table in section {
                    let table = table?;
                    self.tables.push(table.ty);
                    if let TableInit::Expr(initial) = table.init {
                        self.refer(&initial)?;
                    }
                }
            }
            Payload::MemorySection(section) => {
                for memory in section {
                    self.memories.push(memory?);
                }
            }
            Payload::GlobalSection(section) => {
                for global in section {
                    let global = global?;
                    self.globals.push(global.ty);
                    self.refer(&global.init_expr)?;
                }
            }
            Payload::TagSection(section) => {
                for tag in section {
                    self.tags.push(tag?.func_type_idx);
                }
            }
            Payload::StartSection { func, .. } => self.start = Some(func),
            Payload::ExportSection(section) => {
                for export in section {
                    let export = export?;
                    if export.name.starts_with(EXPORT_PREFIX) {
                        return Err(SplitRefusal::NameTaken(export.name.chars().take(100).collect()));
                    }
                    if export.kind == ExternalKind::Func {
                        self.exported_functions.insert(export.name, export.index);
                        self.referenced.insert(export.index);
                    }
                }
            }
            Payload::ElementSection(section) => {
                for segment in section {
                    self.elements(segment?.items)?;
                }
            }
            Payload::CodeSectionEntry(body) => self.bodies.push(Body::read(body)?),
            Payload::CustomSection(section) => {
                if let KnownCustom::Name(names) = section.as_known() {
                    self.names(names);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn import(&mut self, ty: TypeRef) {
        match ty {
            TypeRef::Func(ty) | TypeRef::FuncExact(ty) => self.function_types.push(ty),
            TypeRef::Table(ty) => self.tables.push(ty),
            TypeRef::Memory(ty) => self.memories.push(ty),
            TypeRef::Global(ty) => self.globals.push(ty),
            TypeRef::Tag(ty) => self.tags.push(ty.func_type_idx),
        }
    }

    fn elements(&mut self, items: ElementItems<'a>) -> Result<(), SplitRefusal> {
        match items {
            ElementItems::Functions(functions) => {
                for function in functions {
                    self.referenced.insert(function?);
                }
            }
            ElementItems::Expressions(_, expressions) => {
                for expression in expressions {
                    self.refer(&expression?)?;
                }
            }
        }
        Ok(())
    }

    /// Notes the functions that a constant refers to.
    fn refer(&mut self, expression: &ConstExpr<'_>) -> Result<(), SplitRefusal> {
        let mut operators = expression.get_operators_reader();
        while !operators.eof() {
            if let Operator::RefFunc { function_index } = operators.read()? {
                self.referenced.insert(function_index);
            }
        }
        Ok(())
    }

    /// Names are for people; what cannot be read of them is left out.
    fn names(&mut self, names: wasmparser::NameSectionReader<'a>) {
        for subsection in names.into_iter().flatten() {
            if let Name::Function(functions) = subsection {
                self.names.extend(functions.into_iter().flatten().map(|naming| (naming.index, naming.name)));
            }
        }
    }
}

impl<'a> Body<'a> {
    fn read(raw: FunctionBody<'a>) -> Result<Self, SplitRefusal> {
        let mut body = Self { calls: vec![], references: vec![], uses_segments: false, indirect_calls: 0, raw };
        let mut operators = body.raw.get_operators_reader()?;
        let mut seen = BTreeSet::new();
        while !operators.eof() {
            match operators.read()? {
                Operator::Call { function_index } | Operator::ReturnCall { function_index }
                    if seen.insert(function_index) =>
                {
                    body.calls.push(function_index);
                }
                Operator::RefFunc { function_index } => body.references.push(function_index),
                Operator::CallIndirect { .. } | Operator::ReturnCallIndirect { .. } => body.indirect_calls += 1,
                Operator::MemoryInit { .. }
                | Operator::DataDrop { .. }
                | Operator::TableInit { .. }
                | Operator::ElemDrop { .. } => body.uses_segments = true,
                _ => {}
            }
        }
        Ok(body)
    }

    /// Bytes of the body, locals included.
    pub(super) fn size_bytes(&self) -> usize {
        self.raw.range().len()
    }
}

/// An index as the format has it. Modules are at most [`COMPONENT_BYTES_MAX`](crate::limits::COMPONENT_BYTES_MAX) long.
pub(super) fn index_u32(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX)
}
