//! A name for a function that survives a new build of its module: the hash of its type and normalised body.
//!
//! Indices shift when any function, type or global is added before, and addresses shift when any text changes. So
//! what a body says by index is replaced by what stands there, and what may be an address is left out:
//!
//! | in the body | in the hash |
//! |---|---|
//! | a call or reference of an imported function | the import's two names and its type |
//! | a call or reference of a function of the module | its type |
//! | a function type (of a block, of an indirect call, ...) | its parameters and results |
//! | an imported global | the import's two names |
//! | another global, a table, a tag | its type |
//! | a segment of data or elements | nothing |
//! | an `i32.const` or a memory offset of [`ADDRESS_MIN`] or more | nothing: code is the same wherever its data lies |
//! | everything else, a memory's index included | as it stands |
//!
//! Two functions may have the same hash, if they differ only in what is left out. Whoever knows something of a hash
//! knows it of all of them; a caller that must not mix them up needs their indices as well.
//!
//! A callee is known by its type only and not by its own hash, so that a change of one function leaves the names of
//! its callers alone. Types of the GC proposal are taken by index; such modules are refused by the passes anyway.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use wasm_encoder::reencode::{self, Reencode, RoundtripReencoder};
use wasm_encoder::{Encode, Instruction};
use wasmparser::{
    BinaryReaderError, CompositeInnerType, FuncType, FunctionBody, GlobalType, MemArg, Operator, Parser, Payload,
    TableType, TypeRef, UnpackedIndex,
};

/// The hash of a function's normalised body, written as 32 hexadecimal digits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct BodyHash(pub [u8; 16]);

/// Smallest number that is taken for an address: no linker puts data below it.
pub const ADDRESS_MIN: u32 = 1024;

/// Part of every hash: bodies normalised in another way have other names.
const CONTEXT: &str = "forerun 2026 normalised function body 1";

