//! Planning: in which time bins a function is worth holding ready, given the hazard of its next call.
//!
//! A two-state Viterbi over the bins of one idle time. State: held or not. With `S_j` the probability that no call has
//! come when bin `j` starts, `h_j` its hazard and `w_j` its width in seconds,
//!
//! - a bin held gains `S_j h_j V` (the wait that is saved, weighted) and costs `rho_M m S_j w_j (1 - h_j / 2)`: a call
//!   inside the bin ends the holding half-way on average;
//! - starting to hold costs `S_j rho_C c`, the work of making ready.
//!
//! The value-to-go is computed backwards from the end of the grid; beyond it nothing is held, so the mass of "never
//! again" earns nothing. Without the cost of starting, plans flicker between neighbouring bins.

use crate::timing::bins::{BINS_MAX, TimeBins};

/// Most windows one plan may have. More would be a plan that follows noise; a plan with more keeps the earliest ones,
/// and the next look (at the latest at the next call) sees further.
pub const WINDOWS_MAX: usize = 12;

/// The terms of the inequality that a plan solves, in one currency of the caller's choice.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PlanTerms {
    /// What one avoided cold start is worth: `V * kappa`.
    pub value: f32,
    /// What holding costs per second: `rho_M * m`.
    pub hold_per_s: f32,
    /// What making ready costs each time: `rho_C * c`.
    pub load: f32,
    /// Whether the function is held ready when the plan starts.
    pub held: bool,
}

/// A stretch of time in which to hold the function ready, counted from the start of the grid.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PlanWindow {
    /// Start in seconds.
    pub start_s: f32,
    /// End in seconds.
    pub end_s: f32,
    /// Probability that the next call falls inside.
    pub probability: f32,
}

/// Computes the windows worth holding; `windows` is overwritten.
///
/// Returns the expected net gain over holding nothing, at least 0.
pub fn plan(bins: &TimeBins, hazards: &[f32], terms: PlanTerms, windows: &mut Vec<PlanWindow>) -> f32 {
    plan_share(bins, hazards, |_| 1.0, terms, windows)
}

/// As [`plan`], for a function that is called at the next event with probability `share(bin)` only: `hazards` are those
/// of the event. Holding ends with the event either way, because everything is planned anew then.
pub fn plan_share(
    bins: &TimeBins,
    hazards: &[f32],
    share: impl Fn(usize) -> f32,
    terms: PlanTerms,
    windows: &mut Vec<PlanWindow>,
) -> f32 {
    windows.clear();
    let count = hazards.len().min(bins.len());
    let mut survival = [0f32; BINS_MAX + 1];
    survival[0] = 1.0;
    for bin in 0..count {
        survival[bin + 1] = survival[bin] * (1.0 - hazards[bin]);
    }
    let mut stay = [false; BINS_MAX];
    let mut start = [false; BINS_MAX];
    let (mut from_held, mut from_empty) = (0f32, 0f32);
    for bin in (0..count).rev() {
        let mass = survival[bin] * hazards[bin];
        let width_s = bins.end_s(bin) - bins.start_s(bin);
        let held_s = width_s * (survival[bin] - 0.5 * mass);
        let hold = mass * share(bin) * terms.value - terms.hold_per_s * held_s + from_held;
        let hold_anew = hold - survival[bin] * terms.load;
        stay[bin] = hold >= from_empty;
        start[bin] = hold_anew > from_empty;
        from_held = hold.max(from_empty);
        from_empty = hold_anew.max(from_empty);
    }
    let gain = if terms.held { from_held } else { from_empty };
    let mut held = terms.held;
    let mut open: Option<PlanWindow> = None;
    for bin in 0..count {
        let hold = if held { stay[bin] } else { start[bin] };
        if hold {
            let window = open.get_or_insert(PlanWindow { start_s: bins.start_s(bin), end_s: 0.0, probability: 0.0 });
            window.end_s = bins.end_s(bin);
            window.probability += survival[bin] * hazards[bin] * share(bin);
        } else if let Some(window) = open.take() {
            windows.push(window);
            if windows.len() == WINDOWS_MAX {
                return gain;
            }
        }
        held = hold;
    }
    windows.extend(open);
    gain
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::timing::bins::Resolution;
    use proptest::prelude::*;

    const TERMS: PlanTerms = PlanTerms { value: 600.0, hold_per_s: 1.0, load: 30.0, held: true };

    fn planned(hazards: &[f32], terms: PlanTerms) -> Vec<PlanWindow> {
        let mut windows = Vec::new();
        plan(&TimeBins::new(Resolution::Minute), hazards, terms, &mut windows);
        windows
    }

    #[test]
    fn a_timer_is_held_only_around_its_time() {
        let mut hazards = vec![0.001; 40];
        hazards[30] = 0.9;
        let windows = planned(&hazards, TERMS);
        assert_eq!(windows.len(), 1);
        assert!(windows[0].start_s >= 25.0 * 60.0 && windows[0].end_s <= 32.0 * 60.0, "{windows:?}");
        assert!(windows[0].probability > 0.85);
    }

    #[test]
    fn a_function_that_never_returns_is_let_go() {
        assert!(planned(&[1e-6; 150], TERMS).is_empty());
        assert!(planned(&[], TERMS).is_empty());
    }

    #[test]
    fn a_gap_shorter_than_the_cost_of_loading_is_bridged() {
        let hazards = [0.3, 0.0, 0.3];
        let dear = PlanTerms { load: 400.0, ..TERMS };
        assert_eq!(planned(&hazards, dear).len(), 1);
        let free = PlanTerms { load: 0.0, ..TERMS };
        assert_eq!(planned(&hazards, free).len(), 2);
    }

    /// The gain of holding exactly the bins of `choice`, computed the plain way.
    fn gain(bins: &TimeBins, hazards: &[f32], terms: PlanTerms, choice: u32) -> f32 {
        let (mut total, mut survival, mut held) = (0.0, 1.0, terms.held);
        for (bin, hazard) in hazards.iter().enumerate() {
            let hold = choice >> bin & 1 == 1;
            if hold {
                let width_s = bins.end_s(bin) - bins.start_s(bin);
                total += survival * (hazard * terms.value - terms.hold_per_s * width_s * (1.0 - hazard / 2.0));
                total -= if held { 0.0 } else { survival * terms.load };
            }
            survival *= 1.0 - hazard;
            held = hold;
        }
        total
    }

    proptest! {
        #[test]
        fn no_other_choice_of_bins_is_better(
            hazards in prop::collection::vec(0f32..0.9, 1..9),
            value in 1f32..2000.0,
            load in 0f32..100.0,
            held: bool,
        ) {
            let bins = TimeBins::new(Resolution::Minute);
            let terms = PlanTerms { value, hold_per_s: 1.0, load, held };
            let windows = planned(&hazards, terms);
            let inside = |bin: usize| windows.iter().any(|window| window.start_s <= bins.start_s(bin) && bins.end_s(bin) <= window.end_s);
            let chosen = (0..hazards.len()).filter(|bin| inside(*bin)).fold(0u32, |bits, bin| bits | 1 << bin);
            let reached = gain(&bins, &hazards, terms, chosen);
            for choice in 0..1u32 << hazards.len() {
                let other = gain(&bins, &hazards, terms, choice);
                prop_assert!(other <= reached + 0.01 + reached.abs() * 1e-4, "{choice:b} gives {other}, plan {reached}");
            }
        }
    }
}
