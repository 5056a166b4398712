//! The hybrid histogram of *Serverless in the Wild* (Shahrad et al., USENIX ATC 2020).
//!
//! Idle times go into a histogram of one-minute bins with a range of some hours. A representative histogram gives a
//! pre-warming window from its head percentile (less 10 %) to its tail percentile (plus 10 %); otherwise the function is
//! kept for the whole range. When more than half of the idle times are out of bounds, the next one is forecast from the
//! last few. The paper uses ARIMA there; this uses the mean of the last eight, which serves the same few functions.

use super::{Contestant, Outcome};
use crate::ledger::{Held, Layer, Ledger};
use crate::trace::Invocation;
use std::collections::VecDeque;

const MINUTE_US: u64 = 60_000_000;
/// Margins and thresholds of the paper, as in the re-implementation in dslab-faas.
const MARGIN: f64 = 0.1;
const FORECAST_MARGIN: f64 = 0.15;
const VARIATION_MIN: f64 = 2.0;
const OUT_OF_BOUNDS_MAX: f64 = 0.5;
const FORECAST_LEN: usize = 8;

/// The hybrid histogram policy.
#[derive(Debug)]
pub struct Hybrid {
    range_min: usize,
    head: f64,
    tail: f64,
    functions: Vec<Option<History>>,
    ledger: Ledger,
}

#[derive(Debug)]
struct History {
    last_us: u64,
    bins: Vec<u32>,
    inside: u32,
    outside: u32,
    recent_us: VecDeque<u64>,
}

impl Hybrid {
    /// A histogram over `range_h` hours that cuts at the percentiles `head` and `tail` (0 to 1).
    pub fn new(range_h: usize, head: f64, tail: f64, middle_us: u64) -> Self {
        Self { range_min: range_h * 60, head, tail, functions: Vec::new(), ledger: Ledger::new(middle_us) }
    }

    fn learn(&mut self, call: &Invocation) -> (f64, f64) {
        let index = call.function as usize;
        if index >= self.functions.len() {
            self.functions.resize_with(index + 1, || None);
        }
        let range_us = (self.range_min as u64 * MINUTE_US) as f64;
        let Some(history) = &mut self.functions[index] else {
            let bins = vec![0; self.range_min];
            let recent_us = VecDeque::with_capacity(FORECAST_LEN);
            self.functions[index] = Some(History { last_us: call.at_us, bins, inside: 0, outside: 0, recent_us });
            return (0.0, range_us);
        };
        let idle_us = call.at_us - history.last_us;
        history.record(call.at_us, idle_us);
        history.window(range_us, self.head, self.tail)
    }
}

impl History {
    fn record(&mut self, at_us: u64, idle_us: u64) {
        self.last_us = at_us;
        match self.bins.get_mut((idle_us / MINUTE_US) as usize) {
            Some(bin) => {
                *bin += 1;
                self.inside += 1;
            }
            None => self.outside += 1,
        }
        if self.recent_us.len() == FORECAST_LEN {
            self.recent_us.pop_front();
        }
        self.recent_us.push_back(idle_us);
    }

    fn window(&self, range_us: f64, head: f64, tail: f64) -> (f64, f64) {
        if f64::from(self.outside) > OUT_OF_BOUNDS_MAX * f64::from(self.inside + self.outside) {
            let mean_us = self.recent_us.iter().sum::<u64>() as f64 / self.recent_us.len().max(1) as f64;
            return (mean_us * (1.0 - FORECAST_MARGIN), mean_us * (1.0 + FORECAST_MARGIN));
        }
        if self.inside < 2 || self.variation() < VARIATION_MIN {
            return (0.0, range_us);
        }
        let first = self.percentile(head);
        let last = self.percentile(tail);
        // A head of a minute or less: not worth unloading.
        let from_us = if first <= 1 { 0.0 } else { (first as u64 * MINUTE_US) as f64 * (1.0 - MARGIN) };
        (from_us, ((last + 1) as u64 * MINUTE_US) as f64 * (1.0 + MARGIN))
    }

    fn variation(&self) -> f64 {
        let bins = self.bins.len() as f64;
        let mean = f64::from(self.inside) / bins;
        let variance = self.bins.iter().map(|count| (f64::from(*count) - mean).powi(2)).sum::<f64>() / bins;
        variance.sqrt() / mean.max(f64::MIN_POSITIVE)
    }

    fn percentile(&self, share: f64) -> usize {
        let wanted = share * f64::from(self.inside);
        let mut seen = 0;
        let reached = self.bins.iter().position(|count| {
            seen += count;
            f64::from(seen) >= wanted
        });
        reached.unwrap_or(self.bins.len() - 1)
    }
}

impl Contestant for Hybrid {
    fn call(&mut self, call: &Invocation) {
        self.ledger.call(call.function, call.at_us, call.count, false);
        let (from_us, until_us) = self.learn(call);
        let held = Held { from_us: call.at_us + from_us as u64, until_us: call.at_us + until_us as u64 };
        self.ledger.plan(call.function, call.at_us, Layer::Own, std::iter::once(held));
    }

    fn finish(mut self: Box<Self>, end_us: u64) -> Vec<Outcome> {
        self.ledger.close(end_us);
        let (head, tail) = ((self.head * 100.0).round(), (self.tail * 100.0).round());
        let family = if head > 0.0 { "hybrid histogram" } else { "hybrid histogram, uncut" };
        let parameter = format!("{} h [{head},{tail}]", self.range_min / 60);
        vec![Outcome { family: family.to_owned(), parameter, ledger: self.ledger }]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_regular_function_is_warmed_just_before_its_time() {
        let mut history = History { last_us: 0, bins: vec![0; 240], inside: 0, outside: 0, recent_us: VecDeque::new() };
        for step in 1..=10 {
            history.record(step * 30 * MINUTE_US, 30 * MINUTE_US);
        }
        let (from_us, until_us) = history.window(240.0 * 60e6, 0.05, 0.99);
        assert_eq!((from_us / 60e6, (until_us / 60e6).round()), (27.0, 34.0));
    }

    #[test]
    fn out_of_bounds_idle_times_are_forecast_from_the_last_few() {
        let mut history = History { last_us: 0, bins: vec![0; 60], inside: 0, outside: 0, recent_us: VecDeque::new() };
        for step in 1..=10 {
            history.record(step * 200 * MINUTE_US, 200 * MINUTE_US);
        }
        let (from_us, until_us) = history.window(60.0 * 60e6, 0.05, 0.99);
        assert_eq!(((from_us / 60e6).round(), (until_us / 60e6).round()), (170.0, 230.0));
    }
}
