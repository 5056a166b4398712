//! Which requests are served by the instrumented twin, so that what is learnt is worth what it costs.
//!
//! ```text
//! information = max((FIRST / (n + 1))^2, novelty / 2)    n: samples of the request's class by this revision
//! cost        = what a sample takes beyond the mean of the function's other requests, as a share of that mean
//! wish        = max(information · COST_UNIT / cost, FLOOR);  all of the first FIRST
//! allowed     = cost of samples lately <= share · time of all requests lately,  or n < FIRST
//! ```
//! The variance of a counted share is p (1 - p) / n, so one more sample takes away the 1/n^2 of it: that is the first
//! term. The second is the chance that it shows code nobody has seen. A twin that costs little may be asked more often.
//!
//! The first of a class teach nearly everything, so they are not asked what they cost, but it is counted: nothing else is
//! sampled until they have been made up for. So the share of processor time set for sampling is never passed after them,
//! and a settled class is looked at now and then only. A new revision begins anew: it may run other code.

use std::collections::BTreeMap;

/// Samples of a class that are taken without asking what they cost.
const FIRST: u32 = 8;
/// A sample that takes half as long again as other requests is taken where it teaches as much as the first did.
const COST_UNIT: f64 = 0.5;
/// What a sample is taken to cost at least: a mean of few is not to be believed, nor is one on a busy machine.
const COST_MIN: f64 = 0.1;
/// One of so many requests of a settled class.
const FLOOR: f64 = 1.0 / 256.0;
/// Classes that are told apart; those of a function's map are fewer.
const CLASSES_MAX: usize = 64;
/// Requests after which all sums are halved: what was saved up long ago is not to be spent at once.
const WINDOW_REQUESTS: u64 = 1 << 17;

/// Decides for one function.
#[derive(Debug, Default)]
pub(super) struct Sampler {
    /// Samples of this revision that were begun, by class.
    begun: BTreeMap<u32, u32>,
    ordinary: Sums,
    sampled: Sums,
    requests_total: u64,
    samples_total: u64,
}

/// Of requests lately.
#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    requests: u64,
    busy_us: u64,
}

/// What sampling has cost.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct SamplingCost {
    /// All there were.
    pub(super) requests: u64,
    /// Those of them that were sampled.
    pub(super) samples: u64,
    /// Mean time of a request on its ordinary way.
    pub(super) busy_us_mean: f64,
    /// Mean time of a sampled one.
    pub(super) sampled_busy_us_mean: f64,
    /// Time that sampling added lately, as a share of the time of all requests.
    pub(super) share: f64,
}

impl Sampler {
    /// A new revision: each class is new to it.
    pub(super) fn begin_revision(&mut self) {
        self.begun.clear();
    }

    /// Whether to sample a request of `class`; `dice` is uniform in 0..1.
    pub(super) fn wants(&mut self, class: u32, novelty: f32, share_max: f64, dice: f64) -> bool {
        if self.begun.len() >= CLASSES_MAX && !self.begun.contains_key(&class) {
            return false;
        }
        let begun = self.begun.get(&class).copied().unwrap_or(0);
        let is_free = begun < FIRST;
        let wants = is_free || (dice < self.wish(begun, novelty) && self.cost().share <= share_max);
        if wants {
            *self.begun.entry(class).or_insert(0) += 1;
        }
        wants
    }

    /// An ordinary request took so long.
    pub(super) fn served(&mut self, busy_us: u64) {
        self.requests_total += 1;
        self.ordinary.add(busy_us);
        self.forget();
    }

    /// A sampled one did.
    pub(super) fn sampled(&mut self, busy_us: u64) {
        self.requests_total += 1;
        self.samples_total += 1;
        self.sampled.add(busy_us);
        self.forget();
    }

    pub(super) fn cost(&self) -> SamplingCost {
        let busy_us_mean = self.ordinary.mean();
        let added = self.sampled.busy_us as f64 - busy_us_mean * self.sampled.requests as f64;
        let all = (self.ordinary.busy_us + self.sampled.busy_us) as f64;
        SamplingCost {
            requests: self.requests_total,
            samples: self.samples_total,
            busy_us_mean,
            sampled_busy_us_mean: self.sampled.mean(),
            share: if all > 0.0 { (added / all).max(0.0) } else { 0.0 },
        }
    }

    /// Expected information against cost.
    fn wish(&self, begun: u32, novelty: f32) -> f64 {
        let fading = f64::from(FIRST) / (f64::from(begun) + 1.0);
        let information = (fading * fading).max(f64::from(novelty) / 2.0);
        (information * COST_UNIT / self.relative_cost()).max(FLOOR)
    }

    /// What a sample costs beyond another request, as a share of that; `COST_UNIT` where nothing is known.
    fn relative_cost(&self) -> f64 {
        let (ordinary, sampled) = (self.ordinary.mean(), self.sampled.mean());
        if ordinary > 0.0 && sampled > 0.0 { (sampled / ordinary - 1.0).max(COST_MIN) } else { COST_UNIT }
    }

    fn forget(&mut self) {
        if self.ordinary.requests + self.sampled.requests >= WINDOW_REQUESTS {
            self.ordinary.halve();
            self.sampled.halve();
        }
    }
}

impl Sums {
    fn add(&mut self, busy_us: u64) {
        self.requests += 1;
        self.busy_us = self.busy_us.saturating_add(busy_us);
    }

    fn mean(self) -> f64 {
        if self.requests == 0 { 0.0 } else { self.busy_us as f64 / self.requests as f64 }
    }

    fn halve(&mut self) {
        self.requests /= 2;
        self.busy_us /= 2;
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
    fn a_new_revision_is_sampled_as_a_new_class_is() {
        let mut sampler = Sampler::default();
        assert!((0..FIRST).all(|_| sampler.wants(1, 0.0, 0.0, 0.999)));
        assert!(!sampler.wants(1, 0.0, 0.0, 0.999));
        sampler.begin_revision();
        assert!((0..FIRST).all(|_| sampler.wants(1, 0.0, 0.0, 0.999)));
        assert!(!sampler.wants(1, 0.0, 0.0, 0.999));
    }

    /// Samples among requests of one class, where a sample takes `sampled_us` and another request 1 ms.
    fn taken(novelty: f32, sampled_us: u64) -> u64 {
        let mut sampler = Sampler::default();
        for request in 0..10_000 {
            if sampler.wants(1, novelty, 1.0, f64::from(request) * 0.618_034 % 1.0) {
                sampler.sampled(sampled_us);
            } else {
                sampler.served(1_000);
            }
        }
        sampler.cost().samples
    }

    #[test]
    fn what_teaches_more_is_sampled_more_and_what_costs_more_less() {
        let (settled, new) = (taken(0.0, 1_500), taken(0.2, 1_500));
        assert!(settled < 150 && new > 800 && new < 1_300, "{settled} {new}");
        let (cheap, dear) = (taken(0.2, 1_100), taken(0.2, 6_000));
        assert!(cheap > 4_000 && dear < 250, "{cheap} {dear}");
    }

    #[test]
    fn what_was_saved_up_long_ago_is_not_spent_at_once() {
        let mut sampler = Sampler::default();
        (0..10 * WINDOW_REQUESTS).for_each(|_| sampler.served(1_000));
        let mut samples = 0;
        while sampler.wants(1, 1.0, 0.01, 0.0) {
            sampler.sampled(2_000);
            samples += 1;
        }
        assert!(samples < WINDOW_REQUESTS / 50, "{samples}");
        assert_eq!(sampler.cost().requests, 10 * WINDOW_REQUESTS + samples);
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
