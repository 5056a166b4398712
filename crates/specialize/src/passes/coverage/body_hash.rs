//! A key for a function that says what it does, not where it is.
//!
//! Linking the same function into another program changes the numbers in it: of the functions it calls, of types and
//! globals, and the addresses of its constants. So the key is a hash of the function's type, its locals and its code
//! with those replaced,
//!
//! ```text
//! call f             what f is: its own code without its callees, or the name it is imported under
//! type, global       their types; an imported global's name
//! address            a mark. A constant counts as one if it lies in the memory behind the first 1024 bytes, or if
//!                    it is written longer than it need be, as linkers write what they fill in
//! segment            nothing
//! ```
//!
//! so that the key of a function changes with its code and with that of the functions it calls, and no further. It
//! also changes with what is not undone here: other constants in the code, such as indices of a table in a module that
//! an optimizer has shortened.
//! Two functions that differ in addresses only have one hash; whoever makes the map tells them apart by their order.

use wasm_encoder::Encode;
use wasmparser::{
    BinaryReader, BlockType, CompositeInnerType, FunctionBody, GlobalType, Imports, Operator, RecGroup, TypeRef,
};

use super::map::BodyHash;
use crate::passes::layout::{ModuleLayout, Unsupported, module_section};

/// Linkers leave the first bytes of memory unused, so that smaller numbers are no addresses.
const ADDRESS_MIN: u64 = 1024;
const PAGE_BYTES: u64 = 1 << 16;
/// Stands for an address.
const ADDRESS_MARK: u8 = 0xff;
/// Loads and stores of whole numbers and floats, all with an address's offset behind them.
const PLAIN_ACCESSES: std::ops::RangeInclusive<u8> = 0x28..=0x3e;

/// The keys of a module's functions, in order.
pub(super) fn body_hashes(
    module: &ModuleLayout<'_>,
    bodies: &[FunctionBody<'_>],
) -> Result<Vec<BodyHash>, Unsupported> {
    let surroundings = Surroundings::read(module)?;
    let mut alone = Vec::with_capacity(bodies.len());
    let mut callees = Vec::with_capacity(bodies.len());
    for (body, function) in bodies.iter().zip(surroundings.imported..) {
        let mut normal = Normal { surroundings: &surroundings, bytes: Vec::new(), callees: Vec::new() };
        normal.function(body, function)?;
        alone.push(BodyHash::of(&normal.bytes));
        callees.push(normal.callees);
    }
    let mut hashes = Vec::with_capacity(bodies.len());
    let mut bytes = Vec::new();
    for (own, callees) in alone.iter().zip(&callees) {
        bytes.clear();
        bytes.extend_from_slice(&own.0);
        for callee in callees {
            let defined = callee.checked_sub(surroundings.imported).and_then(|number| alone.get(number as usize));
            let what = defined.copied().unwrap_or_else(|| surroundings.function(*callee));
            bytes.extend_from_slice(&what.0);
        }
        hashes.push(BodyHash::of(&bytes));
    }
    Ok(hashes)
}

/// What the numbers in a body stand for.
struct Surroundings {
    types: Vec<BodyHash>,
    /// Imported functions by their names, defined ones by their types.
    functions: Vec<BodyHash>,
    imported: u32,
    globals: Vec<BodyHash>,
    /// Size of the first memory at the start.
    memory_bytes: u64,
}

impl Surroundings {
    fn read(module: &ModuleLayout<'_>) -> Result<Self, Unsupported> {
        let memory = module.memories.first();
        let page_bytes = memory.and_then(|memory| memory.page_size_log2).map_or(PAGE_BYTES, |log2| 1 << log2.min(16));
        let mut surroundings = Self {
            types: Vec::new(),
            functions: Vec::new(),
            imported: module.counts.functions_imported,
            globals: Vec::new(),
            memory_bytes: memory.map_or(0, |memory| memory.initial.saturating_mul(page_bytes)),
        };
        if let Some(section) = module.section(module_section::TYPE) {
            for group in section.items::<RecGroup>()? {
                surroundings.types.extend(group?.into_types().map(|ty| match ty.composite_type.inner {
                    CompositeInnerType::Func(function) => BodyHash::of(function.to_string().as_bytes()),
                    other => BodyHash::of(other.to_string().as_bytes()),
                }));
            }
        }
        if let Some(section) = module.section(module_section::IMPORT) {
            for import in section.items::<Imports<'_>>()?.into_imports() {
                let import = import?;
                let name = format!("{}\0{}", import.module, import.name);
                match import.ty {
                    TypeRef::Func(_) | TypeRef::FuncExact(_) => {
                        surroundings.functions.push(BodyHash::of(name.as_bytes()));
                    }
                    TypeRef::Global(ty) => surroundings.globals.push(global_hash(&ty, &name)),
                    TypeRef::Table(_) | TypeRef::Memory(_) | TypeRef::Tag(_) => {}
                }
            }
        }
        if let Some(section) = module.section(module_section::FUNCTION) {
            for ty in section.items::<u32>()? {
                let ty = surroundings.ty(ty?);
                surroundings.functions.push(ty);
            }
        }
        surroundings.globals.extend(module.globals_defined.iter().map(|ty| global_hash(ty, "")));
        Ok(surroundings)
    }

    // Validation has checked every index; the default is for the case that it is wrong.
    fn ty(&self, index: u32) -> BodyHash {
        self.types.get(index as usize).copied().unwrap_or_default()
    }

    fn function(&self, index: u32) -> BodyHash {
        self.functions.get(index as usize).copied().unwrap_or_default()
    }

    fn global(&self, index: u32) -> BodyHash {
        self.globals.get(index as usize).copied().unwrap_or_default()
    }

    fn is_address(&self, value: u64) -> bool {
        (ADDRESS_MIN..self.memory_bytes).contains(&value)
    }
}

