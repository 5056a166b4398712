//! The merged module, written: every index renumbered, every place a constant.
//!
//! Elements are written as lists of function numbers wherever that says the same: engines make tables from lists
//! before anything runs, and evaluate expressions one by one in every instance.

use wasm_encoder::reencode::{Error, Reencode, RoundtripReencoder, utils};
use wasm_encoder::{
    CodeSection, ConstExpr, DataCountSection, DataSection, ElementSection, Elements, EntityType, ExportSection,
    FunctionSection, GlobalSection, ImportSection, Instruction, MemorySection, Module, TableSection, TypeSection,
};
use wasmparser::{DataKind, RefType};

use super::bodies::body_of;
use super::component::{Component, missing};
use super::constant::evaluate;
use super::customs;
use super::exports::Exports;
use super::live::{Live, LiveGlobal};
use super::origins;
use super::refusal::{PrelinkRefusal, Unsupported};
use super::segments::{Place, Segment};
use super::spaces::{Item, Slot, Spaces, count};

/// The module of names that the merged module imports from.
pub(super) const HOST: &str = "host";

/// Everything that is known of the merged module.
pub(super) struct Merged<'m, 'a> {
    pub(super) component: &'m Component<'a>,
    pub(super) spaces: &'m Spaces<'a>,
    pub(super) segments: &'m [Segment],
    pub(super) exports: &'m Exports<'a>,
    pub(super) live: &'m Live,
}

impl Merged<'_, '_> {
    /// Its bytes.
    pub(super) fn write(&self) -> Result<Vec<u8>, PrelinkRefusal> {
        let mut module = Module::new();
        module.section(&self.types()?);
        module.section(&self.imports());
        module.section(&self.functions());
        module.section(&self.tables()?);
        module.section(&self.memories());
        module.section(&self.globals()?);
        module.section(&self.export_section()?);
        module.section(&self.elements()?);
        let data = self.data()?;
        module.section(&DataCountSection { count: data.len() });
        module.section(&self.code()?);
        module.section(&data);
        origins::write(&mut module, self.component, self.spaces, self.live);
        customs::write(&mut module, self.component, self.spaces, self.live);
        Ok(module.finish())
    }

    /// The imports that are needed: the function of the host, and the name it is imported by.
    pub(super) fn host_functions(&self) -> impl Iterator<Item = (usize, u32, String)> {
        let live = self.spaces.imports.iter().enumerate().filter(|(index, _)| self.live.keeps_import(*index));
        // The number keeps apart what two modules call alike.
        live.map(|(index, import)| (import.canon, import.ty, format!("{}#{} {index}", import.module_name, import.name)))
    }

    fn types(&self) -> Result<TypeSection, PrelinkRefusal> {
        let mut section = TypeSection::new();
        for ty in &self.spaces.types {
            section.ty().func_type(&RoundtripReencoder.func_type(ty.clone()).map_err(unwritable)?);
        }
        Ok(section)
    }

    fn imports(&self) -> ImportSection {
        let mut section = ImportSection::new();
        for (_, ty, name) in self.host_functions() {
            section.import(HOST, &name, EntityType::Function(ty));
        }
        section
    }

    fn functions(&self) -> FunctionSection {
        let mut section = FunctionSection::new();
        let functions = self.spaces.functions.iter().enumerate();
        for (_, function) in functions.filter(|(index, _)| self.live.keeps(*index)) {
            section.function(function.ty);
        }
        section
    }

    fn tables(&self) -> Result<TableSection, PrelinkRefusal> {
        let mut section = TableSection::new();
        for (table, fixed) in self.spaces.tables.iter().zip(&self.live.fixed_tables) {
            let mut ty = RoundtripReencoder.table_type(*table).map_err(unwritable)?;
            if *fixed {
                // Nothing makes it grow, and an engine that knows so checks bounds against a constant.
                ty.maximum = Some(ty.minimum);
            }
            section.table(ty);
        }
        Ok(section)
    }

    fn memories(&self) -> MemorySection {
        let mut section = MemorySection::new();
        for memory in &self.spaces.memories {
            section.memory((*memory).into());
        }
        section
    }

    fn globals(&self) -> Result<GlobalSection, PrelinkRefusal> {
        let mut section = GlobalSection::new();
        for (index, global) in self.spaces.globals.iter().enumerate() {
            match self.live.global(count(index)).ok_or(missing("a global"))? {
                LiveGlobal::Constant(_) => {}
                LiveGlobal::Number(_) => {
                    let ty = RoundtripReencoder.global_type(global.ty).map_err(unwritable)?;
                    section.global(ty, &global.value.expression());
                }
            }
        }
        Ok(section)
    }

    fn export_section(&self) -> Result<ExportSection, PrelinkRefusal> {
        let mut section = ExportSection::new();
        for export in &self.exports.list {
            let index = match export.item {
                Item::Function(function) => self.live.function(function).ok_or(missing("an exported function"))?,
                Item::Table(table) => table,
                Item::Memory(memory) => memory,
                Item::Global(global) => match self.live.global(global) {
                    Some(LiveGlobal::Number(number)) => number,
                    Some(LiveGlobal::Constant(_)) | None => return Err(missing("an exported global")),
                },
            };
            section.export(&export.name, export.space.kind(), index);
        }
        Ok(section)
    }

