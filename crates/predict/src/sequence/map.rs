//! Adaptive probability map: turns a stated probability into a calibrated one, with an error bar.
//!
//! The range is covered by [`CELLS`] points per context. A statement falls between two of them; the calibrated value is
//! interpolated, and each outcome moves both points towards it, the nearer one more (secondary symbol estimation of the
//! PAQ compressors). The number of outcomes near a point gives the error bar.

use serde::{Deserialize, Serialize};

/// Points per context; 32 intervals, so that a cell is as wide as the calibration error one wants to see.
const CELLS: usize = 33;
/// Slowest rate at which a point moves: the last hundred outcomes near it count.
const RATE_MIN: f32 = 0.01;
/// A point starts as if it had been confirmed this many times, so that the first outcomes do not throw it about.
const PRIOR_OUTCOMES: f32 = 12.0;

/// A calibrated probability and how well it is known.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Calibrated {
    /// The probability.
    pub probability: f32,
    /// Half the width of its 95 % interval (Wilson), from the outcomes seen near it.
    pub error: f32,
    /// How many outcomes that is.
    pub outcomes: f32,
}

impl Calibrated {
    /// The probability less `deviations` standard errors, at least 0.
    pub fn lower(&self, deviations: f32) -> f32 {
        (self.probability - self.error * deviations / DEVIATIONS).max(0.0)
    }
}

/// Standard deviations of a 95 % interval.
const DEVIATIONS: f32 = 1.96;

/// Maps for a number of contexts.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ProbabilityMap {
    values: Vec<f32>,
    outcomes: Vec<f32>,
}

impl ProbabilityMap {
    /// Maps that change nothing yet.
    pub fn new(contexts: usize) -> Self {
        let values = (0..contexts * CELLS).map(|index| (index % CELLS) as f32 / (CELLS - 1) as f32).collect();
        Self { values, outcomes: vec![0.0; contexts * CELLS] }
    }

    /// The calibrated form of `stated`.
    pub fn calibrate(&self, context: usize, stated: f32) -> Calibrated {
        let (low, share) = position(context, stated);
        let mix = |points: &[f32]| points[low] * (1.0 - share) + points[low + 1] * share;
        let probability = mix(&self.values);
        let outcomes = mix(&self.outcomes);
        Calibrated { probability, error: wilson_half_width(probability, outcomes), outcomes }
    }

    /// Learns that a statement was right or wrong.
    pub fn learn(&mut self, context: usize, stated: f32, right: bool) {
        let (low, share) = position(context, stated);
        let outcome = f32::from(u8::from(right));
        for (cell, weight) in [(low, 1.0 - share), (low + 1, share)] {
            // The count stops where the rate has reached its floor: the point remembers no further back.
            let rate = (1.0 / (self.outcomes[cell] + PRIOR_OUTCOMES)).max(RATE_MIN);
            self.values[cell] += weight * rate * (outcome - self.values[cell]);
            self.outcomes[cell] = (self.outcomes[cell] + weight).min(1.0 / RATE_MIN);
        }
    }

    pub(crate) fn is_sound(&self, contexts: usize) -> bool {
        self.values.len() == contexts * CELLS
            && self.outcomes.len() == contexts * CELLS
            && self.values.iter().all(|value| (0.0..=1.0).contains(value))
            && self.outcomes.iter().all(|outcomes| (0.0..=1.0 / RATE_MIN).contains(outcomes))
    }
}

fn position(context: usize, stated: f32) -> (usize, f32) {
    let scaled = stated.clamp(0.0, 0.999_9) * (CELLS - 1) as f32;
    let cell = scaled as usize;
    (context * CELLS + cell, scaled - cell as f32)
}

/// Half the width of Wilson's interval for a share seen in `outcomes` trials.
pub fn wilson_half_width(share: f32, outcomes: f32) -> f32 {
    let z2 = DEVIATIONS * DEVIATIONS;
    let n = outcomes.max(0.0);
    let spread = (n * share * (1.0 - share) + z2 / 4.0).max(0.0).sqrt();
    (DEVIATIONS * spread / (n + z2)).min(0.5)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn overconfidence_is_corrected() {
        let mut map = ProbabilityMap::new(2);
        for step in 0..5_000 {
            map.learn(1, 0.9, step % 10 < 6);
        }
        let calibrated = map.calibrate(1, 0.9);
        assert!((calibrated.probability - 0.6).abs() < 0.05, "{calibrated:?}");
        assert!(calibrated.error < 0.12 && calibrated.lower(1.96) < calibrated.probability);
        assert_eq!(map.calibrate(0, 0.9).probability, 0.9, "another context has seen nothing");
    }

    #[test]
    fn ignorance_has_a_wide_error_bar() {
        assert_eq!(wilson_half_width(0.5, 0.0), 0.5);
        assert!(wilson_half_width(0.5, 1e6) < 0.001);
    }

    proptest! {
        #[test]
        fn any_statement_is_mapped_into_range(statements in prop::collection::vec((-1f32..2.0, any::<bool>()), 0..200)) {
            let mut map = ProbabilityMap::new(1);
            for (stated, right) in statements {
                map.learn(0, stated, right);
                let calibrated = map.calibrate(0, stated);
                prop_assert!((0.0..=1.0).contains(&calibrated.probability) && calibrated.error >= 0.0);
            }
            prop_assert!(map.is_sound(1));
        }
    }
}
