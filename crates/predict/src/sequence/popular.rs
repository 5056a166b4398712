//! Order zero: how often each symbol comes, whatever came before, and which come most.

use crate::hash::KeyMap;
use serde::{Deserialize, Serialize};

/// Most frequent symbols kept in order.
const TOP_LEN: usize = 64;
/// Symbols counted. Beyond it a new symbol shares the mass of what is not known.
pub const SYMBOLS_MAX: usize = 1 << 21;
/// Weight of a symbol before it is seen again (Krichevsky-Trofimov).
const PRIOR: f32 = 0.5;

/// Frequencies of symbols.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Popular {
    #[serde(with = "crate::sorted")]
    counts: KeyMap<u32, u32>,
    total: u64,
    top: Vec<u32>,
}

impl Popular {
    /// Counts a symbol.
    pub fn add(&mut self, symbol: u32) {
        if self.counts.len() >= SYMBOLS_MAX && !self.counts.contains_key(&symbol) {
            return;
        }
        let count = self.counts.entry(symbol).or_insert(0);
        *count = count.saturating_add(1);
        self.total += 1;
        self.promote(symbol);
    }

    /// Most frequent symbols, most frequent first.
    pub fn top(&self) -> &[u32] {
        &self.top
    }

    /// Number of symbols known.
    pub fn len(&self) -> usize {
        self.counts.len()
    }

    /// Whether no symbol is known.
    pub fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }

    /// Probability of a symbol; an unknown one gets what a single new symbol would. `vocabulary` is the number of
    /// symbols there are, if that is known; otherwise one more than were seen.
    pub fn probability(&self, symbol: u32, vocabulary: usize) -> f32 {
        let count = self.counts.get(&symbol).copied().unwrap_or(0);
        let total = self.total as f32 + PRIOR * vocabulary.max(self.counts.len() + 1) as f32;
        (count as f32 + PRIOR) / total
    }

    fn promote(&mut self, symbol: u32) {
        let count_of = |symbol: &u32| self.counts.get(symbol).copied().unwrap_or(0);
        let mut place = match self.top.iter().position(|known| *known == symbol) {
            Some(place) => place,
            None if self.top.len() < TOP_LEN => {
                self.top.push(symbol);
                self.top.len() - 1
            }
            None => {
                let last = TOP_LEN - 1;
                if count_of(&symbol) <= count_of(&self.top[last]) {
                    return;
                }
                self.top[last] = symbol;
                last
            }
        };
        while place > 0 && count_of(&self.top[place]) > count_of(&self.top[place - 1]) {
            self.top.swap(place, place - 1);
            place -= 1;
        }
    }

    pub(crate) fn is_sound(&self) -> bool {
        self.top.len() <= TOP_LEN
            && self.counts.len() <= SYMBOLS_MAX
            && self.top.iter().all(|symbol| self.counts.contains_key(symbol))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_top_is_in_order_and_probabilities_sum_to_one() {
        let mut popular = Popular::default();
        for step in 0..10_000u32 {
            popular.add(crate::hash::mix(u64::from(step)) as u32 % (1 + step % 100));
        }
        let counts: Vec<u32> = popular.top().iter().map(|symbol| popular.counts[symbol]).collect();
        assert!(counts.is_sorted_by(|a, b| a >= b), "{counts:?}");
        let sum: f32 = (0..popular.len() as u32).map(|symbol| popular.probability(symbol, 0)).sum();
        let unknown = popular.probability(u32::MAX, 0);
        assert!((sum + unknown - 1.0).abs() < 1e-3, "{sum} + {unknown}");
        assert!(popular.is_sound());
    }
}
