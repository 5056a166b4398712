//! What is in the bodies of the functions that join: whom they call, which globals they set, which tables they change.

use wasmparser::{FunctionBody, Operator, OperatorsReader};

use super::component::{Component, invalid, missing};
use super::refusal::PrelinkRefusal;
use super::spaces::{DefinedFunction, Function, Slot, Spaces};

/// Longest body that is looked at as a stub, in bytes: 16 parameters, each got, a constant and a call.
const STUB_BYTES_MAX: usize = 64;

/// What one body does.
#[derive(Default)]
pub(super) struct Body {
    pub(super) calls: Vec<Function>,
    /// Functions whose reference it takes.
    pub(super) references: Vec<Function>,
    pub(super) sets: Vec<u32>,
    pub(super) stub: Option<Stub>,
}

/// A body that does nothing but call what stands at one place of a table, with its own parameters.
#[derive(Clone, Copy)]
pub(super) struct Stub {
    pub(super) table: u32,
    pub(super) index: u64,
}

/// What all bodies do.
pub(super) struct Bodies {
    /// As in [`Spaces::functions`].
    pub(super) all: Vec<Body>,
    /// For each table, whether some body changes it.
    pub(super) changed_tables: Vec<bool>,
}

/// Reads all bodies.
pub(super) fn read(component: &Component<'_>, spaces: &Spaces<'_>) -> Result<Bodies, PrelinkRefusal> {
    let mut bodies =
        Bodies { all: Vec::with_capacity(spaces.functions.len()), changed_tables: vec![false; spaces.tables.len()] };
    for function in &spaces.functions {
        let slot = spaces.slots.get(function.slot).ok_or(missing("a slot"))?;
        let body = body_of(component, slot, function)?;
        let mut found = scan(body, slot, &mut bodies.changed_tables)?;
        found.stub = stub(body, slot, spaces, function.ty).map_err(invalid)?;
        bodies.all.push(found);
    }
    Ok(bodies)
}

/// The body of a function as it stands in its module.
pub(super) fn body_of<'c, 'a>(
    component: &'c Component<'a>,
    slot: &Slot,
    function: &DefinedFunction,
) -> Result<&'c FunctionBody<'a>, PrelinkRefusal> {
    let module = component.modules.get(slot.module).ok_or(missing("a core module"))?;
    module.bodies.get(function.body).ok_or(missing("a body"))
}

fn scan(body: &FunctionBody<'_>, slot: &Slot, changed_tables: &mut [bool]) -> Result<Body, PrelinkRefusal> {
    let mut found = Body::default();
    let mut operators = body.get_operators_reader().map_err(invalid)?;
    let function = |index: u32| slot.functions.get(index as usize).copied().ok_or(missing("a function"));
    let global = |index: u32| slot.globals.get(index as usize).copied().ok_or(missing("a global"));
    while !operators.eof() {
        match operators.read().map_err(invalid)? {
            Operator::Call { function_index } | Operator::ReturnCall { function_index } => {
                found.calls.push(function(function_index)?);
            }
            Operator::RefFunc { function_index } => found.references.push(function(function_index)?),
            Operator::GlobalSet { global_index } => found.sets.push(global(global_index)?),
            Operator::TableSet { table }
            | Operator::TableFill { table }
            | Operator::TableGrow { table }
            | Operator::TableInit { table, .. }
            | Operator::TableCopy { dst_table: table, .. } => {
                let table = *slot.tables.get(table as usize).ok_or(missing("a table"))?;
                *changed_tables.get_mut(table as usize).ok_or(missing("a table"))? = true;
            }
            _ => {}
        }
    }
    Ok(found)
}

fn stub(body: &FunctionBody<'_>, slot: &Slot, spaces: &Spaces<'_>, ty: u32) -> wasmparser::Result<Option<Stub>> {
    if body.range().len() > STUB_BYTES_MAX || body.get_locals_reader()?.get_count() > 0 {
        return Ok(None);
    }
    let Some(parameters) = spaces.types.get(ty as usize).map(|ty| ty.params().len()) else {
        return Ok(None);
    };
    let mut operators = body.get_operators_reader()?;
    for expected in 0..parameters {
        match next(&mut operators)? {
            Some(Operator::LocalGet { local_index }) if local_index as usize == expected => {}
            _ => return Ok(None),
        }
    }
    let index = match next(&mut operators)? {
        Some(Operator::I32Const { value }) => u64::from(value.cast_unsigned()),
        Some(Operator::I64Const { value }) => value.cast_unsigned(),
        _ => return Ok(None),
    };
    let Some(Operator::CallIndirect { type_index, table_index }) = next(&mut operators)? else {
        return Ok(None);
    };
    let called_as = slot.types.get(type_index as usize).copied();
    let ends = matches!(next(&mut operators)?, Some(Operator::End)) && operators.eof();
    if called_as != Some(ty) || !ends {
        return Ok(None);
    }
    Ok(slot.tables.get(table_index as usize).map(|table| Stub { table: *table, index }))
}

fn next<'a>(operators: &mut OperatorsReader<'a>) -> wasmparser::Result<Option<Operator<'a>>> {
    if operators.eof() { Ok(None) } else { operators.read().map(Some) }
}
