//! What a policy did and what it cost: which calls found their function ready, and how long functions were held.
//!
//! Definitions of *Serverless in the Wild*: execution takes no time, every function takes one unit of memory, the first
//! call is cold. Memory counts as wasted while a function is held and does not run. What happens after the middle of
//! the trace is also counted apart: that is the honest half, when the models have seen half the data.

/// A stretch of time in which a function is held ready, in microseconds; the end belongs to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// Start.
    pub from_us: u64,
    /// End.
    pub until_us: u64,
}

/// Counts of one half or of the whole.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Tally {
    /// Cold starts.
    pub cold: u64,
    /// Calls.
    pub calls: u64,
    /// Time held without running, in microseconds, weighted by memory.
    pub wasted_us: f64,
}

/// Which of a function's two plans is meant. A function is held while either says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layer {
    /// Made at the function's own call; stands until its next call.
    Own,
    /// Made at another function's call.
    Others,
}

#[derive(Debug, Clone, Default)]
struct Account {
    windows: Vec<(Held, Layer)>,
    settled_us: u64,
    cold: u32,
    cold_late: u32,
    calls: u64,
    calls_late: u64,
}

/// Accounts of all functions under one policy.
#[derive(Debug)]
pub struct Ledger {
    middle_us: u64,
    accounts: Vec<Account>,
    total: Tally,
    late: Tally,
    loads: u64,
}

impl Ledger {
    /// An empty ledger for a trace whose middle is at `middle_us`.
    pub fn new(middle_us: u64) -> Self {
        Self { middle_us, accounts: Vec::new(), total: Tally::default(), late: Tally::default(), loads: 0 }
    }

    /// Records `count` calls of a function at `at_us`, ends what was planned for it, and says whether it was cold.
    /// If it was, one start is cold; with `every_call_cold`, each of them.
    pub fn call(&mut self, function: u32, at_us: u64, count: u32, every_call_cold: bool) -> bool {
        let warm =
            self.account(function).windows.iter().any(|(held, _)| held.from_us <= at_us && at_us <= held.until_us);
        self.settle(function, at_us);
        let late = at_us >= self.middle_us;
        let cold = match (warm, every_call_cold) {
            (true, _) => 0,
            (false, true) => count,
            (false, false) => 1,
        };
        let account = self.account(function);
        account.windows.clear();
        account.settled_us = at_us;
        account.cold += cold;
        account.calls += u64::from(count);
        if late {
            account.cold_late += cold;
            account.calls_late += u64::from(count);
        }
        for (tally, counts) in [(&mut self.total, true), (&mut self.late, late)] {
            if counts {
                tally.cold += u64::from(cold);
                tally.calls += u64::from(count);
            }
        }
        !warm
    }

    /// Replaces one layer of what is planned for a function from `now_us` on.
    pub fn plan(&mut self, function: u32, now_us: u64, layer: Layer, windows: impl Iterator<Item = Held>) {
        self.settle(function, now_us);
        let account = self.account(function);
        account.windows.retain(|(held, of)| *of != layer && held.until_us > now_us);
        account.windows.extend(windows.filter(|held| held.until_us > held.from_us).map(|held| (held, layer)));
        account.windows.sort_unstable_by_key(|(held, _)| held.from_us);
    }

    /// Closes the accounts at the end of the trace.
    pub fn close(&mut self, end_us: u64) {
        for function in 0..self.accounts.len() as u32 {
            self.settle(function, end_us);
        }
    }

    /// The whole trace.
    pub fn total(&self) -> Tally {
        self.total
    }

    /// The second half.
    pub fn late(&self) -> Tally {
        self.late
    }

    /// How often a function was made ready ahead of a call.
    pub fn loads(&self) -> u64 {
        self.loads
    }

