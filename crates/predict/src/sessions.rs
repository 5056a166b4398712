//! The sequences whose state is kept: a bounded number, those used most recently.
//!
//! Two generations as in [`crate::sequence::contexts`]: a sequence that is used stays.

use crate::hash::KeyMap;
use crate::sequence::session::Session;
use serde::{Deserialize, Serialize};

/// Sequences per generation; at about 250 bytes each, both generations take 65 MB at most.
const GENERATION_MAX: usize = 1 << 17;

/// State of sequences by key.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct SessionTable {
    #[serde(with = "crate::sorted")]
    young: KeyMap<u64, Session>,
    #[serde(with = "crate::sorted")]
    old: KeyMap<u64, Session>,
}

impl SessionTable {
    /// State of a sequence, if it is kept.
    pub fn get(&self, key: u64) -> Option<&Session> {
        self.young.get(&key).or_else(|| self.old.get(&key))
    }

    /// Takes the state of a sequence out, or a fresh one.
    pub fn take(&mut self, key: u64) -> Session {
        self.young.remove(&key).or_else(|| self.old.remove(&key)).unwrap_or_default()
    }

    /// Puts a state back.
    pub fn put(&mut self, key: u64, session: Session) {
        if self.young.len() >= GENERATION_MAX {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, session);
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
            let mut session = table.take(1 << 40);
            session.push(1);
            table.put(1 << 40, session);
            table.put(key, Session::default());
        }
        assert!(table.len() <= 2 * GENERATION_MAX);
        assert_eq!(table.get(1 << 40).map(Session::len), Some(3 * GENERATION_MAX as u32));
    }
}
