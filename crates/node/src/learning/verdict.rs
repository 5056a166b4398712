//! Whether being ready helps: requests served by a ready VM against the control group, tested as they come.
//!
//! The test may be looked at after every request without losing its guarantee (an anytime-valid confidence sequence).
//! In words: of each group we keep the mean of the logarithm of its latency and an interval around it that, with
//! probability `1 - ALPHA`, holds the true mean at *all* times; when the two intervals lie apart, the matter is decided.
//! In symbols, with `n` samples of variance `s^2` and Robbins' normal mixture of weight `RHO`:
//!
//! `radius(n) = sqrt((n s^2 + RHO) ln((n s^2 + RHO) / (RHO ALPHA^2))) / n`
//!
//! (Robbins 1970; with the variance estimated, asymptotic as in Waudby-Smith et al. 2021.) It measures latency only:
//! what a wrong answer would cost cannot be seen here.

use serde::{Deserialize, Serialize};

/// Probability that a harmless way of serving is ever given up, for each of the two groups.
const ALPHA: f64 = 0.005;
/// Weight of the mixture: tightest after about `RHO / s^2` samples, about a hundred at the spread of real latencies.
const RHO: f64 = 10.0;
/// Before so many samples of a group its variance is not to be trusted.
const SAMPLES_MIN: u64 = 20;

/// One group of requests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Group {
    samples: u64,
    mean_ln_us: f64,
    /// Sum of squared distances from the mean (Welford).
    spread: f64,
}

/// What is known of one function's ready VMs against standard initialization.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Comparison {
    pub(crate) ready: Group,
    pub(crate) control: Group,
}

/// What the comparison says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Verdict {
    /// Not enough is known yet.
    Open,
    /// Ready VMs serve faster.
    Better,
    /// Ready VMs serve slower: none are made any more.
    Worse,
}

impl Group {
    pub(crate) fn add(&mut self, latency_us: u64) {
        let value = (latency_us.max(1) as f64).ln();
        self.samples += 1;
        let distance = value - self.mean_ln_us;
        self.mean_ln_us += distance / self.samples as f64;
        self.spread += distance * (value - self.mean_ln_us);
    }

    pub(crate) fn samples(&self) -> u64 {
        self.samples
    }

    /// The geometric mean, in microseconds.
    pub(crate) fn typical_us(&self) -> f64 {
        if self.samples == 0 { 0.0 } else { self.mean_ln_us.exp() }
    }

    fn radius(&self) -> Option<f64> {
        if self.samples < SAMPLES_MIN {
            return None;
        }
        let n = self.samples as f64;
        let total = n * (self.spread / (n - 1.0)) + RHO;
        Some((total * (total / (RHO * ALPHA * ALPHA)).ln()).sqrt() / n)
    }
}

impl Comparison {
    pub(crate) fn verdict(&self) -> Verdict {
        let (Some(ready), Some(control)) = (self.ready.radius(), self.control.radius()) else {
            return Verdict::Open;
        };
        let slower = self.ready.mean_ln_us - self.control.mean_ln_us;
        if slower > ready + control {
            Verdict::Worse
        } else if -slower > ready + control {
            Verdict::Better
        } else {
            Verdict::Open
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Latencies around `typical_us`, spread by a factor of about 1.5, from a small generator with a seed.
    struct Latencies(u64);

    impl Latencies {
        fn next(&mut self, typical_us: f64) -> u64 {
            let mut sum = 0.0;
            for _ in 0..4 {
                self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                sum += (self.0 >> 33) as f64 / (1u64 << 31) as f64 - 0.5;
            }
            (typical_us * (sum * 0.7).exp()) as u64
        }
    }

    /// Looks after each request; how many requests it took until a verdict.
    fn trial(seed: u64, ready_us: f64, control_us: f64, requests: u64) -> (Verdict, u64) {
        let (mut latencies, mut comparison) = (Latencies(seed), Comparison::default());
        for request in 0..requests {
            if request % 8 == 0 {
                comparison.control.add(latencies.next(control_us));
            } else {
                comparison.ready.add(latencies.next(ready_us));
            }
            match comparison.verdict() {
                Verdict::Open => {}
                decided @ (Verdict::Better | Verdict::Worse) => return (decided, request),
            }
        }
        (Verdict::Open, requests)
    }

    #[test]
    fn no_false_alarm_in_a_thousand_trials() {
        let alarms = (0..1_000).filter(|seed| trial(*seed, 1_000.0, 1_000.0, 4_000).0 != Verdict::Open).count();
        assert!(alarms <= 10, "{alarms} of 1000");
    }

    #[test]
    fn a_fifth_slower_is_found_and_so_is_faster() {
        for seed in 0..20 {
            let (verdict, after) = trial(seed, 1_200.0, 1_000.0, 20_000);
            assert_eq!(verdict, Verdict::Worse, "seed {seed} after {after}");
            assert_eq!(trial(seed, 300.0, 1_000.0, 20_000).0, Verdict::Better, "seed {seed}");
        }
    }

    #[test]
    fn nothing_is_decided_on_a_handful() {
        let mut comparison = Comparison::default();
        (0..15).for_each(|_| comparison.ready.add(1_000_000));
        (0..15).for_each(|_| comparison.control.add(1));
        assert_eq!(comparison.verdict(), Verdict::Open);
        comparison.ready.add(0);
        assert!(comparison.ready.typical_us().is_finite());
    }
}
