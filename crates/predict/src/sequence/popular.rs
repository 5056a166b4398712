//! Order zero: how often each symbol comes, whatever came before, and which come most.

use crate::hash::KeyMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Most frequent symbols kept in order.
const TOP_LEN: usize = 64;
/// Symbols counted. Beyond it a new symbol shares the mass of what is not known.
pub const SYMBOLS_MAX: usize = 1 << 21;
/// Weight of a symbol before it is seen again (Krichevsky-Trofimov).
const PRIOR: f32 = 0.5;

/// Symbols below this are counted in a plain array: callers give small numbers in order of appearance, and every
/// prediction asks for the counts of all its candidates. It takes 4 bytes up to the largest such symbol.
const DENSE_MAX: u32 = 1 << 21;

/// Frequencies of symbols.
#[derive(Debug, Clone, Default)]
pub struct Popular {
    dense: Vec<u32>,
    sparse: KeyMap<u32, u32>,
    len: usize,
    total: u64,
    top: Vec<u32>,
}

impl Popular {
    /// Counts a symbol.
    pub fn add(&mut self, symbol: u32) {
        let known = self.count(symbol);
        if known == 0 {
            if self.len >= SYMBOLS_MAX {
                return;
            }
            self.len += 1;
        }
        *self.count_mut(symbol) = known.saturating_add(1);
        self.total = self.total.saturating_add(1);
        self.promote(symbol);
    }

    /// How often a symbol was counted.
    fn count(&self, symbol: u32) -> u32 {
        match self.dense.get(symbol as usize) {
            Some(count) => *count,
            None if symbol < DENSE_MAX => 0,
            None => self.sparse.get(&symbol).copied().unwrap_or(0),
        }
    }

    fn count_mut(&mut self, symbol: u32) -> &mut u32 {
        if symbol >= DENSE_MAX {
            return self.sparse.entry(symbol).or_insert(0);
        }
        let index = symbol as usize;
        if index >= self.dense.len() {
            self.dense.resize(index + 1, 0);
        }
        &mut self.dense[index]
    }

    /// Sum of all counts; the total may be more, because single counts saturate.
    fn counted(&self) -> u64 {
        self.dense.iter().chain(self.sparse.values()).map(|count| u64::from(*count)).sum()
    }

    fn entries(&self) -> Vec<(u32, u32)> {
        let dense = self.dense.iter().enumerate().map(|(symbol, count)| (symbol as u32, *count));
        let mut sparse: Vec<(u32, u32)> = self.sparse.iter().map(|(symbol, count)| (*symbol, *count)).collect();
        sparse.sort_unstable();
        dense.filter(|(_, count)| *count > 0).chain(sparse).collect()
    }

    /// Most frequent symbols, most frequent first.
    pub fn top(&self) -> &[u32] {
        &self.top
    }

    /// Number of symbols known.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no symbol is known.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Probabilities of `symbols`, as [`Popular::probability`] states them; returns their sum.
    pub fn probabilities(&self, symbols: &[u32], probabilities: &mut [f32]) -> f32 {
        let total = self.mass(0);
        for (probability, symbol) in probabilities.iter_mut().zip(symbols) {
            *probability = self.count(*symbol) as f32;
        }
        let stated = &mut probabilities[..symbols.len()];
        stated.iter_mut().for_each(|count| *count = (*count + PRIOR) / total);
        stated.iter().sum()
    }

    /// Probability of a symbol; an unknown one gets what a single new symbol would. `vocabulary` is the number of
    /// symbols there are, if that is known; otherwise one more than were seen.
    pub fn probability(&self, symbol: u32, vocabulary: usize) -> f32 {
        (self.count(symbol) as f32 + PRIOR) / self.mass(vocabulary)
    }

    fn mass(&self, vocabulary: usize) -> f32 {
        self.total as f32 + PRIOR * vocabulary.max(self.len() + 1) as f32
    }

    fn promote(&mut self, symbol: u32) {
        let mut place = match self.top.iter().position(|known| *known == symbol) {
            Some(place) => place,
            None if self.top.len() < TOP_LEN => {
                self.top.push(symbol);
                self.top.len() - 1
            }
            None => {
                let last = TOP_LEN - 1;
                if self.count(symbol) <= self.count(self.top[last]) {
                    return;
                }
                self.top[last] = symbol;
                last
            }
        };
        while place > 0 && self.count(self.top[place]) > self.count(self.top[place - 1]) {
            self.top.swap(place, place - 1);
            place -= 1;
        }
    }

    pub(crate) fn is_sound(&self) -> bool {
        self.top.len() <= TOP_LEN
            && self.len <= SYMBOLS_MAX
            && self.counted() <= self.total
            && self.top.iter().all(|symbol| self.count(*symbol) > 0)
    }
}

/// The form in which counts are written: those that are not zero, by symbol.
#[derive(Serialize, Deserialize)]
struct Written {
    counts: Vec<(u32, u32)>,
    total: u64,
    top: Vec<u32>,
}

impl Serialize for Popular {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Written { counts: self.entries(), total: self.total, top: self.top.clone() }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Popular {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Written { counts, total, top } = Written::deserialize(deserializer)?;
        let mut popular = Self { total, top, ..Self::default() };
        for (symbol, count) in counts.into_iter().filter(|(_, count)| *count > 0) {
            let place = popular.count_mut(symbol);
            let is_new = *place == 0;
            *place = count;
            popular.len += usize::from(is_new);
        }
        Ok(popular)
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
        let counts: Vec<u32> = popular.top().iter().map(|symbol| popular.count(*symbol)).collect();
        assert!(counts.is_sorted_by(|a, b| a >= b), "{counts:?}");
        let sum: f32 = (0..popular.len() as u32).map(|symbol| popular.probability(symbol, 0)).sum();
        let mut together = vec![0.0; popular.len()];
        let symbols: Vec<u32> = (0..popular.len() as u32).collect();
        assert_eq!(popular.probabilities(&symbols, &mut together), sum);
        let unknown = popular.probability(u32::MAX, 0);
        assert!((sum + unknown - 1.0).abs() < 1e-3, "{sum} + {unknown}");
        assert!(popular.is_sound());
    }

    #[test]
    fn large_symbols_are_counted_too_and_all_are_written_in_order() {
        let mut popular = Popular::default();
        [7, u32::MAX, DENSE_MAX, 7, DENSE_MAX - 1].into_iter().for_each(|symbol| popular.add(symbol));
        let counts = [(7, 2), (DENSE_MAX - 1, 1), (DENSE_MAX, 1), (u32::MAX, 1)];
        assert_eq!(popular.entries(), counts);
        let restored: Popular = postcard::from_bytes(&postcard::to_stdvec(&popular).unwrap()).unwrap();
        assert_eq!((restored.len(), restored.top(), restored.entries()), (4, popular.top(), popular.entries()));
    }
}
