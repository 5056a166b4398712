//! A function's body written for another module: instructions with the indices of that module, and calls by the way
//! that leads to the callee from there.

use wasm_encoder::reencode::Reencode;
use wasm_encoder::{Function, Instruction};
use wasmparser::Operator;

use super::links::Links;
use super::module::Body;
use super::refusal::{SplitRefusal, fault};

/// What a call becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// A call of the function at this index.
    Direct(u32),
    /// The slot is pushed behind the arguments, and the dispatcher at this index called.
    Dispatch { slot: u32, dispatcher: u32 },
}

/// The module that a body is written for.
pub(super) trait Home {
    /// What a call of `callee`, an index of the original module, becomes here.
    fn target(&self, callee: u32) -> Result<Target, SplitRefusal>;

    /// The global in which a call through the table of entries says which position it means.
    fn position(&self) -> u32;
}

/// Writes `body`. References of functions are the business of `renumber`, as all other indices are.
pub(super) fn rewrite<R: Reencode<Error: std::fmt::Debug>>(
    body: &Body<'_>,
    links: &Links,
    home: &impl Home,
    renumber: &mut R,
) -> Result<Function, SplitRefusal> {
    let mut function = renumber.new_function_with_parsed_locals(&body.raw).map_err(fault)?;
    let mut operators = body.raw.get_operators_reader()?;
    while !operators.eof() {
        match operators.read()? {
            Operator::Call { function_index } => {
                let target = push_slot(home.target(function_index)?, &mut function);
                function.instruction(&Instruction::Call(target));
            }
            Operator::ReturnCall { function_index } => {
                let target = push_slot(home.target(function_index)?, &mut function);
                function.instruction(&Instruction::ReturnCall(target));
            }
            operator => {
                if links.says_position(&operator) {
                    function.instruction(&Instruction::GlobalSet(home.position()));
                    function.instruction(&Instruction::GlobalGet(home.position()));
                }
                function.instruction(&renumber.instruction(operator).map_err(fault)?);
            }
        }
    }
    Ok(function)
}

/// The index to call, for which the slot is pushed where it needs one.
fn push_slot(target: Target, function: &mut Function) -> u32 {
    match target {
        Target::Direct(index) => index,
        Target::Dispatch { slot, dispatcher } => {
            function.instruction(&Instruction::I32Const(slot.cast_signed()));
            dispatcher
        }
    }
}