    /// Cold-start share of each function that was called, sorted; of the second half if `late`.
    pub fn cold_shares(&self, late: bool) -> Vec<f64> {
        let counts = self
            .accounts
            .iter()
            .map(|account| if late { (account.cold_late, account.calls_late) } else { (account.cold, account.calls) });
        let mut shares: Vec<f64> =
            counts.filter(|(_, calls)| *calls > 0).map(|(cold, calls)| f64::from(cold) / calls as f64).collect();
        shares.sort_by(f64::total_cmp);
        shares
    }

    /// Cold starts of each function, by number.
    pub fn cold_starts(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        self.accounts.iter().enumerate().map(|(function, account)| (function as u32, account.cold))
    }

    fn account(&mut self, function: u32) -> &mut Account {
        let index = function as usize;
        if index >= self.accounts.len() {
            self.accounts.resize(index + 1, Account::default());
        }
        &mut self.accounts[index]
    }

    /// Charges what was held up to `upto_us`.
    fn settle(&mut self, function: u32, upto_us: u64) {
        let middle_us = self.middle_us;
        let account = self.account(function);
        let (mut wasted_us, mut wasted_late_us, mut loads) = (0u64, 0u64, 0);
        let mut counted_us = account.settled_us;
        for (held, _) in &account.windows {
            let from_us = held.from_us.max(counted_us);
            let until_us = held.until_us.min(upto_us);
            if until_us > from_us {
                wasted_us += until_us - from_us;
                wasted_late_us += until_us.saturating_sub(from_us.max(middle_us));
                loads += u64::from(held.from_us > counted_us);
                counted_us = until_us;
            }
        }
        account.settled_us = account.settled_us.max(upto_us);
        self.total.wasted_us += wasted_us as f64;
        self.late.wasted_us += wasted_late_us as f64;
        self.loads += loads;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(from_us: u64, until_us: u64) -> Held {
        Held { from_us, until_us }
    }

    #[test]
    fn waste_is_what_was_held_before_the_call() {
        let mut ledger = Ledger::new(150);
        assert!(ledger.call(0, 0, 1, false), "the first call is cold");
        ledger.plan(0, 0, Layer::Own, [held(0, 50), held(100, 300)].into_iter());
        assert!(!ledger.call(0, 200, 1, false));
        assert_eq!(ledger.total(), Tally { cold: 1, calls: 2, wasted_us: 150.0 });
        assert_eq!(ledger.late(), Tally { cold: 0, calls: 1, wasted_us: 50.0 });
        assert_eq!(ledger.loads(), 1, "the first window continues the call, the second is a load");
    }

    #[test]
    fn a_replaced_plan_is_charged_up_to_the_replacement() {
        let mut ledger = Ledger::new(0);
        ledger.call(0, 0, 1, false);
        ledger.plan(0, 0, Layer::Own, [held(0, 100)].into_iter());
        ledger.plan(0, 40, Layer::Own, [held(60, 70)].into_iter());
        ledger.close(1_000);
        assert_eq!(ledger.total().wasted_us, 50.0);
    }

    #[test]
    fn layers_that_overlap_are_charged_once() {
        let mut ledger = Ledger::new(0);
        ledger.call(0, 0, 1, false);
        ledger.plan(0, 0, Layer::Own, [held(0, 100)].into_iter());
        ledger.plan(0, 20, Layer::Others, [held(50, 200)].into_iter());
        ledger.plan(0, 150, Layer::Others, std::iter::empty());
        ledger.close(1_000);
        assert_eq!(ledger.total().wasted_us, 150.0);
    }

    #[test]
    fn a_call_at_the_very_end_of_a_window_is_warm() {
        let mut ledger = Ledger::new(0);
        ledger.call(0, 0, 1, false);
        ledger.plan(0, 0, Layer::Own, [held(0, 600)].into_iter());
        assert!(!ledger.call(0, 600, 1, false));
        ledger.plan(0, 600, Layer::Own, [held(600, 1_200)].into_iter());
        assert!(ledger.call(0, 1_201, 1, false));
    }
}
