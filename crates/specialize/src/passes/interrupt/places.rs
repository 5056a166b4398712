//! Where checks are needed in the bodies of one module.
//!
//! It only says where: `body` puts them there. What is counted, and why that is enough, is said in the pass's own words.

use wasmparser::{FunctionBody, Operator};

use super::calls::{Calls, Order};
use super::reach::Reach;
use super::{Bounds, Unsupported};

/// Why there is a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// A loop begins here.
    Loop,
    /// A call through a table or a reference came back, or replaces its caller.
    Indirect,
    /// A direct call that closes a circle came back, or replaces its caller.
    Circle,
    /// So much may have run since the last check, whatever it was.
    Stretch,
}

/// A place for a check.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    /// Before which byte of the body; its locals come first.
    pub(super) offset: usize,
    pub(super) why: Why,
}

/// The places in each body, in order.
pub(super) fn find(
    bodies: &[FunctionBody<'_>],
    functions_imported: u32,
    bounds: &Bounds,
) -> Result<Vec<Vec<Place>>, Unsupported> {
    let order = Calls::read(bodies, functions_imported)?.order();
    let mut looked = Looked { bounds, functions_imported, costs: vec![Cost::UNKNOWN; bodies.len()], order: &order };
    let mut places = vec![Vec::new(); bodies.len()];
    for function in &order.functions {
        let number = *function as usize;
        let found = Walk::new(&looked, *function).through(&bodies[number])?;
        looked.costs[number] = found.cost;
        places[number] = found.places;
    }
    Ok(places)
}

/// What a function means for its callers.
#[derive(Clone, Copy)]
struct Cost {
    /// The most operators that run between its entry and the first check, or its end.
    head: u32,
    /// How it comes back.
    returned: Reach,
}

impl Cost {
    /// Of functions that nobody has looked at yet. Only calls that close a circle lead to them, and those do not ask.
    const UNKNOWN: Self = Self { head: 0, returned: Reach::ENTRY };
}

/// What is known of a module so far.
struct Looked<'m> {
    bounds: &'m Bounds,
    functions_imported: u32,
    costs: Vec<Cost>,
    order: &'m Order,
}

/// What came of one body.
struct Found {
    places: Vec<Place>,
    cost: Cost,
}

/// What an operator calls.
#[derive(Clone, Copy)]
enum Callee {
    /// A function of another module, or of the host.
    Imported,
    /// A function of this module that was looked at before.
    Known(Cost),
    /// Any function.
    Unknown(Why),
}

/// A block that is not closed yet.
struct Block {
    /// Whether branches lead to its begin, where there is a check.
    is_loop: bool,
    /// Of the branches to its end.
    at_end: Reach,
    /// Where an `if` that has had no `else` so far was entered.
    otherwise: Reach,
}

/// A body that is being read, operator by operator.
struct Walk<'m> {
    module: &'m Looked<'m>,
    function: u32,
    /// Before the next operator.
    reach: Reach,
    /// The function itself is the outermost.
    blocks: Vec<Block>,
    head: u32,
    places: Vec<Place>,
}

impl<'m> Walk<'m> {
    fn new(module: &'m Looked<'m>, function: u32) -> Self {
        let mut walk = Self { module, function, reach: Reach::ENTRY, blocks: Vec::new(), head: 0, places: Vec::new() };
        walk.open(false, Reach::NOWHERE);
        walk
    }

    fn through(mut self, body: &FunctionBody<'_>) -> Result<Found, Unsupported> {
        let start = body.range().start;
        let mut operators = body.get_operators_reader()?;
        while !operators.eof() {
            let before = operators.original_position() - start;
            let operator = operators.read()?;
            self.step(&operator, before, operators.original_position() - start);
        }
        Ok(Found { places: self.places, cost: Cost { head: self.head, returned: self.reach } })
    }

    /// The operator between the offsets `before` and `after`.
    fn step(&mut self, operator: &Operator<'_>, before: usize, after: usize) {
        match *operator {
            Operator::Call { function_index } => self.call(self.callee(function_index), before, after),
            Operator::CallIndirect { .. } | Operator::CallRef { .. } => {
                self.call(Callee::Unknown(Why::Indirect), before, after);
            }
            Operator::ReturnCall { function_index } => self.call_last(self.callee(function_index), before),
            Operator::ReturnCallIndirect { .. } | Operator::ReturnCallRef { .. } => {
                self.call_last(Callee::Unknown(Why::Indirect), before);
            }
            _ => {
                self.run(operators_in(operator, self.module.bounds), before);
                self.go_on(operator, after);
            }
        }
    }

    fn callee(&self, function: u32) -> Callee {
        match function.checked_sub(self.module.functions_imported) {
            None => Callee::Imported,
            Some(callee) if self.module.order.closes_circle(self.function, callee) => Callee::Unknown(Why::Circle),
            Some(callee) => Callee::Known(self.module.costs[callee as usize]),
        }
    }

    fn call(&mut self, callee: Callee, before: usize, after: usize) {
        match callee {
            Callee::Imported => self.run(self.module.bounds.import(), before),
            Callee::Known(cost) => self.run_function(cost, before),
            Callee::Unknown(why) => {
                // Of any callee as much may run before its first check.
                self.make_room(self.module.bounds.entry_max().saturating_add(1), before);
                self.run(1, before);
                self.check(after, why);
            }
        }
    }

