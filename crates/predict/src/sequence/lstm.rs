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

use super::candidates::CANDIDATES_MAX;
use crate::hash;
use crate::numeric::{self, add_scaled, add_scaled_in_place, dot};
use multiversion::multiversion;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Length of an embedding.
pub const EMBEDDING: usize = 16;
/// Length of the state.
pub const HIDDEN: usize = 32;
/// Rows of embeddings and of outputs. The first symbols have their own; the rest share the upper half by hash.
pub const SLOTS: usize = 4_096;
/// The output that stands for every symbol that is not a candidate.
pub const OTHER_SLOT: u16 = 0;

const GATES: usize = 4 * HIDDEN;
/// Gates summed at a time: half the vector registers of processors with wide ones, enough sums that none waits for the
/// one before.
const BLOCK: usize = 64;
/// Adam's customary constants; the rate is its usual 1e-3 times three, because each example is seen once.
const RATE: f32 = 3e-3;
const MEAN_DECAY: f32 = 0.9;
const SQUARE_DECAY: f32 = 0.999;
const EPSILON: f32 = 1e-8;
/// Gradients and moments below this count as zero. Its square is still a normal number, and a mean this small beside
/// [`EPSILON`] moves a parameter by 1e-13.
const DUST: f32 = 1e-18;
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

/// One step with all that training needs; what follows from these by few operations is computed again.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Step {
    input: u16,
    #[serde(with = "arrays")]
    before_h: [f32; HIDDEN],
    #[serde(with = "arrays")]
    before_c: [f32; HIDDEN],
    #[serde(with = "arrays")]
    gates: [f32; GATES],
    outcome: Option<Outcome>,
}

/// The candidates for the symbol after a step, and which of them came.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Outcome {
    candidates: Vec<u16>,
    target: u16,
}

impl Step {
    /// State after the step.
    #[inline(always)]
    pub fn state(&self) -> NetState {
        let mut after = NetState::default();
        let (i, rest) = self.gates.split_at(HIDDEN);
        let (f, rest) = rest.split_at(HIDDEN);
        let (g, o) = rest.split_at(HIDDEN);
        for k in 0..HIDDEN {
            after.c[k] = (f[k] * self.before_c[k] + i[k] * g[k]).clamp(-PARAMETER_MAX, PARAMETER_MAX);
            after.h[k] = o[k] * numeric::tanh(after.c[k]);
        }
        after
    }

    /// Says which of the output slots `candidates` stood for what came after the step.
    pub fn set_outcome(&mut self, candidates: &[u16], target: usize) {
        self.outcome = Some(Outcome { candidates: candidates.to_vec(), target: target as u16 });
    }

    pub(crate) fn is_sound(&self) -> bool {
        let bounded = |values: &[f32], bound: f32| values.iter().all(|value| value.abs() <= bound);
        usize::from(self.input) < SLOTS
            && bounded(&self.before_h, PARAMETER_MAX)
            && bounded(&self.before_c, PARAMETER_MAX)
            && bounded(&self.gates, 1.0)
            && self.outcome.as_ref().is_none_or(Outcome::is_sound)
    }
}

impl Outcome {
    fn is_sound(&self) -> bool {
        self.candidates.len() <= CANDIDATES_MAX + 1
            && usize::from(self.target) < self.candidates.len()
            && self.candidates.iter().all(|slot| usize::from(*slot) < SLOTS)
    }
}

/// The network.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Lstm {
    input_weights: Dense,
    state_weights: Dense,
    bias: Dense,
    outputs: Outputs,
    embeddings: Vec<f32>,
    embedding_squares: Vec<f32>,
    updates: u32,
    #[serde(skip)]
    touched: Touched,
    /// Empty between chunks; its memory is used again.
    #[serde(skip)]
    flows: Vec<Flow>,
}

/// Parameters with Adam's moments. Their gradients exist only while a chunk is learnt from.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Dense {
    value: Vec<f32>,
    mean: Vec<f32>,
    square: Vec<f32>,
}

