//! *Which*: the next symbol of a sequence, from Markov contexts, recency and a network, mixed and calibrated.
//!
//! A symbol is a kind of function (layer 1) or a path signature (layer 2). One model serves many sequences; each has a
//! [`Session`]. The experts:
//!
//! - order 0 to 4: absolute discounting with interpolated back-off, `p_o = (c - d) / n + d u / n * p_(o-1)`, where `c`
//!   of `n` occurrences of the context had this successor, `u` is the number of successors and `d` is one half;
//! - the same within one scope (an application or tenant), backing off to what holds for all;
//! - the same for contexts the caller brings (the calling function, the class of the request, ...);
//! - recency within the sequence;
//! - the network.
//!
//! Their distributions over at most 64 candidates and "any other" are mixed geometrically; the probability of the top
//! candidate is then calibrated.

use super::candidates::{CANDIDATES_MAX, Candidates, NO_PLACE};
use super::contexts::{Context, ContextTable};
use super::lstm::{self, Lstm};
use super::map::{Calibrated, ProbabilityMap};
use super::mixer::{GeometricMixer, MixContext, logarithms, whole_vectors};
use super::popular::Popular;
use super::session::{ORDER_MAX, Session};
use super::trainer::Trainer;
use crate::hash;
use crate::numeric;
use crate::settings::{EngineSettings, ExpertFamilies};
use multiversion::multiversion;
use serde::{Deserialize, Serialize};

/// Width of a row of probabilities: the candidates, "any other", and padding to whole vectors.
pub const WIDTH: usize = CANDIDATES_MAX + 8;
/// Number of contexts a caller may bring.
pub const SIDES: usize = 3;
/// Number of experts.
pub const EXPERTS: usize = 9 + SIDES;
/// Probabilities over the candidates and "any other".
pub type Row = [f32; WIDTH];

const OWN: usize = ORDER_MAX + 1;
const RECENT: usize = OWN + 2;
const NETWORK: usize = RECENT + 1;
const SIDE: usize = NETWORK + 1;

/// Each Markov expert and the one it backs off to, in the order in which they are computed.
const BACK_OFF: [(usize, usize); ORDER_MAX + 2 + SIDES] =
    [(1, 0), (2, 1), (3, 2), (4, 3), (OWN, 1), (OWN + 1, OWN), (SIDE, 1), (SIDE + 1, SIDE), (SIDE + 2, SIDE + 1)];

/// Names of the experts, by index.
pub const EXPERT_NAMES: [&str; EXPERTS] = [
    "frequency",
    "markov-1",
    "markov-2",
    "markov-3",
    "markov-4",
    "own-1",
    "own-2",
    "recent",
    "lstm",
    "side-1",
    "side-2",
    "side-3",
];

/// Bounds on the discount of absolute discounting; see [`Discounts`].
const DISCOUNT_RANGE: (f32, f32) = (0.1, 0.9);
/// Where strangers do not come they are candidates of one prediction in this many.
const STRANGERS_EVERY: u64 = 16;
/// Step of the share of strangers, and the share below which they do not come: none among the last five hundred.
const STRANGERS_RATE: f32 = 1.0 / 512.0;
/// Strength of order 0 in the recency expert, in calls.
const RECENT_PRIOR: f32 = 2.0;
/// A context that leaves less than this to symbols it has not seen needs no frequent strangers among its candidates; in
/// settled sequences that makes most predictions several times cheaper.
const ESCAPE_SETTLED: f32 = 0.01;
/// Mass beside the top candidate below which there is nothing to scale.
const REST_MIN: f32 = 1e-7;
const SEED_OF_OWN: u64 = 0x6f77_6e00;
const SEED_OF_SIDE: u64 = 0x7369_6465;
const FIRST_SETS: usize = (ORDER_MAX + 1) * 3 * 2;
const SECOND_SETS: usize = 16;
/// Contexts of calibration: by the longest context known, and by how settled that context is and whether the network
/// agrees with it (the second set of mixing weights).
const MAPS: [usize; 2] = [ORDER_MAX + 1, SECOND_SETS];

/// What is known about the next call besides the sequence itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Surroundings {
    /// The application or tenant.
    pub scope: Option<u64>,
    /// Contexts the caller brings, each a key; the more particular later.
    pub sides: [Option<u64>; SIDES],
}