fn global_hash(ty: &GlobalType, name: &str) -> BodyHash {
    BodyHash::of(format!("{} {} {name}", ty.content_type, ty.mutable).as_bytes())
}

/// A body with its numbers replaced.
struct Normal<'s> {
    surroundings: &'s Surroundings,
    bytes: Vec<u8>,
    callees: Vec<u32>,
}

impl Normal<'_> {
    fn function(&mut self, body: &FunctionBody<'_>, function: u32) -> Result<(), Unsupported> {
        let own_type = self.surroundings.function(function);
        self.bytes.extend_from_slice(&own_type.0);
        let bytes = body.as_bytes();
        let base = body.range().start;
        let mut operators = body.get_operators_reader()?;
        let locals_bytes = operators.original_position() - base;
        self.bytes.extend_from_slice(bytes.get(..locals_bytes).unwrap_or_default());
        while !operators.eof() {
            let start = operators.original_position() - base;
            let operator = operators.read()?;
            let raw = bytes.get(start..operators.original_position() - base).unwrap_or_default();
            self.operator(&operator, raw);
        }
        Ok(())
    }

    fn operator(&mut self, operator: &Operator<'_>, raw: &[u8]) {
        match *operator {
            Operator::Call { function_index }
            | Operator::ReturnCall { function_index }
            | Operator::RefFunc { function_index } => {
                self.replaced(raw, 1, self.surroundings.function(function_index));
                self.callees.push(function_index);
            }
            Operator::CallIndirect { type_index, table_index }
            | Operator::ReturnCallIndirect { type_index, table_index } => {
                self.replaced(raw, 1, self.surroundings.ty(type_index));
                table_index.encode(&mut self.bytes);
            }
            Operator::CallRef { type_index } | Operator::ReturnCallRef { type_index } => {
                self.replaced(raw, 1, self.surroundings.ty(type_index));
            }
            Operator::Block { blockty: BlockType::FuncType(ty) }
            | Operator::Loop { blockty: BlockType::FuncType(ty) }
            | Operator::If { blockty: BlockType::FuncType(ty) } => self.replaced(raw, 1, self.surroundings.ty(ty)),
            Operator::GlobalGet { global_index } | Operator::GlobalSet { global_index } => {
                self.replaced(raw, 1, self.surroundings.global(global_index));
            }
            Operator::I32Const { value } => {
                self.constant(raw, u64::from(value.cast_unsigned()), encoded_bytes(&value));
            }
            Operator::I64Const { value } => self.constant(raw, value.cast_unsigned(), encoded_bytes(&value)),
            Operator::MemoryInit { .. }
            | Operator::DataDrop { .. }
            | Operator::TableInit { .. }
            | Operator::ElemDrop { .. } => self.bytes.extend_from_slice(raw.get(..2).unwrap_or(raw)),
            _ if raw.first().is_some_and(|opcode| PLAIN_ACCESSES.contains(opcode)) => self.access(raw),
            _ => self.bytes.extend_from_slice(raw),
        }
    }

    fn replaced(&mut self, raw: &[u8], opcode_bytes: usize, by: BodyHash) {
        self.bytes.extend_from_slice(raw.get(..opcode_bytes).unwrap_or(raw));
        self.bytes.extend_from_slice(&by.0);
    }

    fn constant(&mut self, raw: &[u8], value: u64, shortest_bytes: usize) {
        let is_padded = raw.len() > 1 + shortest_bytes;
        if is_padded || self.surroundings.is_address(value) {
            self.bytes.extend_from_slice(raw.get(..1).unwrap_or_default());
            self.bytes.push(ADDRESS_MARK);
        } else {
            self.bytes.extend_from_slice(raw);
        }
    }

    /// A load or store, whose offset may be an address.
    fn access(&mut self, raw: &[u8]) {
        let mut reader = BinaryReader::new(raw.get(1..).unwrap_or_default(), 0);
        let mut read = || -> wasmparser::Result<(usize, u64)> {
            let flags = reader.read_var_u32()?;
            if flags & 0x40 != 0 {
                reader.read_var_u32()?;
            }
            Ok((reader.original_position(), reader.read_var_u64()?))
        };
        match read() {
            Ok((before_offset, offset)) if self.surroundings.is_address(offset) => {
                self.bytes.extend_from_slice(raw.get(..=before_offset).unwrap_or(raw));
                self.bytes.push(ADDRESS_MARK);
            }
            _ => self.bytes.extend_from_slice(raw),
        }
    }
}

fn encoded_bytes(number: &impl Encode) -> usize {
    let mut bytes = Vec::with_capacity(10);
    number.encode(&mut bytes);
    bytes.len()
}
