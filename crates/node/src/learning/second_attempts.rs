//! Requests that a prepared VM failed and a new one then served: a test that these are more than they may be.
//!
//! If prepared VMs were as good as new ones, at most a quarter of all requests could end so (see `verdict`). A bettor for
//! each of a few larger shares `p` multiplies a unit by `p / (1/4)` for such a request and by `(1 - p) / (3/4)` for any
//! other; none can expect to win while the share is a quarter or less. Whoever has less than a unit starts again with
//! one, so that VMs that go bad late are found as quickly as others (Page's CUSUM over e-values). An alarm is raised when
//! all of them together have made `1 / ALPHA` out of a unit each on average.

use serde::{Deserialize, Serialize};

/// What the bettors bet on, from "more than a few" to "all of them".
const SHARES: [f64; 3] = [0.4, 0.7, 0.98];
/// The share that is possible without any fault of the VMs.
const INNOCENT: f64 = 0.25;
/// In the worst case, a function half of whose requests fail at random, this share of its requests may raise a false
/// alarm; where hardly any fail at random, none does. Eight requests in a row are enough for an alarm.
const ALPHA: f64 = 0.000_1;

/// The bettors' wins, and how many requests it took since the last of them began anew.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct SecondAttempts {
    ln_wins: [f64; SHARES.len()],
    /// Requests, and those of them that were served again, since nobody had won anything.
    requests: u64,
    again: u64,
}

impl SecondAttempts {
    /// A request came to its end without a second attempt, or failed at both.
    pub(super) fn served(&mut self) {
        self.count(false);
    }

    /// A request was served by the second attempt.
    pub(super) fn served_again(&mut self) {
        self.count(true);
    }

    /// If there are too many: how many among how many.
    pub(super) fn alarm(&self) -> Option<(u64, u64)> {
        let mean = self.ln_wins.iter().map(|ln| ln.exp()).sum::<f64>() / SHARES.len() as f64;
        (mean >= 1.0 / ALPHA).then_some((self.again, self.requests))
    }

    fn count(&mut self, again: bool) {
        if self.ln_wins.iter().all(|ln| *ln <= 0.0) {
            (self.requests, self.again) = (0, 0);
        }
        self.requests += 1;
        self.again += u64::from(again);
        for (ln, share) in self.ln_wins.iter_mut().zip(SHARES) {
            let factor = if again { share / INNOCENT } else { (1.0 - share) / (1.0 - INNOCENT) };
            *ln = ln.max(0.0) + factor.ln();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_requests_in_a_row_are_enough_and_a_few_are_not() {
        let mut attempts = SecondAttempts::default();
        // Long and good before it goes bad.
        (0..100_000).for_each(|_| attempts.served());
        let mut row = 0;
        while attempts.alarm().is_none() {
            attempts.served_again();
            row += 1;
        }
        assert!((5..=8).contains(&row), "{row}");
        assert_eq!(attempts.alarm(), Some((row, row)));
    }

    #[test]
    fn now_and_then_is_no_alarm() {
        let mut attempts = SecondAttempts::default();
        for request in 0..100_000 {
            if request % 5 == 0 {
                attempts.served_again()
            } else {
                attempts.served()
            }
            assert_eq!(attempts.alarm(), None);
        }
    }
}