/// The model.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SequenceModel {
    families: ExpertFamilies,
    contexts: ContextTable,
    contexts_max: usize,
    discounts: Discounts,
    popular: Popular,
    mixer: GeometricMixer,
    map: ProbabilityMap,
    lstm: Lstm,
    trainer: Trainer,
    strangers: Strangers,
    /// Every how many chunks the network is trained; 0 for never. Raised under load.
    pub train_every: u64,
    /// Whether the network is asked at all. Cleared under heavy load.
    pub infer: bool,
}

/// Where the successors of each context, and the recent symbols, are among the candidates; in their order, so that no
/// symbol is looked up twice.
#[derive(Debug, Clone, Default)]
struct Places {
    all: Vec<u8>,
    starts: [u16; EXPERTS],
}

impl Places {
    fn clear(&mut self) {
        self.all.clear();
    }

    /// Adds the symbols of an expert to the candidates.
    fn add(&mut self, expert: usize, symbols: impl Iterator<Item = u32>, candidates: &mut Candidates) {
        self.starts[expert] = self.all.len() as u16;
        self.all.extend(symbols.map(|symbol| candidates.add(symbol)));
    }

    /// Entries of the symbols of an expert in a row of `used` entries; what found no place is in the last.
    fn of(&self, expert: usize, used: usize) -> impl Iterator<Item = usize> + '_ {
        let places = &self.all[usize::from(self.starts[expert])..];
        places.iter().map(move |place| if *place == NO_PLACE { used - 1 } else { usize::from(*place) })
    }
}

/// How often what came was a stranger: a candidate for no other reason than being frequent elsewhere. Where sequences
/// keep to symbols of their own (the functions of one application) strangers never come, and to consider them is most
/// of the work of a prediction; where code is shared they do, and are worth it. The share says which it is.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Strangers {
    share: f32,
    seen: u64,
}

impl Default for Strangers {
    fn default() -> Self {
        Self { share: 1.0, seen: 0 }
    }
}

impl Strangers {
    /// Whether strangers are candidates of the next prediction: always where they come, else now and then, to notice
    /// when that changes.
    fn are_invited(&self) -> bool {
        self.share > STRANGERS_RATE || self.seen.is_multiple_of(STRANGERS_EVERY)
    }

    /// Learns from an outcome: whether strangers were candidates, and whether one of them came.
    fn learn(&mut self, invited: bool, came: bool) {
        self.seen = self.seen.wrapping_add(1);
        if invited {
            self.share += STRANGERS_RATE * (f32::from(u8::from(came)) - self.share);
        }
    }

    fn is_sound(&self) -> bool {
        (0.0..=1.0).contains(&self.share)
    }
}

/// A prediction, with what is needed to learn from its outcome and to explain it.
#[derive(Debug, Clone)]
pub struct Evaluation {
    /// Keys of the contexts of the call, by expert.
    keys: [Option<u64>; EXPERTS],
    candidates: Candidates,
    places: Places,
    /// Number of candidates that are not strangers.
    familiar: usize,
    strangers_invited: bool,
    slots: Vec<u16>,
    rows: Box<[Row; EXPERTS]>,
    logs: Box<[Row; EXPERTS]>,
    mixed: Row,
    weights: [f32; EXPERTS],
    active: [bool; EXPERTS],
    context: MixContext,
    matched: usize,
    top: usize,
    calibrated: Calibrated,
    rest_scale: f32,
}

impl Default for Evaluation {
    fn default() -> Self {
        Self {
            keys: [None; EXPERTS],
            candidates: Candidates::default(),
            places: Places::default(),
            familiar: 0,
            strangers_invited: false,
            slots: Vec::with_capacity(CANDIDATES_MAX + 1),
            rows: Box::new([[0.0; WIDTH]; EXPERTS]),
            logs: Box::new([[0.0; WIDTH]; EXPERTS]),
            mixed: [0.0; WIDTH],
            weights: [0.0; EXPERTS],
            active: [false; EXPERTS],
            context: MixContext::default(),
            matched: 0,
            top: 0,
            calibrated: Calibrated { probability: 0.0, error: 0.5, outcomes: 0.0 },
            rest_scale: 1.0,
        }
    }
}

