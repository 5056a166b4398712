//! First-order Markov prewarming within an application, on top of a fixed keep-alive.
//!
//! After a call of `f`, every function that followed `f` in the same application with a share of at least the threshold
//! is held for a window; `f` itself is kept for the keep-alive time. This is the simplest policy that uses call order.

use super::{Contestant, Outcome};
use crate::ledger::{Held, Layer, Ledger};
use crate::trace::{Invocation, UNKNOWN};
use std::collections::HashMap;

/// First-order Markov prewarming.
#[derive(Debug)]
pub struct Markov {
    keep_us: u64,
    window_us: u64,
    share_min: f64,
    successors: HashMap<u32, Successors>,
    last: HashMap<u32, u32>,
    planned: HashMap<u32, u64>,
    ledger: Ledger,
}

#[derive(Debug, Default)]
struct Successors {
    total: u32,
    counts: Vec<(u32, u32)>,
}

impl Markov {
    /// Keeps for `keep_s`, prewarms for `window_s` what followed with a share of at least `share_min`.
    pub fn new(keep_s: u64, window_s: u64, share_min: f64, middle_us: u64) -> Self {
        Self {
            keep_us: keep_s * 1_000_000,
            window_us: window_s * 1_000_000,
            share_min,
            successors: HashMap::new(),
            last: HashMap::new(),
            planned: HashMap::new(),
            ledger: Ledger::new(middle_us),
        }
    }

    fn learn(&mut self, call: &Invocation) {
        if let Some(before) = self.last.insert(call.scope, call.function) {
            let successors = self.successors.entry(before).or_default();
            successors.total += 1;
            match successors.counts.iter_mut().find(|(function, _)| *function == call.function) {
                Some((_, count)) => *count += 1,
                None => successors.counts.push((call.function, 1)),
            }
        }
    }

    fn hold(&mut self, function: u32, from_us: u64, until_us: u64) {
        // A plan that reaches further stands.
        let until_us = until_us.max(self.planned.get(&function).copied().unwrap_or(0));
        self.planned.insert(function, until_us);
        self.ledger.plan(function, from_us, Layer::Own, std::iter::once(Held { from_us, until_us }));
    }
}

impl Contestant for Markov {
    fn call(&mut self, call: &Invocation) {
        let at_us = call.at_us;
        self.ledger.call(call.function, at_us, call.count, false);
        self.planned.remove(&call.function);
        self.hold(call.function, at_us, at_us + self.keep_us);
        if call.scope == UNKNOWN {
            return;
        }
        self.learn(call);
        let likely: Vec<u32> = self.successors.get(&call.function).map_or_else(Vec::new, |successors| {
            let enough = self.share_min * f64::from(successors.total);
            let likely = successors.counts.iter().filter(|(_, count)| f64::from(*count) >= enough);
            likely.map(|(function, _)| *function).collect()
        });
        for function in likely {
            self.hold(function, at_us, at_us + self.window_us);
        }
    }

    fn finish(mut self: Box<Self>, end_us: u64) -> Vec<Outcome> {
        self.ledger.close(end_us);
        let minutes = |us: u64| us / 60_000_000;
        let parameter =
            format!("keep {} + {} min, p>={}", minutes(self.keep_us), minutes(self.window_us), self.share_min);
        vec![Outcome { family: "Markov-1".to_owned(), parameter, ledger: self.ledger }]
    }
}
