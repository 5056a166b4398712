//! What stands in the primary between hot code and the groups: stubs, dispatchers, entries, and the way to the loader.
//!
//! The loader is called, unless the component may not be left: then a call out of it is a trap. What the canonical ABI
//! enters there goes through a front, which counts how deep it is. Below one, the table of cold functions, which cannot
//! grow, is told to grow by the number that is wanted, and a number that tells it from tables of the guest's own: the
//! engine asks the host first, which takes the number and refuses. Then the guest turns in a loop whose every turn looks
//! whether the epoch has ended. When it has, which the host may bring about, the host has the store in its hands, loads
//! the group, and sets the global that ends the loop.

use wasm_encoder::reencode::{Reencode, RoundtripReencoder};
use wasm_encoder::{BlockType, Encode, Function, HeapType, Instruction, ValType};

use super::ASKING;
use super::links::{LOADER_SLOT, Links};
use super::module::{Module, index_u32};
use super::refusal::{SplitRefusal, fault};

const FUNCTION_TYPE: u8 = 0x60;

/// The types behind the module's own: the loader's, and one for each dispatcher.
pub(super) fn types(module: &Module<'_>, links: &Links) -> Result<Vec<u8>, SplitRefusal> {
    let list = |types: &[wasmparser::ValType]| -> Result<Vec<ValType>, SplitRefusal> {
        types.iter().map(|ty| RoundtripReencoder.val_type(*ty).map_err(fault)).collect()
    };
    let mut entries = Vec::new();
    function_type(&mut entries, &[ValType::I32], &[]);
    for ty in &links.dispatched {
        let ty = &module.types[*ty as usize];
        let mut parameters = list(ty.params())?;
        parameters.push(ValType::I32);
        function_type(&mut entries, &parameters, &list(ty.results())?);
    }
    Ok(entries)
}

/// Passes its arguments and its slot on. A tail call, so that it takes no stack and is gone when the function runs.
pub(super) fn stub(module: &Module<'_>, type_index: u32, slot: u32, dispatcher: u32) -> Function {
    let mut stub = Function::new([]);
    arguments(&mut stub, parameters(module, type_index));
    stub.instruction(&Instruction::I32Const(slot.cast_signed()));
    stub.instruction(&Instruction::ReturnCall(dispatcher));
    stub.instruction(&Instruction::End);
    stub
}

/// Fills the slot if it is empty, and calls what is in it.
pub(super) fn dispatcher(module: &Module<'_>, type_index: u32, loader: u32) -> Function {
    let parameters = parameters(module, type_index);
    let slot = Instruction::LocalGet(parameters);
    let table_index = cold_table(module);
    let mut dispatcher = Function::new([]);
    dispatcher.instruction(&slot);
    dispatcher.instruction(&Instruction::TableGet(table_index));
    dispatcher.instruction(&Instruction::RefIsNull);
    dispatcher.instruction(&Instruction::If(BlockType::Empty));
    dispatcher.instruction(&slot);
    dispatcher.instruction(&Instruction::Call(loader));
    dispatcher.instruction(&Instruction::End);
    arguments(&mut dispatcher, parameters);
    dispatcher.instruction(&slot);
    dispatcher.instruction(&Instruction::ReturnCallIndirect { type_index, table_index });
    dispatcher.instruction(&Instruction::End);
    dispatcher
}

/// What stands for a cold function in the table of entries: has the group of the position loaded that the call meant,
/// and calls what the group has put there, which replaces this. If it does not, the loader refuses to load the same
/// group again.
pub(super) fn entry(module: &Module<'_>, links: &Links, type_index: u32, table_index: u32, loader: u32) -> Function {
    let parameters = parameters(module, type_index);
    let meant = parameters;
    let mut entry = Function::new([(1, ValType::I32)]);
    entry.instruction(&Instruction::GlobalGet(position(module)));
    entry.instruction(&Instruction::LocalTee(meant));
    entry.instruction(&Instruction::I32Const(links.slots.cast_signed()));
    entry.instruction(&Instruction::I32Add);
    entry.instruction(&Instruction::Call(loader));
    arguments(&mut entry, parameters);
    entry.instruction(&Instruction::LocalGet(meant));
    entry.instruction(&Instruction::ReturnCallIndirect { type_index, table_index });
    entry.instruction(&Instruction::End);
    entry
}

