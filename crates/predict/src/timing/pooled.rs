//! Pooled Kaplan-Meier hazards: what functions of one class did, at each idle time, given that they were still idle.
//!
//! For class `c` and bin `j`, `deaths[c][j]` counts idle times that ended in the bin and `at_risk[c][j]` those that
//! reached it. An idle time that is still running counts as at risk in each bin it has crossed and nowhere beyond:
//! that is the Kaplan-Meier treatment of censoring, without which functions that fell silent look as if they were about
//! to return. The hazard is `deaths / at_risk`, shrunk towards a coarser class.

use super::bins::{HALF, LANES, lane_mask};
use super::mixer::Block;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::ops::Range;

/// At-risk count at which a class is halved, so that it follows a drifting population. At 4,000 the standard error of
/// a hazard of 0.01 is 0.0016: more memory would not show in a decision.
const AT_RISK_MAX: f32 = 4_000.0;

/// Hazard tables of a fixed number of classes.
#[derive(Debug, Clone)]
pub struct PooledHazards {
    bins: usize,
    /// The blocks of the first class, then those of the second, and so on.
    cells: Vec<Cell>,
}

/// The counts of one class in one block of bins, zero beyond the grid. They are read together, and a block is a cache
/// line.
#[derive(Debug, Clone, Copy, Default)]
#[repr(align(64))]
struct Cell {
    deaths: Block,
    at_risk: Block,
}

impl PooledHazards {
    /// Empty tables for `classes` classes over `bins` bins.
    pub fn new(classes: usize, bins: usize) -> Self {
        Self { bins, cells: vec![Cell::default(); classes * bins.div_ceil(LANES)] }
    }

    /// Records that idle times of `class` were still running in `bins` and, if `ended`, that one ended in the last.
    #[inline(always)]
    pub fn record(&mut self, class: usize, bins: Range<usize>, ended: bool) {
        if bins.is_empty() {
            return;
        }
        let row = self.row(class);
        let cells = &mut self.cells[row];
        let last = bins.end - 1;
        let mut too_many = false;
        for block in bins.start / LANES..=last / LANES {
            too_many |= cells[block].count(block * LANES, &bins);
        }
        if ended {
            cells[last / LANES].deaths[last % LANES] += 1.0;
        }
        // A crowd that falls silent together goes through the later bins after the first has been halved for it.
        if cells[0].at_risk[0] > AT_RISK_MAX || too_many {
            cells.iter_mut().for_each(Cell::halve);
        }
    }

    /// Replaces each hazard of the half of a block that starts at `first` by the class's own, shrunk to the given one
    /// with the weight of `prior_strength` observations: `(deaths + a * prior) / (at_risk + a)`.
    #[inline(always)]
    pub fn shrink(&self, class: usize, first: usize, prior_strength: f32, hazards: &mut [f32; HALF]) {
        let Cell { deaths, at_risk } = &self.cells[self.row(class)][first / LANES];
        let start = first % LANES / HALF * HALF;
        let (deaths, at_risk) = (&deaths[start..start + HALF], &at_risk[start..start + HALF]);
        for lane in 0..HALF {
            hazards[lane] = (deaths[lane] + prior_strength * hazards[lane]) / (at_risk[lane] + prior_strength);
        }
    }

    /// Whether the tables have the shape the caller expects and hold only sensible numbers; for restored state.
    pub fn is_sound(&self, classes: usize, bins: usize) -> bool {
        let sensible = |counts: &Block| counts.iter().all(|count| (0.0..=2.0 * AT_RISK_MAX).contains(count));
        self.bins == bins
            && self.cells.len() == classes * bins.div_ceil(LANES)
            && self.cells.iter().all(|cell| sensible(&cell.deaths) && sensible(&cell.at_risk))
    }

    #[inline(always)]
    fn row(&self, class: usize) -> Range<usize> {
        let blocks = self.bins.div_ceil(LANES);
        class * blocks..(class + 1) * blocks
    }

