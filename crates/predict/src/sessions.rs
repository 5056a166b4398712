//! The sequences whose state is kept: a bounded number, those used most recently.
//!
//! Two generations as in [`crate::sequence::contexts`]: a sequence that is used stays.

use crate::hash::{self, MixedMap};
use crate::sequence::session::Session;
use serde::{Deserialize, Serialize};

/// Places for sequences per generation; at about 250 bytes each, both generations take 65 MB at most.
const GENERATION_MAX: usize = 1 << 17;

/// State of sequences by key.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct SessionTable {
    #[serde(with = "crate::sorted")]
    young: MixedMap<Session>,
    #[serde(with = "crate::sorted")]
    old: MixedMap<Session>,
}

impl SessionTable {
    /// State of a sequence, if it is kept.
    pub fn get(&self, key: u64) -> Option<&Session> {
        self.young.get(&key).or_else(|| self.old.get(&key))
    }

    /// State of a sequence that is used now, a fresh one if none is kept.
    pub fn get_mut(&mut self, key: u64) -> &mut Session {
        if !self.young.contains_key(&key) {
            let session = self.old.remove(&key).unwrap_or_default();
            if self.young.len() >= hash::entries_of(GENERATION_MAX) {
                self.old = std::mem::take(&mut self.young);
            }
            return self.young.entry(key).or_insert(session);
        }
        self.young.entry(key).or_default()
    }

    /// Forgets a sequence.
    pub fn remove(&mut self, key: u64) {
        self.young.remove(&key);
        self.old.remove(&key);
    }

    /// Number of sequences kept.
    pub fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }

    /// Whether none is kept.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn is_sound(&self) -> bool {
        self.young.len() <= GENERATION_MAX
            && self.old.len() <= GENERATION_MAX
            && self.young.values().chain(self.old.values()).all(Session::is_sound)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_sequences_is_bounded_and_those_in_use_stay() {
        let mut table = SessionTable::default();
        for key in 0..3 * GENERATION_MAX as u64 {
            table.get_mut(1 << 40).push(1);
            table.get_mut(key);
        }
        assert!(table.len() <= 2 * GENERATION_MAX);
        assert_eq!(table.get(1 << 40).map(Session::len), Some(3 * GENERATION_MAX as u32));
    }
}
