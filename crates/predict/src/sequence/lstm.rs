//! A small LSTM with its own on-line training: forward step, truncated back-propagation through time, Adam.
//!
//! With input `x` (an embedding), state `h`, `c` and `z = Wx x + Wh h + b` split into four parts:
//!
//! ```text
//! i = sigmoid(z_i)   f = sigmoid(z_f)   g = tanh(z_g)   o = sigmoid(z_o)
//! c' = f c + i g     h' = o tanh(c')
//! p(k) = exp(v_k . h' + a_k) / sum over candidates
//! ```
//!
//! Backwards, with `dh`, `dc` the gradients of the loss with respect to `h'`, `c'`:
//!
//! ```text
//! dc += dh o (1 - tanh(c')^2)
//! dz_o = dh tanh(c') o (1 - o)   dz_i = dc g i (1 - i)   dz_g = dc i (1 - g^2)   dz_f = dc c f (1 - f)
//! dx = Wx' dz   dh = Wh' dz   dc = dc f
//! ```
//!
//! The softmax runs over the candidates of a step only, so a step costs the same however many symbols there are. The
//! gradient is checked against finite differences in the tests. Matrices are stored by input, so that one step is a
//! sum of scaled contiguous rows. What it does not do: batches, several layers, a GPU; at this size they cost more
//! than they give.

use crate::hash;
use crate::numeric::{self, add_scaled, dot};
use serde::{Deserialize, Serialize};

/// Length of an embedding.
pub const EMBEDDING: usize = 16;
/// Length of the state.
pub const HIDDEN: usize = 32;
/// Rows of embeddings and of outputs. The first symbols have their own; the rest share the upper half by hash.
pub const SLOTS: usize = 4_096;
/// The output that stands for every symbol that is not a candidate.
pub const OTHER_SLOT: u16 = 0;

const GATES: usize = 4 * HIDDEN;
/// Adam's customary constants; the rate is its usual 1e-3 times three, because each example is seen once.
const RATE: f32 = 3e-3;
const MEAN_DECAY: f32 = 0.9;
const SQUARE_DECAY: f32 = 0.999;
const EPSILON: f32 = 1e-8;
/// Rate of the embeddings, which are trained by Adagrad: each is touched rarely, and Adam's memory would be of others.
const EMBEDDING_RATE: f32 = 0.05;
/// Bound on each gradient that flows back in time: keeps one surprise from undoing what was learnt.
const GRADIENT_MAX: f32 = 1.0;
/// Bound on every parameter, far above any useful value, so that nothing can overflow.
const PARAMETER_MAX: f32 = 100.0;

/// Network state of one session.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NetState {
    /// Output of the cell.
    pub h: [f32; HIDDEN],
    /// Memory of the cell.
    pub c: [f32; HIDDEN],
}

impl Default for NetState {
    fn default() -> Self {
        Self { h: [0.0; HIDDEN], c: [0.0; HIDDEN] }
    }
}

/// One step with all that training needs.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Step {
    input: u16,
    before_h: Vec<f32>,
    before_c: Vec<f32>,
    gates: Vec<f32>,
    after_c: Vec<f32>,
    after_h: Vec<f32>,
    /// Output slots of the candidates for the symbol after this step.
    pub candidates: Vec<u16>,
    /// Which candidate came, once it is known.
    pub target: Option<u16>,
}

impl Step {
    /// State after the step.
    pub fn state(&self) -> NetState {
        let mut state = NetState::default();
        state.h.copy_from_slice(&self.after_h);
        state.c.copy_from_slice(&self.after_c);
        state
    }

    pub(crate) fn is_sound(&self) -> bool {
        let parts = [&self.before_h, &self.before_c, &self.after_c, &self.after_h];
        usize::from(self.input) < SLOTS
            && parts.iter().all(|part| part.len() == HIDDEN && part.iter().all(|x| x.abs() <= PARAMETER_MAX))
            && self.gates.len() == GATES
            && self.gates.iter().all(|gate| gate.abs() <= 1.0)
            && self.candidates.iter().all(|slot| usize::from(*slot) < SLOTS)
            && self.target.is_none_or(|target| usize::from(target) < self.candidates.len())
    }
}

/// The network.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Lstm {
    input_weights: Dense,
    state_weights: Dense,
    bias: Dense,
    outputs: Rows,
    embeddings: Vec<f32>,
    embedding_squares: Vec<f32>,
    updates: u32,
}