    /// The counts in the form in which they are written: class after class, each followed by a block of zeros.
    fn written(&self, counts: impl Fn(&Cell) -> &Block) -> Vec<f32> {
        let blocks = self.bins.div_ceil(LANES).max(1);
        let row = |cells: &[Cell]| {
            let counted: Vec<f32> = cells.iter().flat_map(&counts).copied().take(self.bins).collect();
            counted.into_iter().chain([0.0; LANES])
        };
        self.cells.chunks(blocks).flat_map(row).collect()
    }
}

impl Cell {
    /// Counts those of `bins` that are in the block, which starts at `first`, and says whether a count is too large.
    #[inline(always)]
    fn count(&mut self, first: usize, bins: &Range<usize>) -> bool {
        let counted = lane_mask(bins.start.saturating_sub(first)..bins.end - first);
        for lane in 0..LANES {
            self.at_risk[lane] += counted[lane];
        }
        // Without leaving early, so that all are compared at once.
        self.at_risk.iter().fold(false, |found, count| found | (*count > 2.0 * AT_RISK_MAX))
    }

    fn halve(&mut self) {
        self.deaths.iter_mut().chain(&mut self.at_risk).for_each(|count| *count *= 0.5);
    }
}

/// The form in which tables are written.
#[derive(Serialize, Deserialize)]
struct Written {
    stride: usize,
    deaths: Vec<f32>,
    at_risk: Vec<f32>,
}

impl Serialize for PooledHazards {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let stride = self.bins + LANES;
        let (deaths, at_risk) = (self.written(|cell| &cell.deaths), self.written(|cell| &cell.at_risk));
        Written { stride, deaths, at_risk }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for PooledHazards {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Written { stride, deaths, at_risk } = Written::deserialize(deserializer)?;
        let bins = stride.checked_sub(LANES).filter(|bins| *bins > 0);
        let bins = bins.ok_or_else(|| D::Error::custom("a grid has bins"))?;
        if deaths.len() != at_risk.len() || !deaths.len().is_multiple_of(stride) {
            return Err(D::Error::custom("the counts do not fill their classes"));
        }
        let mut cells = Vec::with_capacity(deaths.len().div_ceil(LANES));
        for (deaths, at_risk) in deaths.chunks(stride).zip(at_risk.chunks(stride)) {
            for (deaths, at_risk) in deaths[..bins].chunks(LANES).zip(at_risk[..bins].chunks(LANES)) {
                let mut cell = Cell::default();
                cell.deaths[..deaths.len()].copy_from_slice(deaths);
                cell.at_risk[..at_risk.len()].copy_from_slice(at_risk);
                cells.push(cell);
            }
        }
        Ok(Self { bins, cells })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_running_idle_time_lowers_the_hazard_only_where_it_has_been() {
        let mut pooled = PooledHazards::new(1, 32);
        for _ in 0..10 {
            pooled.record(0, 0..4, true);
            pooled.record(0, 0..4, false);
        }
        let mut hazards = [0.01; HALF];
        pooled.shrink(0, 0, 2.0, &mut hazards);
        assert!((hazards[3] - 0.455).abs() < 0.01, "{}", hazards[3]);
        assert!(hazards[2] < 0.01);
        assert_eq!(hazards[4], 0.01, "nothing was observed beyond the fourth bin");
    }

    #[test]
    fn counts_are_bounded() {
        let mut pooled = PooledHazards::new(1, 16);
        for _ in 0..100_000 {
            pooled.record(0, 0..1, true);
        }
        assert!(pooled.is_sound(1, 16));
    }

    #[test]
    fn a_crowd_that_falls_silent_is_bounded_in_every_bin() {
        let mut pooled = PooledHazards::new(1, 16);
        for segment in [0..4, 4..8, 8..16] {
            for _ in 0..100_000 {
                pooled.record(0, segment.clone(), false);
            }
            assert!(pooled.is_sound(1, 16), "after {segment:?}");
        }
    }
}
