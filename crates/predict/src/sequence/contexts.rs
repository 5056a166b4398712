//! Counts of what followed a context, for a bounded number of contexts.
//!
//! A context is a 64-bit key (see [`crate::hash`]); two contexts with the same key share their counts, which at this
//! width does not happen by chance. The table has two generations: when the younger is full, the older is dropped and
//! the younger takes its place; a context that is used moves to the younger. Recently used contexts therefore survive,
//! at constant cost per use.

use crate::hash::{self, MixedMap};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Successors kept per context: the bound on candidates of one prediction. The rarest gives way.
const SUCCESSORS_MAX: usize = 64;
/// Counts of a context are halved when their sum reaches this, so that old habits fade.
const TOTAL_MAX: u32 = 60_000;

/// What followed one context. Most contexts are seen once and never again, so those with a single successor, which are
/// most, take no memory besides their place in the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Context {
    /// A single symbol, and how often.
    One((u32, u16)),
    /// Several symbols, but few: nearly all of the rest.
    Few(Box<Few>),
    /// Many symbols.
    Many(Box<Successors>),
}

/// Successors that lie where they are pointed to, in as much as a cache line holds: a look at a context waits for memory
/// once less.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Few {
    total: u32,
    len: u8,
    counts: [(u32, u16); FEW_MAX],
}

/// See [`Few`].
const FEW_MAX: usize = 7;

/// Several symbols that followed one context.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Successors {
    total: u32,
    counts: Vec<(u32, u16)>,
}

impl Context {
    /// Symbols and their counts, in order of first appearance.
    pub fn successors(&self) -> &[(u32, u16)] {
        match self {
            Self::One(only) => std::slice::from_ref(only),
            Self::Few(few) => few.successors(),
            Self::Many(many) => &many.counts,
        }
    }

    /// Sum of the counts.
    pub fn total(&self) -> u32 {
        match self {
            Self::One((_, count)) => u32::from(*count),
            Self::Few(few) => few.total,
            Self::Many(many) => many.total,
        }
    }

    /// Counts a successor and returns how often it was counted before.
    fn add(&mut self, symbol: u32) -> u16 {
        match self {
            Self::One((known, count)) if *known == symbol => {
                let before = *count;
                *count = before.saturating_add(1);
                if u32::from(*count) >= TOTAL_MAX {
                    *count /= 2;
                }
                before
            }
            Self::One(only) => {
                let mut few = Few::new(&[*only], u32::from(only.1));
                few.push(symbol);
                *self = Self::Few(Box::new(few));
                0
            }
            Self::Few(few) => match few.add(symbol) {
                Some(before) => before,
                None => {
                    let mut many = Successors { total: few.total, counts: few.counts.to_vec() };
                    many.add(symbol);
                    *self = Self::Many(Box::new(many));
                    0
                }
            },
            Self::Many(many) => many.add(symbol),
        }
    }

    fn is_sound(&self) -> bool {
        let counts = self.successors();
        if counts.is_empty() || counts.len() > SUCCESSORS_MAX {
            return false;
        }
        let sum: u32 = counts.iter().map(|(_, count)| u32::from(*count)).sum();
        self.total() == sum && sum <= TOTAL_MAX
    }
}

impl Few {
    /// These successors, at most [`FEW_MAX`].
    fn new(successors: &[(u32, u16)], total: u32) -> Self {
        let mut few = Self { total, len: successors.len() as u8, ..Self::default() };
        few.counts[..successors.len()].copy_from_slice(successors);
        few
    }

    fn successors(&self) -> &[(u32, u16)] {
        &self.counts[..usize::from(self.len)]
    }

    /// As [`Context::add`]; [`None`] if there is no room for another symbol.
    fn add(&mut self, symbol: u32) -> Option<u16> {
        let len = usize::from(self.len);
        let Some((_, count)) = self.counts[..len].iter_mut().find(|(known, _)| *known == symbol) else {
            return (len < FEW_MAX).then(|| self.push(symbol));
        };
        let before = *count;
        *count = count.saturating_add(1);
        self.count();
        Some(before)
    }