/// Parameters that every update touches, with Adam's moments.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Dense {
    value: Vec<f32>,
    gradient: Vec<f32>,
    mean: Vec<f32>,
    square: Vec<f32>,
}

/// Output rows, `HIDDEN` weights and a bias each, of which an update touches few.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Rows {
    dense: Dense,
    touched: Vec<u16>,
    is_touched: Vec<bool>,
}

const ROW: usize = HIDDEN + 1;

/// Slot of a symbol.
pub fn slot_of(symbol: u32) -> u16 {
    const OWN: u32 = SLOTS as u32 / 2;
    if symbol < OWN - 1 {
        return symbol as u16 + 1;
    }
    (OWN + (hash::mix(u64::from(symbol)) % u64::from(OWN)) as u32) as u16
}

impl Lstm {
    /// A network with small random weights drawn from `seed`.
    pub fn new(seed: u64) -> Self {
        let mut noise = Noise(hash::mix(seed));
        let input_scale = 1.0 / (EMBEDDING as f32).sqrt();
        let state_scale = 1.0 / (HIDDEN as f32).sqrt();
        let mut bias = Dense::new(vec![0.0; GATES]);
        // Forget gates start open, so that a gradient survives the first chunks.
        bias.value[HIDDEN..2 * HIDDEN].fill(1.0);
        Self {
            input_weights: Dense::new(noise.take(EMBEDDING * GATES, input_scale)),
            state_weights: Dense::new(noise.take(HIDDEN * GATES, state_scale)),
            bias,
            outputs: Rows {
                dense: Dense::new(noise.take(SLOTS * ROW, 0.1 * state_scale)),
                touched: Vec::new(),
                is_touched: vec![false; SLOTS],
            },
            embeddings: noise.take(SLOTS * EMBEDDING, 0.1),
            embedding_squares: vec![1e-6; SLOTS * EMBEDDING],
            updates: 0,
        }
    }

    /// Feeds one symbol.
    pub fn step(&self, input: u16, before: &NetState) -> Step {
        let mut z = [0f32; GATES];
        z.copy_from_slice(&self.bias.value);
        for (k, x) in self.embedding(input).iter().enumerate() {
            add_scaled(&mut z, *x, &self.input_weights.value[k * GATES..(k + 1) * GATES]);
        }
        for (k, h) in before.h.iter().enumerate() {
            add_scaled(&mut z, *h, &self.state_weights.value[k * GATES..(k + 1) * GATES]);
        }
        for (index, gate) in z.iter_mut().enumerate() {
            *gate = if index / HIDDEN == 2 { numeric::tanh(*gate) } else { numeric::sigmoid(*gate) };
        }
        let mut after = NetState::default();
        for k in 0..HIDDEN {
            let (i, f, g, o) = (z[k], z[HIDDEN + k], z[2 * HIDDEN + k], z[3 * HIDDEN + k]);
            after.c[k] = (f * before.c[k] + i * g).clamp(-PARAMETER_MAX, PARAMETER_MAX);
            after.h[k] = o * numeric::tanh(after.c[k]);
        }
        Step {
            input,
            before_h: before.h.to_vec(),
            before_c: before.c.to_vec(),
            gates: z.to_vec(),
            after_c: after.c.to_vec(),
            after_h: after.h.to_vec(),
            candidates: Vec::new(),
            target: None,
        }
    }

    /// Probabilities of the candidates (and nothing else) after a state; as many as there are candidates.
    pub fn probabilities(&self, h: &[f32], candidates: &[u16], probabilities: &mut [f32]) {
        let mut largest = f32::MIN;
        for (slot, logit) in candidates.iter().zip(probabilities.iter_mut()) {
            let row = self.outputs.row(*slot);
            *logit = dot(&row[..HIDDEN], h) + row[HIDDEN];
            largest = largest.max(*logit);
        }
        let mut sum = 0.0;
        for logit in probabilities.iter_mut().take(candidates.len()) {
            *logit = numeric::exp(*logit - largest);
            sum += *logit;
        }
        let scale = 1.0 / sum.max(f32::MIN_POSITIVE);
        probabilities.iter_mut().take(candidates.len()).for_each(|p| *p *= scale);
    }