/// The output rows. A chunk touches few, anywhere among them, and those with all they have: so it lies together.
#[derive(Debug, Clone)]
struct Outputs(Vec<OutputRow>);

/// A row with Adam's moments, filled up with zeros to whole vectors.
#[derive(Debug, Clone)]
#[repr(align(32))]
struct OutputRow {
    value: Row,
    mean: Row,
    square: Row,
}

/// [`ROW`] numbers, and zeros up to whole vectors.
type Row = [f32; ROW_FILLED];

/// Gradients of the output rows that one chunk touches, which are few of all.
#[derive(Debug, Clone)]
struct Touched {
    /// Place of a row among the gradients, or [`UNTOUCHED`].
    places: Vec<u16>,
    slots: Vec<u16>,
    gradients: Vec<Row>,
}

const UNTOUCHED: u16 = u16::MAX;

impl Default for Touched {
    fn default() -> Self {
        Self { places: vec![UNTOUCHED; SLOTS], slots: Vec::new(), gradients: Vec::new() }
    }
}

impl Touched {
    fn gradient(&mut self, slot: u16) -> &mut Row {
        let place = &mut self.places[usize::from(slot)];
        if *place == UNTOUCHED {
            *place = self.slots.len() as u16;
            self.slots.push(slot);
            self.gradients.push([0.0; ROW_FILLED]);
        }
        &mut self.gradients[usize::from(*place)]
    }

    fn clear(&mut self) {
        for slot in self.slots.drain(..) {
            self.places[usize::from(slot)] = UNTOUCHED;
        }
        self.gradients.clear();
    }
}

/// What flows back through one step.
#[derive(Debug, Clone)]
struct Flow {
    input: u16,
    x: [f32; EMBEDDING],
    h: [f32; HIDDEN],
    dz: [f32; GATES],
    dx: [f32; EMBEDDING],
}

