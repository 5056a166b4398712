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
use super::experts::EXPERTS;
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
    active: [bool; EXPERTS],
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

/// Rows of weights.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct WeightSets {
    weights: Vec<Weights>,
    counts: Vec<f32>,
}

/// One weight per expert, then that of the mean, then the bias.
type Weights = [f32; EXPERTS + 2];
const MEAN: usize = EXPERTS;
const BIAS: usize = EXPERTS + 1;

impl HazardMixer {
    /// A mixer that starts with the mean of the experts that take part.
    pub fn new(active: [bool; EXPERTS], first_sets: usize, second_sets: usize) -> Self {
        Self { active, first: WeightSets::new(first_sets, 1.0), second: WeightSets::new(second_sets, 0.0) }
    }

    /// Mixes a block, of which `mixed` has the mean. The logits of experts that do not take part are zero.
    ///
    /// The mean is taken out of the sum over the experts: `v m + sum w_e (x_e - m) = (v - sum w_e) m + sum w_e x_e`.
    #[inline(always)]
    pub fn mix(&self, context: MixContext, logits: &[Block; EXPERTS], mixed: &mut Mixed) {
        let (first, second) = (&self.first.weights[context.first], &self.second.weights[context.second]);
        let mut weights = *first;
        for (weight, second) in weights.iter_mut().zip(second) {
            *weight += second;
        }
        let mean_weight = weights[MEAN] - weights[..EXPERTS].iter().sum::<f32>();
        let mut sum = mixed.mean.map(|mean| weights[BIAS] + mean_weight * mean);
        for expert in 0..EXPERTS {
            for lane in 0..LANES {
                sum[lane] += weights[expert] * logits[expert][lane];
            }
        }
        for lane in 0..LANES {
            let logit = sum[lane].clamp(-LOGIT_MAX, LOGIT_MAX);
            mixed.hazards[lane] = numeric::sigmoid(logit).min(numeric::HAZARD_MAX);
        }
    }

    /// Learns from a block of which `observed` bins were: `errors` are outcome minus mixed hazard of those and zero for
    /// the rest, and `mean` is that of [`Mixed`].
    #[inline(always)]
    pub fn learn(
        &mut self,
        context: MixContext,
        logits: &[Block; EXPERTS],
        mean: &Block,
        errors: &Block,
        observed: usize,
    ) {
        // The sum of `errors` times a deviation from the mean is the difference of two sums.
        let along_mean = total(&quarters(&product(errors, mean)));
        let mut along = [[0f32; LANES / 4]; EXPERTS];
        for expert in 0..EXPERTS {
            along[expert] = quarters(&product(errors, &logits[expert]));
        }
        let along = totals(&along);
        let mut gradients = [0f32; EXPERTS + 2];
        for expert in 0..EXPERTS {
            gradients[expert] = if self.active[expert] { along[expert] - along_mean } else { 0.0 };
        }
        gradients[MEAN] = MEAN_SCALE * along_mean;
        gradients[BIAS] = total(&quarters(errors));
        self.first.step(context.first, &gradients, observed);
        self.second.step(context.second, &gradients, observed);
    }

    /// How much each expert that takes part counts in a context, for explanations: its share of the mean and its own
    /// weight together. The second item is the expert's index.
    pub fn weights(&self, context: MixContext) -> impl Iterator<Item = (f32, usize)> + '_ {
        let (first, second) = (&self.first.weights[context.first], &self.second.weights[context.second]);
        let count = self.active.iter().filter(|active| **active).count().max(1) as f32;
        let deviations: f32 = (0..EXPERTS).map(|expert| first[expert] + second[expert]).sum();
        let share = (first[MEAN] + second[MEAN] - deviations) / count;
        (0..EXPERTS)
            .filter(|expert| self.active[*expert])
            .map(move |expert| (share + first[expert] + second[expert], expert))
    }

    /// Whether restored state has the expected shape and only bounded numbers.
    pub fn is_sound(&self, active: &[bool; EXPERTS], first_sets: usize, second_sets: usize) -> bool {
        self.active == *active && self.first.is_sound(first_sets) && self.second.is_sound(second_sets)
    }

    /// Mean of what the experts that take part state.
    #[inline(always)]
    pub fn mean(&self, logits: &[Block; EXPERTS]) -> Block {
        let count = self.active.iter().filter(|active| **active).count();
        let mut mean = [0.0; LANES];
        for block in logits {
            for lane in 0..LANES {
                mean[lane] += block[lane];
            }
        }
        let scale = 1.0 / count.max(1) as f32;
        mean.map(|sum| sum * scale)
    }
}