impl Evaluation {
    /// The candidates and their calibrated probabilities, most particular context first.
    pub fn candidates(&self) -> impl Iterator<Item = (u32, f32)> + '_ {
        let rest = self.rest_scale;
        self.candidates.symbols().iter().enumerate().map(move |(index, symbol)| {
            let calibrated = index == self.top && !self.candidates.symbols().is_empty();
            (*symbol, if calibrated { self.calibrated.probability } else { self.mixed[index] * rest })
        })
    }

    /// The most probable candidate and its calibrated probability.
    pub fn top(&self) -> Option<(u32, Calibrated)> {
        self.candidates.symbols().get(self.top).map(|symbol| (*symbol, self.calibrated))
    }

    /// The mixture's probability of the top candidate before calibration.
    pub fn stated(&self) -> f32 {
        self.mixed[self.top]
    }

    /// Probability that the next symbol is none of the candidates.
    pub fn other(&self) -> f32 {
        self.mixed[self.candidates.symbols().len()] * self.rest_scale
    }

    /// What each expert that took part says of `symbol`, with its weight.
    pub fn reasons(&self, symbol: u32) -> impl Iterator<Item = (&'static str, f32, f32)> + '_ {
        let index = self.entry(symbol);
        (0..EXPERTS)
            .filter(|expert| self.active[*expert])
            .map(move |expert| (EXPERT_NAMES[expert], self.weights[expert], self.rows[expert][index]))
    }

    /// Length of the longest context that was known.
    pub fn matched(&self) -> usize {
        self.matched
    }

    fn map_contexts(&self) -> [usize; 2] {
        [self.matched, self.context.second]
    }

    fn entry(&self, symbol: u32) -> usize {
        self.candidates.index(symbol).unwrap_or(self.candidates.symbols().len())
    }

    /// Calibrates the top candidate and scales the rest so that everything still sums to one.
    fn calibrate(&mut self, map: &ProbabilityMap, used: usize) {
        self.rest_scale = 1.0;
        self.top = largest(&self.mixed[..used - 1]);
        if used == 1 {
            // Nothing is known: all mass is on "any other".
            self.calibrated = Calibrated { probability: 0.0, error: 0.5, outcomes: 0.0 };
            return;
        }
        self.calibrated = map.calibrate(self.map_contexts(), self.mixed[self.top]);
        let rest: f32 = (0..used).filter(|index| *index != self.top).map(|index| self.mixed[index]).sum();
        if rest > REST_MIN {
            self.rest_scale = (1.0 - self.calibrated.probability) / rest;
        } else {
            self.calibrated.probability = self.mixed[self.top];
        }
    }
}

impl SequenceModel {
    /// A model that has seen nothing, with room for `contexts_max` contexts.
    pub fn new(settings: &EngineSettings, contexts_max: usize) -> Self {
        let families = settings.families;
        let active = 1
            + if families.markov { ORDER_MAX + 2 } else { 0 }
            + usize::from(families.statistical)
            + usize::from(families.lstm);
        Self {
            families,
            contexts: ContextTable::new(contexts_max),
            contexts_max,
            discounts: Discounts::default(),
            popular: Popular::default(),
            mixer: GeometricMixer::new(FIRST_SETS, SECOND_SETS, active),
            map: ProbabilityMap::new(MAPS),
            lstm: Lstm::new(settings.seed),
            trainer: Trainer::default(),
            strangers: Strangers::default(),
            train_every: 1,
            infer: true,
        }
    }

    /// Predicts the next symbol of a sequence.
    pub fn evaluate(&self, session: &Session, around: &Surroundings, evaluation: &mut Evaluation) {
        evaluation.keys = keys(session, around);
        let contexts = self.find_contexts(&evaluation.keys);
        self.collect_candidates(&contexts, session, evaluation);
        let used = evaluation.candidates.symbols().len() + 1;
        evaluation.active = self.fill_rows(&contexts, session, evaluation);
        evaluation.matched = (1..=ORDER_MAX).rev().find(|order| contexts[*order].is_some()).unwrap_or(0);
        evaluation.context = mix_context(evaluation, &contexts, used);
        evaluation.weights = self.mixer.weights(evaluation.context, &evaluation.active);
        mix_rows(evaluation, used);
        evaluation.calibrate(&self.map, used);
    }