/// An output row: `HIDDEN` weights and a bias.
const ROW: usize = HIDDEN + 1;
/// Its length in whole vectors.
const ROW_FILLED: usize = ROW.next_multiple_of(8);

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
            outputs: Outputs::new(&noise.take(SLOTS * ROW, 0.1 * state_scale)),
            embeddings: noise.take(SLOTS * EMBEDDING, 0.1),
            embedding_squares: vec![1e-6; SLOTS * EMBEDDING],
            updates: 0,
            touched: Touched::default(),
            flows: Vec::new(),
        }
    }

    /// Feeds one symbol.
    pub fn step(&self, input: u16, before: &NetState) -> Step {
        let gates = open_gates(self, self.embedding(input), &before.h);
        Step { input, before_h: before.h, before_c: before.c, gates, outcome: None }
    }

    /// `Wx x + Wh h + b`, by blocks that stay in registers while the inputs go by.
    #[inline(always)]
    fn weighted_sums(&self, x: &[f32], h: &[f32; HIDDEN]) -> [f32; GATES] {
        let mut z = [0f32; GATES];
        for (block, sums) in z.chunks_exact_mut(BLOCK).enumerate() {
            let start = block * BLOCK;
            let mut kept = [0f32; BLOCK];
            kept.copy_from_slice(&self.bias.value[start..start + BLOCK]);
            for (values, weights) in [(x, &self.input_weights.value), (&h[..], &self.state_weights.value)] {
                for (value, row) in values.iter().zip(weights.chunks_exact(GATES)) {
                    add_scaled(&mut kept, *value, &row[start..start + BLOCK]);
                }
            }
            sums.copy_from_slice(&kept);
        }
        z
    }

    /// Probabilities of the candidates (and nothing else) after a state; as many as there are candidates.
    pub fn probabilities(&self, h: &[f32; HIDDEN], candidates: &[u16], probabilities: &mut [f32]) {
        softmax(self, h, candidates, probabilities);
    }

    /// Learns from chunks of consecutive steps, all at once: their gradients are added up and the parameters stepped
    /// once. Steps without an outcome only carry the gradient.
    pub fn train(&mut self, chunks: &[Vec<Step>]) {
        learn(self, chunks);
    }

    #[inline(always)]
    fn update_embedding(&mut self, flow: &Flow) {
        let start = usize::from(flow.input) * EMBEDDING;
        for (k, g) in flow.dx.iter().enumerate() {
            let square = &mut self.embedding_squares[start + k];
            *square = (*square + g * g).min(1e12);
            let stepped = self.embeddings[start + k] - EMBEDDING_RATE * g / square.sqrt();
            self.embeddings[start + k] = stepped.clamp(-PARAMETER_MAX, PARAMETER_MAX);
        }
    }

    /// Lets the steps' loss flow back, the last step first, and adds what flowed; the gradients of the outputs are left
    /// in `touched`.
    #[inline(always)]
    fn flow_back(&mut self, steps: &[Step], flows: &mut Vec<Flow>) {
        let mut dh = [0f32; HIDDEN];
        let mut dc = [0f32; HIDDEN];
        for step in steps.iter().rev() {
            let after = step.state();
            if let Some(outcome) = &step.outcome {
                self.output_gradient(outcome, &after.h, &mut dh);
            }
            let dz = cell_gradient(step, &after, &dh, &mut dc);
            let (mut x, mut dx) = ([0f32; EMBEDDING], [0f32; EMBEDDING]);
            x.copy_from_slice(self.embedding(step.input));
            through(&self.input_weights.value, &dz, &mut dx);
            through(&self.state_weights.value, &dz, &mut dh);
            flows.push(Flow { input: step.input, x, h: step.before_h, dz, dx });
        }
    }

    #[inline(always)]
    fn output_gradient(&mut self, outcome: &Outcome, after_h: &[f32; HIDDEN], dh: &mut [f32; HIDDEN]) {
        let mut probabilities = [0f32; CANDIDATES_MAX + 1];
        self.probabilities(after_h, &outcome.candidates, &mut probabilities);
        // What a row weighs: the state, and one for the bias.
        let (mut weighed, mut flown) = ([0f32; ROW_FILLED], [0f32; ROW_FILLED]);
        weighed[..HIDDEN].copy_from_slice(after_h);
        weighed[HIDDEN] = 1.0;
        flown[..HIDDEN].copy_from_slice(dh);
        for (index, (slot, probability)) in outcome.candidates.iter().zip(&probabilities).enumerate() {
            let error = probability - if index == usize::from(outcome.target) { 1.0 } else { 0.0 };
            // What changes nothing is not worth touching a row for.
            if error.abs() < 1e-4 {
                continue;
            }
            add_scaled_in_place(&mut flown, error, self.output(*slot));
            add_scaled_in_place(self.touched.gradient(*slot), error, &weighed);
        }
        dh.copy_from_slice(&flown[..HIDDEN]);
    }

    #[inline(always)]
    fn output(&self, slot: u16) -> &Row {
        &self.outputs.0[usize::from(slot)].value
    }

    #[inline(always)]
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
            && self.outputs.is_sound()
            && self.embeddings.len() == SLOTS * EMBEDDING
            && bounded(&self.embeddings)
            && self.embedding_squares.len() == SLOTS * EMBEDDING
            && self.embedding_squares.iter().all(|square| (1e-7..=1e12).contains(square))
    }
}

/// Values of the gates of one step.
#[multiversion(targets("x86_64+avx+avx2"))]
fn open_gates(net: &Lstm, x: &[f32], h: &[f32; HIDDEN]) -> [f32; GATES] {
    let mut z = net.weighted_sums(x, h);
    // One loop for each kind of gate, so that the compiler can do several gates at a time.
    let (sigmoids, rest) = z.split_at_mut(2 * HIDDEN);
    let (tanhs, more_sigmoids) = rest.split_at_mut(HIDDEN);
    sigmoids.iter_mut().for_each(|gate| *gate = numeric::sigmoid(*gate));
    tanhs.iter_mut().for_each(|gate| *gate = numeric::tanh(*gate));
    more_sigmoids.iter_mut().for_each(|gate| *gate = numeric::sigmoid(*gate));
    z
}

