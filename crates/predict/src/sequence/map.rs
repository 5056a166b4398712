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

/// Maps for two families of contexts. A statement is looked up in one map of each and the mean is taken: each map
/// sees all outcomes, told apart by something else, so half of what chance does to a single map averages out.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ProbabilityMap {
    families: [Points; 2],
}

/// The points of one family's maps.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Points {
    values: Vec<f32>,
    outcomes: Vec<f32>,
}

impl ProbabilityMap {
    /// Maps that change nothing yet, for so many contexts of each family.
    pub fn new(contexts: [usize; 2]) -> Self {
        Self { families: contexts.map(Points::new) }
    }

    /// The calibrated form of `stated` where these contexts hold, one of each family.
    pub fn calibrate(&self, contexts: [usize; 2], stated: f32) -> Calibrated {
        let at = |family: usize| self.families[family].at(contexts[family], stated);
        let ((first, first_outcomes), (second, second_outcomes)) = (at(0), at(1));
        let probability = 0.5 * (first + second);
        // Both have seen the same outcomes in part: they count as one map would that has seen as many as each.
        let outcomes = 0.5 * (first_outcomes + second_outcomes);
        Calibrated { probability, error: wilson_half_width(probability, outcomes), outcomes }
    }

    /// Learns that a statement was right or wrong.
    pub fn learn(&mut self, contexts: [usize; 2], stated: f32, right: bool) {
        for (family, context) in self.families.iter_mut().zip(contexts) {
            family.learn(context, stated, right);
        }
    }

    pub(crate) fn is_sound(&self, contexts: [usize; 2]) -> bool {
        self.families.iter().zip(contexts).all(|(family, contexts)| family.is_sound(contexts))
    }
}

impl Points {
    fn new(contexts: usize) -> Self {
        let values = (0..contexts * CELLS).map(|index| (index % CELLS) as f32 / (CELLS - 1) as f32).collect();
        Self { values, outcomes: vec![0.0; contexts * CELLS] }
    }

    /// Value and number of outcomes, interpolated between the two points beside `stated`.
    fn at(&self, context: usize, stated: f32) -> (f32, f32) {
        let (low, share) = position(context, stated);
        let mix = |points: &[f32]| points[low] * (1.0 - share) + points[low + 1] * share;
        (mix(&self.values), mix(&self.outcomes))
    }

    fn learn(&mut self, context: usize, stated: f32, right: bool) {
        let (low, share) = position(context, stated);
        let outcome = f32::from(u8::from(right));
        for (cell, weight) in [(low, 1.0 - share), (low + 1, share)] {
            // The count stops where the rate has reached its floor: the point remembers no further back.
            let rate = (1.0 / (self.outcomes[cell] + PRIOR_OUTCOMES)).max(RATE_MIN);
            self.values[cell] += weight * rate * (outcome - self.values[cell]);
            self.outcomes[cell] = (self.outcomes[cell] + weight).min(1.0 / RATE_MIN);
        }
    }

    fn is_sound(&self, contexts: usize) -> bool {
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
        let mut map = ProbabilityMap::new([2, 1]);
        for step in 0..5_000 {
            map.learn([1, 0], 0.9, step % 10 < 6);
        }
        let calibrated = map.calibrate([1, 0], 0.9);
        assert!((calibrated.probability - 0.6).abs() < 0.05, "{calibrated:?}");
        assert!(calibrated.error < 0.12 && calibrated.lower(1.96) < calibrated.probability);
        let half = map.calibrate([0, 0], 0.9).probability;
        assert!((half - 0.75).abs() < 0.05, "another context of one family has seen nothing: {half}");
    }

    #[test]
    fn ignorance_has_a_wide_error_bar() {
        assert_eq!(wilson_half_width(0.5, 0.0), 0.5);
        assert!(wilson_half_width(0.5, 1e6) < 0.001);
    }

    proptest! {
        #[test]
        fn any_statement_is_mapped_into_range(statements in prop::collection::vec((-1f32..2.0, any::<bool>()), 0..200)) {
            let mut map = ProbabilityMap::new([1, 3]);
            for (stated, right) in statements {
                map.learn([0, 2], stated, right);
                let calibrated = map.calibrate([0, 2], stated);
                prop_assert!((0.0..=1.0).contains(&calibrated.probability) && calibrated.error >= 0.0);
            }
            prop_assert!(map.is_sound([1, 3]));
        }
    }
}
