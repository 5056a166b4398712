//! Counts of what followed a context, for a bounded number of contexts.
//!
//! A context is a 64-bit key (see [`crate::hash`]); two contexts with the same key share their counts, which at this
//! width does not happen by chance. The table has two generations: when the younger is full, the older is dropped and
//! the younger takes its place; a context that is used moves to the younger. Recently used contexts therefore survive,
//! at constant cost per use.

use crate::hash::KeyMap;
use serde::{Deserialize, Serialize};

/// Successors kept per context: the bound on candidates of one prediction. The rarest gives way.
const SUCCESSORS_MAX: usize = 64;
/// Counts of a context are halved when their sum reaches this, so that old habits fade.
const TOTAL_MAX: u32 = 60_000;

/// What followed one context.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Context {
    /// Sum of the counts.
    pub total: u32,
    /// Symbols and their counts, in order of first appearance.
    pub successors: Vec<(u32, u16)>,
}

impl Context {
    /// Counts a successor and returns how often it was counted before.
    fn add(&mut self, symbol: u32) -> u16 {
        self.total += 1;
        let mut before = 0;
        if let Some((_, count)) = self.successors.iter_mut().find(|(known, _)| *known == symbol) {
            before = *count;
            *count = count.saturating_add(1);
        } else if self.successors.len() < SUCCESSORS_MAX {
            self.successors.push((symbol, 1));
        } else {
            self.replace_rarest(symbol);
        }
        if self.total >= TOTAL_MAX {
            self.halve();
        }
        before
    }

    fn replace_rarest(&mut self, symbol: u32) {
        if let Some(rarest) = self.successors.iter_mut().min_by_key(|(_, count)| *count) {
            self.total -= u32::from(rarest.1).min(self.total);
            *rarest = (symbol, 1);
        }
    }

    fn halve(&mut self) {
        self.successors.retain_mut(|(_, count)| {
            *count /= 2;
            *count > 0
        });
        self.total = self.successors.iter().map(|(_, count)| u32::from(*count)).sum();
    }

    fn is_sound(&self) -> bool {
        let sum: u32 = self.successors.iter().map(|(_, count)| u32::from(*count)).sum();
        self.successors.len() <= SUCCESSORS_MAX && self.total == sum && self.total <= TOTAL_MAX
    }
}

/// A bounded table of contexts.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ContextTable {
    #[serde(with = "crate::sorted")]
    young: KeyMap<u64, Context>,
    #[serde(with = "crate::sorted")]
    old: KeyMap<u64, Context>,
    generation_max: usize,
}

impl ContextTable {
    /// A table of at most `contexts_max` contexts.
    pub fn new(contexts_max: usize) -> Self {
        Self { young: KeyMap::default(), old: KeyMap::default(), generation_max: (contexts_max / 2).max(1) }
    }

    /// What followed a context.
    pub fn get(&self, key: u64) -> Option<&Context> {
        self.young.get(&key).or_else(|| self.old.get(&key))
    }

    /// Records that `symbol` followed a context, and returns how often that was counted before.
    pub fn add(&mut self, key: u64, symbol: u32) -> u16 {
        if let Some(context) = self.young.get_mut(&key) {
            return context.add(symbol);
        }
        let mut context = self.old.remove(&key).unwrap_or_default();
        let before = context.add(symbol);
        if self.young.len() >= self.generation_max {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, context);
        before
    }

    /// Number of contexts held.
    pub fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn is_sound(&self, contexts_max: usize) -> bool {
        self.generation_max == (contexts_max / 2).max(1)
            && self.young.len() <= self.generation_max
            && self.old.len() <= self.generation_max
            && self.young.values().chain(self.old.values()).all(Context::is_sound)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_table_is_bounded_and_sound(additions in prop::collection::vec((0u64..50, 0u32..100), 0..2_000)) {
            let mut table = ContextTable::new(16);
            for (key, symbol) in additions {
                table.add(key, symbol);
                prop_assert!(table.get(key).is_some_and(|context| context.successors.iter().any(|(s, _)| *s == symbol)));
                prop_assert!(table.len() <= 16);
            }
            prop_assert!(table.is_sound(16));
        }
    }

    #[test]
    fn a_context_in_use_survives_a_flood() {
        let mut table = ContextTable::new(64);
        for key in 100..10_000u64 {
            table.add(key, 1);
            table.add(7, 2);
        }
        assert_eq!(table.get(7).map(|context| context.total), Some(9_900));
    }

    #[test]
    fn counts_fade_instead_of_overflowing() {
        let mut context = Context::default();
        for step in 0..1_000_000u32 {
            context.add(step % 3);
        }
        assert!(context.is_sound());
        assert_eq!(context.successors.len(), 3);
    }
}