    /// Learns what came after an evaluation, and moves the sequence on. `key` names the sequence in training.
    pub fn observe(&mut self, key: u64, session: &mut Session, evaluation: &Evaluation, symbol: u32) {
        let outcome = evaluation.entry(symbol);
        let Evaluation { context, active, logs, mixed, .. } = evaluation;
        let used = evaluation.candidates.symbols().len() + 1;
        self.mixer.learn(*context, active, logs, mixed, used, outcome);
        if !evaluation.candidates.symbols().is_empty() {
            let right = outcome == evaluation.top;
            self.map.learn(evaluation.map_contexts(), evaluation.mixed[evaluation.top], right);
        }
        let stranger = outcome >= evaluation.familiar && outcome + 1 < used;
        self.strangers.learn(evaluation.strangers_invited, stranger);
        self.learn_contexts(&evaluation.keys, symbol);
        if self.families.lstm && self.infer {
            let trainer = &mut self.trainer;
            trainer.outcome(key, &evaluation.slots, outcome, &mut self.lstm, self.train_every);
            let step = self.lstm.step(lstm::slot_of(symbol), &session.net_state());
            session.set_net_state(&step.state());
            if self.train_every > 0 {
                trainer.push(key, step, &mut self.lstm, self.train_every);
            }
        }
        session.push(symbol);
    }

    /// Says that a sequence has ended, so that what is left of it can teach the network.
    pub fn end(&mut self, key: u64) {
        self.trainer.end(key, &mut self.lstm, self.train_every);
    }

    /// Calibrated probability of any symbol, candidate or not. `vocabulary` is the number of symbols there are, or 0 if
    /// it is not known.
    pub fn probability(&self, evaluation: &Evaluation, symbol: u32, vocabulary: usize) -> f32 {
        let symbols = evaluation.candidates.symbols();
        if let Some(index) = evaluation.candidates.index(symbol) {
            let calibrated = index == evaluation.top;
            return if calibrated {
                evaluation.calibrated.probability
            } else {
                evaluation.mixed[index] * evaluation.rest_scale
            };
        }
        let considered: f32 = symbols.iter().map(|known| self.popular.probability(*known, vocabulary)).sum();
        let share = self.popular.probability(symbol, vocabulary) / (1.0 - considered).max(1e-6);
        evaluation.other() * share.min(1.0)
    }

    /// Number of contexts held.
    pub fn contexts(&self) -> usize {
        self.contexts.len()
    }

    fn find_contexts(&self, keys: &[Option<u64>; EXPERTS]) -> [Option<&Context>; EXPERTS] {
        let mut contexts = [None; EXPERTS];
        if !self.families.markov {
            return contexts;
        }
        let find = |expert: usize| keys[expert].and_then(|key| self.contexts.get(key));
        // A context is learnt together with its shorter ones: where those are not known, it need not be looked for.
        for orders in [&[1, 2, 3, 4][..], &[OWN, OWN + 1]] {
            for expert in orders {
                contexts[*expert] = find(*expert);
                if contexts[*expert].is_none() {
                    break;
                }
            }
        }
        for expert in SIDE..SIDE + SIDES {
            contexts[expert] = find(expert);
        }
        contexts
    }

    fn collect_candidates(
        &self,
        contexts: &[Option<&Context>; EXPERTS],
        session: &Session,
        evaluation: &mut Evaluation,
    ) {
        // The most particular contexts first: if there are too many candidates, those of the general ones are left out.
        const ORDER: [usize; EXPERTS - 3] = [SIDE + 2, OWN + 1, 4, 3, SIDE + 1, OWN, 2, SIDE, 1];
        let Evaluation { candidates, places, .. } = evaluation;
        candidates.clear();
        places.clear();
        for expert in ORDER {
            if let Some(context) = contexts[expert] {
                places.add(expert, context.successors().iter().map(|(symbol, _)| *symbol), candidates);
            }
        }
        places.add(RECENT, session.recent().iter().map(|(symbol, _)| *symbol), candidates);
        evaluation.familiar = candidates.symbols().len();
        let nobody = candidates.symbols().is_empty();
        evaluation.strangers_invited =
            self.escape(contexts) > ESCAPE_SETTLED && (nobody || self.strangers.are_invited());
        if evaluation.strangers_invited && !candidates.is_full() {
            for symbol in self.popular.top() {
                candidates.add(*symbol);
                if candidates.is_full() {
                    break;
                }
            }
        }
        evaluation.slots.clear();
        evaluation.slots.extend(candidates.symbols().iter().map(|symbol| lstm::slot_of(*symbol)));
        evaluation.slots.push(lstm::OTHER_SLOT);
    }

