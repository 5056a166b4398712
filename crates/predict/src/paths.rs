//! Layer 2: which code paths inside a function the next request will run.
//!
//! The set of inner functions that a sampled call ran is its *signature*; calls whose sets are nearly the same share one.
//! Signatures are the symbols of a sequence per function, predicted by the same experts, mixture and calibration as calls
//! are (see [`crate::sequence`]), with what is known of the request as contexts: its class, its caller and the shape of
//! its payload. From the probabilities of the signatures follow the Code Path Probability Map, and the smallest set of
//! inner functions that a request stays within with probability at least `1 - epsilon`.

use crate::hash::{self, KeyMap};
use crate::sequence::model::{Evaluation, SequenceModel, Surroundings};
use crate::sequence::session::Session;
use crate::settings::EngineSettings;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Signatures of one function; a further one joins the nearest. More would be noise to specialise for.
pub const SIGNATURES_MAX: usize = 32;
/// Sets that agree to this share (Jaccard) are the same signature: one tenth may be rare branches.
const SAME_SHARE: f32 = 0.9;
/// Inner functions of one sample taken into account; the largest component seen in the study runs 800.
pub const SAMPLE_MAX: usize = 32_768;
/// Functions whose paths are followed.
const FUNCTIONS_MAX: usize = 65_536;
/// Contexts of signature sequences.
const CONTEXTS_MAX: usize = 1 << 18;
/// Counts are halved at this many calls.
const CALLS_MAX: u32 = 60_000;
const SEED_CLASS: u64 = 0x70a1;
const SEED_CALLER: u64 = 0x70a2;
const SEED_PAYLOAD: u64 = 0x70a3;

/// What is known of a request before it runs. Zero stands for "not known".
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RequestContext {
    /// Class of the request: method, route.
    pub class: u32,
    /// Kind of the caller.
    pub caller: u32,
    /// Shape of the payload: size bucket and content type.
    pub payload: u32,
}

/// An inner function, and the probability that the next request runs it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Share {
    /// Its number, as the samples name it.
    pub id: u32,
    /// The probability.
    pub probability: f32,
}

/// The path models of all functions.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PathModel {
    #[serde(with = "crate::sorted")]
    functions: KeyMap<u32, FunctionPaths>,
    settings: EngineSettings,
    train_every: u64,
    infer: bool,
    /// Made for the first sample: a node that samples nothing need not hold its megabytes.
    sequence: Option<Box<SequenceModel>>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct FunctionPaths {
    signatures: Vec<Signature>,
    session: Session,
    calls: u64,
}

/// Calls that ran nearly the same inner functions.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Signature {
    calls: u32,
    members: BTreeMap<u32, u32>,
}

/// What the next request of a function will run.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PathForecast {
    /// Probability of each inner function, most probable first: the Code Path Probability Map.
    pub map: Vec<Share>,
    /// Probability of each signature, by its index.
    pub signatures: Vec<(usize, f32)>,
    /// Probability that the request runs a set that was never seen.
    pub unseen: f32,
    /// Half the width of the 95 % interval of the most probable signature.
    pub error: f32,
    /// Samples it rests on.
    pub samples: u64,
}

/// A set of inner functions and the probability that a request stays within it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PathSet {
    /// The inner functions, in order.
    pub functions: Vec<u32>,
    /// The probability.
    pub mass: f32,
}

impl PathModel {
    /// A model that has seen nothing.
    pub fn new(settings: &EngineSettings) -> Self {
        Self { functions: KeyMap::default(), settings: *settings, train_every: 1, infer: true, sequence: None }
    }

    /// Sheds the network's work under load, as in [`SequenceModel`].
    pub(crate) fn shed(&mut self, train_every: u64, infer: bool) {
        (self.train_every, self.infer) = (train_every, infer);
    }

    /// Learns from a sampled call of `kind`, which ran these inner functions, in any order.
    pub fn observe(&mut self, kind: u32, request: &RequestContext, ran: &[u32]) {
        if self.functions.len() >= FUNCTIONS_MAX && !self.functions.contains_key(&kind) {
            return;
        }
        let paths = self.functions.entry(kind).or_default();
        let mut ran: Vec<u32> = ran.iter().copied().take(SAMPLE_MAX).collect();
        ran.sort_unstable();
        ran.dedup();
        let signature = paths.assign(&ran);
        let around = surroundings(kind, request);
        let mut evaluation = Evaluation::default();
        let new = || Box::new(SequenceModel::new(&self.settings, CONTEXTS_MAX));
        let sequence = self.sequence.get_or_insert_with(new);
        (sequence.train_every, sequence.infer) = (self.train_every, self.infer);
        sequence.evaluate(&paths.session, &around, &mut evaluation);
        let symbol = symbol(kind, signature);
        sequence.observe(u64::from(kind), &mut paths.session, &evaluation, symbol);
        paths.calls = paths.calls.saturating_add(1);
        paths.signatures[signature].record(&ran);
    }