    /// A call in whose place its caller is gone: nothing can be done after it.
    fn call_last(&mut self, callee: Callee, before: usize) {
        match callee {
            Callee::Imported => self.run(self.module.bounds.import(), before),
            Callee::Known(cost) => self.run_function(cost, before),
            Callee::Unknown(why) => {
                // One check for both if the operator before it was a call of the same kind.
                if self.reach != Reach::CHECKED {
                    self.check(before, why);
                }
                self.reach = self.reach.then(Reach::unknown(self.module.bounds));
            }
        }
        self.leave();
    }

    fn run_function(&mut self, cost: Cost, before: usize) {
        self.make_room(cost.head.saturating_add(1), before);
        self.head = self.head.max(self.reach.plus(cost.head).since_entry().saturating_add(1));
        self.reach = self.reach.plus(1).then(cost.returned);
    }

    fn run(&mut self, operators: u32, before: usize) {
        self.make_room(operators, before);
        self.reach = self.reach.plus(operators);
        self.head = self.head.max(self.reach.since_entry());
    }

    fn make_room(&mut self, operators: u32, before: usize) {
        if !self.reach.has_room(operators, self.module.bounds) {
            self.check(before, Why::Stretch);
        }
    }

    fn check(&mut self, offset: usize, why: Why) {
        self.places.push(Place { offset, why });
        self.reach = self.reach.then(Reach::CHECKED);
    }

    /// Where the way leads from an operator that calls nothing. Of the proposals that validation lets through, these are
    /// all operators that branch.
    fn go_on(&mut self, operator: &Operator<'_>, after: usize) {
        match operator {
            Operator::Block { .. } => self.open(false, Reach::NOWHERE),
            Operator::Loop { .. } => {
                self.open(true, Reach::NOWHERE);
                self.check(after, Why::Loop);
            }
            Operator::If { .. } => self.open(false, self.reach),
            Operator::Else => self.otherwise(),
            Operator::End => self.close(),
            Operator::TryTable { try_table } => {
                // What is caught may have been thrown anywhere inside.
                let caught = self.reach.then(Reach::unknown(self.module.bounds));
                for catch in &try_table.catches {
                    self.branch(catch_label(catch), caught);
                }
                self.open(false, Reach::NOWHERE);
            }
            Operator::BrIf { relative_depth }
            | Operator::BrOnNull { relative_depth }
            | Operator::BrOnNonNull { relative_depth }
            | Operator::BrOnCast { relative_depth, .. }
            | Operator::BrOnCastFail { relative_depth, .. } => self.branch(*relative_depth, self.reach),
            Operator::Br { relative_depth } => {
                self.branch(*relative_depth, self.reach);
                self.reach = Reach::NOWHERE;
            }
            Operator::BrTable { targets } => {
                // Validation has read them all before.
                for target in targets.targets().flatten().chain([targets.default()]) {
                    self.branch(target, self.reach);
                }
                self.reach = Reach::NOWHERE;
            }
            Operator::Return => self.leave(),
            Operator::Unreachable | Operator::Throw { .. } | Operator::ThrowRef => self.reach = Reach::NOWHERE,
            _ => {}
        }
    }

    fn open(&mut self, is_loop: bool, otherwise: Reach) {
        self.blocks.push(Block { is_loop, at_end: Reach::NOWHERE, otherwise });
    }

    fn otherwise(&mut self) {
        if let Some(block) = self.blocks.last_mut() {
            block.at_end = block.at_end.or(self.reach);
            self.reach = std::mem::replace(&mut block.otherwise, Reach::NOWHERE);
        }
    }

    fn close(&mut self) {
        if let Some(block) = self.blocks.pop() {
            self.reach = self.reach.or(block.at_end).or(block.otherwise);
        }
    }

    fn branch(&mut self, depth: u32, reach: Reach) {
        let place = self.blocks.len().checked_sub(depth as usize + 1);
        if let Some(block) = place.and_then(|place| self.blocks.get_mut(place))
            && !block.is_loop
        {
            block.at_end = block.at_end.or(reach);
        }
    }

    /// Leaves the function.
    fn leave(&mut self) {
        if let Some(function) = self.blocks.first_mut() {
            function.at_end = function.at_end.or(self.reach);
        }
        self.reach = Reach::NOWHERE;
    }
}

fn catch_label(catch: &wasmparser::Catch) -> u32 {
    match catch {
        wasmparser::Catch::One { label, .. }
        | wasmparser::Catch::OneRef { label, .. }
        | wasmparser::Catch::All { label }
        | wasmparser::Catch::AllRef { label } => *label,
    }
}

/// As how many operators one counts that calls nothing.
fn operators_in(operator: &Operator<'_>, bounds: &Bounds) -> u32 {
    match operator {
        Operator::MemoryInit { .. }
        | Operator::MemoryCopy { .. }
        | Operator::MemoryFill { .. }
        | Operator::MemoryGrow { .. }
        | Operator::TableInit { .. }
        | Operator::TableCopy { .. }
        | Operator::TableFill { .. }
        | Operator::TableGrow { .. }
        | Operator::ArrayNew { .. }
        | Operator::ArrayNewDefault { .. }
        | Operator::ArrayNewData { .. }
        | Operator::ArrayNewElem { .. }
        | Operator::ArrayFill { .. }
        | Operator::ArrayCopy { .. }
        | Operator::ArrayInitData { .. }
        | Operator::ArrayInitElem { .. } => bounds.bulk(),
        _ => 1,
    }
}