    /// Learns from consecutive steps; those without a target only carry the gradient.
    pub fn train(&mut self, steps: &[Step]) {
        if steps.iter().all(|step| step.target.is_none()) {
            return;
        }
        let embedding_gradients = self.back_propagate(steps);
        self.updates = self.updates.saturating_add(1);
        let rate = adam_rate(self.updates);
        self.input_weights.update(rate);
        self.state_weights.update(rate);
        self.bias.update(rate);
        self.outputs.update(rate);
        for (slot, gradient) in embedding_gradients {
            let start = usize::from(slot) * EMBEDDING;
            for (k, g) in gradient.iter().enumerate() {
                let square = &mut self.embedding_squares[start + k];
                *square = (*square + g * g).min(1e12);
                let stepped = self.embeddings[start + k] - EMBEDDING_RATE * g / square.sqrt();
                self.embeddings[start + k] = stepped.clamp(-PARAMETER_MAX, PARAMETER_MAX);
            }
        }
    }

    /// Adds the gradients of the steps' loss to the parameters; returns those of the embeddings.
    fn back_propagate(&mut self, steps: &[Step]) -> Vec<(u16, [f32; EMBEDDING])> {
        let mut dh = [0f32; HIDDEN];
        let mut dc = [0f32; HIDDEN];
        let mut embedding_gradients = Vec::with_capacity(steps.len());
        for step in steps.iter().rev() {
            if let Some(target) = step.target {
                self.output_gradient(step, target, &mut dh);
            }
            let dz = cell_gradient(step, &dh, &mut dc);
            let x = {
                let mut x = [0f32; EMBEDDING];
                x.copy_from_slice(self.embedding(step.input));
                x
            };
            let mut dx = [0f32; EMBEDDING];
            for k in 0..EMBEDDING {
                let row = k * GATES..(k + 1) * GATES;
                dx[k] = dot(&self.input_weights.value[row.clone()], &dz);
                add_scaled(&mut self.input_weights.gradient[row], x[k], &dz);
            }
            for k in 0..HIDDEN {
                let row = k * GATES..(k + 1) * GATES;
                dh[k] = dot(&self.state_weights.value[row.clone()], &dz);
                add_scaled(&mut self.state_weights.gradient[row], step.before_h[k], &dz);
            }
            add_scaled(&mut self.bias.gradient, 1.0, &dz);
            embedding_gradients.push((step.input, dx));
        }
        embedding_gradients
    }

    fn output_gradient(&mut self, step: &Step, target: u16, dh: &mut [f32; HIDDEN]) {
        let mut probabilities = vec![0f32; step.candidates.len()];
        self.probabilities(&step.after_h, &step.candidates, &mut probabilities);
        for (index, (slot, probability)) in step.candidates.iter().zip(&probabilities).enumerate() {
            let error = probability - if index == usize::from(target) { 1.0 } else { 0.0 };
            // What changes nothing is not worth touching a row for.
            if error.abs() < 1e-4 {
                continue;
            }
            add_scaled(dh, error, &self.outputs.row(*slot)[..HIDDEN]);
            let gradient = self.outputs.touch(*slot);
            add_scaled(&mut gradient[..HIDDEN], error, &step.after_h);
            gradient[HIDDEN] += error;
        }
    }

    fn embedding(&self, slot: u16) -> &[f32] {
        let start = usize::from(slot) * EMBEDDING;
        &self.embeddings[start..start + EMBEDDING]
    }

    /// Whether restored parameters have the right shape and are bounded.
    pub fn is_sound(&self) -> bool {
        let bounded = |values: &[f32]| values.iter().all(|value| value.abs() <= PARAMETER_MAX);
        self.input_weights.is_sound(EMBEDDING * GATES)
            && self.state_weights.is_sound(HIDDEN * GATES)
            && self.bias.is_sound(GATES)
            && self.outputs.dense.is_sound(SLOTS * ROW)
            && self.outputs.touched.is_empty()
            && self.outputs.is_touched.len() == SLOTS
            && self.outputs.is_touched.iter().all(|touched| !touched)
            && self.embeddings.len() == SLOTS * EMBEDDING
            && bounded(&self.embeddings)
            && self.embedding_squares.len() == SLOTS * EMBEDDING
            && self.embedding_squares.iter().all(|square| (1e-7..=1e12).contains(square))
    }
}

