//! A tiny histogram over time bins: at most sixteen entries in fixed point, for state that exists once per function.
//!
//! Counts are kept in 1/256 so that the at-risk count of a bin (what is left of the total) is exact integer arithmetic
//! and cannot cancel to a negative number.

use super::counts::Counts;
use serde::{Deserialize, Serialize};

/// One observation in the fixed-point unit of a sketch.
pub const ONE: u32 = 256;
/// Entries kept. A function with more distinct idle times than this is described well by the pooled experts.
const ENTRIES_MAX: usize = 16;
/// An entry that has decayed below this is dropped when the sketch is halved.
const ENTRY_MIN: u16 = (ONE / 5) as u16;

/// Histogram of at most [`ENTRIES_MAX`] bins.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Sketch {
    bins: [u8; ENTRIES_MAX],
    counts: [u16; ENTRIES_MAX],
    len: u8,
}

impl Sketch {
    /// Adds one observation; when the sum exceeds `observations_max` everything is halved, so old habits fade.
    /// `observations_max` is at most 250, what a count can hold.
    pub fn add(&mut self, bin: u8, observations_max: u32) {
        self.bump(bin);
        if self.total() > observations_max.min(250) * ONE {
            self.halve();
        }
    }

    /// Sum of all counts, in 1/[`ONE`].
    pub fn total(&self) -> u32 {
        self.counts[..self.used()].iter().map(|count| u32::from(*count)).sum()
    }

    /// Largest count, in 1/[`ONE`].
    pub fn peak(&self) -> u32 {
        self.counts[..self.used()].iter().map(|count| u32::from(*count)).max().unwrap_or(0)
    }

    /// Adds all counts to `counts`.
    pub fn unpack(&self, counts: &mut Counts) {
        for (bin, count) in self.bins.iter().zip(&self.counts).take(self.used()) {
            counts.add(*bin, *count);
        }
    }

    /// Whether restored state fits a grid of `bins` bins.
    pub(crate) fn is_sound(&self, bins: usize) -> bool {
        usize::from(self.len) <= ENTRIES_MAX && self.bins[..self.used()].iter().all(|bin| usize::from(*bin) < bins)
    }

    fn used(&self) -> usize {
        usize::from(self.len).min(ENTRIES_MAX)
    }

    fn bump(&mut self, bin: u8) {
        let used = self.used();
        if let Some(slot) = self.bins[..used].iter().position(|known| *known == bin) {
            self.counts[slot] = self.counts[slot].saturating_add(ONE as u16);
            return;
        }
        let slot = if used < ENTRIES_MAX {
            self.len += 1;
            used
        } else {
            // The rarest entry makes room: frequent idle times survive, as in a space-saving counter.
            (0..ENTRIES_MAX).min_by_key(|slot| self.counts[*slot]).unwrap_or(0)
        };
        self.bins[slot] = bin;
        self.counts[slot] = ONE as u16;
    }

    fn halve(&mut self) {
        let used = self.used();
        let mut kept = 0;
        for slot in 0..used {
            let count = self.counts[slot] / 2;
            if count > ENTRY_MIN {
                self.bins[kept] = self.bins[slot];
                self.counts[kept] = count;
                kept += 1;
            }
        }
        self.len = kept as u8;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn total_is_bounded_and_equals_what_can_be_read(additions in prop::collection::vec(0u8..40, 0..400)) {
            let mut sketch = Sketch::default();
            for bin in additions {
                sketch.add(bin, 64);
                prop_assert!(sketch.total() <= 64 * ONE);
                prop_assert!(sketch.peak() <= sketch.total());
            }
            let mut counts = Counts::default();
            sketch.unpack(&mut counts);
            prop_assert_eq!(counts.total() as u32, sketch.total());
            prop_assert!(sketch.is_sound(40));
        }
    }

    #[test]
    fn a_frequent_bin_survives_rare_ones() {
        let mut sketch = Sketch::default();
        for round in 0..100u8 {
            sketch.add(5, 64);
            sketch.add(100 + round % 60, 64);
        }
        let place = sketch.bins.iter().position(|bin| *bin == 5);
        let count = place.map_or(0, |place| u32::from(sketch.counts[place]));
        assert!(count > 8 * ONE, "the regular idle time was forgotten: {count}");
    }
}