    /// The smallest share that a known context leaves to symbols that never followed it.
    fn escape(&self, contexts: &[Option<&Context>; EXPERTS]) -> f32 {
        let escape = |(expert, context): (usize, &Option<&Context>)| {
            context.map(|context| {
                self.discounts.of(expert) * context.successors().len() as f32 / context.total().max(1) as f32
            })
        };
        contexts.iter().enumerate().filter_map(escape).fold(1.0, f32::min)
    }

    fn fill_rows(
        &self,
        contexts: &[Option<&Context>; EXPERTS],
        session: &Session,
        evaluation: &mut Evaluation,
    ) -> [bool; EXPERTS] {
        let Evaluation { candidates, places, slots, rows, .. } = evaluation;
        let used = candidates.symbols().len() + 1;
        let width = whole_vectors(used);
        let mut active = contexts.map(|context| context.is_some());
        active[0] = true;
        let sum = self.popular.probabilities(candidates.symbols(), &mut rows[0]);
        rows[0][used - 1] = (1.0 - sum).max(1e-6);
        rows[0][used..width].fill(0.0);
        back_off_all(contexts, &self.discounts, places, used, rows);
        if self.families.statistical {
            active[RECENT] = true;
            recency(session, places, used, rows);
        }
        if self.families.lstm && self.infer && !session.is_empty() {
            active[NETWORK] = true;
            rows[NETWORK][used..width].fill(0.0);
            self.lstm.probabilities(&session.net_output(), slots, &mut rows[NETWORK][..used]);
        }
        active
    }

    fn learn_contexts(&mut self, keys: &[Option<u64>; EXPERTS], symbol: u32) {
        self.popular.add(symbol);
        if !self.families.markov {
            return;
        }
        for (expert, key) in keys.iter().enumerate() {
            if let Some(key) = key {
                let before = self.contexts.add(*key, symbol);
                self.discounts.count(expert, before);
            }
        }
    }

    /// Whether restored state is that of a model made with these settings.
    pub(crate) fn is_sound(&self, families: ExpertFamilies, contexts_max: usize) -> bool {
        self.families == families
            && self.contexts_max == contexts_max
            && self.contexts.is_sound(self.contexts_max)
            && self.popular.is_sound()
            && self.mixer.is_sound(FIRST_SETS, SECOND_SETS)
            && self.map.is_sound(MAPS)
            && self.lstm.is_sound()
            && self.trainer.is_sound()
            && self.strangers.is_sound()
    }
}

/// Mixes what the experts state, with the weights of the evaluation.
#[multiversion(targets("x86_64+avx+avx2"))]
fn mix_rows(evaluation: &mut Evaluation, used: usize) {
    let width = whole_vectors(used);
    let Evaluation { rows, logs, mixed, weights, active, .. } = evaluation;
    for expert in (0..EXPERTS).filter(|expert| active[*expert]) {
        logarithms(&rows[expert][..width], &mut logs[expert][..width]);
    }
    GeometricMixer::mix(weights, logs, used, mixed);
}

/// Keys of the contexts of a call, by expert.
fn keys(session: &Session, around: &Surroundings) -> [Option<u64>; EXPERTS] {
    let mut keys = [None; EXPERTS];
    for order in 1..=ORDER_MAX {
        keys[order] = session.context(order);
    }
    if let Some(scope) = around.scope {
        let own = hash::combine(SEED_OF_OWN, scope);
        keys[OWN] = keys[1].map(|key| hash::combine(own, key));
        keys[OWN + 1] = keys[2].map(|key| hash::combine(own, key));
    }
    for (index, side) in around.sides.iter().enumerate() {
        keys[SIDE + index] = side.map(|side| hash::combine(SEED_OF_SIDE + index as u64, side));
    }
    keys
}