fn cell_gradient(step: &Step, dh: &[f32; HIDDEN], dc: &mut [f32; HIDDEN]) -> [f32; GATES] {
    let mut dz = [0f32; GATES];
    for k in 0..HIDDEN {
        let (i, f) = (step.gates[k], step.gates[HIDDEN + k]);
        let (g, o) = (step.gates[2 * HIDDEN + k], step.gates[3 * HIDDEN + k]);
        let squashed = numeric::tanh(step.after_c[k]);
        dc[k] += dh[k] * o * (1.0 - squashed * squashed);
        dz[k] = dc[k] * g * i * (1.0 - i);
        dz[HIDDEN + k] = dc[k] * step.before_c[k] * f * (1.0 - f);
        dz[2 * HIDDEN + k] = dc[k] * i * (1.0 - g * g);
        dz[3 * HIDDEN + k] = dh[k] * squashed * o * (1.0 - o);
        dc[k] *= f;
    }
    dz.map(|d| d.clamp(-GRADIENT_MAX, GRADIENT_MAX))
}

/// Adam's rate with its correction for moments that start at zero.
fn adam_rate(updates: u32) -> f32 {
    // Beyond this many updates the corrections are one.
    let n = updates.min(10_000) as i32;
    RATE * (1.0 - SQUARE_DECAY.powi(n)).sqrt() / (1.0 - MEAN_DECAY.powi(n))
}

impl Dense {
    fn new(value: Vec<f32>) -> Self {
        let len = value.len();
        Self { value, gradient: vec![0.0; len], mean: vec![0.0; len], square: vec![0.0; len] }
    }

    fn update(&mut self, rate: f32) {
        self.update_range(0..self.value.len(), rate);
    }

    fn update_range(&mut self, range: std::ops::Range<usize>, rate: f32) {
        let values = &mut self.value[range.clone()];
        let gradients = &mut self.gradient[range.clone()];
        let means = &mut self.mean[range.clone()];
        let squares = &mut self.square[range];
        for (((value, gradient), mean), square) in values.iter_mut().zip(gradients).zip(means).zip(squares) {
            *mean = MEAN_DECAY * *mean + (1.0 - MEAN_DECAY) * *gradient;
            *square = SQUARE_DECAY * *square + (1.0 - SQUARE_DECAY) * *gradient * *gradient;
            *value = (*value - rate * *mean / (square.sqrt() + EPSILON)).clamp(-PARAMETER_MAX, PARAMETER_MAX);
            *gradient = 0.0;
        }
    }

    fn is_sound(&self, len: usize) -> bool {
        let parts = [&self.value, &self.gradient, &self.mean, &self.square];
        parts.iter().all(|part| part.len() == len)
            && self.value.iter().all(|value| value.abs() <= PARAMETER_MAX)
            && self.gradient.iter().all(|gradient| *gradient == 0.0)
            && self.mean.iter().all(|mean| mean.abs() <= 1e6)
            && self.square.iter().all(|square| (0.0..=1e12).contains(square))
    }
}

impl Rows {
    fn row(&self, slot: u16) -> &[f32] {
        &self.dense.value[usize::from(slot) * ROW..(usize::from(slot) + 1) * ROW]
    }

    fn touch(&mut self, slot: u16) -> &mut [f32] {
        if !self.is_touched[usize::from(slot)] {
            self.is_touched[usize::from(slot)] = true;
            self.touched.push(slot);
        }
        &mut self.dense.gradient[usize::from(slot) * ROW..(usize::from(slot) + 1) * ROW]
    }

    fn update(&mut self, rate: f32) {
        for slot in std::mem::take(&mut self.touched) {
            self.is_touched[usize::from(slot)] = false;
            self.dense.update_range(usize::from(slot) * ROW..(usize::from(slot) + 1) * ROW, rate);
        }
    }
}

