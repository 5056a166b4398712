//! Short-memory evidence about the present idle time, built anew for each look: recent idle times, and what followed
//! the last time the same idle times were seen.

use super::bins::LANES;
use super::history::{History, NO_BIN, RECENT_LEN};
use super::sketch::ONE;

/// Most points one kind of evidence can have: each idle time that is remembered puts one on its bin and on both
/// neighbours.
const POINTS_MAX: usize = RECENT_LEN * 3;
/// Share of an observation that stays in its bin; the rest goes to the neighbours in equal parts, because the edge of
/// a bin cuts jittered timers in two.
const CENTRE_SHARE: f32 = 0.7;
const NEIGHBOUR_SHARE: f32 = 0.15;
/// Weight of the latest four idle times.
const RECENT_WEIGHTS: [f32; 4] = [1.0, 0.7, 0.5, 0.35];
/// Weight of an earlier occurrence by how many idle times before it agree, and the fading of older occurrences.
const MATCH_WEIGHTS: [f32; 4] = [0.0, 0.7, 2.0, 4.0];
const MATCH_FADING: f32 = 0.9;

/// Weighted points on the time bins.
#[derive(Debug, Clone)]
pub struct Points {
    bins: [u8; POINTS_MAX],
    weights: [u16; POINTS_MAX],
    len: usize,
    total: u32,
}

impl Points {
    fn empty() -> Self {
        Self { bins: [0; POINTS_MAX], weights: [0; POINTS_MAX], len: 0, total: 0 }
    }

    /// The latest idle times.
    pub fn recent(history: &History, bins: usize) -> Self {
        let mut points = Self::empty();
        for (bin, weight) in history.recent.iter().zip(RECENT_WEIGHTS) {
            points.spread(*bin, weight, bins);
        }
        points
    }

    /// What followed earlier occurrences of the latest idle times, and the length of the longest agreement (0 to 3).
    pub fn pattern(history: &History, bins: usize) -> (Self, usize) {
        let mut points = Self::empty();
        let mut longest = 0;
        let mut fading = 1.0;
        for start in 1..RECENT_LEN {
            let agreement = agreement(&history.recent, start);
            points.spread(history.recent[start - 1], MATCH_WEIGHTS[agreement] * fading, bins);
            longest = longest.max(agreement);
            fading *= MATCH_FADING;
        }
        (points, longest)
    }

    /// Sum of all weights, in 1/[`ONE`].
    pub fn total(&self) -> u32 {
        self.total
    }

    /// As [`super::sketch::Sketch::read`].
    pub fn read(&self, first: usize, deaths: &mut [u32; LANES]) -> u32 {
        let mut before = 0;
        for (bin, weight) in self.bins.iter().zip(&self.weights).take(self.len) {
            let (bin, weight) = (usize::from(*bin), u32::from(*weight));
            if bin < first {
                before += weight;
            } else if bin - first < LANES {
                deaths[bin - first] += weight;
            }
        }
        before
    }

    fn spread(&mut self, bin: u8, weight: f32, bins: usize) {
        if bin == NO_BIN || weight <= 0.0 {
            return;
        }
        self.put(bin, weight * CENTRE_SHARE);
        if bin > 0 {
            self.put(bin - 1, weight * NEIGHBOUR_SHARE);
        }
        if usize::from(bin) + 1 < bins {
            self.put(bin + 1, weight * NEIGHBOUR_SHARE);
        }
    }

    fn put(&mut self, bin: u8, weight: f32) {
        let fixed = (weight * ONE as f32) as u16;
        if fixed == 0 || self.len == POINTS_MAX {
            return;
        }
        self.bins[self.len] = bin;
        self.weights[self.len] = fixed;
        self.len += 1;
        self.total += u32::from(fixed);
    }
}

/// How many of the latest idle times agree with those at `start` and before it, at most three. Neighbouring bins agree.
fn agreement(recent: &[u8; RECENT_LEN], start: usize) -> usize {
    let pairs = recent.iter().zip(&recent[start..]).take(3);
    pairs.take_while(|(a, b)| **a != NO_BIN && **b != NO_BIN && a.abs_diff(**b) <= 1).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::timing::bins::{Resolution, TimeBins};

    fn history(idles: &[usize]) -> History {
        let bins = TimeBins::new(Resolution::Minute);
        let mut history = History::first(0, 1);
        for bin in idles {
            history.record(0, bins.start_s(*bin), *bin, 1);
        }
        history
    }

    #[test]
    fn a_cycle_is_recognised() {
        let (points, agreement) = Points::pattern(&history(&[5, 5, 40, 5, 5, 40, 5, 5]), 100);
        assert_eq!(agreement, 3);
        let mut deaths = [0; LANES];
        points.read(32, &mut deaths);
        assert!(deaths[8] > points.total() / 2, "after two fives comes forty: {deaths:?} of {}", points.total());
    }

    #[test]
    fn a_new_function_has_no_evidence() {
        let fresh = History::first(0, 1);
        assert_eq!(Points::recent(&fresh, 100).total(), 0);
        let (points, agreement) = Points::pattern(&fresh, 100);
        assert_eq!((points.total(), agreement), (0, 0));
    }
}
