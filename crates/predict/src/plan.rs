//! Planning: in which time bins a function is worth holding ready, given the hazard of its next call.
//!
//! A two-state Viterbi over the bins of one idle time. State: held or not. With `S_j` the probability that no call has
//! come when bin `j` starts, `h_j` its hazard and `w_j` its width in seconds,
//!
//! - a bin held gains `S_j h_j V` (the wait that is saved, weighted) and costs `rho_M m S_j w_j (1 - h_j / 2)`: a call
//!   inside the bin ends the holding half-way on average;
//! - starting to hold costs `S_j rho_C c`, the work of making ready.
//!
//! For a function that the event is a call of with probability `p` only, `V` is multiplied by it. The value-to-go is computed backwards from the end of the grid; beyond it nothing is held, so the mass of "never
//! again" earns nothing. Without the cost of starting, plans flicker between neighbouring bins.

use crate::numeric;
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

/// A stretch of time in which a call comes at an even rate, as long as none has come.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate {
    /// End in seconds; it begins where the one before it ends, or its window begins.
    pub end_s: f32,
    /// Calls a second.
    pub per_s: f32,
}

/// A stretch is half as long as the idle time before it, and not shorter: finer than that nobody looks.
const RATE_STRETCH_MIN_S: f32 = 0.5;

/// The rates inside of `windows` at which a function is called that the event is a call of with probability `share`.
///
/// A plan says when holding pays; this says how soon the call is to be expected at each moment, for choosing between
/// plans where not all of them can be had. Over bins `a..b` with hazards `h_j` and widths `w_j`, while none has come:
///
/// ```text
/// rate = share (1 - prod (1 - h_j)) / sum S_j w_j (1 - h_j / 2),    S_j = prod over a..j of (1 - h_i)
/// ```
pub fn rates(bins: &TimeBins, hazards: &[f32], share: f32, windows: &[PlanWindow]) -> Vec<Rate> {
    let mut rates = Vec::new();
    let end = hazards.len().min(bins.len());
    for window in windows {
        let mut bin = bins.bin_of(window.start_s);
        while bin < end && bins.start_s(bin) < window.end_s {
            let (start_s, mut survival, mut held_s) = (bins.start_s(bin), 1f32, 0f32);
            let stretch_s = (0.5 * start_s).max(RATE_STRETCH_MIN_S);
            while bin < end && bins.start_s(bin) < window.end_s && bins.start_s(bin) < start_s + stretch_s {
                held_s += survival * bins.width_s(bin) * (1.0 - 0.5 * hazards[bin]);
                survival *= 1.0 - hazards[bin];
                bin += 1;
            }
            let per_s = share * (1.0 - survival) / held_s.max(f32::MIN_POSITIVE);
            rates.push(Rate { end_s: bins.end_s(bin - 1), per_s });
        }
    }
    rates
}

/// How the idle time before one event may go on, by bin: what all plans for that event have in common.
#[derive(Debug, Clone)]
pub struct Course {
    count: usize,
    /// Probability that no call has come when the bin starts.
    survival: [f32; BINS_MAX],
    /// Probability that the call comes in the bin.
    mass: [f32; BINS_MAX],
    /// Expected seconds of holding through the bin.
    held_s: [f32; BINS_MAX],
    /// The most that a second of holding gains in the bin or in any later one, as a share of the value.
    best_from: [f32; BINS_MAX],
}

impl Course {
    /// The course of an idle time with these hazards.
    pub fn new(bins: &TimeBins, hazards: &[f32]) -> Self {
        let count = hazards.len().min(bins.len());
        let zero = [0.0; BINS_MAX];
        let mut course = Self { count, survival: zero, mass: zero, held_s: zero, best_from: zero };
        let (hazards, widths_s) = (&hazards[..count], &bins.widths_s()[..count]);
        // By itself, because each survival waits for the one before; the loops behind it do several bins at a time.
        let mut left = 1.0;
        for (survival, hazard) in course.survival[..count].iter_mut().zip(hazards) {
            *survival = left;
            left *= 1.0 - hazard;
        }
        for ((mass, survival), hazard) in course.mass[..count].iter_mut().zip(&course.survival).zip(hazards) {
            *mass = survival * hazard;
        }
        let waits = course.survival.iter().zip(&course.mass).zip(widths_s);
        for (held_s, ((survival, mass), width_s)) in course.held_s[..count].iter_mut().zip(waits) {
            *held_s = width_s * (survival - 0.5 * mass);
        }
        for ((best, hazard), width_s) in course.best_from[..count].iter_mut().zip(hazards).zip(widths_s) {
            *best = hazard / (width_s * (1.0 - 0.5 * hazard));
        }
        let mut best = 0.0;
        for bin in course.best_from[..count].iter_mut().rev() {
            best = numeric::larger(*bin, best);
            *bin = best;
        }
        course
    }

