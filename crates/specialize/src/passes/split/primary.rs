//! The main module without its cold functions. Functions move together, the most probable first; everything else keeps
//! its index, and what is new stands behind what there was.

use std::collections::BTreeMap;

use wasm_encoder::reencode::{self, Reencode};
use wasm_encoder::{
    ConstExpr, ElementSection, ExportKind, ExportSection, Function, FunctionSection, GlobalSection, GlobalType,
    NameMap, NameSection, RawSection, RefType, SectionId, StartSection, TableSection, TableType, ValType,
};
use wasmparser::{BinaryReader, ElementSectionReader, ExportSectionReader, GlobalSectionReader, TableSectionReader};

use super::body::{self, Code, Home, Target};
use super::hot::Temperature;
use super::links::{Links, Way};
use super::module::{Module, index_u32};
use super::needs::{Kind, Needs};
use super::raw::append_entries;
use super::refusal::{SplitRefusal, fault};
use super::{COLD_TABLE, POSITION, connect};

/// The type of the table of cold functions, which groups import as it is.
pub(super) fn cold_table(links: &Links) -> TableType {
    let slots = u64::from(links.slots);
    TableType { element_type: RefType::FUNCREF, minimum: slots, maximum: Some(slots), table64: false, shared: false }
}

/// The type of the global with a position.
pub(super) fn position_global() -> GlobalType {
    GlobalType { val_type: ValType::I32, mutable: true, shared: false }
}

/// Writes the module.
pub(super) fn rewrite(
    module: &Module<'_>,
    temperature: &[Temperature],
    links: &Links,
    needs: &Needs,
    probabilities: &[u16],
) -> Result<Vec<u8>, SplitRefusal> {
    let places = Places::new(module, temperature, links, probabilities);
    Writer { module, links, places }.module(needs)
}

/// Where functions are in the primary.
pub(super) struct Places {
    /// By index in the original module; those that are not there have none.
    of: Vec<Option<u32>>,
    /// The functions that are defined there, in their order.
    order: Vec<u32>,
    /// How many of the original functions are there; what connects to the groups follows.
    kept: u32,
}

impl Places {
    /// What requests run most comes first, so that it shares pages and lines of the processor's caches.
    fn new(module: &Module<'_>, temperature: &[Temperature], links: &Links, probabilities: &[u16]) -> Self {
        let is_kept = |function: &u32| match temperature[*function as usize] {
            Temperature::Hot(_) => true,
            Temperature::Cold => links.stubs.contains(function),
            Temperature::Dead => false,
        };
        let mut order: Vec<u32> = module.defined().map(|(function, _)| function).filter(is_kept).collect();
        // Stable, so that equally probable functions stay in the order of the module, where neighbours are related.
        order.sort_by_key(|function| std::cmp::Reverse(probabilities[*function as usize]));
        let mut of = vec![None; module.functions()];
        let imported = 0..index_u32(module.imported);
        for (place, function) in (0..).zip(imported.chain(order.iter().copied())) {
            of[function as usize] = Some(place);
        }
        let kept = index_u32(module.imported + order.len());
        Self { of, order, kept }
    }

    /// The index of one of the module's own functions, if it is there.
    fn kept(&self, function: u32) -> Option<u32> {
        self.of.get(function as usize).copied().flatten()
    }

    /// The index of a function. What is beyond the original module's functions is what connects to the groups.
    fn get(&self, function: u32) -> Option<u32> {
        match self.of.get(function as usize) {
            Some(place) => *place,
            None => Some(self.kept + function - index_u32(self.of.len())),
        }
    }
}

struct Writer<'r, 'a> {
    module: &'r Module<'a>,
    links: &'r Links,
    places: Places,
}

