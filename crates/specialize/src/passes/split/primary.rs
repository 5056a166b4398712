//! The main module without its cold bodies. Everything that is new stands behind what there was.

use std::collections::BTreeMap;

use wasm_encoder::reencode::{Reencode, RoundtripReencoder};
use wasm_encoder::{BlockType, Encode, ExportKind, Instruction, RefType, SectionId, TableType, ValType};

use super::COLD_TABLE;
use super::hot::Temperature;
use super::links::{LOADER_SLOT, Links};
use super::module::{Module, index_u32};
use super::needs::{Kind, Needs};
use super::raw::{HEADER_BYTES, append_entries, append_section};
use super::refusal::SplitRefusal;

/// The order of sections in a module; custom sections may stand anywhere.
const ORDER: [SectionId; 13] = [
    SectionId::Type,
    SectionId::Import,
    SectionId::Function,
    SectionId::Table,
    SectionId::Memory,
    SectionId::Tag,
    SectionId::Global,
    SectionId::Export,
    SectionId::Start,
    SectionId::Element,
    SectionId::DataCount,
    SectionId::Code,
    SectionId::Data,
];
const FUNCTION_TYPE: u8 = 0x60;

/// The type of the table of cold functions, which groups import as it is.
pub(super) fn cold_table(links: &Links) -> TableType {
    let slots = u64::from(links.slots);
    TableType { element_type: RefType::FUNCREF, minimum: slots, maximum: Some(slots), table64: false, shared: false }
}

/// Writes the module.
pub(super) fn rewrite(
    module: &Module<'_>,
    temperature: &[Temperature],
    links: &Links,
    needs: &Needs,
) -> Result<Vec<u8>, SplitRefusal> {
    let rewriter = Rewriter { module, temperature, links };
    let dispatchers = index_u32(links.dispatched.len());
    let append = |id: SectionId, count: u32, entries: &[u8]| {
        Ok::<_, SplitRefusal>((id as u8, append_entries(module.section(id as u8), count, entries)?))
    };
    let mut table = Vec::new();
    cold_table(links).encode(&mut table);
    let (exports, export_count) = rewriter.exports(needs);
    let changed = BTreeMap::from([
        append(SectionId::Type, dispatchers + 1, &rewriter.types()?)?,
        append(SectionId::Function, dispatchers, &rewriter.dispatcher_types())?,
        append(SectionId::Table, 1, &table)?,
        append(SectionId::Export, export_count, &exports)?,
        (SectionId::Code as u8, rewriter.code()?),
    ]);
    Ok(assemble(module, &changed))
}

struct Rewriter<'r, 'a> {
    module: &'r Module<'a>,
    temperature: &'r [Temperature],
    links: &'r Links,
}

impl Rewriter<'_, '_> {
    /// Index of the loader's type; those of the dispatchers follow.
    fn loader_type(&self) -> u32 {
        index_u32(self.module.types.len())
    }

    /// Index of the table of cold functions: the last.
    fn cold_table(&self) -> u32 {
        index_u32(self.module.tables.len())
    }

    fn types(&self) -> Result<Vec<u8>, SplitRefusal> {
        let mut entries = Vec::new();
        function_type(&mut entries, &[ValType::I32], &[]);
        for ty in &self.links.dispatched {
            let ty = &self.module.types[*ty as usize];
            let list = |types: &[wasmparser::ValType]| {
                types
                    .iter()
                    .map(|ty| RoundtripReencoder.val_type(*ty).map_err(unwritable))
                    .collect::<Result<Vec<_>, _>>()
            };
            let mut parameters = list(ty.params())?;
            parameters.push(ValType::I32);
            function_type(&mut entries, &parameters, &list(ty.results())?);
        }
        Ok(entries)
    }

    fn dispatcher_types(&self) -> Vec<u8> {
        let mut entries = Vec::new();
        for (ty, _) in (self.loader_type() + 1..).zip(&self.links.dispatched) {
            ty.encode(&mut entries);
        }
        entries
    }

    /// What groups import, and the table of cold functions.
    fn exports(&self, needs: &Needs) -> (Vec<u8>, u32) {
        let mut entries = Vec::new();
        let mut count = 0;
        let mut export = |name: &str, kind: ExportKind, index: u32| {
            name.encode(&mut entries);
            kind.encode(&mut entries);
            index.encode(&mut entries);
            count += 1;
        };
        export(COLD_TABLE, ExportKind::Table, self.cold_table());
        let lists = [
            (Kind::Function, ExportKind::Func, &needs.functions),
            (Kind::Table, ExportKind::Table, &needs.tables),
            (Kind::Memory, ExportKind::Memory, &needs.memories),
            (Kind::Global, ExportKind::Global, &needs.globals),
            (Kind::Tag, ExportKind::Tag, &needs.tags),
        ];
        for (kind, export_kind, indices) in lists {
            for index in indices {
                export(&kind.export_name(*index), export_kind, *index);
            }
        }
        (entries, count)
    }

