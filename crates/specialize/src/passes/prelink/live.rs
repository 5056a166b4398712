//! What is needed of the merged module: stubs that are seen through, functions that can be reached, globals that change.
//!
//! A function is alive if the outside uses it, if it stands in an element segment, or if a live one names it. A global
//! that no live function sets, and that nobody outside has, is the constant it began as. Functions come first:
//! the code that once set relocation globals is dead, and would keep them.

use std::collections::{HashMap, HashSet};

use super::bodies::Bodies;
use super::component::missing;
use super::constant::Constant;
use super::exports::Exports;
use super::refusal::PrelinkRefusal;
use super::segments::{Place, Segment, contents};
use super::spaces::{Function, Item, Spaces, count};

/// Longest chain of stubs that is followed: one in each library is plenty.
const STUBS_MAX: usize = 8;

/// The numbers that are left, and what they stand for.
pub(super) struct Live {
    /// For each imported function its number, if it is needed.
    imports: Vec<Option<u32>>,
    /// For each defined function its number, if it is needed.
    functions: Vec<Option<u32>>,
    globals: Vec<LiveGlobal>,
    stubs: HashMap<u32, Function>,
    /// For each table, whether it is as it began for ever.
    pub(super) fixed_tables: Vec<bool>,
    /// Functions whose reference live code takes, by number, in order.
    pub(super) referenced: Vec<u32>,
}

/// What is left of a global.
#[derive(Clone, Copy)]
pub(super) enum LiveGlobal {
    Constant(Constant),
    Number(u32),
}

impl Live {
    /// Finds out.
    pub(super) fn find(
        spaces: &Spaces<'_>,
        bodies: &Bodies,
        segments: &[Segment],
        exports: &Exports<'_>,
    ) -> Result<Self, PrelinkRefusal> {
        let fixed_tables = fixed_tables(bodies, exports);
        let mut live = Self {
            imports: vec![None; spaces.imports.len()],
            functions: vec![None; spaces.functions.len()],
            globals: Vec::new(),
            stubs: stubs(spaces, bodies, segments, &fixed_tables),
            fixed_tables,
            referenced: Vec::new(),
        };
        let reached = live.reach(bodies, segments, exports)?;
        live.number_functions(&reached);
        live.referenced = live.references(bodies)?;
        live.globals = live.globals(spaces, bodies, exports);
        Ok(live)
    }

    /// The number of a function in the merged module.
    pub(super) fn function(&self, function: Function) -> Option<u32> {
        match self.follow(function) {
            Function::Imported(index) => self.imports.get(index as usize).copied().flatten(),
            Function::Defined(index) => self.functions.get(index as usize).copied().flatten(),
        }
    }

    /// Whether a body is kept.
    pub(super) fn keeps(&self, defined: usize) -> bool {
        self.functions.get(defined).is_some_and(Option::is_some)
    }

    /// Whether an import is kept.
    pub(super) fn keeps_import(&self, import: usize) -> bool {
        self.imports.get(import).is_some_and(Option::is_some)
    }

    /// What is left of a global.
    pub(super) fn global(&self, global: u32) -> Option<LiveGlobal> {
        self.globals.get(global as usize).copied()
    }

    fn follow(&self, mut function: Function) -> Function {
        for _ in 0..STUBS_MAX {
            let Function::Defined(index) = function else {
                break;
            };
            match self.stubs.get(&index) {
                Some(target) => function = *target,
                None => break,
            }
        }
        function
    }