    /// Says what the next request of `kind` will run.
    pub fn forecast(&self, kind: u32, request: &RequestContext) -> PathForecast {
        let (Some(paths), Some(sequence)) = (self.functions.get(&kind), &self.sequence) else {
            return PathForecast { unseen: 1.0, error: 0.5, ..PathForecast::default() };
        };
        let mut evaluation = Evaluation::default();
        sequence.evaluate(&paths.session, &surroundings(kind, request), &mut evaluation);
        let probability = |index: usize| sequence.probability(&evaluation, symbol(kind, index), 0);
        let mut signatures: Vec<(usize, f32)> = (0..paths.signatures.len()).map(|i| (i, probability(i))).collect();
        // Candidates of other functions are possible to the sequence model but not here.
        let seen: f32 = signatures.iter().map(|(_, p)| p).sum();
        let unseen = paths.unseen();
        let scale = (1.0 - unseen) / seen.max(1e-6);
        signatures.iter_mut().for_each(|(_, p)| *p *= scale);
        signatures.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        let error = evaluation.top().map_or(0.5, |(_, calibrated)| calibrated.error);
        PathForecast { map: paths.shares(&signatures), signatures, unseen, error, samples: paths.calls }
    }

    /// The smallest set of inner functions found in which a request stays with probability at least `1 - epsilon`, or
    /// the set of everything seen if that does not suffice. Signatures are taken in the order of probability gained per
    /// inner function added.
    pub fn smallest_set(&self, kind: u32, forecast: &PathForecast, epsilon: f32) -> PathSet {
        let Some(paths) = self.functions.get(&kind) else { return PathSet::default() };
        let mut left: Vec<(usize, f32)> = forecast.signatures.clone();
        let mut set = PathSet::default();
        let mut members: BTreeMap<u32, ()> = BTreeMap::new();
        while set.mass < 1.0 - epsilon && !left.is_empty() {
            let added = |index: usize| {
                let signature = &paths.signatures[index];
                signature.members.keys().filter(|member| !members.contains_key(member)).count()
            };
            let worth: Vec<f32> = left.iter().map(|(index, p)| p / (added(*index) as f32 + 0.5)).collect();
            let best = (0..left.len()).max_by(|a, b| worth[*a].total_cmp(&worth[*b])).unwrap_or(0);
            let (index, probability) = left.swap_remove(best);
            members.extend(paths.signatures[index].members.keys().map(|member| (*member, ())));
            set.mass += probability;
        }
        set.functions = members.into_keys().collect();
        set
    }

    pub(crate) fn is_sound(&self, settings: &EngineSettings) -> bool {
        let sound = |sequence: &SequenceModel| sequence.is_sound(settings.families, CONTEXTS_MAX);
        self.functions.len() <= FUNCTIONS_MAX
            && self.settings == *settings
            && self.sequence.as_deref().is_none_or(sound)
            && self.functions.values().all(FunctionPaths::is_sound)
    }
}

impl FunctionPaths {
    /// Index of the signature that a sorted set belongs to; a new one if none agrees and there is room.
    fn assign(&mut self, functions: &[u32]) -> usize {
        let agreement = |signature: &Signature| signature.agreement(functions);
        let nearest = (0..self.signatures.len())
            .map(|index| (index, agreement(&self.signatures[index])))
            .max_by(|a, b| a.1.total_cmp(&b.1).then(b.0.cmp(&a.0)));
        match nearest {
            Some((index, share)) if share >= SAME_SHARE || self.signatures.len() == SIGNATURES_MAX => index,
            Some(_) | None => {
                self.signatures.push(Signature::default());
                self.signatures.len() - 1
            }
        }
    }

    /// Probability of a set never seen: of the calls so far, those that brought a new signature, after Laplace.
    fn unseen(&self) -> f32 {
        (self.signatures.len() as f32 / (self.calls as f32 + 1.0)).min(0.5)
    }

    fn shares(&self, signatures: &[(usize, f32)]) -> Vec<Share> {
        let mut sums: BTreeMap<u32, f32> = BTreeMap::new();
        for (index, probability) in signatures {
            let signature = &self.signatures[*index];
            for (member, count) in &signature.members {
                *sums.entry(*member).or_insert(0.0) += probability * *count as f32 / signature.calls.max(1) as f32;
            }
        }
        let share = |(id, probability): (u32, f32)| Share { id, probability: probability.min(1.0) };
        let mut shares: Vec<Share> = sums.into_iter().map(share).collect();
        shares.sort_by(|a, b| b.probability.total_cmp(&a.probability).then(a.id.cmp(&b.id)));
        shares
    }

    fn is_sound(&self) -> bool {
        self.signatures.len() <= SIGNATURES_MAX
            && self.session.is_sound()
            && self.signatures.iter().all(|signature| {
                signature.calls < CALLS_MAX
                    && signature.members.len() <= SAMPLE_MAX
                    && signature.members.values().all(|count| *count <= signature.calls)
            })
    }
}