/// Has the slot or position filled whose number is the parameter.
pub(super) fn loader(module: &Module<'_>) -> Function {
    let number = Instruction::LocalGet(0);
    let mut loader = Function::new([]);
    loader.instruction(&Instruction::GlobalGet(depth(module)));
    loader.instruction(&Instruction::I32Eqz);
    loader.instruction(&Instruction::If(BlockType::Empty));
    loader.instruction(&number);
    loader.instruction(&Instruction::I32Const(LOADER_SLOT.cast_signed()));
    let type_index = loader_type(module);
    loader.instruction(&Instruction::ReturnCallIndirect { type_index, table_index: cold_table(module) });
    loader.instruction(&Instruction::End);
    loader.instruction(&Instruction::I32Const(0));
    loader.instruction(&Instruction::GlobalSet(filled(module)));
    loader.instruction(&Instruction::RefNull(HeapType::FUNC));
    loader.instruction(&number);
    loader.instruction(&Instruction::I32Const(ASKING.cast_signed()));
    loader.instruction(&Instruction::I32Add);
    loader.instruction(&Instruction::TableGrow(cold_table(module)));
    loader.instruction(&Instruction::Drop);
    loader.instruction(&Instruction::Loop(BlockType::Empty));
    loader.instruction(&Instruction::GlobalGet(filled(module)));
    loader.instruction(&Instruction::I32Eqz);
    loader.instruction(&Instruction::BrIf(0));
    loader.instruction(&Instruction::End);
    loader.instruction(&Instruction::End);
    loader
}

/// Enters the function at `place`, where the component may not be left. An exception that leaves it by this way leaves
/// the depth too high, which makes later misses slow and nothing else.
pub(super) fn front(module: &Module<'_>, type_index: u32, place: u32) -> Function {
    let mut front = Function::new([]);
    deepen(&mut front, module, 1);
    arguments(&mut front, parameters(module, type_index));
    front.instruction(&Instruction::Call(place));
    deepen(&mut front, module, -1);
    front.instruction(&Instruction::End);
    front
}

fn deepen(function: &mut Function, module: &Module<'_>, by: i32) {
    function.instruction(&Instruction::GlobalGet(depth(module)));
    function.instruction(&Instruction::I32Const(by));
    function.instruction(&Instruction::I32Add);
    function.instruction(&Instruction::GlobalSet(depth(module)));
}

fn arguments(function: &mut Function, parameters: u32) {
    for parameter in 0..parameters {
        function.instruction(&Instruction::LocalGet(parameter));
    }
}

/// Index of the type of the loader: the first behind the module's own.
pub(super) fn loader_type(module: &Module<'_>) -> u32 {
    index_u32(module.types.len())
}

/// Index of the global that counts how deep the guest is where the component may not be left.
pub(super) fn depth(module: &Module<'_>) -> u32 {
    index_u32(module.globals.len())
}

/// Index of the global that the host sets when it has filled what was asked for without a call.
pub(super) fn filled(module: &Module<'_>) -> u32 {
    depth(module) + 1
}

/// Index of the global in which a call through the table of entries leaves its position: the last, if there is one.
pub(super) fn position(module: &Module<'_>) -> u32 {
    depth(module) + 2
}

/// Index of the table of cold functions: the last.
pub(super) fn cold_table(module: &Module<'_>) -> u32 {
    index_u32(module.tables.len())
}

fn parameters(module: &Module<'_>, type_index: u32) -> u32 {
    index_u32(module.types[type_index as usize].params().len())
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
