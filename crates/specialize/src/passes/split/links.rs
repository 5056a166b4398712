//! How code in one place calls code in another: slots and dispatchers.
//!
//! A cold function that is entered from outside its group has a slot in the table of cold functions. For each type of
//! such functions there is one dispatcher in the primary, which takes the arguments and the slot.

use std::collections::{BTreeSet, HashMap};

use wasmparser::FuncType;

use super::groups::Grouping;
use super::hot::Temperature;
use super::module::{Module, index_u32};
use super::refusal::SplitRefusal;

/// Slots at most: a table of the engine has 64 Ki elements in all.
const SLOTS_MAX: usize = 60_000;
/// Slot of the loader itself.
pub(super) const LOADER_SLOT: u32 = 0;

/// Who is called through what.
pub(super) struct Links {
    pub(super) groups: Vec<Group>,
    /// Group of each function; `None` for those that are not cold.
    group_of: Vec<Option<u32>>,
    slot_of: Vec<Option<u32>>,
    /// Functions whose body in the primary is a stub, since something there refers to them.
    pub(super) stubs: BTreeSet<u32>,
    /// The types that have a dispatcher, in the order of the dispatchers.
    pub(super) dispatched: Vec<u32>,
    /// The dispatcher of each type index.
    dispatcher_of: Vec<Option<u32>>,
    functions: u32,
    /// Slots, the loader's included: the size of the table.
    pub(super) slots: u32,
}

/// A group with its slots.
pub(super) struct Group {
    pub(super) functions: Vec<u32>,
    /// Those of them that have a slot, in the order of their slots.
    pub(super) entries: Vec<u32>,
    pub(super) first_slot: u32,
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
    ) -> Result<Self, SplitRefusal> {
        let mut group_of = vec![None; module.functions()];
        for (group, functions) in grouping.iter().enumerate() {
            for function in functions {
                group_of[*function as usize] = Some(index_u32(group));
            }
        }
        let stubs = stubs(module, temperature);
        let mut entered = stubs.clone();
        entered.extend(crossings(module, &group_of));
        if entered.len() > SLOTS_MAX {
            return Err(SplitRefusal::TooManySlots { slots: entered.len(), slots_max: SLOTS_MAX });
        }
        let mut slot_of = vec![None; module.functions()];
        let mut slots = LOADER_SLOT + 1;
        let mut groups = Vec::with_capacity(grouping.len());
        for functions in grouping {
            let entries: Vec<u32> = functions.iter().copied().filter(|function| entered.contains(function)).collect();
            let first_slot = slots;
            for function in &entries {
                slot_of[*function as usize] = Some(slots);
                slots += 1;
            }
            groups.push(Group { functions, entries, first_slot });
        }
        let (dispatched, dispatcher_of) = dispatchers(module, &entered);
        let functions = index_u32(module.functions());
        Ok(Self { groups, group_of, slot_of, stubs, dispatched, dispatcher_of, functions, slots })
    }

    /// How `callee` is called from `group`.
    pub(super) fn way(&self, module: &Module<'_>, group: u32, callee: u32) -> Result<Way, SplitRefusal> {
        match self.group_of[callee as usize] {
            None => Ok(Way::Primary),
            Some(other) if other == group => Ok(Way::Neighbour),
            Some(_) => {
                let (slot, dispatcher) = self.slot(module, callee).ok_or_else(|| SplitRefusal::InvalidOutput {
                    part: format!("group {group}"),
                    detail: format!("function {callee} is called across groups and has no slot"),
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

    /// The type that a dispatcher passes on, if `function` is the index of one.
    pub(super) fn dispatched_type(&self, function: u32) -> Option<u32> {
        let ordinal = function.checked_sub(self.functions)?;
        self.dispatched.get(ordinal as usize).copied()
    }
}

/// Cold functions that the primary refers to, or that some code takes a reference of.
fn stubs(module: &Module<'_>, temperature: &[Temperature]) -> BTreeSet<u32> {
    let is_cold = |function: &u32| temperature[*function as usize] == Temperature::Cold;
    let mut stubs: BTreeSet<u32> = module.referenced.iter().copied().filter(is_cold).collect();
    for (function, body) in module.defined() {
        match temperature[function as usize] {
            Temperature::Hot(_) => stubs.extend(body.calls.iter().chain(&body.references).copied().filter(is_cold)),
            Temperature::Cold => stubs.extend(body.references.iter().copied().filter(is_cold)),
            Temperature::Dead => {}
        }
    }
    stubs
}

/// Cold functions that are called from another group.
fn crossings(module: &Module<'_>, group_of: &[Option<u32>]) -> BTreeSet<u32> {
    let mut crossings = BTreeSet::new();
    for (function, body) in module.defined() {
        let Some(from) = group_of[function as usize] else { continue };
        let crosses = |callee: &u32| group_of[*callee as usize].is_some_and(|to| to != from);
        crossings.extend(body.calls.iter().copied().filter(crosses));
    }
    crossings
}

/// The distinct types of `entered`, and for each type index the dispatcher that serves it.
fn dispatchers(module: &Module<'_>, entered: &BTreeSet<u32>) -> (Vec<u32>, Vec<Option<u32>>) {
    let mut ordinals: HashMap<&FuncType, u32> = HashMap::new();
    let mut dispatched = Vec::new();
    let indices: BTreeSet<u32> = entered.iter().map(|function| module.type_index(*function)).collect();
    for index in indices {
        ordinals.entry(&module.types[index as usize]).or_insert_with(|| {
            dispatched.push(index);
            index_u32(dispatched.len() - 1)
        });
    }
    let dispatcher_of = module.types.iter().map(|ty| ordinals.get(ty).copied()).collect();
    (dispatched, dispatcher_of)
}