    fn elements(&self) -> Result<ElementSection, PrelinkRefusal> {
        let mut section = ElementSection::new();
        for segment in self.segments {
            let elements = match segment.place {
                // It keeps its number and is empty, as an engine sees it: what it declared is declared below.
                Place::Declared => Elements::Functions([].as_slice().into()),
                Place::Passive | Place::Table { .. } => self.entries(segment)?,
            };
            match segment.place {
                Place::Declared => section.declared(elements),
                Place::Passive => section.passive(elements),
                Place::Table { table, offset } => {
                    // The short form means table 0, and only knows tables of functions.
                    let explicit = table != 0 || segment.ty != RefType::FUNCREF;
                    section.active(explicit.then_some(table), &offset.expression(), elements)
                }
            };
        }
        if !self.live.referenced.is_empty() {
            section.declared(Elements::Functions(self.live.referenced.as_slice().into()));
        }
        Ok(section)
    }

    fn entries(&self, segment: &Segment) -> Result<Elements<'static>, PrelinkRefusal> {
        let number = |function| self.live.function(function).ok_or(missing("a function in a table"));
        let function_type = segment.ty.is_func_ref() || segment.ty == RefType::FUNC;
        if function_type && segment.entries.iter().all(Option::is_some) {
            let numbers: Result<Vec<u32>, _> = segment.entries.iter().flatten().map(|entry| number(*entry)).collect();
            return Ok(Elements::Functions(numbers?.into()));
        }
        let ty = RoundtripReencoder.ref_type(segment.ty).map_err(unwritable)?;
        let expression = |entry: &Option<_>| match entry {
            Some(function) => Ok(ConstExpr::ref_func(number(*function)?)),
            None => Ok(ConstExpr::ref_null(ty.heap_type)),
        };
        let expressions: Result<Vec<ConstExpr>, _> = segment.entries.iter().map(expression).collect();
        Ok(Elements::Expressions(ty, expressions?.into()))
    }

    fn data(&self) -> Result<DataSection, PrelinkRefusal> {
        let mut section = DataSection::new();
        for slot in &self.spaces.slots {
            let module = self.component.modules.get(slot.module).ok_or(missing("a core module"))?;
            for data in &module.data {
                let bytes = data.data.iter().copied();
                match &data.kind {
                    DataKind::Passive => section.passive(bytes),
                    DataKind::Active { memory_index, offset_expr } => {
                        let memory = *slot.memories.get(*memory_index as usize).ok_or(missing("a memory"))?;
                        let offset = evaluate(offset_expr, |global| self.spaces.value_of(slot, global));
                        let (module, what) = (slot.module, Unsupported::SegmentOffset);
                        let offset = offset.ok_or(PrelinkRefusal::Unsupported { module, what })?;
                        section.active(memory, &offset.expression(), bytes)
                    }
                };
            }
        }
        Ok(section)
    }

    fn code(&self) -> Result<CodeSection, PrelinkRefusal> {
        let mut section = CodeSection::new();
        let functions = self.spaces.functions.iter().enumerate();
        for (_, function) in functions.filter(|(index, _)| self.live.keeps(*index)) {
            let slot = self.spaces.slots.get(function.slot).ok_or(missing("a slot"))?;
            let body = body_of(self.component, slot, function)?;
            let mut renumber = Renumber { slot, live: self.live };
            renumber.parse_function_body(&mut section, body.clone()).map_err(unwritable)?;
        }
        Ok(section)
    }
}

/// Bodies with the numbers of the merged module.
struct Renumber<'m> {
    slot: &'m Slot,
    live: &'m Live,
}

type Renumbered<T> = Result<T, Error<&'static str>>;

impl Renumber<'_> {
    fn global(&self, index: u32) -> Renumbered<LiveGlobal> {
        let merged = find(&self.slot.globals, index, "a global")?;
        self.live.global(merged).ok_or(Error::UserError("a merged global"))
    }
}

impl Reencode for Renumber<'_> {
    type Error = &'static str;

    fn function_index(&mut self, index: u32) -> Renumbered<u32> {
        let merged = find(&self.slot.functions, index, "a function")?;
        self.live.function(merged).ok_or(Error::UserError("a live function"))
    }

    fn table_index(&mut self, index: u32) -> Renumbered<u32> {
        find(&self.slot.tables, index, "a table")
    }

    fn memory_index(&mut self, index: u32) -> Renumbered<u32> {
        find(&self.slot.memories, index, "a memory")
    }

    fn type_index(&mut self, index: u32) -> Renumbered<u32> {
        find(&self.slot.types, index, "a type")
    }

    fn global_index(&mut self, index: u32) -> Renumbered<u32> {
        match self.global(index)? {
            LiveGlobal::Number(number) => Ok(number),
            LiveGlobal::Constant(_) => Err(Error::UserError("a global that changes")),
        }
    }

    fn data_index(&mut self, index: u32) -> Renumbered<u32> {
        index.checked_add(self.slot.first_data).ok_or(Error::UserError("a data segment"))
    }

    fn element_index(&mut self, index: u32) -> Renumbered<u32> {
        index.checked_add(self.slot.first_element).ok_or(Error::UserError("an element segment"))
    }

    fn instruction<'a>(&mut self, operator: wasmparser::Operator<'a>) -> Renumbered<Instruction<'a>> {
        if let wasmparser::Operator::GlobalGet { global_index } = operator
            && let LiveGlobal::Constant(value) = self.global(global_index)?
        {
            return Ok(value.instruction());
        }
        utils::instruction(self, operator)
    }
}

fn find<T: Copy>(space: &[T], index: u32, what: &'static str) -> Renumbered<T> {
    space.get(index as usize).copied().ok_or(Error::UserError(what))
}

/// Valid code can always be written again, so each of these is a mistake of ours.
#[expect(clippy::needless_pass_by_value, reason = "it is given to `map_err`, which hands over the error")]
fn unwritable<E: std::fmt::Debug>(error: Error<E>) -> PrelinkRefusal {
    PrelinkRefusal::InvalidOutput { detail: format!("{error:?}") }
}