/// Discounts learnt from the counts themselves: with `n1` successors seen once and `n2` seen twice, the estimate of Ney,
/// Essen and Kneser is `n1 / (n1 + 2 n2)`. Where most successors never return it is near one, in fixed chains it is small.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
struct Discounts {
    once: [u32; EXPERTS],
    twice: [u32; EXPERTS],
}

impl Discounts {
    fn count(&mut self, expert: usize, before: u16) {
        let (once, twice) = (&mut self.once[expert], &mut self.twice[expert]);
        match before {
            0 => *once = once.saturating_add(1),
            1 => {
                *once = once.saturating_sub(1);
                *twice = twice.saturating_add(1);
            }
            2 => *twice = twice.saturating_sub(1),
            3.. => {}
        }
    }

    fn of(&self, expert: usize) -> f32 {
        let (once, twice) = (self.once[expert] as f32, self.twice[expert] as f32);
        // Starts at one half, as if ten pairs had been seen.
        let discount = (once + 10.0) / (once + 2.0 * twice + 20.0);
        discount.clamp(DISCOUNT_RANGE.0, DISCOUNT_RANGE.1)
    }
}

/// One row to read and a later one to write.
#[inline(always)]
fn two_rows(rows: &mut [Row; EXPERTS], read: usize, write: usize, width: usize) -> (&[f32], &mut [f32]) {
    let (before, from) = rows.split_at_mut(write);
    (&before[read][..width], &mut from[0][..width])
}

/// The rows of all contexts that are known. One that is not passes on what it would back off to.
#[multiversion(targets("x86_64+avx+avx2"))]
fn back_off_all(
    contexts: &[Option<&Context>; EXPERTS],
    discounts: &Discounts,
    places: &Places,
    used: usize,
    rows: &mut [Row; EXPERTS],
) {
    // The row that says what an expert would.
    let mut speaker = [0; EXPERTS];
    speaker.iter_mut().enumerate().for_each(|(expert, speaker)| *speaker = expert);
    for (expert, lower) in BACK_OFF {
        let Some(context) = contexts[expert] else {
            speaker[expert] = speaker[lower];
            continue;
        };
        let (before, row) = two_rows(rows, speaker[lower], expert, whole_vectors(used));
        if context.total() > 0 {
            back_off(before, context, discounts.of(expert), places.of(expert, used), row);
        } else {
            row.copy_from_slice(before);
        }
    }
}

#[inline(always)]
fn back_off(lower: &[f32], context: &Context, discount: f32, places: impl Iterator<Item = usize>, row: &mut [f32]) {
    let total = context.total() as f32;
    let escape = discount * context.successors().len() as f32 / total;
    row.iter_mut().zip(lower).for_each(|(p, lower)| *p = lower * escape);
    for ((_, count), place) in context.successors().iter().zip(places) {
        row[place] += (f32::from(*count) - discount) / total;
    }
}

#[multiversion(targets("x86_64+avx+avx2"))]
fn recency(session: &Session, places: &Places, used: usize, rows: &mut [Row; EXPERTS]) {
    let (frequency, row) = two_rows(rows, 0, RECENT, whole_vectors(used));
    let total: f32 = session.recent().iter().map(|(_, weight)| weight).sum();
    let scale = 1.0 / (total + RECENT_PRIOR);
    row.iter_mut().zip(frequency).for_each(|(p, frequency)| *p = frequency * (RECENT_PRIOR * scale));
    for ((_, weight), place) in session.recent().iter().zip(places.of(RECENT, used)) {
        row[place] += weight * scale;
    }
}

fn mix_context(evaluation: &Evaluation, contexts: &[Option<&Context>; EXPERTS], used: usize) -> MixContext {
    let size = if used <= 5 {
        0
    } else if used <= 17 {
        1
    } else {
        2
    };
    let own = usize::from(contexts[OWN].is_some());
    let first = (evaluation.matched * 3 + size) * 2 + own;
    let longest = contexts[..=ORDER_MAX].iter().rev().find_map(|context| *context);
    let (support, sole) = longest.map_or((0, 0), |context| {
        let support = match context.total() {
            0..=1 => 0,
            2..=3 => 1,
            4..=15 => 2,
            16.. => 3,
        };
        (support, usize::from(context.successors().len() == 1))
    });
    let rows = &evaluation.rows;
    let agree =
        evaluation.active[NETWORK] && largest(&rows[NETWORK][..used]) == largest(&rows[evaluation.matched][..used]);
    MixContext { first, second: (support * 2 + sole) * 2 + usize::from(agree) }
}