    fn code(&self) -> Result<Vec<u8>, SplitRefusal> {
        let mut code = Vec::with_capacity(self.module.bytes.len() / 4);
        (self.module.bodies.len() + self.links.dispatched.len()).encode(&mut code);
        for (function, body) in self.module.defined() {
            match self.temperature[function as usize] {
                Temperature::Hot(_) => body.raw.as_bytes().encode(&mut code),
                Temperature::Cold if self.links.stubs.contains(&function) => {
                    self.stub(function)?.encode(&mut code);
                }
                // Nothing here refers to it: groups reach it by its slot, and nobody a dead one.
                Temperature::Cold | Temperature::Dead => body_of(&[Instruction::Unreachable]).encode(&mut code),
            }
        }
        for ty in &self.links.dispatched {
            self.dispatcher(*ty).encode(&mut code);
        }
        Ok(code)
    }

    /// Passes its arguments and its slot on. A tail call, so that it takes no stack and is gone when the function runs.
    fn stub(&self, function: u32) -> Result<Vec<u8>, SplitRefusal> {
        let (slot, dispatcher) = self.links.slot(self.module, function).ok_or_else(|| SplitRefusal::InvalidOutput {
            part: "primary".into(),
            detail: format!("function {function} has no slot"),
        })?;
        let parameters = self.parameters(self.module.type_index(function));
        let mut instructions: Vec<Instruction<'_>> = (0..parameters).map(Instruction::LocalGet).collect();
        instructions.push(Instruction::I32Const(slot.cast_signed()));
        instructions.push(Instruction::ReturnCall(dispatcher));
        Ok(body_of(&instructions))
    }

    /// Fills the slot if it is empty, and calls what is in it.
    fn dispatcher(&self, type_index: u32) -> Vec<u8> {
        let parameters = self.parameters(type_index);
        let slot = Instruction::LocalGet(parameters);
        let table_index = self.cold_table();
        let mut instructions = vec![
            slot.clone(),
            Instruction::TableGet(table_index),
            Instruction::RefIsNull,
            Instruction::If(BlockType::Empty),
            slot.clone(),
            Instruction::I32Const(LOADER_SLOT.cast_signed()),
            Instruction::CallIndirect { type_index: self.loader_type(), table_index },
            Instruction::End,
        ];
        instructions.extend((0..parameters).map(Instruction::LocalGet));
        instructions.push(slot);
        instructions.push(Instruction::ReturnCallIndirect { type_index, table_index });
        body_of(&instructions)
    }

    fn parameters(&self, type_index: u32) -> u32 {
        index_u32(self.module.types[type_index as usize].params().len())
    }
}

/// A body without locals.
fn body_of(instructions: &[Instruction<'_>]) -> Vec<u8> {
    let mut body = vec![0];
    for instruction in instructions {
        instruction.encode(&mut body);
    }
    Instruction::End.encode(&mut body);
    body
}

fn function_type(entries: &mut Vec<u8>, parameters: &[ValType], results: &[ValType]) {
    entries.push(FUNCTION_TYPE);
    for list in [parameters, results] {
        list.len().encode(entries);
        for ty in list {
            ty.encode(entries);
        }
    }
}

/// The module with sections changed or added where they belong. Of the custom sections only names are kept: others
/// speak of places in code that have moved.
fn assemble(module: &Module<'_>, changed: &BTreeMap<u8, Vec<u8>>) -> Vec<u8> {
    let mut file = module.bytes[..HEADER_BYTES].to_vec();
    for id in ORDER {
        let id = id as u8;
        match (changed.get(&id), module.section(id)) {
            (Some(content), _) => append_section(&mut file, id, content),
            (None, Some(content)) => append_section(&mut file, id, content),
            (None, None) => {}
        }
    }
    for section in module.sections.iter().filter(|section| section.id == SectionId::Custom as u8) {
        let content = &module.bytes[section.range.clone()];
        // The content begins with the name's length and the name.
        if content.starts_with(b"\x04name") {
            append_section(&mut file, section.id, content);
        }
    }
    file
}

#[expect(clippy::needless_pass_by_value, reason = "it is given to `map_err`")]
fn unwritable(error: wasm_encoder::reencode::Error<std::convert::Infallible>) -> SplitRefusal {
    SplitRefusal::InvalidOutput { part: "primary".into(), detail: error.to_string() }
}