impl Writer<'_, '_> {
    fn module(&self, needs: &Needs) -> Result<Vec<u8>, SplitRefusal> {
        let mut file = wasm_encoder::Module::new();
        let types = connect::types(self.module, self.links)?;
        self.appended(&mut file, SectionId::Type, index_u32(self.links.dispatched.len()) + 1, &types)?;
        self.raw(&mut file, SectionId::Import);
        file.section(&self.functions());
        file.section(&self.tables()?);
        self.raw(&mut file, SectionId::Memory);
        self.raw(&mut file, SectionId::Tag);
        file.section(&self.globals()?);
        file.section(&self.exports(needs)?);
        if let Some(start) = self.module.start {
            file.section(&StartSection { function_index: self.place(start)? });
        }
        file.section(&self.elements()?);
        self.raw(&mut file, SectionId::DataCount);
        self.code()?.write(&mut file);
        self.raw(&mut file, SectionId::Data);
        file.section(&self.names());
        Ok(file.finish())
    }

    /// A section as it is, if there is one.
    fn raw(&self, file: &mut wasm_encoder::Module, id: SectionId) {
        if let Some(data) = self.module.section(id as u8) {
            file.section(&RawSection { id: id as u8, data });
        }
    }

    fn appended(
        &self,
        file: &mut wasm_encoder::Module,
        id: SectionId,
        count: u32,
        entries: &[u8],
    ) -> Result<(), SplitRefusal> {
        let data = append_entries(self.module.section(id as u8), count, entries)?;
        file.section(&RawSection { id: id as u8, data: &data });
        Ok(())
    }

    fn reader(&self, id: SectionId) -> BinaryReader<'_> {
        BinaryReader::new(self.module.section(id as u8).unwrap_or(&[0]), 0)
    }

    fn place(&self, function: u32) -> Result<u32, SplitRefusal> {
        self.places.get(function).ok_or_else(|| SplitRefusal::InvalidOutput {
            part: "primary".into(),
            detail: format!("function {function} is referred to and not there"),
        })
    }

    /// Kept functions, dispatchers, entries, the loader.
    fn functions(&self) -> FunctionSection {
        let mut functions = FunctionSection::new();
        for function in &self.places.order {
            functions.function(self.module.type_index(*function));
        }
        let first_dispatched = connect::loader_type(self.module) + 1;
        let dispatchers = (first_dispatched..).zip(&self.links.dispatched).map(|(ty, _)| ty);
        for ty in dispatchers.chain(self.links.entered.iter().copied()) {
            functions.function(ty);
        }
        functions.function(connect::loader_type(self.module));
        functions
    }

    fn tables(&self) -> Result<TableSection, SplitRefusal> {
        let mut tables = TableSection::new();
        for table in TableSectionReader::new(self.reader(SectionId::Table))? {
            Renumber(self).parse_table(&mut tables, table?).map_err(fault)?;
        }
        tables.table(cold_table(self.links));
        Ok(tables)
    }

    fn globals(&self) -> Result<GlobalSection, SplitRefusal> {
        let mut globals = GlobalSection::new();
        for global in GlobalSectionReader::new(self.reader(SectionId::Global))? {
            Renumber(self).parse_global(&mut globals, global?).map_err(fault)?;
        }
        if self.links.entry_table.is_some() {
            globals.global(position_global(), &ConstExpr::i32_const(0));
        }
        Ok(globals)
    }

    /// What there was, what groups import, and the table of cold functions.
    fn exports(&self, needs: &Needs) -> Result<ExportSection, SplitRefusal> {
        let mut exports = ExportSection::new();
        for export in ExportSectionReader::new(self.reader(SectionId::Export))? {
            Renumber(self).parse_export(&mut exports, export?).map_err(fault)?;
        }
        exports.export(COLD_TABLE, ExportKind::Table, connect::cold_table(self.module));
        if self.links.entry_table.is_some() {
            exports.export(POSITION, ExportKind::Global, self.position());
        }
        for function in &needs.functions {
            exports.export(&Kind::Function.export_name(*function), ExportKind::Func, self.place(*function)?);
        }
        let lists = [
            (Kind::Table, ExportKind::Table, &needs.tables),
            (Kind::Memory, ExportKind::Memory, &needs.memories),
            (Kind::Global, ExportKind::Global, &needs.globals),
            (Kind::Tag, ExportKind::Tag, &needs.tags),
        ];
        for (kind, export_kind, indices) in lists {
            for index in indices {
                exports.export(&kind.export_name(*index), export_kind, *index);
            }
        }
        Ok(exports)
    }

    fn elements(&self) -> Result<ElementSection, SplitRefusal> {
        let mut elements = ElementSection::new();
        let segments = ElementSectionReader::new(self.reader(SectionId::Element))?;
        for (segment, read) in segments.into_iter().zip(&self.module.segments) {
            let is_entries = self.links.entry_table.as_ref().is_some_and(|table| table.is_filled_by(read));
            if is_entries {
                Entries(self).parse_element(&mut elements, segment?).map_err(fault)?;
            } else {
                Renumber(self).parse_element(&mut elements, segment?).map_err(fault)?;
            }
        }
        Ok(elements)
    }

    fn code(&self) -> Result<Code, SplitRefusal> {
        let mut code = Code::default();
        for function in &self.places.order {
            let body = self.module.body(*function).filter(|_| !self.links.is_cold(*function));
            match body {
                Some(body) => {
                    let written = body::rewrite((*function, body), self.module, self.links, self, &mut Renumber(self))?;
                    code.add(self.place(*function)?, written);
                }
                None => code.add_plain(&self.stub(*function)?),
            }
        }
        let loader = self.place(self.links.loader())?;
        for ty in &self.links.dispatched {
            code.add_plain(&connect::dispatcher(self.module, *ty, loader));
        }
        if let Some(entry_table) = &self.links.entry_table {
            for ty in &self.links.entered {
                code.add_plain(&connect::entry(self.module, self.links, *ty, entry_table.index, loader));
            }
        }
        code.add_plain(&connect::loader(self.module));
        Ok(code)
    }

    fn stub(&self, function: u32) -> Result<Function, SplitRefusal> {
        let Target::Dispatch { slot, dispatcher } = self.target(function)? else {
            let detail = format!("function {function} has no slot");
            return Err(SplitRefusal::InvalidOutput { part: "primary".into(), detail });
        };
        Ok(connect::stub(self.module, self.module.type_index(function), slot, dispatcher))
    }

    /// Names are for people who read traces. Other custom sections but hints speak of places in code that have moved.
    fn names(&self) -> NameSection {
        let mut functions = NameMap::new();
        let placed = self.module.names.iter().filter_map(|(function, name)| Some((self.places.kept(*function)?, name)));
        for (place, name) in placed.collect::<BTreeMap<_, _>>() {
            functions.append(place, name);
        }
        let mut names = NameSection::new();
        names.functions(&functions);
        names
    }
}