/// Index of the largest value, the first of equals.
fn largest(values: &[f32]) -> usize {
    let (whole, rest) = values.split_at(values.len() / 8 * 8);
    let most = rest.iter().copied().fold(numeric::largest(whole), numeric::larger);
    values.iter().position(|value| *value == most).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(families: ExpertFamilies) -> SequenceModel {
        SequenceModel::new(&EngineSettings { families, ..EngineSettings::default() }, 1 << 12)
    }

    /// Feeds a sequence and returns how often the top candidate was right in its last quarter.
    fn score(model: &mut SequenceModel, around: Surroundings, symbols: &[u32]) -> f64 {
        let mut session = Session::default();
        let mut evaluation = Evaluation::default();
        let mut right = 0;
        for (index, symbol) in symbols.iter().enumerate() {
            model.evaluate(&session, &around, &mut evaluation);
            let sum: f32 = evaluation.candidates().map(|(_, p)| p).sum::<f32>() + evaluation.other();
            assert!((sum - 1.0).abs() < 1e-3, "probabilities sum to {sum}");
            if index * 4 >= symbols.len() * 3 {
                right += u32::from(evaluation.top().is_some_and(|(top, _)| top == *symbol));
            }
            model.observe(1, &mut session, &evaluation, *symbol);
        }
        f64::from(right) / (symbols.len() as f64 / 4.0)
    }

    #[test]
    fn each_family_alone_learns_a_cycle_or_its_frequencies() {
        let cycle: Vec<u32> = (0..2_000).map(|step| [1, 2, 1, 3][step % 4]).collect();
        let none = ExpertFamilies { statistical: false, markov: false, lstm: false };
        let around = Surroundings::default();
        assert!(score(&mut model(ExpertFamilies { markov: true, ..none }), around, &cycle) > 0.99);
        let long: Vec<u32> = cycle.repeat(3);
        assert!(score(&mut model(ExpertFamilies { lstm: true, ..none }), around, &long) > 0.9);
        assert!(score(&mut model(ExpertFamilies { statistical: true, ..none }), around, &cycle) >= 0.25);
    }

    #[test]
    fn a_side_context_tells_what_the_sequence_cannot() {
        let mut model = model(ExpertFamilies::ALL);
        let mut session = Session::default();
        let mut evaluation = Evaluation::default();
        let mut right = 0;
        for step in 0..3_000u64 {
            let class = hash::mix(step) % 3;
            let around = Surroundings { sides: [Some(class), None, None], ..Surroundings::default() };
            model.evaluate(&session, &around, &mut evaluation);
            right += u32::from(step >= 2_000 && evaluation.top().is_some_and(|(top, _)| u64::from(top) == class));
            model.observe(1, &mut session, &evaluation, class as u32);
        }
        assert!(right > 990, "{right} of 1000");
    }

    #[test]
    fn more_symbols_than_candidates_are_survived() {
        let mut model = model(ExpertFamilies::ALL);
        let symbols: Vec<u32> = (0..3_000).map(|step| hash::mix(step) as u32).collect();
        score(&mut model, Surroundings { scope: Some(1), ..Surroundings::default() }, &symbols);
        assert!(model.is_sound(ExpertFamilies::ALL, 1 << 12));
        let other = ExpertFamilies { lstm: false, ..ExpertFamilies::ALL };
        assert!(!model.is_sound(other, 1 << 12), "state learnt under other settings is not ours");
    }

    #[test]
    fn shedding_the_network_leaves_a_working_mixture() {
        let mut model = model(ExpertFamilies::ALL);
        let cycle: Vec<u32> = (0..1_000).map(|step| step % 5).collect();
        score(&mut model, Surroundings::default(), &cycle);
        model.infer = false;
        assert!(score(&mut model, Surroundings::default(), &cycle) > 0.99);
    }
}