/// Why there are no hashes.
#[derive(Debug, thiserror::Error)]
pub enum BodyHashError {
    /// The bytes are no core module.
    #[error("not a core module: {0}")]
    Malformed(#[from] BinaryReaderError),
    /// An instruction or type that cannot be written again.
    #[error("a function of the module cannot be read: {0}")]
    Unreadable(String),
}

/// The hash of each function that `module` defines, in order of index: the first belongs to the function whose index
/// is the number of imported functions.
///
/// The module need not be valid; if it is not, the hashes say nothing.
///
/// # Errors
/// The bytes cannot be read as a core module.
pub fn body_hashes(module: &[u8]) -> Result<Vec<BodyHash>, BodyHashError> {
    let mut names = Names::default();
    let mut bodies = Vec::new();
    for payload in Parser::new(0).parse_all(module) {
        match payload? {
            Payload::CodeSectionEntry(body) => bodies.push(body),
            payload => names.take_note(payload)?,
        }
    }
    let mut scratch = Vec::new();
    bodies.iter().enumerate().map(|(index, body)| names.hash(index, body, &mut scratch)).collect()
}

/// What stands at each index of a module, as a number that does not depend on the index.
#[derive(Default)]
struct Names {
    types: Vec<u32>,
    functions: Vec<u32>,
    globals: Vec<u32>,
    tables: Vec<u32>,
    tags: Vec<u32>,
    functions_imported: usize,
}

impl Names {
    fn take_note(&mut self, payload: Payload<'_>) -> Result<(), BodyHashError> {
        match payload {
            Payload::TypeSection(section) => {
                for group in section {
                    for ty in group?.into_types() {
                        let index = u32::try_from(self.types.len()).unwrap_or(u32::MAX);
                        self.types.push(match &ty.composite_type.inner {
                            CompositeInnerType::Func(ty) => function_type(ty)?,
                            _ => index,
                        });
                    }
                }
            }
            Payload::ImportSection(section) => {
                for import in section.into_imports() {
                    let import = import?;
                    self.import(import.module, import.name, import.ty)?;
                }
                self.functions_imported = self.functions.len();
            }
            Payload::FunctionSection(section) => {
                for ty in section {
                    let name = self.type_of(ty?);
                    self.functions.push(name);
                }
            }
            Payload::TableSection(section) => {
                for table in section {
                    self.tables.push(table_type(table?.ty)?);
                }
            }
            Payload::GlobalSection(section) => {
                for global in section {
                    self.globals.push(global_type(global?.ty)?);
                }
            }
            Payload::TagSection(section) => {
                for tag in section {
                    let name = self.type_of(tag?.func_type_idx);
                    self.tags.push(name);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn import(&mut self, module: &str, name: &str, ty: TypeRef) -> Result<(), BodyHashError> {
        let named = |ty: u32| name_of(&[b"import", module.as_bytes(), name.as_bytes(), &ty.to_le_bytes()]);
        match ty {
            TypeRef::Func(ty) | TypeRef::FuncExact(ty) => self.functions.push(named(self.type_of(ty))),
            TypeRef::Global(ty) => self.globals.push(named(global_type(ty)?)),
            TypeRef::Table(ty) => self.tables.push(table_type(ty)?),
            TypeRef::Tag(ty) => self.tags.push(self.type_of(ty.func_type_idx)),
            TypeRef::Memory(_) => {}
        }
        Ok(())
    }

    fn type_of(&self, index: u32) -> u32 {
        at(&self.types, index)
    }

    fn hash(&self, index: usize, body: &FunctionBody<'_>, scratch: &mut Vec<u8>) -> Result<BodyHash, BodyHashError> {
        let mut hasher = blake3::Hasher::new_derive_key(CONTEXT);
        let ty = self.functions.get(self.functions_imported + index).copied().unwrap_or(u32::MAX);
        hasher.update(&ty.to_le_bytes());
        let mut normalise = Normalise { names: self };
        scratch.clear();
        for local in body.get_locals_reader()? {
            let (count, ty) = local?;
            count.encode(scratch);
            normalise.val_type(ty).map_err(unreadable)?.encode(scratch);
        }
        hasher.update(&(scratch.len() as u64).to_le_bytes()).update(scratch);
        scratch.clear();
        let mut operators = body.get_operators_reader()?;
        while !operators.eof() {
            normalise.instruction(operators.read()?).map_err(unreadable)?.encode(scratch);
        }
        hasher.update(scratch);
        let mut hash = BodyHash::default();
        hasher.finalize_xof().fill(&mut hash.0);
        Ok(hash)
    }
}

impl BodyHash {
    /// What tells the second, third, ... function with this hash from the first: another hash.
    pub fn numbered(self, earlier: u32) -> Self {
        if earlier == 0 {
            return self;
        }
        let mut hash = Self::default();
        let digest = blake3::hash(&[&self.0[..], &earlier.to_le_bytes()].concat());
        hash.0.copy_from_slice(&digest.as_bytes()[..16]);
        hash
    }
}

impl fmt::Display for BodyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl From<BodyHash> for String {
    fn from(hash: BodyHash) -> Self {
        hash.to_string()
    }
}

/// The text is not 32 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a body hash has 32 hexadecimal digits")]
pub struct NoBodyHash;

impl FromStr for BodyHash {
    type Err = NoBodyHash;

    fn from_str(text: &str) -> Result<Self, NoBodyHash> {
        if text.len() != 32 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(NoBodyHash);
        }
        u128::from_str_radix(text, 16).map(|number| Self(number.to_be_bytes())).map_err(|_| NoBodyHash)
    }
}

impl TryFrom<String> for BodyHash {
    type Error = NoBodyHash;

    fn try_from(text: String) -> Result<Self, NoBodyHash> {
        text.parse()
    }
}

/// Puts names in the place of indices.
struct Normalise<'a> {
    names: &'a Names,
}

type Reencoded<T> = Result<T, reencode::Error<std::convert::Infallible>>;

impl Reencode for Normalise<'_> {
    type Error = std::convert::Infallible;

    fn function_index(&mut self, index: u32) -> Reencoded<u32> {
        Ok(at(&self.names.functions, index))
    }

    fn type_index(&mut self, index: u32) -> Reencoded<u32> {
        Ok(self.names.type_of(index))
    }

    fn type_index_unpacked(&mut self, index: UnpackedIndex) -> Reencoded<u32> {
        Ok(index.as_module_index().map_or(u32::MAX, |index| self.names.type_of(index)))
    }

    fn global_index(&mut self, index: u32) -> Reencoded<u32> {
        Ok(at(&self.names.globals, index))
    }

    fn table_index(&mut self, index: u32) -> Reencoded<u32> {
        Ok(at(&self.names.tables, index))
    }

    fn tag_index(&mut self, index: u32) -> Reencoded<u32> {
        Ok(at(&self.names.tags, index))
    }

    fn data_index(&mut self, _: u32) -> Reencoded<u32> {
        Ok(0)
    }

    fn element_index(&mut self, _: u32) -> Reencoded<u32> {
        Ok(0)
    }

    fn mem_arg(&mut self, arg: MemArg) -> Reencoded<wasm_encoder::MemArg> {
        let offset = if arg.offset >= u64::from(ADDRESS_MIN) { u64::from(ADDRESS_MIN) } else { arg.offset };
        Ok(wasm_encoder::MemArg { offset, align: u32::from(arg.align), memory_index: arg.memory })
    }

    fn instruction<'a>(&mut self, operator: Operator<'a>) -> Reencoded<Instruction<'a>> {
        match operator {
            // Numbers with the top bit set are masks and negative numbers.
            Operator::I32Const { value } if value >= ADDRESS_MIN.cast_signed() => {
                Ok(Instruction::I32Const(ADDRESS_MIN.cast_signed()))
            }
            operator => reencode::utils::instruction(self, operator),
        }
    }
}

