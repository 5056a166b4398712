//! Pooled Kaplan-Meier hazards: what functions of one class did, at each idle time, given that they were still idle.
//!
//! For class `c` and bin `j`, `deaths[c][j]` counts idle times that ended in the bin and `at_risk[c][j]` those that
//! reached it. An idle time that is still running counts as at risk in each bin it has crossed and nowhere beyond:
//! that is the Kaplan-Meier treatment of censoring, without which functions that fell silent look as if they were about
//! to return. The hazard is `deaths / at_risk`, shrunk towards a coarser class.

use super::bins::LANES;
use serde::{Deserialize, Serialize};

/// At-risk count at which a class is halved, so that it follows a drifting population. At 4,000 the standard error of
/// a hazard of 0.01 is 0.0016: more memory would not show in a decision.
const AT_RISK_MAX: f32 = 4_000.0;

/// Hazard tables of a fixed number of classes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PooledHazards {
    stride: usize,
    deaths: Vec<f32>,
    at_risk: Vec<f32>,
}

impl PooledHazards {
    /// Empty tables for `classes` classes over `bins` bins.
    pub fn new(classes: usize, bins: usize) -> Self {
        // One block of padding lets the vector loops read a full block from any bin.
        let stride = bins + LANES;
        Self { stride, deaths: vec![0.0; classes * stride], at_risk: vec![0.0; classes * stride] }
    }

    /// Records that idle times of `class` were still running in `bins` and, if `ended`, that one ended in the last.
    pub fn record(&mut self, class: usize, bins: std::ops::Range<usize>, ended: bool) {
        if bins.is_empty() {
            return;
        }
        let row = class * self.stride;
        let most = count_all(&mut self.at_risk[row + bins.start..row + bins.end]);
        if ended {
            self.deaths[row + bins.end - 1] += 1.0;
        }
        // A crowd that falls silent together goes through the later bins after the first has been halved for it.
        if self.at_risk[row] > AT_RISK_MAX || most > 2.0 * AT_RISK_MAX {
            for count in self.at_risk[row..row + self.stride].iter_mut() {
                *count *= 0.5;
            }
            for count in self.deaths[row..row + self.stride].iter_mut() {
                *count *= 0.5;
            }
        }
    }

    /// Replaces each hazard of the block that starts at `first` by the class's own, shrunk to the given one with the
    /// weight of `prior_strength` observations: `(deaths + a * prior) / (at_risk + a)`.
    #[inline(always)]
    pub fn shrink(&self, class: usize, first: usize, prior_strength: f32, hazards: &mut [f32; LANES]) {
        let row = class * self.stride + first;
        let deaths = &self.deaths[row..row + LANES];
        let at_risk = &self.at_risk[row..row + LANES];
        for lane in 0..LANES {
            hazards[lane] = (deaths[lane] + prior_strength * hazards[lane]) / (at_risk[lane] + prior_strength);
        }
    }

    /// Whether the tables have the shape the caller expects and hold only sensible numbers; for restored state.
    pub fn is_sound(&self, classes: usize, bins: usize) -> bool {
        let expected = classes * (bins + LANES);
        let sensible = |counts: &[f32]| counts.iter().all(|count| (0.0..=2.0 * AT_RISK_MAX).contains(count));
        self.stride == bins + LANES
            && self.deaths.len() == expected
            && self.at_risk.len() == expected
            && sensible(&self.deaths)
            && sensible(&self.at_risk)
    }
}

/// Adds one to every count and returns the largest.
fn count_all(counts: &mut [f32]) -> f32 {
    // Lane by lane: one running maximum would keep the loop from being done several at a time, and `f32::max` would
    // spend most of it on the case that one of them is not a number.
    let larger = |a: f32, b: f32| if a > b { a } else { b };
    let mut most = [0f32; 4];
    let mut chunks = counts.chunks_exact_mut(4);
    for chunk in &mut chunks {
        for lane in 0..4 {
            chunk[lane] += 1.0;
            most[lane] = larger(chunk[lane], most[lane]);
        }
    }
    for (count, most) in chunks.into_remainder().iter_mut().zip(&mut most) {
        *count += 1.0;
        *most = larger(*count, *most);
    }
    larger(larger(most[0], most[1]), larger(most[2], most[3]))
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
        let mut hazards = [0.01; LANES];
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