impl Signature {
    /// Share of agreement with a sorted set: common members over all members. Members that most calls did not run are
    /// left out, so that rare branches do not blur a signature.
    fn agreement(&self, functions: &[u32]) -> f32 {
        let usual = |count: &u32| count * 2 >= self.calls;
        let size = self.members.values().filter(|count| usual(count)).count();
        let common = functions.iter().filter(|function| self.members.get(function).is_some_and(usual)).count();
        let all = size + functions.len() - common;
        if all == 0 { 1.0 } else { common as f32 / all as f32 }
    }

    /// Counts a sorted set.
    fn record(&mut self, functions: &[u32]) {
        self.calls += 1;
        for function in functions {
            if self.members.len() < SAMPLE_MAX || self.members.contains_key(function) {
                *self.members.entry(*function).or_insert(0) += 1;
            }
        }
        if self.calls >= CALLS_MAX {
            self.calls /= 2;
            self.members.retain(|_, count| {
                *count /= 2;
                *count > 0
            });
        }
    }
}

fn symbol(kind: u32, signature: usize) -> u32 {
    // Collisions of two functions' signatures only blur contexts that both share; a function's own are keyed by kind.
    kind.wrapping_mul(SIGNATURES_MAX as u32).wrapping_add(signature as u32)
}

/// Contexts of a request: class, then class with payload, then class with caller; each within the function.
fn surroundings(kind: u32, request: &RequestContext) -> Surroundings {
    let kind = u64::from(kind);
    let class = hash::combine(hash::combine(SEED_CLASS, kind), u64::from(request.class));
    let payload = hash::combine(hash::combine(SEED_PAYLOAD, class), u64::from(request.payload));
    let caller = hash::combine(hash::combine(SEED_CALLER, class), u64::from(request.caller));
    Surroundings { scope: Some(kind), sides: [Some(class), Some(payload), Some(caller)] }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Requests of class 1 run one set, those of class 2 another, and now and then a rare branch.
    fn learnt() -> PathModel {
        let mut model = PathModel::new(&EngineSettings::default());
        let common: Vec<u32> = (0..50).collect();
        let (mut read, mut write) = (common.clone(), common);
        read.extend(100..150);
        write.extend(200..280);
        for step in 0..600u64 {
            let class = 1 + u32::from(hash::mix(step).is_multiple_of(3));
            let mut ran = if class == 1 { read.clone() } else { write.clone() };
            if step % 40 == 7 {
                ran.push(999);
            }
            model.observe(7, &RequestContext { class, ..RequestContext::default() }, &ran);
        }
        model
    }

    #[test]
    fn the_class_of_a_request_tells_its_paths() {
        let model = learnt();
        let read = RequestContext { class: 1, ..RequestContext::default() };
        let forecast = model.forecast(7, &read);
        let of = |id: u32| forecast.map.iter().find(|share| share.id == id).map_or(0.0, |share| share.probability);
        assert!(of(0) > 0.95 && of(120) > 0.9 && of(220) < 0.1 && of(999) < 0.2, "{} {} {}", of(0), of(120), of(220));
        let set = model.smallest_set(7, &forecast, 0.1);
        assert!(set.mass >= 0.9 && set.functions.contains(&120) && !set.functions.contains(&220));
        let all = model.smallest_set(7, &forecast, 0.0);
        assert!(all.functions.contains(&220), "certainty needs everything");
    }

    #[test]
    fn a_function_without_samples_is_no_mystery() {
        let (model, read) = (learnt(), RequestContext { class: 1, ..RequestContext::default() });
        assert_eq!(model.forecast(7, &read).samples, 600);
        let unknown = model.forecast(8, &read);
        assert_eq!((unknown.unseen, unknown.samples), (1.0, 0));
        assert_eq!(model.smallest_set(8, &unknown, 0.1), PathSet::default());
    }

    #[test]
    fn what_one_call_ran_twice_counts_once() {
        let mut model = PathModel::new(&EngineSettings::default());
        (0..10).for_each(|_| model.observe(1, &RequestContext::default(), &[5, 5, 6, 5]));
        assert!(model.is_sound(&EngineSettings::default()));
        assert!(model.forecast(1, &RequestContext::default()).map.iter().all(|share| share.probability <= 1.0));
    }

    #[test]
    fn a_flood_of_different_sets_is_bounded() {
        let mut model = PathModel::new(&EngineSettings::default());
        for step in 0..500u64 {
            let ran: Vec<u32> = (0..20).map(|index| hash::mix(step * 100 + index) as u32).collect();
            model.observe(1, &RequestContext::default(), &ran);
        }
        assert!(model.is_sound(&EngineSettings::default()));
        assert_eq!(model.forecast(1, &RequestContext::default()).signatures.len(), SIGNATURES_MAX);
    }
}