/// See [`Lstm::probabilities`].
#[multiversion(targets("x86_64+avx+avx2"))]
fn softmax(net: &Lstm, h: &[f32; HIDDEN], candidates: &[u16], probabilities: &mut [f32]) {
    // Whole vectors, the last one filled up with what is less probable than anything.
    let mut stated = [f32::MIN; (CANDIDATES_MAX + 1).next_multiple_of(8)];
    let used = candidates.len().min(CANDIDATES_MAX + 1);
    for (slot, logit) in candidates.iter().zip(&mut stated) {
        let row = net.output(*slot);
        *logit = dot(&row[..HIDDEN], h) + row[HIDDEN];
    }
    let stated = &mut stated[..used.next_multiple_of(8)];
    let largest = numeric::largest(stated);
    stated.iter_mut().for_each(|logit| *logit = numeric::exp(*logit - largest));
    let sum: f32 = stated[..used].iter().sum();
    let scale = 1.0 / sum.max(f32::MIN_POSITIVE);
    stated.iter_mut().for_each(|p| *p *= scale);
    probabilities[..used].copy_from_slice(&stated[..used]);
}

/// See [`Lstm::train`].
#[multiversion(targets("x86_64+avx+avx2"))]
fn learn(net: &mut Lstm, chunks: &[Vec<Step>]) {
    let mut flows = std::mem::take(&mut net.flows);
    for chunk in chunks.iter().filter(|chunk| chunk.iter().any(|step| step.outcome.is_some())) {
        net.flow_back(chunk, &mut flows);
    }
    if !flows.is_empty() {
        step_parameters(net, &flows);
    }
    flows.clear();
    net.flows = flows;
}

/// Steps the parameters once against the gradients of all that flowed back.
#[inline(always)]
fn step_parameters(net: &mut Lstm, flows: &[Flow]) {
    net.updates = net.updates.saturating_add(1);
    let rate = adam_rate(net.updates);
    for k in 0..EMBEDDING {
        net.input_weights.update(k * GATES, &row_gradient(flows, |flow| flow.x[k]), rate);
    }
    for k in 0..HIDDEN {
        net.state_weights.update(k * GATES, &row_gradient(flows, |flow| flow.h[k]), rate);
    }
    net.bias.update(0, &row_gradient(flows, |_| 1.0), rate);
    for (slot, gradient) in net.touched.slots.iter().zip(&net.touched.gradients) {
        net.outputs.0[usize::from(*slot)].update(gradient, rate);
    }
    net.touched.clear();
    flows.iter().for_each(|flow| net.update_embedding(flow));
}

/// Gradient of one row of weights: over the steps, the value that the row weighs times what flowed back.
#[inline(always)]
fn row_gradient(flows: &[Flow], value: impl Fn(&Flow) -> f32) -> [f32; GATES] {
    let mut gradient = [0f32; GATES];
    for (block, sums) in gradient.chunks_exact_mut(BLOCK).enumerate() {
        let mut kept = [0f32; BLOCK];
        for flow in flows {
            add_scaled(&mut kept, value(flow), &flow.dz[block * BLOCK..(block + 1) * BLOCK]);
        }
        sums.copy_from_slice(&kept);
    }
    gradient
}

/// `d = W' dz`, for weights stored by input.
#[inline(always)]
fn through(weights: &[f32], dz: &[f32; GATES], d: &mut [f32]) {
    for (d, row) in d.iter_mut().zip(weights.chunks_exact(GATES)) {
        *d = dot(row, dz);
    }
}

