//! Mixing of timing experts in the hazard domain.
//!
//! In each bin the experts state a hazard `h_e`. With `x_e = logit(h_e)` and `m` the mean of the `x_e`, the mixture is
//! `sigmoid(b + v m + sum_e w_e (x_e - m))`: one logistic regression per bin and context, trained on line by gradient
//! descent on the coding cost (the mixing of the PAQ compressors). Mixing hazards instead of distributions over bins
//! lets one expert be trusted for the first minute and another for the tail. Stating the experts as deviations from
//! their mean keeps the inputs small where the experts agree; raw logits of rare events are all large and negative, and
//! one step on them would move every bin of the tail. Two weight sets, chosen by different contexts, are added: what
//! one context has not seen yet the other may know.

use super::bins::LANES;
use crate::numeric;
use serde::{Deserialize, Serialize};

/// Learning rate of a fresh weight set; it falls as `1 / (1 + n / 2000)` to [`RATE_MIN`]. The start is the customary
/// value for logistic mixing; the floor keeps the mixture able to follow drift.
const RATE_START: f32 = 0.02;
const RATE_HALF_LIFE: f32 = 2_000.0;
const RATE_MIN: f32 = 5e-4;
/// The weight of the mean learns this much slower: its input is about -5, so its square is 25 to 50 times that of the
/// other inputs.
const MEAN_SCALE: f32 = 0.02;
/// Bound on a weight; beyond it a context has seen a certainty and more would only risk overflow.
const WEIGHT_MAX: f32 = 8.0;
/// Bound on a mixed logit, the logit of the smallest probability an expert may state.
const LOGIT_MAX: f32 = 14.0;

/// Logits of one expert for one block of bins.
pub type Block = [f32; LANES];

/// What a mixture states for one block of bins.
#[derive(Debug, Clone, Copy, Default)]
pub struct Mixed {
    /// Mean of the experts' logits.
    pub mean: Block,
    /// Mixed hazards.
    pub hazards: Block,
}

/// Weight sets of a hazard mixture.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct HazardMixer {
    active: Vec<bool>,
    first: WeightSets,
    second: WeightSets,
}

/// The two contexts that choose the weights.
#[derive(Debug, Clone, Copy)]
pub struct MixContext {
    /// Index of the first weight set.
    pub first: usize,
    /// Index of the second weight set.
    pub second: usize,
}

/// Rows of weights: one per expert, then that of the mean, then the bias.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct WeightSets {
    row: usize,
    weights: Vec<f32>,
    counts: Vec<f32>,
}

impl HazardMixer {
    /// A mixer that starts with the mean of the experts that take part.
    pub fn new(active: &[bool], first_sets: usize, second_sets: usize) -> Self {
        let row = active.len() + 2;
        Self {
            active: active.to_vec(),
            first: WeightSets::new(row, first_sets, 1.0),
            second: WeightSets::new(row, second_sets, 0.0),
        }
    }

    /// Mixes a block, of which `mixed` has the mean.
    #[inline]
    pub fn mix(&self, context: MixContext, logits: &[Block], mixed: &mut Mixed) {
        let experts = self.active.len();
        let (first, second) = (self.first.set(context.first), self.second.set(context.second));
        let mean = mixed.mean;
        let mean_weight = first[experts] + second[experts];
        let bias = first[experts + 1] + second[experts + 1];
        let mut sum = mean.map(|mean| bias + mean_weight * mean);
        for (((active, block), first), second) in self.active.iter().zip(logits).zip(first).zip(second) {
            if *active {
                let weight = first + second;
                for lane in 0..LANES {
                    sum[lane] += weight * (block[lane] - mean[lane]);
                }
            }
        }
        for lane in 0..LANES {
            let logit = sum[lane].clamp(-LOGIT_MAX, LOGIT_MAX);
            mixed.hazards[lane] = numeric::sigmoid(logit).min(numeric::HAZARD_MAX);
        }
    }

    /// Learns from a block of which `observed` bins were: `errors` are outcome minus mixed hazard of those and zero for
    /// the rest, and `mean` is that of [`Mixed`].
    #[inline]
    pub fn learn(&mut self, context: MixContext, logits: &[Block], mean: &Block, errors: &Block, observed: usize) {
        let experts = self.active.len();
        let mut gradients = [0f32; EXPERTS_MAX + 2];
        for (expert, (active, block)) in self.active.iter().zip(logits).enumerate() {
            if *active {
                let mut products = [0f32; LANES];
                for lane in 0..LANES {
                    products[lane] = errors[lane] * (block[lane] - mean[lane]);
                }
                gradients[expert] = total(&products);
            }
        }
        let mut products = [0f32; LANES];
        for lane in 0..LANES {
            products[lane] = errors[lane] * mean[lane];
        }
        gradients[experts] = MEAN_SCALE * total(&products);
        gradients[experts + 1] = total(errors);
        self.first.step(context.first, &gradients, observed);
        self.second.step(context.second, &gradients, observed);
    }

