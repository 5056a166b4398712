//! The dynamic threshold: which rung of the ladder a function is worth holding on, and when.
//!
//! Rung `r` of function `g` is held in time bin `j` iff
//!
//! ```text
//! P_j * V_(g,r) * kappa  >=  rho_M * m_(g,r) * E[resident s]  +  [start] * rho_C * c_(g,r)
//! ```
//!
//! with the costs measured on this node, solved over all bins at once by [`crate::plan`]. `kappa` reduces a probability
//! to the lower end of its error bar, by as many standard errors as pressure asks for. The rung with the largest
//! expected net gain wins; all terms are kept, so that every decision can be explained.

use crate::engine::Candidate;
use crate::event::Target;
use crate::plan::{Course, PlanTerms, PlanWindow};
use crate::price::{Halt, Prices};
use crate::timing::bins::TimeBins;
use serde::Serialize;

/// A rung of the ladder above "nothing", from cheap to ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Rung {
    /// Compiled code on disk.
    Compiled,
    /// Code mapped and linked.
    Loaded,
    /// A VM made, its memory warm.
    Ready,
}

/// All rungs.
pub const RUNGS: [Rung; 3] = [Rung::Compiled, Rung::Loaded, Rung::Ready];

/// What a rung costs and saves, as measured on this node.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RungCost {
    /// Memory held, in bytes.
    pub memory_bytes: u64,
    /// CPU time to reach the rung from nothing, in milliseconds.
    pub load_cpu_ms: f32,
    /// Wait that a request is spared, against being served from nothing, in milliseconds.
    pub saved_ms: f32,
}

/// A function's ladder; a rung that was never measured is not considered.
pub type Ladder = [Option<RungCost>; 3];

/// Weights of a function among others.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Weight {
    /// Weight of the tenant or class; 1 for everyone alike.
    pub class: f32,
    /// Fairness: how much more a rarely called function's wait counts; see [`Weight::of`].
    pub fairness: f32,
}

/// Fairness where nothing else is asked for. With it the first wait of a new function counts half as much again, the
/// tenth a twentieth more: enough to decide between equals, too little to buy a holding that prices speak against.
pub const FAIRNESS_DEFAULT: f32 = 0.5;

impl Default for Weight {
    fn default() -> Self {
        Self { class: 1.0, fairness: FAIRNESS_DEFAULT }
    }
}

/// Why a rung is, or is not, held.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub enum Verdict {
    /// It is held in the decision's windows.
    Hold,
    /// No time is worth it: the probability stays below the threshold.
    BelowThreshold,
    /// It would be worth it, but another rung gains more.
    OtherRungGainsMore,
    /// The costs of this rung are not known.
    NotMeasured,
    /// Nothing is made ready at present.
    Halted(Halt),
}

/// The terms of the inequality for one rung.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RungTerms {
    /// The rung.
    pub rung: Rung,
    /// What came of it.
    pub verdict: Verdict,
    /// Probability that the next event is this function.
    pub probability: f32,
    /// `kappa`: the factor by which uncertainty reduces it.
    pub confidence_factor: f32,
    /// `V`: weighted wait saved by being ready, in milliseconds.
    pub value_ms: f32,
    /// The weight in it; see [`Weight`].
    pub weight: f32,
    /// `rho_M m`: price of holding it for a second.
    pub hold_ms_per_s: f32,
    /// `rho_C c`: price of making it ready.
    pub load_ms: f32,
    /// Expected net gain of the best plan.
    pub gain_ms: f32,
    /// The probability of a call in the window above which holding pays: `(rho_M m T + rho_C c) / (V kappa)` for a
    /// window of `T` seconds, that of the first window or, without one, of one minute.
    pub threshold: f32,
}

/// What to do about one function.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Decision {
    /// The function.
    #[serde(skip)]
    pub target: Target,
    /// The rung to hold it on, [`None`] for nothing; the terms say why.
    pub rung: Option<Rung>,
    /// When to hold it, counted from the start of the outlook.
    #[serde(skip)]
    pub windows: Vec<PlanWindow>,
    /// The terms, by rung.
    pub terms: Vec<RungTerms>,
}

/// Window length for the threshold shown when nothing is held.
const SHOWN_WINDOW_S: f32 = 60.0;
const MEGABYTE: f32 = 1_048_576.0;