    fn reach(
        &self,
        bodies: &Bodies,
        segments: &[Segment],
        exports: &Exports<'_>,
    ) -> Result<HashSet<Function>, PrelinkRefusal> {
        let exported = exports.list.iter().filter_map(|export| match export.item {
            Item::Function(function) => Some(function),
            Item::Table(_) | Item::Memory(_) | Item::Global(_) => None,
        });
        let written = segments.iter().filter(|segment| !matches!(segment.place, Place::Declared));
        let in_tables = written.flat_map(|segment| segment.entries.iter().copied().flatten());
        let mut waiting: Vec<Function> = exported.chain(in_tables).collect();
        let mut reached = HashSet::new();
        while let Some(function) = waiting.pop() {
            let function = self.follow(function);
            if !reached.insert(function) {
                continue;
            }
            if let Function::Defined(index) = function {
                let body = bodies.all.get(index as usize).ok_or(missing("a body"))?;
                waiting.extend(body.calls.iter().chain(&body.references));
            }
        }
        Ok(reached)
    }

    /// Imports come first, as they must; everything keeps its order.
    fn number_functions(&mut self, reached: &HashSet<Function>) {
        let mut next = 0;
        let mut number = |function| {
            let is_live = reached.contains(&function);
            is_live.then(|| {
                next += 1;
                next - 1
            })
        };
        for (index, slot) in (0..).zip(&mut self.imports) {
            *slot = number(Function::Imported(index));
        }
        for (index, slot) in (0..).zip(&mut self.functions) {
            *slot = number(Function::Defined(index));
        }
    }

    fn references(&self, bodies: &Bodies) -> Result<Vec<u32>, PrelinkRefusal> {
        let live = bodies.all.iter().enumerate().filter(|(index, _)| self.keeps(*index));
        let referenced = live.flat_map(|(_, body)| &body.references);
        let numbers: Option<Vec<u32>> = referenced.map(|function| self.function(*function)).collect();
        let mut numbers = numbers.ok_or(missing("a referenced function"))?;
        numbers.sort_unstable();
        numbers.dedup();
        Ok(numbers)
    }

    fn globals(&self, spaces: &Spaces<'_>, bodies: &Bodies, exports: &Exports<'_>) -> Vec<LiveGlobal> {
        let live = bodies.all.iter().enumerate().filter(|(index, _)| self.keeps(*index));
        let mut kept: HashSet<u32> = live.flat_map(|(_, body)| body.sets.iter().copied()).collect();
        kept.extend(exports.list.iter().filter_map(|export| match export.item {
            Item::Global(global) => Some(global),
            Item::Function(_) | Item::Table(_) | Item::Memory(_) => None,
        }));
        let mut next = 0;
        let one = |(index, global): (usize, &super::spaces::MergedGlobal)| {
            if !kept.contains(&count(index)) {
                return LiveGlobal::Constant(global.value);
            }
            next += 1;
            LiveGlobal::Number(next - 1)
        };
        spaces.globals.iter().enumerate().map(one).collect()
    }
}

/// A table is as it began if no code changes it and nobody outside has it.
fn fixed_tables(bodies: &Bodies, exports: &Exports<'_>) -> Vec<bool> {
    let mut fixed: Vec<bool> = bodies.changed_tables.iter().map(|changed| !changed).collect();
    for export in &exports.list {
        if let Item::Table(table) = export.item
            && let Some(fixed) = fixed.get_mut(table as usize)
        {
            *fixed = false;
        }
    }
    fixed
}

/// For each stub that calls through a fixed table: whom it calls.
fn stubs(spaces: &Spaces<'_>, bodies: &Bodies, segments: &[Segment], fixed: &[bool]) -> HashMap<u32, Function> {
    let contents = contents(segments);
    let target = |index: u32, body: &super::bodies::Body| {
        let stub = body.stub?;
        let is_fixed = fixed.get(stub.table as usize).copied().unwrap_or_default();
        let target = contents.get(&(stub.table, stub.index)).copied().flatten().filter(|_| is_fixed)?;
        // Another type means a trap, which stays one.
        let same_type = spaces.type_of(target) == spaces.type_of(Function::Defined(index));
        (same_type && target != Function::Defined(index)).then_some((index, target))
    };
    (0..).zip(&bodies.all).filter_map(|(index, body)| target(index, body)).collect()
}
