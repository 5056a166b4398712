//! FaasCache (Fuerst and Sharma, ASPLOS 2021): keep-alive as a Greedy-Dual-Size-Frequency cache.
//!
//! Priority is `clock + frequency * cost / size`; the lowest is evicted when there is no room and its priority becomes
//! the clock; an evicted function's frequency starts anew. Here cost and size are one, as for every other policy.

use super::{Contestant, Outcome};
use crate::ledger::{Held, Layer, Ledger};
use crate::trace::Invocation;
use std::collections::BTreeSet;

/// The greedy-dual cache.
#[derive(Debug)]
pub struct FaasCache {
    capacity: usize,
    clock: u64,
    resident: BTreeSet<(u64, u32)>,
    functions: Vec<State>,
    ledger: Ledger,
}

#[derive(Debug, Clone, Copy, Default)]
struct State {
    priority: u64,
    frequency: u64,
    last_us: u64,
    resident: bool,
}

impl FaasCache {
    /// A cache with room for `capacity` functions.
    pub fn new(capacity: usize, middle_us: u64) -> Self {
        Self {
            capacity: capacity.max(1),
            clock: 0,
            resident: BTreeSet::new(),
            functions: Vec::new(),
            ledger: Ledger::new(middle_us),
        }
    }

    fn make_room(&mut self, at_us: u64) {
        while self.resident.len() >= self.capacity {
            let Some((priority, function)) = self.resident.pop_first() else { return };
            self.clock = priority;
            self.charge(function, at_us);
            let state = &mut self.functions[function as usize];
            state.resident = false;
            state.frequency = 0;
        }
    }

    /// Enters the time a function was held since its last call.
    fn charge(&mut self, function: u32, until_us: u64) {
        let from_us = self.functions[function as usize].last_us;
        self.ledger.plan(function, from_us, Layer::Own, std::iter::once(Held { from_us, until_us }));
    }
}

impl Contestant for FaasCache {
    fn call(&mut self, call: &Invocation) {
        let index = call.function as usize;
        if index >= self.functions.len() {
            self.functions.resize(index + 1, State::default());
        }
        if self.functions[index].resident {
            // A call at the very moment of the last one leaves nothing to charge but is warm all the same.
            let from_us = self.functions[index].last_us;
            let held = Held { from_us, until_us: call.at_us.max(from_us + 1) };
            self.ledger.plan(call.function, from_us, Layer::Own, std::iter::once(held));
            self.resident.remove(&(self.functions[index].priority, call.function));
        } else {
            self.make_room(call.at_us);
        }
        self.ledger.call(call.function, call.at_us, call.count, false);
        let state = &mut self.functions[index];
        state.frequency += 1;
        state.priority = self.clock + state.frequency;
        state.last_us = call.at_us;
        state.resident = true;
        self.resident.insert((state.priority, call.function));
    }

    fn finish(mut self: Box<Self>, end_us: u64) -> Vec<Outcome> {
        for (_, function) in std::mem::take(&mut self.resident) {
            self.charge(function, end_us);
        }
        self.ledger.close(end_us);
        let parameter = format!("{} slots", self.capacity);
        vec![Outcome { family: "FaasCache".to_owned(), parameter, ledger: self.ledger }]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(function: u32, at_us: u64) -> Invocation {
        Invocation {
            at_us,
            function,
            scope: 0,
            kind: function,
            session: 0,
            caller: crate::trace::UNKNOWN,
            count: 1,
            duration_us: 0,
        }
    }

    #[test]
    fn the_frequent_function_stays() {
        let mut cache = Box::new(FaasCache::new(2, 0));
        for (step, function) in [0, 0, 0, 1, 2, 0, 3, 0].into_iter().enumerate() {
            cache.call(&call(function, step as u64 * 10));
        }
        let outcome = cache.finish(80).remove(0);
        assert_eq!(outcome.ledger.total().cold, 4, "each function once, the frequent one never again");
        // The frequent one from 0 to the end; the others until they are evicted, or the end.
        assert_eq!(outcome.ledger.total().wasted_us, 80.0 + 10.0 + 20.0 + 20.0);
    }
}