/// Decides about one candidate of an outlook whose next event has the given hazards.
pub fn decide(
    bins: &TimeBins,
    hazards: &[f32],
    candidate: &Candidate,
    ladder: &Ladder,
    weight: f32,
    held: Option<Rung>,
    prices: &Prices,
) -> Decision {
    let kappa = confidence_factor(candidate, prices.caution);
    let course = Course::new(bins, hazards);
    let mut best: Option<(usize, Vec<PlanWindow>)> = None;
    let mut terms: Vec<RungTerms> = Vec::with_capacity(RUNGS.len());
    for (index, rung) in RUNGS.into_iter().enumerate() {
        let Some(cost) = ladder[index] else {
            terms.push(RungTerms::without(rung, Verdict::NotMeasured, candidate.probability, kappa));
            continue;
        };
        let mut windows = Vec::new();
        let priced = PlanTerms {
            value: cost.saved_ms.max(0.0) * weight,
            hold_per_s: prices.memory_ms_per_mb_s * cost.memory_bytes as f32 / MEGABYTE,
            load: prices.cpu_ms_per_ms * cost.load_cpu_ms.max(0.0),
            held: held.is_some_and(|held| held >= rung),
        };
        let share = candidate.probability * kappa;
        let gain_ms = course.plan(bins, share, priced, &mut windows);
        let stated = RungTerms {
            weight,
            ..RungTerms::new(rung, candidate.probability, kappa, &priced, gain_ms, windows.first())
        };
        let better = best.as_ref().is_none_or(|(known, _)| gain_ms > terms[*known].gain_ms);
        terms.push(stated);
        if !windows.is_empty() && better {
            best = Some((index, windows));
        }
    }
    conclude(candidate.target, terms, best, prices.halt)
}

fn conclude(
    target: Target,
    mut terms: Vec<RungTerms>,
    best: Option<(usize, Vec<PlanWindow>)>,
    halt: Option<Halt>,
) -> Decision {
    if let Some(halt) = halt {
        terms.iter_mut().for_each(|term| term.verdict = Verdict::Halted(halt));
        return Decision { target, rung: None, windows: Vec::new(), terms };
    }
    let Some((chosen, windows)) = best else { return Decision { target, rung: None, windows: Vec::new(), terms } };
    for (index, term) in terms.iter_mut().enumerate() {
        if index == chosen {
            term.verdict = Verdict::Hold;
        } else if term.gain_ms > 0.0 {
            term.verdict = Verdict::OtherRungGainsMore;
        }
    }
    Decision { target, rung: Some(RUNGS[chosen]), windows, terms }
}

/// What remains of a probability at the lower end of its error bar.
fn confidence_factor(candidate: &Candidate, caution: f32) -> f32 {
    if candidate.probability <= 0.0 {
        return 0.0;
    }
    // The error is half of a 95 % interval, 1.96 standard errors.
    (1.0 - caution * candidate.error / 1.96 / candidate.probability).clamp(0.0, 1.0)
}

impl RungTerms {
    fn without(rung: Rung, verdict: Verdict, probability: f32, kappa: f32) -> Self {
        Self {
            rung,
            verdict,
            probability,
            confidence_factor: kappa,
            value_ms: 0.0,
            weight: 1.0,
            hold_ms_per_s: 0.0,
            load_ms: 0.0,
            gain_ms: 0.0,
            threshold: 1.0,
        }
    }

    fn new(
        rung: Rung,
        probability: f32,
        kappa: f32,
        priced: &PlanTerms,
        gain_ms: f32,
        window: Option<&PlanWindow>,
    ) -> Self {
        let window_s = window.map_or(SHOWN_WINDOW_S, |window| window.end_s - window.start_s);
        let cost = priced.hold_per_s * window_s + priced.load;
        Self {
            rung,
            verdict: Verdict::BelowThreshold,
            probability,
            confidence_factor: kappa,
            value_ms: priced.value,
            weight: 1.0,
            hold_ms_per_s: priced.hold_per_s,
            load_ms: priced.load,
            gain_ms,
            threshold: (cost / (priced.value * kappa).max(f32::MIN_POSITIVE)).min(1.0),
        }
    }
}

/// Something that wants memory, and what it would gain.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Claim {
    /// The function.
    pub target: Target,
    /// Memory it wants, in bytes.
    pub memory_bytes: u64,
    /// Expected gain, in milliseconds of waiting.
    pub gain_ms: f32,
}

/// Chooses claims under a hard budget, by gain per byte. The sum of their memory never exceeds it; the rest is refused.
pub fn within_budget(claims: &mut Vec<Claim>, budget_bytes: u64) -> Vec<Claim> {
    let density = |claim: &Claim| claim.gain_ms / claim.memory_bytes.max(1) as f32;
    claims.sort_by(|a, b| density(b).total_cmp(&density(a)).then(a.target.cmp(&b.target)));
    let mut left_bytes = budget_bytes;
    let mut refused = Vec::new();
    claims.retain(|claim| {
        let fits = claim.gain_ms > 0.0 && claim.memory_bytes <= left_bytes;
        if fits {
            left_bytes -= claim.memory_bytes;
        } else {
            refused.push(*claim);
        }
        fits
    });
    refused
}

