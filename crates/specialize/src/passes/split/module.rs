//! The core module that is split: its index spaces, its bodies, and who refers to whom.

use std::collections::{BTreeMap, BTreeSet};

use wasmparser::{
    ConstExpr, Element, ElementItems, ElementKind, ExternalKind, FuncType, FunctionBody, GlobalType, KnownCustom,
    MemoryType, Name, Operator, Parser, Payload, TableInit, TableType, TypeRef,
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
    /// Imported tables; the index of the first defined one.
    pub(super) imported_tables: usize,
    pub(super) memories: Vec<MemoryType>,
    pub(super) globals: Vec<GlobalType>,
    /// Types of tags.
    pub(super) tags: Vec<u32>,
    pub(super) start: Option<u32>,
    pub(super) exported_functions: BTreeMap<&'a str, u32>,
    pub(super) exported_tables: BTreeMap<&'a str, u32>,
    /// Defined functions, in order.
    pub(super) bodies: Vec<Body<'a>>,
    /// Functions that exports and initial values refer to.
    named: BTreeSet<u32>,
    /// Segments of elements, in order.
    pub(super) segments: Vec<Segment>,
    pub(super) names: BTreeMap<u32, &'a str>,
    /// What hints say of branches, by function: where in its body the branch is, and whether it is taken.
    hints: BTreeMap<u32, Vec<(u32, bool)>>,
}

/// A segment of elements.
pub(super) struct Segment {
    /// The table that it fills when the module is instantiated, if it does, and from where; `None` for a place that is
    /// not a plain number.
    pub(super) fills: Option<(u32, Option<u32>)>,
    /// The functions that it refers to.
    pub(super) functions: Vec<u32>,
    /// Whether it is a list of functions and nothing else, so that the first stands at the first place.
    pub(super) is_plain: bool,
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
    /// Calls through tables: which table, and where in [`Self::raw`] the instruction begins.
    pub(super) indirect_calls: Vec<(u32, usize)>,
    /// Tables that it reads or changes.
    pub(super) tables: BTreeSet<u32>,
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

    /// What hints say of a function's branches, in order.
    pub(super) fn hints(&self, function: u32) -> &[(u32, bool)] {
        self.hints.get(&function).map_or(&[], Vec::as_slice)
    }

    /// The type of a function, by index.
    pub(super) fn type_index(&self, function: u32) -> u32 {
        self.function_types[function as usize]
    }

    /// Functions that something other than code refers to.
    pub(super) fn referenced(&self) -> impl Iterator<Item = u32> {
        self.referenced_but_in(|_| false)
    }

    /// The same, but for what stands in segments that `left_out` is true of.
    pub(super) fn referenced_but_in(&self, left_out: impl Fn(&Segment) -> bool) -> impl Iterator<Item = u32> {
        let segments = self.segments.iter().filter(move |segment| !left_out(segment));
        self.named.iter().copied().chain(segments.flat_map(|segment| segment.functions.iter().copied()))
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
                self.imported_tables = self.tables.len();
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
                        self.named.extend(references(&initial)?);
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
                    self.named.extend(references(&global.init_expr)?);
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
                    match export.kind {
                        ExternalKind::Func => {
                            self.exported_functions.insert(export.name, export.index);
                            self.named.insert(export.index);
                        }
                        ExternalKind::Table => drop(self.exported_tables.insert(export.name, export.index)),
                        _ => {}
                    }
                }
            }
            Payload::ElementSection(section) => {
                for segment in section {
                    self.segments.push(Segment::read(segment?)?);
                }
            }
            Payload::CodeSectionEntry(body) => self.bodies.push(Body::read(body)?),
            Payload::CustomSection(section) => match section.as_known() {
                KnownCustom::Name(names) => self.names(names),
                KnownCustom::BranchHints(hints) => self.branch_hints(hints),
                _ => {}
            },
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

    /// Hints change how fast code is, and not what it does; what cannot be read of them is left out.
    fn branch_hints(&mut self, hints: wasmparser::BranchHintSectionReader<'a>) {
        for function in hints.into_iter().flatten() {
            let mut hints: Vec<_> =
                function.hints.into_iter().flatten().map(|hint| (hint.func_offset, hint.taken)).collect();
            hints.sort_unstable();
            self.hints.insert(function.func, hints);
        }
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

impl Segment {
    fn read(element: Element<'_>) -> Result<Self, SplitRefusal> {
        let fills = match &element.kind {
            ElementKind::Active { table_index, offset_expr } => {
                Some((table_index.unwrap_or(0), constant(offset_expr)?))
            }
            ElementKind::Passive | ElementKind::Declared => None,
        };
        let mut functions = Vec::new();
        let is_plain = matches!(element.items, ElementItems::Functions(_));
        match element.items {
            ElementItems::Functions(items) => {
                for function in items {
                    functions.push(function?);
                }
            }
            ElementItems::Expressions(_, expressions) => {
                for expression in expressions {
                    functions.extend(references(&expression?)?);
                }
            }
        }
        Ok(Self { fills, functions, is_plain })
    }
}

/// The functions that a constant refers to.
fn references(expression: &ConstExpr<'_>) -> Result<Vec<u32>, SplitRefusal> {
    let mut functions = Vec::new();
    let mut operators = expression.get_operators_reader();
    while !operators.eof() {
        if let Operator::RefFunc { function_index } = operators.read()? {
            functions.push(function_index);
        }
    }
    Ok(functions)
}

/// The number that a constant is, if it is written as one.
fn constant(expression: &ConstExpr<'_>) -> Result<Option<u32>, SplitRefusal> {
    let mut operators = expression.get_operators_reader();
    let first = operators.read()?;
    let is_all = matches!(operators.read()?, Operator::End);
    Ok(match first {
        Operator::I32Const { value } if is_all => Some(value.cast_unsigned()),
        _ => None,
    })
}

impl<'a> Body<'a> {
    fn read(raw: FunctionBody<'a>) -> Result<Self, SplitRefusal> {
        let mut body = Self {
            calls: vec![],
            references: vec![],
            uses_segments: false,
            indirect_calls: vec![],
            tables: BTreeSet::new(),
            raw,
        };
        let mut operators = body.raw.get_operators_reader()?;
        let mut seen = BTreeSet::new();
        while !operators.eof() {
            let at = operators.original_position() - body.raw.range().start;
            match operators.read()? {
                Operator::Call { function_index } | Operator::ReturnCall { function_index }
                    if seen.insert(function_index) =>
                {
                    body.calls.push(function_index);
                }
                Operator::RefFunc { function_index } => body.references.push(function_index),
                Operator::CallIndirect { table_index, .. } | Operator::ReturnCallIndirect { table_index, .. } => {
                    body.indirect_calls.push((table_index, at));
                }
                Operator::MemoryInit { .. } | Operator::DataDrop { .. } | Operator::ElemDrop { .. } => {
                    body.uses_segments = true;
                }
                Operator::TableInit { table, .. } => {
                    body.uses_segments = true;
                    body.tables.insert(table);
                }
                Operator::TableGet { table }
                | Operator::TableSet { table }
                | Operator::TableGrow { table }
                | Operator::TableFill { table } => drop(body.tables.insert(table)),
                Operator::TableCopy { dst_table, src_table } => body.tables.extend([dst_table, src_table]),
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
