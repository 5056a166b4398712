//! Sparse evidence about idle times, laid out over the bins: unpacked once for a look at a history, then read by block.

use super::bins::{BINS_MAX, HALF, LANES};
use super::sketch::ONE;

/// Half blocks of any grid, and a block behind the last for bins beyond every grid.
const HALVES: usize = (BINS_MAX + LANES) / HALF;
const UNIT: f32 = 1.0 / ONE as f32;

/// How often an idle time ended in each bin, in 1/[`ONE`].
#[derive(Debug)]
pub struct Counts {
    /// Narrow numbers, because a look begins by making them all zero; what an expert knows fits: 250 observations at
    /// most.
    deaths: [[u16; HALF]; HALVES],
    /// What did not end before each half block, once [`Counts::settle`] has been called; what ended in it before.
    reached: [i32; HALVES],
    total: i32,
    /// One more than the last bin with a count.
    end: usize,
}

impl Default for Counts {
    fn default() -> Self {
        Self { deaths: [[0; HALF]; HALVES], reached: [0; HALVES], total: 0, end: 0 }
    }
}

impl Counts {
    /// Adds `count` in `bin`. A bin beyond every grid counts as one that is never reached.
    #[inline]
    pub fn add(&mut self, bin: u8, count: u16) {
        let bin = usize::from(bin);
        self.total += i32::from(count);
        self.end = self.end.max(bin + 1);
        let half = bin / HALF;
        if half < HALVES {
            let deaths = &mut self.deaths[half][bin % HALF];
            let before = *deaths;
            *deaths = before.saturating_add(count);
            self.reached[half] += i32::from(*deaths - before);
        }
    }

    /// Sum of all counts, in 1/[`ONE`].
    pub fn total(&self) -> i32 {
        self.total
    }

    /// Makes the counts ready to be read, when all have been added.
    #[inline]
    pub fn settle(&mut self) {
        let mut left = self.total;
        let halves = self.end.div_ceil(HALF).min(HALVES);
        for reached in &mut self.reached[..halves] {
            let ended = *reached;
            *reached = left;
            left -= ended;
        }
    }

    /// Shrinks the counts of the half block that starts at `first` towards `hazards`, and says whether that changed them.
    ///
    /// What is at risk in a bin is everything that did not end before it; where nothing is, nothing changes. (The
    /// strengths in use are powers of two, for which `(0 + s h) / (0 + s)` is `h` exactly.)
    #[inline(always)]
    pub fn shrink(&self, first: usize, strength: f32, hazards: &mut [f32; HALF]) -> bool {
        if first >= self.end {
            return false;
        }
        let (deaths, mut left) = (&self.deaths[first / HALF], self.reached[first / HALF]);
        let mut reached = [0i32; HALF];
        for lane in 0..HALF {
            reached[lane] = left;
            left -= i32::from(deaths[lane]);
        }
        for lane in 0..HALF {
            let (died, reached) = (f32::from(deaths[lane]) * UNIT, reached[lane] as f32 * UNIT);
            hazards[lane] = (died + strength * hazards[lane]) / (reached + strength);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_at_risk_is_what_did_not_end_before() {
        let mut counts = Counts::default();
        [(3, 2), (9, 1), (40, 1)].into_iter().for_each(|(bin, times)| counts.add(bin, times * ONE as u16));
        counts.settle();
        let mut hazards = [0.0; HALF];
        assert!(counts.shrink(0, 1.0, &mut hazards));
        assert_eq!((hazards[2], hazards[3], hazards[7]), (0.0, 2.0 / 5.0, 0.0));
        let mut hazards = [0.5; HALF];
        assert!(counts.shrink(HALF, 1.0, &mut hazards));
        assert_eq!((hazards[0], hazards[1], hazards[2]), (0.5 / 3.0, 1.5 / 3.0, 0.5 / 2.0));
        assert!(!counts.shrink(48, 1.0, &mut hazards));
    }

    #[test]
    fn a_bin_beyond_every_grid_is_never_reached() {
        let mut counts = Counts::default();
        counts.add(u8::MAX, ONE as u16);
        counts.settle();
        let mut hazards = [0.5; HALF];
        assert!(counts.shrink(BINS_MAX, 1.0, &mut hazards));
        assert_eq!(hazards, [0.25; HALF]);
    }
}