    /// How much each expert that takes part counts in a context, for explanations: its share of the mean and its own
    /// weight together. The second item is the expert's index.
    pub fn weights(&self, context: MixContext) -> impl Iterator<Item = (f32, usize)> + '_ {
        let experts = self.active.len();
        let (first, second) = (self.first.set(context.first), self.second.set(context.second));
        let count = self.active.iter().filter(|active| **active).count().max(1) as f32;
        let deviations: f32 = (0..experts).map(|expert| first[expert] + second[expert]).sum();
        let share = (first[experts] + second[experts] - deviations) / count;
        (0..experts)
            .filter(|expert| self.active[*expert])
            .map(move |expert| (share + first[expert] + second[expert], expert))
    }

    /// Whether restored state has the expected shape and only bounded numbers.
    pub fn is_sound(&self, active: &[bool], first_sets: usize, second_sets: usize) -> bool {
        self.active == active
            && self.first.is_sound(active.len() + 2, first_sets)
            && self.second.is_sound(active.len() + 2, second_sets)
    }

    /// Mean of what the experts that take part state.
    #[inline]
    pub fn mean(&self, logits: &[Block]) -> Block {
        let mut mean = [0.0; LANES];
        let mut count = 0.0;
        for (active, block) in self.active.iter().zip(logits) {
            if *active {
                for lane in 0..LANES {
                    mean[lane] += block[lane];
                }
                count += 1.0;
            }
        }
        let scale = 1.0 / f32::max(count, 1.0);
        mean.map(|sum| sum * scale)
    }
}

/// Sum of a block, by halves: a fixed order of additions that the compiler can do several at a time.
#[inline]
fn total(block: &Block) -> f32 {
    let mut eight = [0f32; LANES / 2];
    for lane in 0..LANES / 2 {
        eight[lane] = block[lane] + block[lane + LANES / 2];
    }
    let mut four = [0f32; LANES / 4];
    for lane in 0..LANES / 4 {
        four[lane] = eight[lane] + eight[lane + LANES / 4];
    }
    (four[0] + four[2]) + (four[1] + four[3])
}

/// Most experts a mixer may have; room for gradients on the stack.
const EXPERTS_MAX: usize = 14;

impl WeightSets {
    fn new(row: usize, sets: usize, mean_weight: f32) -> Self {
        assert!(row <= EXPERTS_MAX + 2, "gradients are kept in a fixed array");
        let mut weights = vec![0.0; sets * row];
        weights.iter_mut().skip(row - 2).step_by(row).for_each(|weight| *weight = mean_weight);
        Self { row, weights, counts: vec![0.0; sets] }
    }

    fn set(&self, index: usize) -> &[f32] {
        &self.weights[index * self.row..(index + 1) * self.row]
    }

    fn step(&mut self, index: usize, gradients: &[f32], observed: usize) {
        let count = &mut self.counts[index];
        // The count only sets the rate, which has long reached its floor by then.
        *count = (*count + observed as f32).min(1e9);
        let rate = (RATE_START / (1.0 + *count / RATE_HALF_LIFE)).max(RATE_MIN);
        let weights = &mut self.weights[index * self.row..(index + 1) * self.row];
        for (weight, gradient) in weights.iter_mut().zip(gradients) {
            *weight = (*weight + rate * gradient).clamp(-WEIGHT_MAX, WEIGHT_MAX);
        }
    }

    fn is_sound(&self, row: usize, sets: usize) -> bool {
        self.row == row
            && self.weights.len() == sets * row
            && self.counts.len() == sets
            && self.weights.iter().all(|weight| weight.abs() <= WEIGHT_MAX)
            && self.counts.iter().all(|count| (0.0..=1e9).contains(count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONTEXT: MixContext = MixContext { first: 0, second: 0 };

    #[test]
    fn the_expert_that_is_right_wins() {
        let mut mixer = HazardMixer::new(&[true, true], 1, 1);
        let logits = |truth: bool| [[if truth { 3.0 } else { -3.0 }; LANES], [0.5; LANES]];
        let mut mixed = Mixed::default();
        let mix = |mixer: &HazardMixer, truth: bool, mixed: &mut Mixed| {
            mixed.mean = mixer.mean(&logits(truth));
            mixer.mix(CONTEXT, &logits(truth), mixed);
        };
        for step in 0..4_000 {
            let truth = step % 3 == 0;
            mix(&mixer, truth, &mut mixed);
            let mut errors = [0.0; LANES];
            errors[0] = f32::from(u8::from(truth)) - mixed.hazards[0];
            mixer.learn(CONTEXT, &logits(truth), &mixed.mean, &errors, 1);
        }
        mix(&mixer, true, &mut mixed);
        assert!(mixed.hazards[0] > 0.95, "{}", mixed.hazards[0]);
        mix(&mixer, false, &mut mixed);
        assert!(mixed.hazards[0] < 0.05, "{}", mixed.hazards[0]);
    }

    #[test]
    fn weights_stay_bounded_under_contradiction() {
        let mut mixer = HazardMixer::new(&[true], 1, 1);
        for step in 0..50_000 {
            let errors = [if step % 2 == 0 { 1.0 } else { -1.0 }; LANES];
            mixer.learn(CONTEXT, &[[13.0; LANES]], &[13.0; LANES], &errors, LANES);
        }
        assert!(mixer.is_sound(&[true], 1, 1));
    }
}
