//! Which functions stay.

use super::choice::SplitPlan;
use super::entry_table::EntryTable;
use super::module::{Body, Module, index_u32};
use super::refusal::SplitRefusal;
use super::whole::Pins;

/// Bodies of at most so many bytes stay: the stub in their place would be no smaller.
const TINY_BODY_BYTES: usize = 16;
/// A dispatcher has one parameter more than the function, and the format allows 1,000.
const PARAMETERS_MAX: usize = 999;

/// What is done with a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Temperature {
    /// It stays because it is probable, is called with one that stays because it must, or is small.
    Hot(Why),
    /// It goes into a group.
    Cold,
    /// Nothing that can run refers to it: its body is dropped.
    Dead,
}

/// Why a function stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// It is defined elsewhere.
    Imported,
    /// It may run before the component is complete, or is called by such a function.
    Pinned,
    /// The component's host or its other modules enter it.
    Entered,
    /// Requests run it.
    Probable,
    /// A stub would be no smaller.
    Tiny,
}

/// The temperature of each function, by index.
pub(super) fn choose(
    module: &Module<'_>,
    probabilities: &[u16],
    plan: &SplitPlan,
    pins: &Pins,
    entry_table: Option<&EntryTable>,
) -> Result<Vec<Temperature>, SplitRefusal> {
    let segment_users = module.defined().filter(|(_, body)| body.uses_segments).map(|(function, _)| function);
    let early = pins.early.iter().copied().chain(segment_users);
    let pinned = reach(module, early, called);
    let stubbed = stubbed(module, entry_table);
    let roots = module.referenced().chain(module.start);
    let alive = reach(module, roots, |body| body.calls.iter().chain(&body.references).copied());
    let of = |function: u32| {
        let index = function as usize;
        let Some(body) = module.body(function) else { return Temperature::Hot(Why::Imported) };
        let parameters = module.types[module.type_index(function) as usize].params().len();
        // First: what is hot is written with all that it calls.
        if !alive[index] {
            Temperature::Dead
        } else if pinned[index] || parameters > PARAMETERS_MAX {
            Temperature::Hot(Why::Pinned)
        } else if pins.entered.contains(&function) {
            Temperature::Hot(Why::Entered)
        } else if probabilities[index] >= plan.hot_permille_min.max(1) {
            Temperature::Hot(Why::Probable)
        } else if body.size_bytes() <= TINY_BODY_BYTES && stubbed[index] {
            Temperature::Hot(Why::Tiny)
        } else {
            Temperature::Cold
        }
    };
    let temperature: Vec<Temperature> = (0..index_u32(module.functions())).map(of).collect();
    if temperature.contains(&Temperature::Cold) {
        return Ok(temperature);
    }
    let is_pinned = |temperature: &&Temperature| matches!(temperature, Temperature::Hot(Why::Pinned | Why::Entered));
    let pinned = temperature.iter().filter(is_pinned).count();
    Err(SplitRefusal::NothingCold { functions: index_u32(module.bodies.len()), pinned: index_u32(pinned) })
}

/// The functions that would need a stub in the primary, were they cold: whatever is not only entered through the table.
fn stubbed(module: &Module<'_>, entry_table: Option<&EntryTable>) -> Vec<bool> {
    let mut stubbed = vec![false; module.functions()];
    let in_code = module.bodies.iter().flat_map(|body| body.calls.iter().chain(&body.references).copied());
    for function in referenced(module, entry_table).chain(in_code) {
        stubbed[function as usize] = true;
    }
    stubbed
}

/// Functions that something other than code and the table of entries refers to.
pub(super) fn referenced(module: &Module<'_>, entry_table: Option<&EntryTable>) -> impl Iterator<Item = u32> {
    module.referenced_but_in(move |segment| entry_table.is_some_and(|table| table.is_filled_by(segment)))
}

fn called<'m>(body: &'m Body<'_>) -> impl Iterator<Item = u32> + use<'m> {
    body.calls.iter().copied()
}

/// The functions that can be reached from `roots` by the ways that `next` gives of each body.
fn reach<'m, Next: Iterator<Item = u32>>(
    module: &'m Module<'_>,
    roots: impl Iterator<Item = u32>,
    next: impl Fn(&'m Body<'_>) -> Next,
) -> Vec<bool> {
    let mut reached = vec![false; module.functions()];
    let mut open: Vec<u32> = roots.collect();
    while let Some(function) = open.pop() {
        if !std::mem::replace(&mut reached[function as usize], true) {
            open.extend(module.body(function).into_iter().flat_map(&next));
        }
    }
    reached
}
