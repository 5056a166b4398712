//! Short-memory evidence about the present idle time, built anew for each look: recent idle times, and what followed
//! the last time the same idle times were seen.

use super::counts::Counts;
use super::history::{History, NO_BIN, RECENT_LEN};
use super::sketch::ONE;

/// Share of an observation that stays in its bin; the rest goes to the neighbours in equal parts, because the edge of
/// a bin cuts jittered timers in two.
const CENTRE_SHARE: f32 = 0.7;
const NEIGHBOUR_SHARE: f32 = 0.15;
/// Weight of the latest four idle times.
const RECENT_WEIGHTS: [f32; 4] = [1.0, 0.7, 0.5, 0.35];
/// Weight of an earlier occurrence by how many idle times before it agree, and the fading of older occurrences.
const MATCH_WEIGHTS: [f32; 4] = [0.0, 0.7, 2.0, 4.0];
const MATCH_FADING: f32 = 0.9;

/// Counts from the latest idle times.
pub fn recent(history: &History, bins: usize, counts: &mut Counts) {
    for (bin, weight) in history.recent.iter().zip(RECENT_WEIGHTS) {
        spread(*bin, weight, bins, counts);
    }
}

/// Counts from what followed earlier occurrences of the latest idle times; returns the length of the longest agreement
/// (0 to 3).
pub fn pattern(history: &History, bins: usize, counts: &mut Counts) -> usize {
    let mut longest = 0;
    let mut fading = 1.0;
    // Idle times are known up to the first gap; where none is known at `start`, nothing agrees there or beyond.
    let known = history.recent.iter().take_while(|bin| **bin != NO_BIN).count();
    for start in 1..known {
        let agreement = agreement(&history.recent, start);
        spread(history.recent[start - 1], MATCH_WEIGHTS[agreement] * fading, bins, counts);
        longest = longest.max(agreement);
        fading *= MATCH_FADING;
    }
    longest
}

#[inline(always)]
fn spread(bin: u8, weight: f32, bins: usize, counts: &mut Counts) {
    if bin == NO_BIN || weight <= 0.0 {
        return;
    }
    let fixed = |share: f32| (weight * share * ONE as f32) as u16;
    counts.add(bin, fixed(CENTRE_SHARE));
    if bin > 0 {
        counts.add(bin - 1, fixed(NEIGHBOUR_SHARE));
    }
    if usize::from(bin) + 1 < bins {
        counts.add(bin + 1, fixed(NEIGHBOUR_SHARE));
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
    use crate::timing::bins::{HALF, Resolution, TimeBins};

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
        let mut counts = Counts::default();
        assert_eq!(pattern(&history(&[5, 5, 40, 5, 5, 40, 5, 5]), 100, &mut counts), 3);
        counts.settle();
        let mut hazards = [0.0; HALF];
        counts.shrink(40, 1.0, &mut hazards);
        assert!(hazards[0] > 0.5, "after two fives comes forty: {hazards:?}");
    }

    #[test]
    fn a_new_function_has_no_evidence() {
        let fresh = History::first(0, 1);
        let mut counts = Counts::default();
        recent(&fresh, 100, &mut counts);
        assert_eq!(pattern(&fresh, 100, &mut counts), 0);
        assert_eq!(counts.total(), 0);
    }
}
