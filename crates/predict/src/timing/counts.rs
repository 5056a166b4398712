//! Sparse evidence about idle times, laid out over the bins: unpacked once for a look at a history, then read by block.

use super::bins::{BINS_MAX, LANES};
use super::mixer::Block;
use super::sketch::ONE;

/// A block of padding lets the loops read a full block from any bin.
const LEN: usize = BINS_MAX + LANES;
const UNIT: f32 = 1.0 / ONE as f32;

/// How often an idle time ended in each bin, in 1/[`ONE`].
#[derive(Debug)]
pub struct Counts {
    deaths: [i32; LEN],
    total: i32,
    /// One more than the last bin with a count.
    end: usize,
}

impl Default for Counts {
    fn default() -> Self {
        Self { deaths: [0; LEN], total: 0, end: 0 }
    }
}

impl Counts {
    /// Adds `count` in `bin`. A bin beyond every grid counts as one that is never reached.
    pub fn add(&mut self, bin: u8, count: u16) {
        let bin = usize::from(bin);
        self.total += i32::from(count);
        self.end = self.end.max(bin + 1);
        if let Some(deaths) = self.deaths.get_mut(bin) {
            *deaths += i32::from(count);
        }
    }

    /// Sum of all counts, in 1/[`ONE`].
    pub fn total(&self) -> i32 {
        self.total
    }

    /// Shrinks the counts of the block that starts at `first` towards `hazards`, and says whether that changed them.
    ///
    /// What is at risk in a bin is everything that did not end before it; where nothing is, nothing changes. (The
    /// strengths in use are powers of two, for which `(0 + s h) / (0 + s)` is `h` exactly.)
    #[inline(always)]
    pub fn shrink(&self, first: usize, strength: f32, hazards: &mut Block) -> bool {
        if first >= self.end {
            return false;
        }
        let before: i32 = self.deaths[..first].iter().sum();
        let mut at_risk = self.total - before;
        let deaths = &self.deaths[first..first + LANES];
        let mut reached = [0i32; LANES];
        for lane in 0..LANES {
            reached[lane] = at_risk;
            at_risk -= deaths[lane];
        }
        for lane in 0..LANES {
            let (died, reached) = (deaths[lane] as f32 * UNIT, reached[lane] as f32 * UNIT);
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
        [(3, 2), (17, 1), (40, 1)].into_iter().for_each(|(bin, times)| counts.add(bin, times * ONE as u16));
        let mut hazards = [0.0; LANES];
        assert!(counts.shrink(2, 1.0, &mut hazards));
        assert_eq!((hazards[0], hazards[1], hazards[15]), (0.0, 2.0 / 5.0, 1.0 / 3.0));
        assert!(!counts.shrink(41, 1.0, &mut hazards));
    }

    #[test]
    fn a_bin_beyond_every_grid_is_never_reached() {
        let mut counts = Counts::default();
        counts.add(u8::MAX, ONE as u16);
        let mut hazards = [0.5; LANES];
        assert!(counts.shrink(BINS_MAX, 1.0, &mut hazards));
        assert_eq!(hazards, [0.25; LANES]);
    }
}