impl Weight {
    /// The weight of a function with `n` idle times seen (`idle_count`): that of its class, and of its rarity.
    ///
    /// ```text
    /// weight = class (1 + fairness / (n + 1))        V = weight * wait saved
    /// ```
    ///
    /// Without it only the share of all calls that start cold counts, and the frequent functions take all the memory;
    /// with it the share of each function's own calls does, too.
    pub fn of(self, idle_count: u32) -> f32 {
        self.class * (1.0 + self.fairness / (idle_count as f32 + 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::timing::bins::Resolution;
    use proptest::prelude::*;

    const TARGET: Target = Target { scope: Some(1), kind: 2 };

    fn ladder() -> Ladder {
        let rung = |memory_mb: u64, load_cpu_ms, saved_ms| {
            Some(RungCost { memory_bytes: memory_mb << 20, load_cpu_ms, saved_ms })
        };
        [rung(0, 900.0, 4_000.0), rung(20, 950.0, 4_080.0), rung(80, 960.0, 4_082.0)]
    }

    fn decided(probability: f32, prices: &Prices) -> Decision {
        let bins = TimeBins::new(Resolution::Second);
        let candidate = Candidate { target: TARGET, probability, error: 0.1 };
        decide(&bins, &[0.05; 100], &candidate, &ladder(), 1.0, None, prices)
    }

    #[test]
    fn a_lower_probability_buys_a_cheaper_rung() {
        let prices = Prices::default();
        let rungs = [0.9, 0.3, 0.0].map(|probability| decided(probability, &prices).rung);
        assert!(rungs[0] >= rungs[1] && rungs[1] > rungs[2], "{rungs:?}");
        assert_eq!(rungs[2], None);
    }

    #[test]
    fn dear_memory_moves_down_the_ladder_and_a_halt_ends_everything() {
        let dear = Prices { memory_ms_per_mb_s: 50.0, ..Prices::default() };
        assert_eq!(decided(0.9, &dear).rung, Some(Rung::Compiled));
        let halted = Prices { halt: Some(Halt::Cpu), ..Prices::default() };
        let decision = decided(0.9, &halted);
        assert_eq!(decision.rung, None);
        assert!(decision.terms.iter().all(|term| term.verdict == Verdict::Halted(Halt::Cpu)));
    }

    #[test]
    fn a_rare_function_weighs_a_little_more_and_says_so() {
        let weights = [0, 1, 9, 1_000].map(|calls| Weight::default().of(calls));
        assert!(weights.is_sorted_by(|a, b| a > b) && weights[0] == 1.0 + FAIRNESS_DEFAULT && weights[3] < 1.001);
        let bins = TimeBins::new(Resolution::Second);
        let candidate = Candidate { target: TARGET, probability: 0.5, error: 0.1 };
        let decision = decide(&bins, &[0.05; 100], &candidate, &ladder(), weights[0], None, &Prices::default());
        let (term, plain) = (&decision.terms[2], &decided(0.5, &Prices::default()).terms[2]);
        assert_eq!((term.weight, plain.weight), (1.5, 1.0));
        assert_eq!(term.value_ms, 1.5 * plain.value_ms);
    }

    #[test]
    fn every_rung_has_its_terms_and_one_verdict_to_hold() {
        let decision = decided(0.9, &Prices::default());
        assert_eq!(decision.terms.len(), RUNGS.len());
        let held = decision.terms.iter().filter(|term| term.verdict == Verdict::Hold).count();
        assert_eq!(held, 1);
        assert!(decision.terms.iter().all(|term| term.threshold > 0.0 && term.threshold <= 1.0));
    }

    #[test]
    fn caution_lowers_what_a_probability_is_worth() {
        let cautious = Prices { caution: 2.0, ..Prices::default() };
        let (bold, cautious) = (decided(0.3, &Prices::default()), decided(0.3, &cautious));
        assert!(cautious.terms[0].confidence_factor < 0.7);
        assert!(cautious.terms[0].gain_ms < bold.terms[0].gain_ms);
    }

    proptest! {
        #[test]
        fn the_budget_is_never_exceeded(claims in prop::collection::vec((0u32..50, 0u64..1_000, -5f32..100.0), 0..60), budget_bytes in 0u64..5_000) {
            let mut taken: Vec<Claim> = claims.iter().map(|(kind, memory_bytes, gain_ms)| Claim {
                target: Target { scope: None, kind: *kind }, memory_bytes: *memory_bytes, gain_ms: *gain_ms,
            }).collect();
            let refused = within_budget(&mut taken, budget_bytes);
            prop_assert!(taken.iter().map(|claim| claim.memory_bytes).sum::<u64>() <= budget_bytes);
            prop_assert_eq!(taken.len() + refused.len(), claims.len());
        }
    }
}
