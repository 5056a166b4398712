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

use super::candidates::{CANDIDATES_MAX, Candidates};
use super::contexts::{Context, ContextTable};
use super::lstm::{self, Lstm};
use super::map::{Calibrated, ProbabilityMap};
use super::mixer::{GeometricMixer, MixContext, logarithms};
use super::popular::Popular;
use super::session::{ORDER_MAX, Session};
use super::trainer::Trainer;
use crate::hash;
use crate::settings::{EngineSettings, ExpertFamilies};
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

/// What is known about the next call besides the sequence itself.
#[derive(Debug, Clone, Copy, Default)]
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
    /// Every how many chunks the network is trained; 0 for never. Raised under load.
    pub train_every: u64,
    /// Whether the network is asked at all. Cleared under heavy load.
    pub infer: bool,
}

/// A prediction, with what is needed to learn from its outcome and to explain it.
#[derive(Debug, Clone)]
pub struct Evaluation {
    candidates: Candidates,
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
            candidates: Candidates::default(),
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
        self.calibrated = map.calibrate(self.matched, self.mixed[self.top]);
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
            map: ProbabilityMap::new(ORDER_MAX + 1),
            lstm: Lstm::new(settings.seed),
            trainer: Trainer::default(),
            train_every: 1,
            infer: true,
        }
    }

    /// Predicts the next symbol of a sequence.
    pub fn evaluate(&self, session: &Session, around: &Surroundings, evaluation: &mut Evaluation) {
        let contexts = self.find_contexts(session, around);
        self.collect_candidates(&contexts, session, evaluation);
        let used = evaluation.candidates.symbols().len() + 1;
        evaluation.active = self.fill_rows(&contexts, session, evaluation);
        evaluation.matched = (1..=ORDER_MAX).rev().find(|order| contexts[*order].is_some()).unwrap_or(0);
        evaluation.context = mix_context(evaluation, &contexts, used);
        for expert in (0..EXPERTS).filter(|expert| evaluation.active[*expert]) {
            evaluation.logs[expert] = logarithms(&evaluation.rows[expert]);
        }
        evaluation.weights = self.mixer.weights(evaluation.context, &evaluation.active);
        GeometricMixer::mix(&evaluation.weights, &evaluation.logs, used, &mut evaluation.mixed);
        evaluation.calibrate(&self.map, used);
    }

    /// Learns what came after an evaluation, and moves the sequence on. `key` names the sequence in training.
    pub fn observe(
        &mut self,
        key: u64,
        session: &mut Session,
        around: &Surroundings,
        evaluation: &Evaluation,
        symbol: u32,
    ) {
        let outcome = evaluation.entry(symbol);
        let Evaluation { context, active, logs, mixed, .. } = evaluation;
        self.mixer.learn(*context, active, logs, mixed, outcome);
        if !evaluation.candidates.symbols().is_empty() {
            self.map.learn(evaluation.matched, evaluation.mixed[evaluation.top], outcome == evaluation.top);
        }
        self.learn_contexts(session, around, symbol);
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

    fn find_contexts(&self, session: &Session, around: &Surroundings) -> [Option<&Context>; EXPERTS] {
        let mut contexts = [None; EXPERTS];
        if !self.families.markov {
            return contexts;
        }
        let keys = keys(session, around);
        for (context, key) in contexts.iter_mut().zip(keys) {
            *context = key.and_then(|key| self.contexts.get(key));
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
        let candidates = &mut evaluation.candidates;
        candidates.clear();
        for context in ORDER.iter().filter_map(|expert| contexts[*expert]) {
            context.successors.iter().for_each(|(symbol, _)| candidates.add(*symbol));
        }
        session.recent().iter().for_each(|(symbol, _)| candidates.add(*symbol));
        if self.escape(contexts) > ESCAPE_SETTLED {
            self.popular.top().iter().for_each(|symbol| candidates.add(*symbol));
        }
        evaluation.slots.clear();
        evaluation.slots.extend(candidates.symbols().iter().map(|symbol| lstm::slot_of(*symbol)));
        evaluation.slots.push(lstm::OTHER_SLOT);
    }

    /// The smallest share that a known context leaves to symbols that never followed it.
    fn escape(&self, contexts: &[Option<&Context>; EXPERTS]) -> f32 {
        let escape = |(expert, context): (usize, &Option<&Context>)| {
            context.map(|context| {
                self.discounts.of(expert) * context.successors.len() as f32 / context.total.max(1) as f32
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
        let Evaluation { candidates, slots, rows, .. } = evaluation;
        let mut active = [false; EXPERTS];
        active[0] = true;
        self.fill_frequency(candidates, &mut rows[0]);
        for expert in 1..=ORDER_MAX {
            rows[expert] = back_off(&rows[expert - 1], contexts[expert], self.discounts.of(expert), candidates);
            active[expert] = contexts[expert].is_some();
        }
        rows[OWN] = back_off(&rows[1], contexts[OWN], self.discounts.of(OWN), candidates);
        rows[OWN + 1] = back_off(&rows[OWN], contexts[OWN + 1], self.discounts.of(OWN + 1), candidates);
        active[OWN] = contexts[OWN].is_some();
        active[OWN + 1] = contexts[OWN + 1].is_some();
        let mut base = rows[1];
        for expert in SIDE..SIDE + SIDES {
            active[expert] = contexts[expert].is_some();
            base = back_off(&base, contexts[expert], self.discounts.of(expert), candidates);
            rows[expert] = base;
        }
        if self.families.statistical {
            active[RECENT] = true;
            rows[RECENT] = recency(&rows[0], session, candidates);
        }
        if self.families.lstm && self.infer && !session.is_empty() {
            active[NETWORK] = true;
            rows[NETWORK].fill(0.0);
            self.lstm.probabilities(&session.net_state().h, slots, &mut rows[NETWORK]);
        }
        active
    }

    fn fill_frequency(&self, candidates: &Candidates, row: &mut Row) {
        row.fill(0.0);
        let mut sum = 0.0;
        for (index, symbol) in candidates.symbols().iter().enumerate() {
            row[index] = self.popular.probability(*symbol, 0);
            sum += row[index];
        }
        row[candidates.symbols().len()] = (1.0 - sum).max(1e-6);
    }

    fn learn_contexts(&mut self, session: &Session, around: &Surroundings, symbol: u32) {
        self.popular.add(symbol);
        if !self.families.markov {
            return;
        }
        for (expert, key) in keys(session, around).into_iter().enumerate() {
            if let Some(key) = key {
                let before = self.contexts.add(key, symbol);
                self.discounts.count(expert, before);
            }
        }
    }

    pub(crate) fn is_sound(&self) -> bool {
        self.contexts.is_sound(self.contexts_max)
            && self.popular.is_sound()
            && self.mixer.is_sound(FIRST_SETS, SECOND_SETS)
            && self.map.is_sound(ORDER_MAX + 1)
            && self.lstm.is_sound()
            && self.trainer.is_sound()
    }
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

fn back_off(lower: &Row, context: Option<&Context>, discount: f32, candidates: &Candidates) -> Row {
    let mut row = *lower;
    let Some(context) = context.filter(|context| context.total > 0) else { return row };
    let total = context.total as f32;
    let escape = discount * context.successors.len() as f32 / total;
    row.iter_mut().for_each(|p| *p *= escape);
    for (symbol, count) in &context.successors {
        let index = candidates.index(*symbol).unwrap_or(candidates.symbols().len());
        row[index] += (f32::from(*count) - discount) / total;
    }
    row
}

fn recency(frequency: &Row, session: &Session, candidates: &Candidates) -> Row {
    let mut row = *frequency;
    let total: f32 = session.recent().iter().map(|(_, weight)| weight).sum();
    let scale = 1.0 / (total + RECENT_PRIOR);
    row.iter_mut().for_each(|p| *p *= RECENT_PRIOR * scale);
    for (symbol, weight) in session.recent() {
        let index = candidates.index(*symbol).unwrap_or(candidates.symbols().len());
        row[index] += weight * scale;
    }
    row
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
        let support = match context.total {
            0..=1 => 0,
            2..=3 => 1,
            4..=15 => 2,
            16.. => 3,
        };
        (support, usize::from(context.successors.len() == 1))
    });
    let rows = &evaluation.rows;
    let agree =
        evaluation.active[NETWORK] && largest(&rows[NETWORK][..used]) == largest(&rows[evaluation.matched][..used]);
    MixContext { first, second: (support * 2 + sole) * 2 + usize::from(agree) }
}

/// Index of the largest value, the first of equals.
fn largest(values: &[f32]) -> usize {
    let mut best = 0;
    for (index, value) in values.iter().enumerate() {
        if *value > values[best] {
            best = index;
        }
    }
    best
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
            model.observe(1, &mut session, &around, &evaluation, *symbol);
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
            model.observe(1, &mut session, &around, &evaluation, class as u32);
        }
        assert!(right > 990, "{right} of 1000");
    }

    #[test]
    fn more_symbols_than_candidates_are_survived() {
        let mut model = model(ExpertFamilies::ALL);
        let symbols: Vec<u32> = (0..3_000).map(|step| hash::mix(step) as u32).collect();
        score(&mut model, Surroundings { scope: Some(1), ..Surroundings::default() }, &symbols);
        assert!(model.is_sound());
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