    /// Adds a symbol that is not known, for which there is room.
    fn push(&mut self, symbol: u32) -> u16 {
        self.counts[usize::from(self.len)] = (symbol, 1);
        self.len += 1;
        self.count();
        0
    }

    fn count(&mut self) {
        self.total += 1;
        if self.total >= TOTAL_MAX {
            let mut many = Successors { total: self.total, counts: self.successors().to_vec() };
            many.halve();
            *self = Self::new(&many.counts, many.total);
        }
    }
}

impl Successors {
    fn add(&mut self, symbol: u32) -> u16 {
        self.total += 1;
        let mut before = 0;
        if let Some((_, count)) = self.counts.iter_mut().find(|(known, _)| *known == symbol) {
            before = *count;
            *count = count.saturating_add(1);
        } else if self.counts.len() < SUCCESSORS_MAX {
            self.counts.push((symbol, 1));
        } else {
            self.replace_rarest(symbol);
        }
        if self.total >= TOTAL_MAX {
            self.halve();
        }
        before
    }

    fn replace_rarest(&mut self, symbol: u32) {
        if let Some(rarest) = self.counts.iter_mut().min_by_key(|(_, count)| *count) {
            self.total -= u32::from(rarest.1).min(self.total);
            *rarest = (symbol, 1);
        }
    }

    fn halve(&mut self) {
        self.counts.retain_mut(|(_, count)| {
            *count /= 2;
            *count > 0
        });
        self.total = self.counts.iter().map(|(_, count)| u32::from(*count)).sum();
    }
}

impl Serialize for Context {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (self.total(), self.successors()).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Context {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (total, counts) = <(u32, Vec<(u32, u16)>)>::deserialize(deserializer)?;
        Ok(match counts[..] {
            [only] if u32::from(only.1) == total => Self::One(only),
            [_, ..] if counts.len() <= FEW_MAX => Self::Few(Box::new(Few::new(&counts, total))),
            _ => Self::Many(Box::new(Successors { total, counts })),
        })
    }
}

/// A bounded table of contexts.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ContextTable {
    #[serde(with = "crate::sorted")]
    young: MixedMap<Context>,
    #[serde(with = "crate::sorted")]
    old: MixedMap<Context>,
    generation_max: usize,
}

impl ContextTable {
    /// A table of at most `contexts_max` contexts.
    pub fn new(contexts_max: usize) -> Self {
        Self { young: MixedMap::default(), old: MixedMap::default(), generation_max: (contexts_max / 2).max(1) }
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
        let (context, before) = match self.old.remove(&key) {
            Some(mut context) => {
                let before = context.add(symbol);
                (context, before)
            }
            None => (Context::One((symbol, 1)), 0),
        };
        if self.young.len() >= hash::entries_of(self.generation_max) {
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
                prop_assert!(table.get(key).is_some_and(|context| context.successors().iter().any(|(s, _)| *s == symbol)));
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
        assert_eq!(table.get(7).map(Context::total), Some(9_900));
    }

    #[test]
    fn counts_fade_instead_of_overflowing() {
        let (mut several, mut one) = (Context::One((0, 1)), Context::One((7, 1)));
        for step in 0..1_000_000u32 {
            several.add(step % 3);
            one.add(7);
        }
        assert!(several.is_sound() && one.is_sound());
        assert_eq!((several.successors().len(), one.successors().len()), (3, 1));
    }

    #[test]
    fn a_context_takes_little() {
        assert_eq!(size_of::<(u64, Context)>(), 24);
        assert_eq!(size_of::<Few>(), 64);
    }

    #[test]
    fn both_forms_are_written_alike_and_read_back() {
        for symbols in [&[5, 5, 5][..], &[5, 6, 5], &[1, 2, 3, 4, 5, 6, 7, 8, 1, 9]] {
            let mut context = Context::One((5, 1));
            for symbol in symbols {
                context.add(*symbol);
            }
            let restored: Context = postcard::from_bytes(&postcard::to_stdvec(&context).unwrap()).unwrap();
            assert_eq!(restored, context);
        }
    }
}
