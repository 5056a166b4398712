//! How code in one place calls code in another: slots and dispatchers.
//!
//! A cold function that is entered from outside its group has a slot in the table of cold functions. For each type of
//! such functions there is one dispatcher in the primary, which takes the arguments and the slot. What is entered
//! through the module's own table has an entry there instead, one for each type.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use wasmparser::{FuncType, Operator};

use super::entry_table::EntryTable;
use super::groups::Grouping;
use super::hot::{Temperature, referenced};
use super::module::{Module, index_u32};
use super::refusal::SplitRefusal;

/// Slots at most: a table of the engine has 64 Ki elements in all.
const SLOTS_MAX: usize = 60_000;

/// Who is called through what.
pub(super) struct Links {
    pub(super) groups: Vec<Group>,
    /// Group of each function; `None` for those that are not cold.
    group_of: Vec<Option<u32>>,
    slot_of: Vec<Option<u32>>,
    /// Functions that have a stub in the primary, since something refers to them otherwise than by a call.
    pub(super) stubs: BTreeSet<u32>,
    /// The types that have a dispatcher, in the order of the dispatchers.
    pub(super) dispatched: Vec<u32>,
    /// The dispatcher of each type index.
    dispatcher_of: Vec<Option<u32>>,
    functions: u32,
    /// The size of the table.
    pub(super) slots: u32,
    /// The table through which cold functions are entered without a stub.
    pub(super) entry_table: Option<EntryTable>,
    /// The types that have an entry for it, in the order of the entries, which follow the dispatchers.
    pub(super) entered: Vec<u32>,
    /// The entry of each type index.
    entry_of: Vec<Option<u32>>,
}

/// A group with its slots.
pub(super) struct Group {
    pub(super) functions: Vec<u32>,
    /// Those of them that have a slot, in the order of their slots.
    pub(super) entries: Vec<u32>,
    pub(super) first_slot: u32,
    /// What it puts into the table of entries: position and function.
    pub(super) positions: Vec<(u32, u32)>,
}

/// What stands for a callee.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// The callee is in the same group.
    Neighbour,
    /// It is in the primary, at its own index.
    Primary,
    /// It is in another group, behind a slot and the dispatcher at this index of the primary.
    Dispatch { slot: u32, dispatcher: u32 },
}

impl Links {
    pub(super) fn new(
        module: &Module<'_>,
        temperature: &[Temperature],
        grouping: Grouping,
        entry_table: Option<EntryTable>,
    ) -> Result<Self, SplitRefusal> {
        let mut group_of = vec![None; module.functions()];
        for (group, functions) in grouping.iter().enumerate() {
            for function in functions {
                group_of[*function as usize] = Some(index_u32(group));
            }
        }
        let stubs = stubs(module, temperature, entry_table.as_ref());
        let mut positions_of = positions(temperature, entry_table.as_ref());
        let mut entered = stubs.clone();
        entered.extend(called_from_elsewhere(module, temperature, &group_of));
        if entered.len() > SLOTS_MAX {
            return Err(SplitRefusal::TooManySlots { slots: entered.len(), slots_max: SLOTS_MAX });
        }
        let mut slot_of = vec![None; module.functions()];
        let mut slots = 0;
        let mut groups = Vec::with_capacity(grouping.len());
        for functions in grouping {
            let entries: Vec<u32> = functions.iter().copied().filter(|function| entered.contains(function)).collect();
            let first_slot = slots;
            for function in &entries {
                slot_of[*function as usize] = Some(slots);
                slots += 1;
            }
            let found = functions.iter().flat_map(|function| positions_of.remove(function).unwrap_or_default());
            let mut positions: Vec<(u32, u32)> = found.collect();
            positions.sort_unstable();
            groups.push(Group { functions, entries, first_slot, positions });
        }
        let (dispatched, dispatcher_of) = by_type(module, entered.iter().copied());
        let through_table = groups.iter().flat_map(|group| group.positions.iter().map(|(_, function)| *function));
        let (entered, entry_of) = by_type(module, through_table);
        Ok(Self {
            groups,
            group_of,
            slot_of,
            stubs,
            dispatched,
            dispatcher_of,
            functions: index_u32(module.functions()),
            slots,
            entry_table,
            entered,
            entry_of,
        })
    }

    /// How `callee` is called from `group`, or from the primary.
    pub(super) fn way(&self, module: &Module<'_>, group: Option<u32>, callee: u32) -> Result<Way, SplitRefusal> {
        match self.group_of[callee as usize] {
            None => Ok(Way::Primary),
            Some(other) if Some(other) == group => Ok(Way::Neighbour),
            Some(_) => {
                let (slot, dispatcher) = self.slot(module, callee).ok_or_else(|| SplitRefusal::InvalidOutput {
                    part: group.map_or_else(|| "primary".to_owned(), |group| format!("group {group}")),
                    detail: format!("function {callee} is called from elsewhere and has no slot"),
                })?;
                Ok(Way::Dispatch { slot, dispatcher })
            }
        }
    }