/// The name at `index`; one that nothing has where the module names what it does not have.
fn at(names: &[u32], index: u32) -> u32 {
    names.get(index as usize).copied().unwrap_or(u32::MAX)
}

fn function_type(ty: &FuncType) -> Result<u32, BodyHashError> {
    let mut bytes = Vec::new();
    for list in [ty.params(), ty.results()] {
        list.len().encode(&mut bytes);
        for ty in list {
            RoundtripReencoder.val_type(*ty).map_err(unreadable)?.encode(&mut bytes);
        }
    }
    Ok(name_of(&[b"function", &bytes]))
}

fn global_type(ty: GlobalType) -> Result<u32, BodyHashError> {
    let mut bytes = Vec::new();
    RoundtripReencoder.global_type(ty).map_err(unreadable)?.encode(&mut bytes);
    Ok(name_of(&[b"global", &bytes]))
}

/// Only what the table holds: its size changes with the number of functions.
fn table_type(ty: TableType) -> Result<u32, BodyHashError> {
    let mut bytes = Vec::new();
    RoundtripReencoder.ref_type(ty.element_type).map_err(unreadable)?.encode(&mut bytes);
    Ok(name_of(&[b"table", &bytes]))
}

fn name_of(parts: &[&[u8]]) -> u32 {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(&(part.len() as u64).to_le_bytes()).update(part);
    }
    let [a, b, c, d, ..] = *hasher.finalize().as_bytes();
    u32::from_le_bytes([a, b, c, d])
}

