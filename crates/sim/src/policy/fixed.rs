//! Fixed keep-alive, as the large clouds do, and no keep-alive at all.

use super::{Contestant, Outcome};
use crate::ledger::{Held, Layer, Ledger};
use crate::trace::Invocation;

/// Keeps every function for the same time after each call.
#[derive(Debug)]
pub struct Fixed {
    keep_us: u64,
    ledger: Ledger,
}

impl Fixed {
    /// Keep-alive of `keep_s` seconds; 0 means that every call is cold.
    pub fn new(keep_s: u64, middle_us: u64) -> Self {
        Self { keep_us: keep_s * 1_000_000, ledger: Ledger::new(middle_us) }
    }
}

impl Contestant for Fixed {
    fn call(&mut self, call: &Invocation) {
        let at_us = call.at_us;
        self.ledger.call(call.function, at_us, call.count, self.keep_us == 0);
        let held = Held { from_us: at_us, until_us: at_us + self.keep_us };
        self.ledger.plan(call.function, at_us, Layer::Own, std::iter::once(held));
    }

    fn finish(mut self: Box<Self>, end_us: u64) -> Vec<Outcome> {
        self.ledger.close(end_us);
        let (family, parameter) = match self.keep_us {
            0 => ("no keep-alive", String::new()),
            keep_us => ("fixed", format!("{} min", keep_us / 60_000_000)),
        };
        vec![Outcome { family: family.to_owned(), parameter, ledger: self.ledger }]
    }
}
