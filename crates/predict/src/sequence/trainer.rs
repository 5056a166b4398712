//! Steps of the network that wait for their outcomes, for a bounded number of sequences at a time.
//!
//! Training needs the activations of a chunk of steps. They are kept for the [`PLACES`] sequences used most recently;
//! when another sequence needs a place, the one unused for longest is trained on what it has and leaves. Sequences that
//! never find a place are still predicted, they only do not teach.

use super::lstm::{Lstm, Step};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Sequences that teach at a time. At about 20 kB each this is 5 MB.
const PLACES: usize = 256;
/// More steps than can ever be taken; a clock beyond it is not one of ours and might overflow.
const CLOCK_MAX: u64 = 1 << 62;
/// Steps of one chunk of truncated back-propagation.
const CHUNK: usize = 16;
/// Steps that one update of the network learns from at least. An update costs the same however few they are; where
/// sequences are many and leave after a call or two, updates for each were most of the time an event took.
const BATCH: usize = CHUNK;

/// The sequences in training.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Trainer {
    places: BTreeMap<u64, Place>,
    by_use: BTreeMap<u64, u64>,
    clock: u64,
    chunks: u64,
    /// Chunks that have ended and wait until there are [`BATCH`] steps to learn from at once.
    waiting: Vec<Vec<Step>>,
    /// Memory of chunks that have been learnt from, for those that begin: a chunk is large, and one begins and ends with
    /// nearly every call where sequences are many.
    #[serde(skip)]
    spare: Vec<Vec<Step>>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Place {
    used: u64,
    steps: Vec<Step>,
}

impl Trainer {
    /// Tells the last step of a sequence what came after it: entry `target` of `candidates`. Trains on a full chunk, of
    /// which every `train_every`-th is used (0 for none).
    pub fn outcome(&mut self, key: u64, candidates: &[u16], target: usize, lstm: &mut Lstm, train_every: u64) {
        let Some(place) = self.places.get_mut(&key) else { return };
        if let Some(step) = place.steps.last_mut() {
            step.set_outcome(candidates, target);
        }
        if place.steps.len() >= CHUNK {
            let steps = std::mem::replace(&mut place.steps, new_chunk(&mut self.spare));
            self.train(steps, lstm, train_every);
        }
    }

    /// Adds the next step of a sequence.
    pub fn push(&mut self, key: u64, step: Step, lstm: &mut Lstm, train_every: u64) {
        self.clock += 1;
        let used = self.clock;
        if let Some(place) = self.places.get_mut(&key) {
            self.by_use.remove(&place.used);
            place.used = used;
            place.steps.push(step);
        } else {
            if self.places.len() >= PLACES {
                self.evict(lstm, train_every);
            }
            let mut steps = new_chunk(&mut self.spare);
            steps.push(step);
            self.places.insert(key, Place { used, steps });
        }
        self.by_use.insert(used, key);
    }

    /// Trains on what a sequence that has ended left behind.
    pub fn end(&mut self, key: u64, lstm: &mut Lstm, train_every: u64) {
        if let Some(place) = self.places.remove(&key) {
            self.by_use.remove(&place.used);
            self.train(place.steps, lstm, train_every);
        }
    }

    fn evict(&mut self, lstm: &mut Lstm, train_every: u64) {
        if let Some((_, key)) = self.by_use.pop_first()
            && let Some(place) = self.places.remove(&key)
        {
            self.train(place.steps, lstm, train_every);
        }
    }

    fn train(&mut self, steps: Vec<Step>, lstm: &mut Lstm, train_every: u64) {
        self.chunks += 1;
        if train_every == 0 || !self.chunks.is_multiple_of(train_every) {
            self.keep_spare(steps);
            return;
        }
        self.waiting.push(steps);
        if waiting_steps(&self.waiting) >= BATCH {
            lstm.train(&self.waiting);
            while let Some(steps) = self.waiting.pop() {
                self.keep_spare(steps);
            }
        }
    }

    fn keep_spare(&mut self, mut steps: Vec<Step>) {
        steps.clear();
        if self.spare.len() < BATCH {
            self.spare.push(steps);
        }
    }

    pub(crate) fn is_sound(&self) -> bool {
        self.places.len() <= PLACES
            && self.clock.max(self.chunks) <= CLOCK_MAX
            && self.by_use.last_key_value().is_none_or(|(used, _)| *used <= self.clock)
            && self.by_use.len() == self.places.len()
            && self.by_use.iter().all(|(used, key)| self.places.get(key).is_some_and(|place| place.used == *used))
            && self.places.values().all(|place| is_chunk(&place.steps))
            && waiting_steps(&self.waiting) < BATCH
            && self.waiting.iter().all(|chunk| !chunk.is_empty() && is_chunk(chunk))
    }
}

fn new_chunk(spare: &mut Vec<Vec<Step>>) -> Vec<Step> {
    spare.pop().unwrap_or_else(|| Vec::with_capacity(CHUNK))
}

fn waiting_steps(chunks: &[Vec<Step>]) -> usize {
    chunks.iter().map(Vec::len).sum()
}

fn is_chunk(steps: &[Step]) -> bool {
    steps.len() <= CHUNK && steps.iter().all(Step::is_sound)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sequence::lstm::NetState;

    #[test]
    fn sequences_in_training_are_bounded() {
        let mut lstm = Lstm::new(1);
        let mut trainer = Trainer::default();
        for key in 0..PLACES as u64 + 50 {
            let step = lstm.step(1, &NetState::default());
            trainer.push(key, step, &mut lstm, 1);
            trainer.outcome(key, &[0, 1], 1, &mut lstm, 1);
        }
        assert!(trainer.is_sound());
        assert_eq!(trainer.places.len(), PLACES);
        assert_eq!(trainer.chunks, 50, "those that left were trained on");
        trainer.end(PLACES as u64, &mut lstm, 1);
        assert_eq!(trainer.places.len(), PLACES - 1);
    }
}