/// Sums of a quarter of the lanes each. A block is summed by halves: a fixed order of additions that the compiler can do
/// several at a time.
type Quarters = [f32; LANES / 4];

#[inline(always)]
fn product(a: &Block, b: &Block) -> Block {
    let mut product = [0.0; LANES];
    for lane in 0..LANES {
        product[lane] = a[lane] * b[lane];
    }
    product
}

#[inline(always)]
fn quarters(block: &Block) -> Quarters {
    let mut halves = [0f32; LANES / 2];
    for lane in 0..LANES / 2 {
        halves[lane] = block[lane] + block[lane + LANES / 2];
    }
    let mut quarters = [0f32; LANES / 4];
    for lane in 0..LANES / 4 {
        quarters[lane] = halves[lane] + halves[lane + LANES / 4];
    }
    quarters
}

#[inline(always)]
fn total(four: &Quarters) -> f32 {
    (four[0] + four[2]) + (four[1] + four[3])
}

/// As [`total`] of the quarters of all experts, several experts at a time.
#[inline(always)]
fn totals(quarters: &[Quarters; EXPERTS]) -> [f32; EXPERTS] {
    let mut lanes = [[0f32; EXPERTS]; LANES / 4];
    for (expert, quarters) in quarters.iter().enumerate() {
        for lane in 0..LANES / 4 {
            lanes[lane][expert] = quarters[lane];
        }
    }
    let mut totals = [0f32; EXPERTS];
    for expert in 0..EXPERTS {
        totals[expert] = (lanes[0][expert] + lanes[2][expert]) + (lanes[1][expert] + lanes[3][expert]);
    }
    totals
}

impl WeightSets {
    fn new(sets: usize, mean_weight: f32) -> Self {
        let mut weights = [0.0; EXPERTS + 2];
        weights[MEAN] = mean_weight;
        Self { weights: vec![weights; sets], counts: vec![0.0; sets] }
    }

    #[inline(always)]
    fn step(&mut self, index: usize, gradients: &Weights, observed: usize) {
        let count = &mut self.counts[index];
        // The count only sets the rate, which has long reached its floor by then.
        *count = (*count + observed as f32).min(1e9);
        let rate = (RATE_START / (1.0 + *count / RATE_HALF_LIFE)).max(RATE_MIN);
        for (weight, gradient) in self.weights[index].iter_mut().zip(gradients) {
            *weight = (*weight + rate * gradient).clamp(-WEIGHT_MAX, WEIGHT_MAX);
        }
    }

    fn is_sound(&self, sets: usize) -> bool {
        self.weights.len() == sets
            && self.counts.len() == sets
            && self.weights.iter().flatten().all(|weight| weight.abs() <= WEIGHT_MAX)
            && self.counts.iter().all(|count| (0.0..=1e9).contains(count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONTEXT: MixContext = MixContext { first: 0, second: 0 };

    /// The first two experts take part.
    const TWO: [bool; EXPERTS] = {
        let mut active = [false; EXPERTS];
        active[0] = true;
        active[1] = true;
        active
    };

    fn of_two(a: f32, b: f32) -> [Block; EXPERTS] {
        let mut logits = [[0.0; LANES]; EXPERTS];
        (logits[0], logits[1]) = ([a; LANES], [b; LANES]);
        logits
    }

    #[test]
    fn the_expert_that_is_right_wins() {
        let mut mixer = HazardMixer::new(TWO, 1, 1);
        let logits = |truth: bool| of_two(if truth { 3.0 } else { -3.0 }, 0.5);
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
        let mut mixer = HazardMixer::new(TWO, 1, 1);
        for step in 0..50_000 {
            let errors = [if step % 2 == 0 { 1.0 } else { -1.0 }; LANES];
            mixer.learn(CONTEXT, &of_two(13.0, -13.0), &[13.0; LANES], &errors, LANES);
        }
        assert!(mixer.is_sound(&TWO, 1, 1));
    }
}
