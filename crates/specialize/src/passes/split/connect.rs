//! What stands in the primary between hot code and the groups: stubs, dispatchers, entries, and the question for a group.
//!
//! A call out of the component is forbidden while arguments are lowered, after a return, and in destructors, and before the
//! component is complete there is nothing to call. So the question is none: the table of cold functions, which cannot grow,
//! is told to grow by the number that is wanted, and a number that tells it from tables of the guest's own. The engine asks
//! the host first, which takes the number, gets the code, and refuses; on the way back to the guest the host has the store in
//! its hands and loads the group. Then the guest goes on, wherever it is.

use wasm_encoder::reencode::{Reencode, RoundtripReencoder};
use wasm_encoder::{BlockType, Encode, Function, HeapType, Instruction, ValType};

use super::ASKING;
use super::links::Links;
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
    let mut loader = Function::new([]);
    loader.instruction(&Instruction::RefNull(HeapType::FUNC));
    loader.instruction(&Instruction::LocalGet(0));
    loader.instruction(&Instruction::I32Const(ASKING.cast_signed()));
    loader.instruction(&Instruction::I32Add);
    loader.instruction(&Instruction::TableGrow(cold_table(module)));
    loader.instruction(&Instruction::Drop);
    loader.instruction(&Instruction::End);
    loader
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

/// Index of the global in which a call through the table of entries leaves its position: the last, if there is one.
pub(super) fn position(module: &Module<'_>) -> u32 {
    index_u32(module.globals.len())
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
