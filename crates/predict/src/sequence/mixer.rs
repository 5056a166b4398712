//! Geometric mixing of distributions over candidates.
//!
//! `q(k) ~ prod_e p_e(k)^w_e`, normalised over the candidates and "any other". The gradient of the coding cost of
//! outcome `y` is `ln p_e(y) - E_q[ln p_e]` for each weight. An expert that spreads its mass where the others agree
//! costs little, one that is certain and wrong costs much and loses its weight. As for timing, two weight sets chosen
//! by different contexts are added.

use super::model::{EXPERTS, Row, WIDTH};
use crate::numeric;
use serde::{Deserialize, Serialize};

/// Step of the weights: a few thousand outcomes to settle. Faster steps follow single surprises: on small data the
/// mixture then costs more than its best expert.
const RATE: f32 = 5e-4;
const GRADIENT_MAX: f32 = 4.0;
/// Sum of the first weights. Slightly above one, because the experts err in different ways: where several agree, the
/// product should be a little surer than each of them.
const WEIGHT_SUM_START: f32 = 1.2;
/// Bounds on a weight. A slightly negative weight lets the mixture discount what an expert shares with another.
const WEIGHT_MIN: f32 = -0.5;
const WEIGHT_MAX: f32 = 4.0;
/// Smallest probability an expert is taken to state.
pub const STATED_MIN: f32 = 1e-7;

/// Weight sets for mixing [`EXPERTS`] distributions.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct GeometricMixer {
    first: Vec<[f32; EXPERTS]>,
    second: Vec<[f32; EXPERTS]>,
}

/// The contexts that choose the weights.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MixContext {
    /// Index of the first set.
    pub first: usize,
    /// Index of the second set.
    pub second: usize,
}

impl GeometricMixer {
    /// Equal weights for `active` experts.
    pub fn new(first_sets: usize, second_sets: usize, active: usize) -> Self {
        let weight = WEIGHT_SUM_START / active.max(1) as f32;
        Self { first: vec![[weight; EXPERTS]; first_sets], second: vec![[0.0; EXPERTS]; second_sets] }
    }

    /// Weights in a context, scaled so that experts that are away leave the sum as it is.
    pub fn weights(&self, context: MixContext, active: &[bool; EXPERTS]) -> [f32; EXPERTS] {
        let mut weights = [0f32; EXPERTS];
        let (mut present, mut all) = (0.0, 0.0);
        for expert in 0..EXPERTS {
            let weight = self.first[context.first][expert] + self.second[context.second][expert];
            weights[expert] = if active[expert] { weight } else { 0.0 };
            present += weights[expert];
            all += weight;
        }
        if present > 0.1 && all > present {
            let scale = (all / present).min(2.0);
            weights.iter_mut().for_each(|weight| *weight *= scale);
        }
        weights
    }

    /// Mixes the logarithms of what the experts state; the result sums to one over `used` entries and is zero beyond.
    /// An expert of weight zero need not have stated anything.
    #[inline(always)]
    pub fn mix(weights: &[f32; EXPERTS], logs: &[Row; EXPERTS], used: usize, mixed: &mut Row) {
        let width = whole_vectors(used);
        mixed.fill(0.0);
        let row = &mut mixed[..width];
        for (weight, logs) in weights.iter().zip(logs) {
            if *weight != 0.0 {
                numeric::add_scaled(row, *weight, &logs[..width]);
            }
        }
        row[used..].fill(f32::MIN);
        let largest = numeric::largest(row);
        for value in row.iter_mut() {
            *value = numeric::exp(*value - largest);
        }
        row[used..].fill(0.0);
        // Summed by itself and in order: a sum inside the loop above would keep it from being done four at a time.
        let sum: f32 = row[..used].iter().sum();
        let scale = 1.0 / sum;
        row.iter_mut().for_each(|value| *value *= scale);
    }

    /// Learns that entry `outcome` of `used` came.
    pub fn learn(
        &mut self,
        context: MixContext,
        active: &[bool; EXPERTS],
        logs: &[Row; EXPERTS],
        mixed: &Row,
        used: usize,
        outcome: usize,
    ) {
        let width = whole_vectors(used);
        for expert in (0..EXPERTS).filter(|expert| active[*expert]) {
            let expected = numeric::dot(&mixed[..width], &logs[expert][..width]);
            let gradient = (logs[expert][outcome] - expected).clamp(-GRADIENT_MAX, GRADIENT_MAX);
            for weights in [&mut self.first[context.first], &mut self.second[context.second]] {
                weights[expert] = (weights[expert] + RATE * gradient).clamp(WEIGHT_MIN, WEIGHT_MAX);
            }
        }
    }

    pub(crate) fn is_sound(&self, first_sets: usize, second_sets: usize) -> bool {
        let in_range =
            |sets: &[[f32; EXPERTS]]| sets.iter().flatten().all(|weight| (WEIGHT_MIN..=WEIGHT_MAX).contains(weight));
        self.first.len() == first_sets
            && self.second.len() == second_sets
            && in_range(&self.first)
            && in_range(&self.second)
    }
}

/// Number of entries to work on so that `used` are covered by whole vectors; entries beyond `used` are padding.
pub fn whole_vectors(used: usize) -> usize {
    used.next_multiple_of(8).min(WIDTH)
}

/// Logarithms of probabilities.
#[inline(always)]
pub fn logarithms(probabilities: &[f32], logs: &mut [f32]) {
    for (log, probability) in logs.iter_mut().zip(probabilities) {
        *log = numeric::ln(probability.max(STATED_MIN));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_better_expert_gains_weight_and_the_mixture_sums_to_one() {
        let mut mixer = GeometricMixer::new(1, 1, 2);
        let context = MixContext { first: 0, second: 0 };
        let mut active = [false; EXPERTS];
        active[..2].fill(true);
        let mut mixed = [0.0; WIDTH];
        for step in 0..3_000usize {
            let outcome = step % 2;
            let mut rows = [[0.0; WIDTH]; EXPERTS];
            rows[0][outcome] = 0.9;
            rows[0][1 - outcome] = 0.1;
            rows[1][..2].fill(0.5);
            let mut logs = [[0.0; WIDTH]; EXPERTS];
            rows.iter().zip(&mut logs).for_each(|(row, logs)| logarithms(row, logs));
            let weights = mixer.weights(context, &active);
            GeometricMixer::mix(&weights, &logs, 2, &mut mixed);
            assert!((mixed.iter().sum::<f32>() - 1.0).abs() < 1e-5);
            mixer.learn(context, &active, &logs, &mixed, 2, outcome);
        }
        assert!(mixed[1] > 0.97, "the certain expert was always right: {}", mixed[1]);
        assert!(mixer.is_sound(1, 1));
    }
}
