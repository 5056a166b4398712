//! Which requests are served by the instrumented twin, so that what is learnt is worth what it costs.
//!
//! ```text
//! wish     = max((FIRST / (n + 1))^2, novelty / 2, FLOOR)     n: samples of the request's class; all of the first FIRST
//! allowed  = cost of samples so far <= share · time of all requests so far,  or n < FIRST
//! ```
//! The first of a class teach nearly everything, so they are free; after that the share of processor time set for
//! sampling is never passed, and a settled class is looked at now and then only. A sample's cost is what it took beyond
//! the mean of the function's other requests.

use std::collections::BTreeMap;

/// Samples of a class that are taken without asking what they cost.
const FIRST: u32 = 8;
/// One of so many requests of a settled class.
const FLOOR: f64 = 1.0 / 256.0;
/// Classes that are told apart; those of a function's map are fewer.
const CLASSES_MAX: usize = 64;

/// Decides for one function.
#[derive(Debug, Default)]
pub(super) struct Sampler {
    /// Samples begun, by class.
    begun: BTreeMap<u32, u32>,
    requests: u64,
    busy_us: u64,
    samples: u64,
    samples_busy_us: u64,
}

/// What sampling has cost.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct SamplingCost {
    pub(super) requests: u64,
    pub(super) samples: u64,
    /// Mean time of a request on its ordinary way.
    pub(super) busy_us_mean: f64,
    /// Mean time of a sampled one.
    pub(super) sampled_busy_us_mean: f64,
    /// Time that sampling added, as a share of the time of all requests.
    pub(super) share: f64,
}

impl Sampler {
    /// Whether to sample a request of `class`; `dice` is uniform in 0..1.
    pub(super) fn wants(&mut self, class: u32, novelty: f32, share_max: f64, dice: f64) -> bool {
        if self.begun.len() >= CLASSES_MAX && !self.begun.contains_key(&class) {
            return false;
        }
        let begun = self.begun.get(&class).copied().unwrap_or(0);
        let is_free = begun < FIRST;
        let fading = f64::from(FIRST) / (f64::from(begun) + 1.0);
        let wish = (fading * fading).max(f64::from(novelty) / 2.0).max(FLOOR);
        let wants = is_free || (dice < wish && self.cost().share <= share_max);
        if wants {
            *self.begun.entry(class).or_insert(0) += 1;
        }
        wants
    }

    /// An ordinary request took so long.
    pub(super) fn served(&mut self, busy_us: u64) {
        self.requests += 1;
        self.busy_us = self.busy_us.saturating_add(busy_us);
    }

    /// A sampled one did.
    pub(super) fn sampled(&mut self, busy_us: u64) {
        self.samples += 1;
        self.samples_busy_us = self.samples_busy_us.saturating_add(busy_us);
    }

    pub(super) fn cost(&self) -> SamplingCost {
        let mean = |sum: u64, count: u64| if count == 0 { 0.0 } else { sum as f64 / count as f64 };
        let busy_us_mean = mean(self.busy_us, self.requests);
        let added = self.samples_busy_us as f64 - busy_us_mean * self.samples as f64;
        let all = (self.busy_us + self.samples_busy_us) as f64;
        SamplingCost {
            requests: self.requests + self.samples,
            samples: self.samples,
            busy_us_mean,
            sampled_busy_us_mean: mean(self.samples_busy_us, self.samples),
            share: if all > 0.0 { (added / all).max(0.0) } else { 0.0 },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_each_class_are_all_sampled_and_then_fewer() {
        let mut sampler = Sampler::default();
        assert!((0..FIRST).all(|_| sampler.wants(1, 1.0, 0.0, 0.999)));
        assert!(!sampler.wants(1, 0.0, 1.0, 0.999));
        assert!((0..FIRST).all(|_| sampler.wants(2, 1.0, 0.0, 0.999)));
        let mut taken = 0;
        for request in 0..10_000 {
            taken += u32::from(sampler.wants(1, 0.0, 1.0, f64::from(request) * 0.618_034 % 1.0));
        }
        assert!((40..400).contains(&taken), "{taken} of 10000");
    }

    #[test]
    fn never_above_the_share() {
        let mut sampler = Sampler::default();
        let share_max = 0.02;
        for request in 0..20_000 {
            if sampler.wants(1, 1.0, share_max, f64::from(request) * 0.618_034 % 1.0) {
                sampler.sampled(3_000);
            } else {
                sampler.served(1_000);
            }
        }
        let cost = sampler.cost();
        assert!(cost.share <= share_max + 0.001, "{cost:?}");
        assert!(cost.samples > 100, "{cost:?}");
        assert_eq!(cost.busy_us_mean, 1_000.0);
    }
}
