//! A function's body written for another module: instructions with the indices of that module, and calls by the way
//! that leads to the callee from there. What hints say of its branches goes with it.

use wasm_encoder::reencode::Reencode;
use wasm_encoder::{BranchHint, BranchHints, CodeSection, Function, Instruction};
use wasmparser::Operator;

use super::links::Links;
use super::module::{Body, Module, index_u32};
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

/// A body written for another module, and what hints say of its branches there.
pub(super) struct Rewritten {
    pub(super) function: Function,
    pub(super) hints: Vec<BranchHint>,
}

/// The code of a module, and the hints that come before it.
#[derive(Default)]
pub(super) struct Code {
    bodies: CodeSection,
    hints: BranchHints,
    has_hints: bool,
}

impl Code {
    /// One more function; `index` is its own in the module.
    pub(super) fn add(&mut self, index: u32, body: Rewritten) {
        self.bodies.function(&body.function);
        if !body.hints.is_empty() {
            self.hints.function_hints(index, body.hints);
            self.has_hints = true;
        }
    }

    /// One more function without hints.
    pub(super) fn add_plain(&mut self, function: &Function) {
        self.bodies.function(function);
    }

    pub(super) fn write(&self, file: &mut wasm_encoder::Module) {
        if self.has_hints {
            file.section(&self.hints);
        }
        file.section(&self.bodies);
    }
}

/// Writes the body of `function`. References of functions are the business of `renumber`, as all other indices are.
pub(super) fn rewrite<R: Reencode<Error: std::fmt::Debug>>(
    (function, body): (u32, &Body<'_>),
    module: &Module<'_>,
    links: &Links,
    home: &impl Home,
    renumber: &mut R,
) -> Result<Rewritten, SplitRefusal> {
    let mut written = renumber.new_function_with_parsed_locals(&body.raw).map_err(fault)?;
    let (mut hints, mut moved) = (module.hints(function), Vec::new());
    let mut operators = body.raw.get_operators_reader()?;
    while !operators.eof() {
        let at = operators.original_position() - body.raw.range().start;
        match operators.read()? {
            Operator::Call { function_index } => {
                let target = push_slot(home.target(function_index)?, &mut written);
                written.instruction(&Instruction::Call(target));
            }
            Operator::ReturnCall { function_index } => {
                let target = push_slot(home.target(function_index)?, &mut written);
                written.instruction(&Instruction::ReturnCall(target));
            }
            operator => {
                if links.says_position(&operator) {
                    written.instruction(&Instruction::GlobalSet(home.position()));
                    written.instruction(&Instruction::GlobalGet(home.position()));
                }
                moved.extend(hint_at(&mut hints, at).map(|taken| hint(written.byte_len(), taken)));
                written.instruction(&renumber.instruction(operator).map_err(fault)?);
            }
        }
    }
    Ok(Rewritten { function: written, hints: moved })
}

/// What the next of `hints` says, if it is about the operator at `at`. Those about places between operators are left out.
fn hint_at(hints: &mut &[(u32, bool)], at: usize) -> Option<bool> {
    while let [(offset, taken), rest @ ..] = hints
        && *offset as usize <= at
    {
        *hints = rest;
        if *offset as usize == at {
            return Some(*taken);
        }
    }
    None
}

fn hint(offset: usize, taken: bool) -> BranchHint {
    BranchHint { branch_func_offset: index_u32(offset), branch_hint_value: u32::from(taken) }
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
