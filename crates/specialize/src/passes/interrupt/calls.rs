//! Which function of a module calls which directly, and the order in which they are to be looked at.
//!
//! A function comes after those it calls, except where calls go in a circle: there some call, found by a depth-first
//! search, *closes* the circle. `ref.func` is no call, and neither is what goes through a table.

use wasmparser::{FunctionBody, Operator};

use super::Unsupported;

/// The direct calls of a module's own functions. All functions here are numbered from the first that is not imported.
pub(super) struct Calls {
    /// All callees, those of the first function first.
    callees: Vec<u32>,
    /// Where the callees of each function end.
    ends: Vec<usize>,
}

/// An order of all functions, each once.
pub(super) struct Order {
    /// The functions, in order.
    pub(super) functions: Vec<u32>,
    /// The place of each.
    ranks: Vec<u32>,
}

impl Calls {
    /// Reads them out of the bodies of a valid module.
    pub(super) fn read(bodies: &[FunctionBody<'_>], functions_imported: u32) -> Result<Self, Unsupported> {
        let mut calls = Self { callees: Vec::new(), ends: Vec::with_capacity(bodies.len()) };
        for body in bodies {
            for operator in body.get_operators_reader()? {
                if let Operator::Call { function_index } | Operator::ReturnCall { function_index } = operator?
                    && let Some(callee) = function_index.checked_sub(functions_imported)
                {
                    calls.callees.push(callee);
                }
            }
            calls.ends.push(calls.callees.len());
        }
        Ok(calls)
    }

    /// The order in which a depth-first search leaves the functions. It keeps its own stack: a stranger decides how deep
    /// calls go.
    pub(super) fn order(&self) -> Order {
        let count = self.ends.len();
        let mut functions = Vec::with_capacity(count);
        let mut ranks = vec![u32::MAX; count];
        let mut is_seen = vec![false; count];
        // Functions that are being looked at, each with the next of its calls.
        let mut open: Vec<(u32, usize)> = Vec::new();
        for root in (0..).take(count) {
            open.extend(self.enter(root, &mut is_seen));
            while let Some((function, next)) = open.last_mut() {
                if *next < self.ends[*function as usize] {
                    let callee = self.callees[*next];
                    *next += 1;
                    open.extend(self.enter(callee, &mut is_seen));
                } else {
                    ranks[*function as usize] = u32::try_from(functions.len()).unwrap_or(u32::MAX);
                    functions.push(*function);
                    open.pop();
                }
            }
        }
        Order { functions, ranks }
    }

    fn enter(&self, function: u32, is_seen: &mut [bool]) -> Option<(u32, usize)> {
        let first = (function as usize).checked_sub(1).map_or(0, |before| self.ends[before]);
        (!std::mem::replace(&mut is_seen[function as usize], true)).then_some((function, first))
    }
}

impl Order {
    /// Whether a call closes a circle: the search leaves a callee before its caller unless the way to the caller went
    /// through the callee.
    pub(super) fn closes_circle(&self, caller: u32, callee: u32) -> bool {
        self.ranks[callee as usize] >= self.ranks[caller as usize]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn calls(of_each: &[Vec<u32>]) -> Calls {
        let mut calls = Calls { callees: Vec::new(), ends: Vec::new() };
        for callees in of_each {
            calls.callees.extend(callees);
            calls.ends.push(calls.callees.len());
        }
        calls
    }

    #[test]
    fn a_chain_of_calls_may_be_longer_than_any_stack() {
        let count = 1_000_000;
        let chain: Vec<Vec<u32>> = (1..=count).map(|next| vec![next % count]).collect();
        let order = calls(&chain).order();
        assert_eq!(order.functions.len(), chain.len());
        let closing = (0..count).filter(|caller| order.closes_circle(*caller, (caller + 1) % count));
        assert_eq!(closing.collect::<Vec<_>>(), [count - 1]);
    }

    /// Whether a way of calls that close no circle leads from a function back to itself: an independent search that takes
    /// away, again and again, what calls nothing that is left.
    fn has_open_circle(of_each: &[Vec<u32>], order: &Order) -> bool {
        let mut left: Vec<u32> = (0..).take(of_each.len()).collect();
        loop {
            let calls_one_left = |caller: &u32| {
                let mut callees = of_each[*caller as usize].iter();
                callees.any(|callee| left.contains(callee) && !order.closes_circle(*caller, *callee))
            };
            let still: Vec<u32> = left.iter().copied().filter(calls_one_left).collect();
            if still.len() == left.len() {
                return !left.is_empty();
            }
            left = still;
        }
    }

    proptest! {
        #[test]
        fn each_circle_has_a_call_that_closes_it(
            of_each in (1_u32..12).prop_flat_map(|count| {
                prop::collection::vec(prop::collection::vec(0..count, 0..4), count as usize)
            }),
        ) {
            let order = calls(&of_each).order();
            let mut functions = order.functions.clone();
            functions.sort_unstable();
            prop_assert!(functions.into_iter().eq((0..).take(of_each.len())), "each function once");
            prop_assert!(!has_open_circle(&of_each, &order));
        }

        #[test]
        fn without_circles_no_call_is_said_to_close_one(
            of_each in (1_u32..12).prop_flat_map(|count| {
                (0..count).map(|caller| prop::collection::vec(caller + 1..count + 1, 0..4)).collect::<Vec<_>>()
            }),
        ) {
            let mut of_each = of_each;
            of_each.push(Vec::new());
            let order = calls(&of_each).order();
            for (caller, callees) in (0..).zip(&of_each) {
                for callee in callees {
                    prop_assert!(!order.closes_circle(caller, *callee));
                }
            }
        }
    }
}