#[expect(clippy::needless_pass_by_value, reason = "it is given to `map_err`")]
fn unreadable(error: reencode::Error<std::convert::Infallible>) -> BodyHashError {
    BodyHashError::Unreadable(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hashes(wat: &str) -> Vec<BodyHash> {
        body_hashes(&wat::parse_str(wat).unwrap()).unwrap()
    }

    const MODULE: &str = r#"(module
        (type $unary (func (param i32) (result i32)))
        (import "env" "log" (func $log (param i32)))
        (memory 32)
        (global $sp (mut i32) (i32.const 1048576))
        (global $other i32 (i32.const 9))
        (table 4 funcref)
        (func $leaf (type $unary) (i32.add (local.get 0) (i32.const 7)))
        (func $work (type $unary) (local i64)
            (call $log (i32.const 1050000))
            (global.set $sp (i32.sub (global.get $sp) (i32.const 16)))
            (drop (i32.load offset=1060000 (i32.const 0)))
            (drop (i32.load offset=8 (local.get 0)))
            (drop (call_indirect (type $unary) (local.get 0) (i32.const 2)))
            (call $leaf (local.get 0))))"#;

    #[test]
    fn a_body_keeps_its_name_when_its_module_grows() {
        let grown = MODULE
            .replace("(type $unary (func", "(type (func (param f64))) (type $unary (func")
            .replace(r#"(import "env" "log""#, r#"(import "env" "new" (func)) (import "env" "log""#)
            .replace("(global $sp", "(global i64 (i64.const 1)) (global $sp")
            .replace("(table 4", "(table 900")
            .replace("(func $leaf", "(func $added (param f64)) (func $leaf")
            .replace("1050000", "1059999")
            .replace("offset=1060000", "offset=1070000");
        assert_eq!(hashes(MODULE), hashes(&grown)[1..]);
    }

    #[test]
    fn what_a_function_does_is_in_its_name() {
        let before = hashes(MODULE);
        for (from, to) in [
            ("i32.const 7", "i32.const 8"),
            ("i32.add", "i32.mul"),
            (r#""env" "log""#, r#""env" "trace""#),
            ("offset=8", "offset=12"),
            ("(local i64)", "(local f64)"),
            ("(global.get $sp)", "(global.get $other)"),
        ] {
            assert_ne!(before, hashes(&MODULE.replace(from, to)), "{from}");
        }
    }

    #[test]
    fn the_type_of_a_function_and_of_a_callee_is_in_its_name() {
        let of = |ty: &str| hashes(&format!("(module (func $a (param {ty})) (func (unreachable) (call $a)))"));
        let (i32s, i64s) = (of("i32"), of("i64"));
        assert_ne!(i32s[0], i64s[0]);
        assert_ne!(i32s[1], i64s[1]);
    }

    #[test]
    fn a_change_of_a_callee_is_not() {
        let changed = hashes(&MODULE.replace("i32.const 7", "i32.const 8"));
        assert_ne!(hashes(MODULE)[0], changed[0]);
        assert_eq!(hashes(MODULE)[1], changed[1]);
    }

    /// A golden: whoever changes it makes what was learnt of every function worthless, and changes [`CONTEXT`].
    #[test]
    fn the_hash_stays_as_it_is() {
        let hex: Vec<String> = hashes(MODULE).iter().map(ToString::to_string).collect();
        assert_eq!(hex, ["8678d55fe3de052f13dceb3bdc6ffecd", "a8729b4f76d4ebe3e9e8a6c87d0ac22e"]);
    }

    #[test]
    fn a_hash_reads_as_it_was_written() {
        let hash = hashes(MODULE)[0];
        assert_eq!(hash.to_string().parse(), Ok(hash));
        for wrong in ["", "00", &"g".repeat(32), "+0000000000000000000000000000000", &"0".repeat(33)] {
            assert_eq!(wrong.parse::<BodyHash>(), Err(NoBodyHash), "{wrong}");
        }
        assert_eq!(hash.numbered(0), hash);
        assert_ne!(hash.numbered(1), hash.numbered(2));
    }

    #[test]
    fn torn_and_strange_modules_are_read_or_refused() {
        let module = wat::parse_str(MODULE).unwrap();
        for end in 0..module.len() {
            // Only that it returns: a module cut between sections is one, with fewer functions.
            let _ = body_hashes(&module[..end]);
        }
        for at in 8..module.len() {
            let mut torn = module.clone();
            torn[at] ^= 0xff;
            let _ = body_hashes(&torn);
        }
        let gc = "(module (type $s (struct (field i32))) (func (result (ref $s)) (struct.new $s (i32.const 1))))";
        assert_eq!(hashes(gc).len(), 1);
    }
}