    /// The slot of a function and the index of its dispatcher, if it has them.
    pub(super) fn slot(&self, module: &Module<'_>, function: u32) -> Option<(u32, u32)> {
        Some((self.slot_of[function as usize]?, self.dispatcher(module, function)?))
    }

    /// Index in the primary of the dispatcher for a function.
    fn dispatcher(&self, module: &Module<'_>, function: u32) -> Option<u32> {
        let ordinal = self.dispatcher_of[module.type_index(function) as usize]?;
        Some(self.functions + ordinal)
    }

    /// Index in the primary of what stands for a cold function in the table of entries.
    pub(super) fn entry(&self, module: &Module<'_>, function: u32) -> Option<u32> {
        let ordinal = self.entry_of[module.type_index(function) as usize]?;
        Some(self.functions + index_u32(self.dispatched.len()) + ordinal)
    }

    /// Index in the primary of the function that has a slot or position filled, behind the entries.
    pub(super) fn loader(&self) -> u32 {
        self.functions + index_u32(self.dispatched.len() + self.entered.len())
    }

    /// Whether `function` is in a group.
    pub(super) fn is_cold(&self, function: u32) -> bool {
        self.group_of[function as usize].is_some()
    }

    /// Whether an instruction is a call through the table of entries, which says first which position it means.
    pub(super) fn says_position(&self, operator: &Operator<'_>) -> bool {
        let (Operator::CallIndirect { table_index, .. } | Operator::ReturnCallIndirect { table_index, .. }) = operator
        else {
            return false;
        };
        self.is_entry_table(*table_index)
    }

    /// Whether cold functions are entered through `table` without stubs.
    pub(super) fn is_entry_table(&self, table: u32) -> bool {
        self.entry_table.as_ref().is_some_and(|entry_table| entry_table.index == table)
    }

    /// The type that a dispatcher passes on, if `function` is the index of one.
    pub(super) fn dispatched_type(&self, function: u32) -> Option<u32> {
        let ordinal = function.checked_sub(self.functions)?;
        self.dispatched.get(ordinal as usize).copied()
    }
}

/// Cold functions that something refers to otherwise than by a call: for them there has to be one in the primary.
fn stubs(module: &Module<'_>, temperature: &[Temperature], entry_table: Option<&EntryTable>) -> BTreeSet<u32> {
    let alive = module.defined().filter(|(function, _)| temperature[*function as usize] != Temperature::Dead);
    let in_code = alive.flat_map(|(_, body)| body.references.iter().copied());
    let is_cold = |function: &u32| temperature[*function as usize] == Temperature::Cold;
    referenced(module, entry_table).chain(in_code).filter(is_cold).collect()
}

/// Cold functions that are called by hot ones or from another group.
fn called_from_elsewhere(module: &Module<'_>, temperature: &[Temperature], group_of: &[Option<u32>]) -> BTreeSet<u32> {
    let mut called = BTreeSet::new();
    for (function, body) in module.defined() {
        if temperature[function as usize] == Temperature::Dead {
            continue;
        }
        let from = group_of[function as usize];
        let elsewhere = |callee: &u32| group_of[*callee as usize].is_some_and(|to| Some(to) != from);
        called.extend(body.calls.iter().copied().filter(elsewhere));
    }
    called
}

/// The positions of cold functions in the table of entries: where each stands, with itself.
fn positions(temperature: &[Temperature], entry_table: Option<&EntryTable>) -> BTreeMap<u32, Vec<(u32, u32)>> {
    let mut positions: BTreeMap<u32, Vec<(u32, u32)>> = BTreeMap::new();
    for (position, function) in entry_table.iter().flat_map(|table| &table.content) {
        if temperature[*function as usize] == Temperature::Cold {
            positions.entry(*function).or_default().push((*position, *function));
        }
    }
    positions
}

/// The distinct types of `functions`, and for each type index its place among them.
fn by_type(module: &Module<'_>, functions: impl Iterator<Item = u32>) -> (Vec<u32>, Vec<Option<u32>>) {
    let mut ordinals: HashMap<&FuncType, u32> = HashMap::new();
    let mut distinct = Vec::new();
    let indices: BTreeSet<u32> = functions.map(|function| module.type_index(function)).collect();
    for index in indices {
        ordinals.entry(&module.types[index as usize]).or_insert_with(|| {
            distinct.push(index);
            index_u32(distinct.len() - 1)
        });
    }
    let ordinal_of = module.types.iter().map(|ty| ordinals.get(ty).copied()).collect();
    (distinct, ordinal_of)
}
