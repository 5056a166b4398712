//! Whether no more runs between two checks than the pass says: generated functions are run, operator by operator, with each
//! branch taken or not as a seed has it. This knows what operators do, and nothing of how places are found.

use std::collections::BTreeSet;

use proptest::prelude::*;
use wasm_encoder::{BlockType, CodeSection, Function, FunctionSection, Instruction, Module, TypeSection};
use wasmparser::{FunctionBody, Operator, Parser, Payload};

use super::Bounds;
use super::places;

/// So small that generated functions come to it.
const BOUNDS: Bounds = Bounds { stretch_max: 32 };
const FUNCTIONS: u32 = 5;
/// Frames at once; the test's stack.
const FRAMES_MAX: usize = 16;
const STEPS_MAX: usize = 3_000;

#[derive(Clone, Debug)]
enum Statement {
    Nops(u8),
    Block(Vec<Statement>),
    Loop(Vec<Statement>),
    If(Vec<Statement>, Option<Vec<Statement>>),
    /// Depths are taken modulo the number of blocks there are.
    BranchIf(u8),
    Branch(u8),
    BranchTable(u8, u8),
    Return,
    Call(u32),
    CallIndirect,
    ReturnCall(u32),
    ReturnCallIndirect,
}

fn statements() -> impl Strategy<Value = Vec<Statement>> {
    let leaf = prop_oneof![
        4 => (0_u8..12).prop_map(Statement::Nops),
        3 => any::<u8>().prop_map(Statement::BranchIf),
        1 => any::<u8>().prop_map(Statement::Branch),
        1 => any::<(u8, u8)>().prop_map(|(a, b)| Statement::BranchTable(a, b)),
        1 => Just(Statement::Return),
        4 => (0..FUNCTIONS).prop_map(Statement::Call),
        1 => Just(Statement::CallIndirect),
        1 => (0..FUNCTIONS).prop_map(Statement::ReturnCall),
        1 => Just(Statement::ReturnCallIndirect),
    ];
    let list = |one| prop::collection::vec(one, 0..6);
    let statement = leaf.prop_recursive(3, 30, 6, move |inner| {
        let list = list(inner.boxed());
        prop_oneof![
            2 => list.clone().prop_map(Statement::Block),
            1 => list.clone().prop_map(Statement::Loop),
            2 => (list.clone(), prop::option::of(list)).prop_map(|(then, otherwise)| Statement::If(then, otherwise)),
        ]
    });
    prop::collection::vec(statement, 0..8)
}

fn write_all(function: &mut Function, statements: &[Statement], blocks: u32) {
    for statement in statements {
        write(function, statement, blocks);
    }
}

/// `blocks` are around the statement, the function's own included.
fn write(function: &mut Function, statement: &Statement, blocks: u32) {
    let label = |depth: &u8| u32::from(*depth) % blocks;
    let mut code = function.instructions();
    match statement {
        Statement::Nops(count) => {
            for _ in 0..*count {
                code.nop();
            }
        }
        Statement::Block(inner) | Statement::Loop(inner) => {
            let is_loop = matches!(statement, Statement::Loop(_));
            let begin =
                if is_loop { Instruction::Loop(BlockType::Empty) } else { Instruction::Block(BlockType::Empty) };
            function.instruction(&begin);
            write_all(function, inner, blocks + 1);
            function.instruction(&Instruction::End);
        }
        Statement::If(then, otherwise) => {
            code.i32_const(0).if_(BlockType::Empty);
            write_all(function, then, blocks + 1);
            if let Some(otherwise) = otherwise {
                function.instruction(&Instruction::Else);
                write_all(function, otherwise, blocks + 1);
            }
            function.instruction(&Instruction::End);
        }
        Statement::BranchIf(depth) => {
            code.i32_const(0).br_if(label(depth));
        }
        Statement::Branch(depth) => {
            code.br(label(depth));
        }
        Statement::BranchTable(a, b) => {
            code.i32_const(0).br_table([label(a)], label(b));
        }
        Statement::Return => {
            code.return_();
        }
        Statement::Call(callee) => {
            code.call(*callee);
        }
        Statement::CallIndirect => {
            code.i32_const(0).call_indirect(0, 0);
        }
        Statement::ReturnCall(callee) => {
            code.return_call(*callee);
        }
        Statement::ReturnCallIndirect => {
            code.i32_const(0).return_call_indirect(0, 0);
        }
    }
}

/// A module of such functions; it has no table, which nobody here asks for.
fn module(functions: &[Vec<Statement>]) -> Vec<u8> {
    let mut types = TypeSection::new();
    types.ty().function([], []);
    let (mut declared, mut code) = (FunctionSection::new(), CodeSection::new());
    for statements in functions {
        let mut function = Function::new([]);
        write_all(&mut function, statements, 1);
        function.instructions().end();
        declared.function(0);
        code.function(&function);
    }
    let mut module = Module::new();
    module.section(&types).section(&declared).section(&code);
    module.finish()
}

fn bodies(module: &[u8]) -> Vec<FunctionBody<'_>> {
    let payloads = Parser::new(0).parse_all(module);
    payloads
        .filter_map(|payload| match payload.unwrap() {
            Payload::CodeSectionEntry(body) => Some(body),
            _ => None,
        })
        .collect()
}

/// A function that can be run.
struct Code<'a> {
    operators: Vec<Operator<'a>>,
    /// Before which operators there are checks.
    checks: BTreeSet<usize>,
    /// Of each operator that opens a block: where that ends, and its `else`.
    ends: Vec<(usize, Option<usize>)>,
}