#[inline(always)]
fn cell_gradient(step: &Step, after: &NetState, dh: &[f32; HIDDEN], dc: &mut [f32; HIDDEN]) -> [f32; GATES] {
    let mut dz = [0f32; GATES];
    for k in 0..HIDDEN {
        let (i, f) = (step.gates[k], step.gates[HIDDEN + k]);
        let (g, o) = (step.gates[2 * HIDDEN + k], step.gates[3 * HIDDEN + k]);
        let squashed = numeric::tanh(after.c[k]);
        dc[k] += dh[k] * o * (1.0 - squashed * squashed);
        dz[k] = dc[k] * g * i * (1.0 - i);
        dz[HIDDEN + k] = dc[k] * step.before_c[k] * f * (1.0 - f);
        dz[2 * HIDDEN + k] = dc[k] * i * (1.0 - g * g);
        dz[3 * HIDDEN + k] = dh[k] * squashed * o * (1.0 - o);
        dc[k] *= f;
    }
    dz.map(|d| d.clamp(-GRADIENT_MAX, GRADIENT_MAX))
}

/// Zero for what is too small to move anything. A moment that is not fed fades by powers; below 1e-38 a processor does
/// such numbers in microcode, at a hundred times the cost, and half of the network's time was spent on them.
#[inline(always)]
fn without_dust(value: f32) -> f32 {
    if value.abs() < DUST { 0.0 } else { value }
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
        Self { value, mean: vec![0.0; len], square: vec![0.0; len] }
    }

    /// Steps the parameters from `start` on against their gradients.
    #[inline(always)]
    fn update(&mut self, start: usize, gradients: &[f32], rate: f32) {
        let range = start..start + gradients.len();
        let (values, means) = (&mut self.value[range.clone()], &mut self.mean[range.clone()]);
        step_against(gradients, rate, values, means, &mut self.square[range]);
    }

    fn is_sound(&self, len: usize) -> bool {
        let parts = [&self.value, &self.mean, &self.square];
        parts.iter().all(|part| part.len() == len)
            && self.value.iter().all(|value| value.abs() <= PARAMETER_MAX)
            && self.mean.iter().all(|mean| mean.abs() <= 1e6)
            && self.square.iter().all(|square| (0.0..=1e12).contains(square))
    }
}

impl OutputRow {
    #[inline(always)]
    fn update(&mut self, gradient: &Row, rate: f32) {
        step_against(gradient, rate, &mut self.value, &mut self.mean, &mut self.square);
    }
}

/// One step of Adam against the gradients.
#[inline(always)]
fn step_against(gradients: &[f32], rate: f32, values: &mut [f32], means: &mut [f32], squares: &mut [f32]) {
    for (((value, gradient), mean), square) in values.iter_mut().zip(gradients).zip(means).zip(squares) {
        let gradient = without_dust(*gradient);
        *mean = without_dust(MEAN_DECAY * *mean + (1.0 - MEAN_DECAY) * gradient);
        *square = without_dust(SQUARE_DECAY * *square + (1.0 - SQUARE_DECAY) * gradient * gradient);
        *value = (*value - rate * *mean / (square.sqrt() + EPSILON)).clamp(-PARAMETER_MAX, PARAMETER_MAX);
    }
}

impl Outputs {
    /// Rows of these weights, one after another.
    fn new(values: &[f32]) -> Self {
        Self::of(values, &vec![0.0; values.len()], &vec![0.0; values.len()])
    }

    fn of(values: &[f32], means: &[f32], squares: &[f32]) -> Self {
        let filled_up = |numbers: &[f32]| {
            let mut row = [0.0; ROW_FILLED];
            row[..ROW].copy_from_slice(numbers);
            row
        };
        let parts = values.chunks_exact(ROW).zip(means.chunks_exact(ROW)).zip(squares.chunks_exact(ROW));
        let row = |((value, mean), square)| OutputRow {
            value: filled_up(value),
            mean: filled_up(mean),
            square: filled_up(square),
        };
        Self(parts.map(row).collect())
    }