impl Home for Writer<'_, '_> {
    fn target(&self, callee: u32) -> Result<Target, SplitRefusal> {
        Ok(match self.links.way(self.module, None, callee)? {
            Way::Neighbour | Way::Primary => Target::Direct(self.place(callee)?),
            Way::Dispatch { slot, dispatcher } => Target::Dispatch { slot, dispatcher: self.place(dispatcher)? },
        })
    }

    fn position(&self) -> u32 {
        connect::position(self.module)
    }
}

/// Functions at their places in the primary.
struct Renumber<'w, 'r, 'a>(&'w Writer<'r, 'a>);

impl Reencode for Renumber<'_, '_, '_> {
    type Error = SplitRefusal;

    fn function_index(&mut self, index: u32) -> Result<u32, reencode::Error<SplitRefusal>> {
        self.0.place(index).map_err(reencode::Error::UserError)
    }
}

/// The same, with the entry of its type in the place of each cold function.
struct Entries<'w, 'r, 'a>(&'w Writer<'r, 'a>);

impl Reencode for Entries<'_, '_, '_> {
    type Error = SplitRefusal;

    fn function_index(&mut self, index: u32) -> Result<u32, reencode::Error<SplitRefusal>> {
        let Self(writer) = self;
        let entry = writer.links.is_cold(index).then(|| writer.links.entry(writer.module, index)).flatten();
        writer.place(entry.unwrap_or(index)).map_err(reencode::Error::UserError)
    }
}