impl<'a> Code<'a> {
    fn new(body: &FunctionBody<'a>, offsets: &BTreeSet<usize>) -> Self {
        let mut code = Self { operators: Vec::new(), checks: BTreeSet::new(), ends: Vec::new() };
        let mut open = Vec::new();
        for item in body.get_operators_reader().unwrap().into_iter_with_offsets() {
            let (operator, offset) = item.unwrap();
            let number = code.operators.len();
            code.ends.push((usize::MAX, None));
            match operator {
                Operator::Block { .. } | Operator::Loop { .. } | Operator::If { .. } => open.push(number),
                Operator::Else => code.ends[*open.last().unwrap()].1 = Some(number),
                Operator::End => {
                    if let Some(begin) = open.pop() {
                        code.ends[begin].0 = number;
                    }
                }
                _ => {}
            }
            if offsets.contains(&(offset - body.range().start)) {
                code.checks.insert(number);
            }
            code.operators.push(operator);
        }
        assert_eq!(code.checks.len(), offsets.len(), "checks are between operators, once each");
        code
    }
}

/// A call that has not returned.
#[derive(Default)]
struct Frame {
    function: usize,
    next: usize,
    /// The operators that opened the blocks around the next one.
    blocks: Vec<usize>,
}

struct Machine<'a> {
    functions: Vec<Code<'a>>,
    frames: Vec<Frame>,
    seed: u64,
    /// Since the last check.
    operators: u32,
}

impl Machine<'_> {
    /// Something below `bound`.
    fn choose(&mut self, bound: u32) -> u32 {
        self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        u32::try_from(self.seed >> 33).unwrap() % bound
    }

    fn enter(&mut self, function: u32) {
        self.frames.push(Frame { function: function as usize, ..Frame::default() });
    }

    /// Leaves by the label, or the function if it is that one's.
    fn branch(&mut self, depth: u32) {
        let frame = self.frames.last_mut().unwrap();
        let Some(place) = frame.blocks.len().checked_sub(depth as usize + 1) else {
            self.frames.pop();
            return;
        };
        let code = &self.functions[frame.function];
        let begin = frame.blocks[place];
        if matches!(code.operators[begin], Operator::Loop { .. }) {
            frame.next = begin + 1;
            frame.blocks.truncate(place + 1);
        } else {
            frame.next = code.ends[begin].0 + 1;
            frame.blocks.truncate(place);
        }
    }

    /// One operator, and the check before it.
    fn step(&mut self) {
        let frame = self.frames.last_mut().unwrap();
        let at = frame.next;
        let code = &self.functions[frame.function];
        if code.checks.contains(&at) {
            self.operators = 0;
        }
        self.operators += 1;
        frame.next += 1;
        match code.operators[at].clone() {
            Operator::Block { .. } | Operator::Loop { .. } => frame.blocks.push(at),
            Operator::If { .. } => {
                let (end, otherwise) = code.ends[at];
                frame.blocks.push(at);
                if self.choose(2) == 0 {
                    self.frames.last_mut().unwrap().next = otherwise.unwrap_or(end) + 1;
                    if otherwise.is_none() {
                        self.frames.last_mut().unwrap().blocks.pop();
                    }
                }
            }
            Operator::Else => self.branch(0),
            Operator::End if frame.blocks.pop().is_none() => drop(self.frames.pop()),
            Operator::BrIf { relative_depth } if self.choose(3) == 0 => self.branch(relative_depth),
            Operator::Br { relative_depth } => self.branch(relative_depth),
            Operator::BrTable { targets } => {
                let depth =
                    if self.choose(2) == 0 { targets.default() } else { targets.targets().next().unwrap().unwrap() };
                self.branch(depth);
            }
            Operator::Return => drop(self.frames.pop()),
            Operator::Call { function_index } => self.enter(function_index),
            Operator::ReturnCall { function_index } => {
                self.frames.pop();
                self.enter(function_index);
            }
            Operator::CallIndirect { .. } => {
                let callee = self.choose(FUNCTIONS);
                self.enter(callee);
            }
            Operator::ReturnCallIndirect { .. } => {
                self.frames.pop();
                let callee = self.choose(FUNCTIONS);
                self.enter(callee);
            }
            _ => {}
        }
    }
}

/// The most operators that ran between two checks, from a call of the first function on.
fn most(functions: &[Vec<Statement>], seed: u64) -> u32 {
    let module = module(functions);
    let bodies = bodies(&module);
    let places = places::find(&bodies, 0, &BOUNDS).unwrap();
    let offsets = places.iter().map(|places| places.iter().map(|place| place.offset).collect());
    let functions = bodies.iter().zip(offsets).map(|(body, offsets): (_, BTreeSet<usize>)| Code::new(body, &offsets));
    let mut machine = Machine { functions: functions.collect(), frames: Vec::new(), seed, operators: 0 };
    machine.enter(0);
    let mut most = 0;
    for _ in 0..STEPS_MAX {
        if machine.frames.is_empty() || machine.frames.len() > FRAMES_MAX {
            break;
        }
        machine.step();
        most = most.max(machine.operators);
    }
    most
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_more_operators_run_between_two_checks_than_the_bound(
        functions in prop::collection::vec(statements(), FUNCTIONS as usize),
        seeds in prop::collection::vec(any::<u64>(), 8),
    ) {
        for seed in seeds {
            prop_assert!(most(&functions, seed) <= BOUNDS.stretch_max);
        }
    }
}

#[test]
fn the_machine_sees_long_stretches() {
    // Nothing branches, and so the bound is met exactly.
    let functions = vec![vec![Statement::Nops(100)]; FUNCTIONS as usize];
    assert_eq!(most(&functions, 1), BOUNDS.stretch_max);
}