    /// All rows as plain parameters, the form in which they are written.
    fn plain(&self) -> Dense {
        let plain = |part: fn(&OutputRow) -> &Row| self.0.iter().flat_map(|row| &part(row)[..ROW]).copied().collect();
        Dense { value: plain(|row| &row.value), mean: plain(|row| &row.mean), square: plain(|row| &row.square) }
    }

    fn is_sound(&self) -> bool {
        self.plain().is_sound(SLOTS * ROW)
    }
}

impl Serialize for Outputs {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.plain().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Outputs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Dense { value, mean, square } = Dense::deserialize(deserializer)?;
        if [&value, &mean, &square].iter().any(|part| part.len() != SLOTS * ROW) {
            return Err(D::Error::custom("there are as many output rows as slots"));
        }
        Ok(Self::of(&value, &mean, &square))
    }
}

/// Arrays are written as sequences; serde itself writes those of at most 32 elements.
mod arrays {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer, const N: usize>(array: &[f32; N], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(array)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>, const N: usize>(
        deserializer: D,
    ) -> Result<[f32; N], D::Error> {
        let values = Vec::<f32>::deserialize(deserializer)?;
        values.try_into().map_err(|values: Vec<f32>| D::Error::invalid_length(values.len(), &"another length"))
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
            step.set_outcome(candidates, usize::from(*target));
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
        lstm.outputs.0.iter_mut().flat_map(|row| &mut row.value).for_each(|value| *value *= 20.0);
        lstm.embeddings.iter_mut().for_each(|value| *value *= 5.0);
        let (steps, _) = run(&lstm, &INPUTS, &CANDIDATES, &TARGETS);
        let mut trained = lstm.clone();
        let mut flows = Vec::new();
        trained.flow_back(&steps, &mut flows);
        let check = |what: &str, stated: f32, measured: f64| {
            let error = (f64::from(stated) - measured).abs();
            assert!(error < 2e-3 + 0.02 * measured.abs(), "{what}: stated {stated}, measured {measured}");
        };
        for index in (0..EMBEDDING * GATES).step_by(97) {
            let measured = difference(&lstm, |net| &mut net.input_weights.value[index]);
            let (k, gate) = (index / GATES, index % GATES);
            check("input", row_gradient(&flows, |flow| flow.x[k])[gate], measured);
        }
        for index in (0..HIDDEN * GATES).step_by(173) {
            let measured = difference(&lstm, |net| &mut net.state_weights.value[index]);
            let (k, gate) = (index / GATES, index % GATES);
            check("state", row_gradient(&flows, |flow| flow.h[k])[gate], measured);
        }
        let bias = row_gradient(&flows, |_| 1.0);
        for index in 0..GATES {
            check("bias", bias[index], difference(&lstm, |net| &mut net.bias.value[index]));
        }
        for slot in CANDIDATES {
            for k in [0, 7, HIDDEN] {
                let measured = difference(&lstm, |net| &mut net.outputs.0[usize::from(slot)].value[k]);
                check("output", trained.touched.gradient(slot)[k], measured);
            }
        }
        for k in [0, 5, 15] {
            let stated: f32 = flows.iter().filter(|flow| flow.input == 1).map(|flow| flow.dx[k]).sum();
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
            step.set_outcome(&[1, 2, 3], usize::from(pair[1] - 1));
            let mut probabilities = [0.0; 3];
            lstm.probabilities(&state.h, &[1, 2, 3], &mut probabilities);
            if position > 5_000 {
                late += 1;
                right += u32::from(probabilities[usize::from(pair[1] - 1)] > 0.8);
            }
            steps.push(step);
            if steps.len() == 16 {
                lstm.train(&[std::mem::take(&mut steps)]);
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
            lstm.train(&[steps]);
        }
        assert!(lstm.is_sound());
    }
}