/// Numbers from a seed, near enough to normal: the sum of three uniform ones.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> f32 {
        let mut sum = 0.0;
        for _ in 0..3 {
            self.0 = hash::mix(self.0);
            sum += (self.0 >> 40) as f32 / (1u64 << 24) as f32 - 0.5;
        }
        2.0 * sum
    }

    fn take(&mut self, len: usize, scale: f32) -> Vec<f32> {
        (0..len).map(|_| scale * self.next()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(lstm: &Lstm, inputs: &[u16], candidates: &[u16], targets: &[u16]) -> (Vec<Step>, f64) {
        let mut state = NetState::default();
        let mut steps = Vec::new();
        let mut loss = 0.0;
        for (input, target) in inputs.iter().zip(targets) {
            let mut step = lstm.step(*input, &state);
            state = step.state();
            step.candidates = candidates.to_vec();
            step.target = Some(*target);
            let mut probabilities = vec![0.0; candidates.len()];
            lstm.probabilities(&state.h, candidates, &mut probabilities);
            loss -= f64::from(probabilities[usize::from(*target)]).ln();
            steps.push(step);
        }
        (steps, loss)
    }

    const INPUTS: [u16; 5] = [3, 1, 4, 1, 5];
    const CANDIDATES: [u16; 4] = [0, 1, 4, 5];
    const TARGETS: [u16; 5] = [1, 2, 1, 3, 0];

    /// Gradient by central difference of one parameter that `pick` selects.
    fn difference(lstm: &Lstm, pick: impl Fn(&mut Lstm) -> &mut f32) -> f64 {
        let step = 1e-2f32;
        let loss_at = |offset: f32| {
            let mut moved = lstm.clone();
            *pick(&mut moved) += offset;
            run(&moved, &INPUTS, &CANDIDATES, &TARGETS).1
        };
        (loss_at(step) - loss_at(-step)) / f64::from(2.0 * step)
    }

    #[test]
    fn gradients_agree_with_finite_differences() {
        let mut lstm = Lstm::new(7);
        // Larger weights than at the start, so that no gradient is lost in rounding.
        lstm.outputs.dense.value.iter_mut().for_each(|value| *value *= 20.0);
        lstm.embeddings.iter_mut().for_each(|value| *value *= 5.0);
        let (steps, _) = run(&lstm, &INPUTS, &CANDIDATES, &TARGETS);
        let mut trained = lstm.clone();
        let embedding_gradients = trained.back_propagate(&steps);
        let check = |what: &str, stated: f32, measured: f64| {
            let error = (f64::from(stated) - measured).abs();
            assert!(error < 2e-3 + 0.02 * measured.abs(), "{what}: stated {stated}, measured {measured}");
        };
        for index in (0..EMBEDDING * GATES).step_by(97) {
            let measured = difference(&lstm, |net| &mut net.input_weights.value[index]);
            check("input", trained.input_weights.gradient[index], measured);
        }
        for index in (0..HIDDEN * GATES).step_by(173) {
            let measured = difference(&lstm, |net| &mut net.state_weights.value[index]);
            check("state", trained.state_weights.gradient[index], measured);
        }
        for index in 0..GATES {
            check("bias", trained.bias.gradient[index], difference(&lstm, |net| &mut net.bias.value[index]));
        }
        for slot in CANDIDATES {
            for k in [0, 7, HIDDEN] {
                let index = usize::from(slot) * ROW + k;
                let measured = difference(&lstm, |net| &mut net.outputs.dense.value[index]);
                check("output", trained.outputs.dense.gradient[index], measured);
            }
        }
        for k in [0, 5, 15] {
            let stated: f32 = embedding_gradients.iter().filter(|(slot, _)| *slot == 1).map(|(_, g)| g[k]).sum();
            check("embedding", stated, difference(&lstm, |net| &mut net.embeddings[EMBEDDING + k]));
        }
    }

    #[test]
    fn it_learns_what_a_first_order_model_cannot() {
        // After 1 comes 2 or 3 in turn: only memory of the last turn tells which.
        let mut lstm = Lstm::new(1);
        let sequence: Vec<u16> = (0..6_000).map(|step| [1, 2, 1, 3][step % 4]).collect();
        let mut state = NetState::default();
        let mut steps = Vec::new();
        let (mut late, mut right) = (0, 0);
        for (position, pair) in sequence.windows(2).enumerate() {
            let mut step = lstm.step(pair[0], &state);
            state = step.state();
            step.candidates = vec![1, 2, 3];
            step.target = Some(pair[1] - 1);
            let mut probabilities = [0.0; 3];
            lstm.probabilities(&state.h, &step.candidates, &mut probabilities);
            if position > 5_000 {
                late += 1;
                right += u32::from(probabilities[usize::from(pair[1] - 1)] > 0.8);
            }
            steps.push(step);
            if steps.len() == 16 {
                lstm.train(&steps);
                steps.clear();
            }
        }
        assert!(right * 100 > late * 95, "{right} of {late}");
    }

    #[test]
    fn contradictions_leave_it_sound() {
        let mut lstm = Lstm::new(3);
        for round in 0..500u16 {
            let targets: Vec<u16> = (0..5).map(|step| (round * 7 + step) % 4).collect();
            let (steps, _) = run(&lstm, &INPUTS, &CANDIDATES, &targets);
            lstm.train(&steps);
        }
        assert!(lstm.is_sound());
    }
}