    /// Computes the windows worth holding for a function that is called at the event with probability `share` only;
    /// `windows` is overwritten. Holding ends with the event either way, because everything is planned anew then.
    ///
    /// Returns the expected net gain over holding nothing, at least 0. Where no bin pays, that is found at once.
    pub fn plan(&self, bins: &TimeBins, share: f32, terms: PlanTerms, windows: &mut Vec<PlanWindow>) -> f32 {
        windows.clear();
        let count = self.worth_until(share * terms.value, terms.hold_per_s);
        if count == 0 {
            return 0.0;
        }
        let mut gains = [0f32; BINS_MAX];
        for ((gain, mass), held_s) in gains[..count].iter_mut().zip(&self.mass).zip(&self.held_s) {
            *gain = mass * share * terms.value - terms.hold_per_s * held_s;
        }
        let (mut stay, mut start) = ([false; BINS_MAX], [false; BINS_MAX]);
        let (mut from_held, mut from_empty) = (0f32, 0f32);
        let choices = stay[..count].iter_mut().zip(&mut start[..count]);
        for ((stay, start), (gain, survival)) in choices.zip(gains[..count].iter().zip(&self.survival[..count])).rev() {
            let hold = gain + from_held;
            let hold_anew = hold - survival * terms.load;
            *stay = hold >= from_empty;
            *start = hold_anew > from_empty;
            from_held = numeric::larger(hold, from_empty);
            from_empty = numeric::larger(hold_anew, from_empty);
        }
        self.cut(bins, share, terms.held, (&stay[..count], &start[..count]), windows);
        if terms.held { from_held } else { from_empty }
    }

    /// The number of bins up to the last that pays for itself, `mass value >= hold held_s`. Behind it nothing is held:
    /// there the value-to-go is 0 and no state changes.
    fn worth_until(&self, value: f32, hold_per_s: f32) -> usize {
        let pays = |best: &f32| best * value >= hold_per_s;
        self.best_from[..self.count].partition_point(pays)
    }

    /// Cuts the choices (stay, start) into windows, the first [`WINDOWS_MAX`] of them.
    fn cut(
        &self,
        bins: &TimeBins,
        share: f32,
        held: bool,
        (stay, start): (&[bool], &[bool]),
        windows: &mut Vec<PlanWindow>,
    ) {
        let mut bin = 0;
        let mut held = held && stay[0];
        while windows.len() < WINDOWS_MAX {
            if !held {
                let Some(waited) = start[bin..].iter().position(|start| *start) else { return };
                bin += waited;
            }
            let first = bin;
            // The bin in which holding starts is held whatever staying would be worth.
            bin += 1;
            bin += stay[bin..].iter().position(|stay| !*stay).unwrap_or(stay.len() - bin);
            windows.push(PlanWindow {
                start_s: bins.start_s(first),
                end_s: bins.end_s(bin - 1),
                probability: self.mass[first..bin].iter().map(|mass| mass * share).sum(),
            });
            held = false;
            if bin == stay.len() {
                return;
            }
            // The bin that ended it is not held.
            bin += 1;
        }
    }
}

/// Computes the windows worth holding for what comes with certainty; see [`Course::plan`].
pub fn plan(bins: &TimeBins, hazards: &[f32], terms: PlanTerms, windows: &mut Vec<PlanWindow>) -> f32 {
    Course::new(bins, hazards).plan(bins, 1.0, terms, windows)
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
    fn rates_are_those_of_the_hazards_while_nothing_has_come() {
        let bins = TimeBins::new(Resolution::Second);
        let window = |start_s, end_s| PlanWindow { start_s, end_s, probability: 0.0 };
        // A call comes at an even rate of one in a thousand seconds: so says each stretch, wherever it lies.
        let even: Vec<f32> = (0..60).map(|bin| 1.0 - numeric::exp(-0.001 * bins.width_s(bin))).collect();
        let all = rates(&bins, &even, 0.5, &[window(0.0, bins.end_s(20)), window(bins.start_s(30), bins.end_s(59))]);
        assert!(all.len() > 6 && all.is_sorted_by(|a, b| a.end_s < b.end_s), "{all:?}");
        assert!(all.iter().all(|rate| (rate.per_s / 0.0005 - 1.0).abs() < 0.05), "{all:?}");
        assert_eq!(all.last().unwrap().end_s, bins.end_s(59));
        // What is sure to come within the first second, and nothing behind the hazards.
        let soon = rates(&bins, &[1.0], 1.0, &[window(0.0, 1e9)]);
        assert_eq!(soon, [Rate { end_s: bins.end_s(0), per_s: 2.0 / bins.width_s(0) }]);
        assert_eq!(rates(&bins, &[], 1.0, &[window(0.0, 1.0)]), []);
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
