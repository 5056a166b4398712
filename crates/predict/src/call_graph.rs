//! Which functions a function calls while it runs: probability and lag of each edge, and what follows in a few steps.
//!
//! A call that a function makes comes within milliseconds of the call it got, too soon to be expected one step at a
//! time. So the edges are learnt from the calls themselves (an invocation names the one that called it), and a call of
//! the first function announces all that follow.
//!
//! For an edge `f -> g`, over the invocations of `f`, older ones counting less:
//!
//! ```text
//! P(f calls g) = (k + 1/2) / (n + 1)      n invocations, in k of them g was called at least once
//! ```
//!
//! (the Krichevsky-Trofimov estimate). The lag from the invocation of `f` to the first call of `g` is kept as mean and
//! spread of its logarithm, since lags are skewed. Along a path probabilities multiply and lags add up; of several
//! paths to a function the most probable one counts.
//!
//! It knows nothing of time of day, request class or session; a call that comes from outside is not its business.

use std::collections::{BTreeMap, BinaryHeap, HashMap, VecDeque};

use crate::numeric;
use crate::timing::bins::TimeBins;
use serde::{Deserialize, Serialize};

/// Functions that call others. More are served and their calls not foreseen.
pub const CALLERS_MAX: usize = 65_536;
/// Functions that one function calls; of more, those seldom called are forgotten.
pub const CALLEES_MAX: usize = 32;
/// Invocations remembered, whose calls may still come.
const RECENT_MAX: usize = 4_096;
/// Different functions one invocation is remembered to have called.
const CALLED_MAX: usize = CALLEES_MAX;
/// Invocations that count in full; when there are more, all count half as much.
const MEMORY: f32 = 512.0;
/// Steps looked ahead. A chain longer than this is a loop or a design to be talked about.
pub const STEPS_MAX: u32 = 8;
/// Standard deviations of a logarithm of a lag up to the time that nineteen in twenty calls do not exceed.
const LATE_DEVIATIONS: f32 = 1.645;
/// Least spread of a logarithm of a lag: a few calls that came alike do not make the next one certain to a percent.
const LAG_SPREAD_MIN: f32 = 0.1;
/// Calls later than one in this share's inverse are not waited for.
const LAG_TAIL: f32 = 1e-3;
/// Share of a new lag in the mean, once there are many.
const NEW_SHARE: f32 = 0.05;

/// What is known of all edges.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct CallGraph {
    callers: BTreeMap<u32, Caller>,
    #[serde(skip)]
    recent: HashMap<u128, Recent>,
    #[serde(skip)]
    order: VecDeque<u128>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Caller {
    /// Its invocations, decayed.
    invocations: f32,
    callees: Vec<Callee>,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Callee {
    kind: u32,
    /// Invocations of the caller in which it was called, decayed.
    weight: f32,
    /// All calls, not decayed.
    calls: u64,
    lag_ln_us: f32,
    lag_ln_variance: f32,
}

#[derive(Debug, Clone)]
struct Recent {
    kind: u32,
    at_us: u64,
    called: Vec<u32>,
}

/// A call as it comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// Id of the invocation.
    pub id: u128,
    /// Its function.
    pub kind: u32,
    /// When it came.
    pub at_us: u64,
    /// Id of the invocation that made the call, if one did.
    pub by: Option<u128>,
}

/// One edge, for display.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Edge {
    /// The function that calls.
    pub caller: u32,
    /// The function that is called.
    pub callee: u32,
    /// Probability that an invocation of the caller calls it at least once.
    pub probability: f32,
    /// Half the width of its 95 % interval.
    pub error: f32,
    /// Typical time from one to the other (the geometric mean), in microseconds.
    pub lag_us: u64,
    /// Time that nineteen in twenty calls do not exceed, in microseconds.
    pub lag_late_us: u64,
    /// Calls seen.
    pub calls: u64,
}

/// A function that will be called because another one was.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Descendant {
    /// Which.
    pub kind: u32,
    /// The function that calls it, on the most probable path.
    pub through: u32,
    /// Steps from the first function, at least 1.
    pub steps: u32,
    /// Probability of the path.
    pub probability: f32,
    /// Half the width of its 95 % interval; the relative errors of a path's edges add up.
    pub error: f32,
    /// Typical time from the first call, in microseconds.
    pub lag_us: u64,
    /// Time it is seldom later than, in microseconds.
    pub lag_late_us: u64,
}

impl Descendant {
    /// When the call comes, as the hazard of each bin since the first call, given that it comes at all.
    ///
    /// ```text
    /// F(t) = N((ln t - ln lag) / s)      s = (ln lag_late - ln lag) / 1.645, at least LAG_SPREAD_MIN
    /// h_j  = (F(end_j) - F(start_j)) / (1 - F(start_j))
    /// ```
    ///
    /// `N` is the normal distribution, in Bowling's logistic form (off by 2e-4 at most). Bins end where the call has
    /// come by then but for one time in a thousand.
    pub fn hazards(&self, bins: &TimeBins, hazards: &mut Vec<f32>) {
        hazards.clear();
        let ln_s = |lag_us: u64| numeric::ln(lag_us.max(1) as f32 * 1e-6);
        let middle = ln_s(self.lag_us);
        let spread = ((ln_s(self.lag_late_us) - middle) / LATE_DEVIATIONS).max(LAG_SPREAD_MIN);
        let come_by = |time_s: f32| normal((numeric::ln(time_s.max(1e-9)) - middle) / spread);
        for bin in 0..bins.len() {
            let before = if bin == 0 { 0.0 } else { come_by(bins.start_s(bin)) };
            if before > 1.0 - LAG_TAIL {
                return;
            }
            let hazard = (come_by(bins.end_s(bin)) - before) / (1.0 - before);
            hazards.push(hazard.clamp(0.0, 1.0));
        }
    }
}

/// The normal distribution function, nearly.
fn normal(x: f32) -> f32 {
    let x = x.clamp(-8.0, 8.0);
    numeric::sigmoid(x * (1.5976 + 0.070_566 * x * x))
}

impl CallGraph {
    /// Takes a call in.
    pub fn observe(&mut self, seen: &Seen) {
        if let Some(caller) = self.callers.get_mut(&seen.kind) {
            caller.invoked();
        }
        if let Some(by) = seen.by {
            self.called(by, seen);
        }
        self.remember(seen);
    }

    fn called(&mut self, by: u128, seen: &Seen) {
        let Some(recent) = self.recent.get_mut(&by) else { return };
        let is_first = !recent.called.contains(&seen.kind) && recent.called.len() < CALLED_MAX;
        if is_first {
            recent.called.push(seen.kind);
        }
        let (kind, lag_us) = (recent.kind, seen.at_us.saturating_sub(recent.at_us));
        if !self.callers.contains_key(&kind) {
            if self.callers.len() >= CALLERS_MAX {
                return;
            }
            // The invocation that makes the first call counts; those before it were not known to matter.
            self.callers.insert(kind, Caller { invocations: 1.0, callees: Vec::new() });
        }
        if let Some(caller) = self.callers.get_mut(&kind) {
            caller.call(seen.kind, is_first, lag_us);
        }
    }

    fn remember(&mut self, seen: &Seen) {
        if self.order.len() >= RECENT_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.recent.remove(&oldest);
        }
        let recent = Recent { kind: seen.kind, at_us: seen.at_us, called: Vec::new() };
        if self.recent.insert(seen.id, recent).is_none() {
            self.order.push_back(seen.id);
        }
    }

    /// All edges, those of one caller together, the most probable first.
    pub fn edges(&self) -> impl Iterator<Item = Edge> + '_ {
        self.callers.iter().flat_map(|(kind, caller)| {
            let mut edges: Vec<Edge> = caller.callees.iter().map(|callee| caller.edge(*kind, callee)).collect();
            edges.sort_by(|a, b| b.probability.total_cmp(&a.probability).then(a.callee.cmp(&b.callee)));
            edges
        })
    }

    /// What follows from a call of `kind`, with at least this probability; the most probable first, each function once.
    pub fn descendants(&self, kind: u32, probability_min: f32) -> Vec<Descendant> {
        let mut found: Vec<Descendant> = Vec::new();
        let mut open = BinaryHeap::new();
        let start =
            Descendant { kind, through: kind, steps: 0, probability: 1.0, error: 0.0, lag_us: 0, lag_late_us: 0 };
        self.follow(&start, probability_min, &mut open);
        while let Some(Open(next)) = open.pop() {
            if next.kind == kind || found.iter().any(|known| known.kind == next.kind) {
                continue;
            }
            found.push(next);
            if next.steps < STEPS_MAX && found.len() < CALLEES_MAX {
                self.follow(&next, probability_min, &mut open);
            }
        }
        found
    }

    fn follow(&self, from: &Descendant, probability_min: f32, open: &mut BinaryHeap<Open>) {
        let Some(caller) = self.callers.get(&from.kind) else { return };
        for callee in &caller.callees {
            let edge = caller.edge(from.kind, callee);
            let probability = from.probability * edge.probability;
            if probability < probability_min {
                continue;
            }
            let relative = from.error / from.probability + edge.error / edge.probability;
            open.push(Open(Descendant {
                kind: callee.kind,
                through: from.kind,
                steps: from.steps + 1,
                probability,
                error: probability * relative.min(1.0),
                lag_us: from.lag_us.saturating_add(edge.lag_us),
                lag_late_us: from.lag_late_us.saturating_add(edge.lag_late_us),
            }));
        }
    }

    /// Whether what was restored could have been learnt; a graph that is not must not be used.
    pub fn is_sound(&self) -> bool {
        let share = |value: f32| (0.0..=MEMORY + 1.0).contains(&value);
        let is_sound = |callee: &Callee| {
            share(callee.weight)
                && (0.0..=64.0).contains(&callee.lag_ln_us)
                && (0.0..=1e4).contains(&callee.lag_ln_variance)
        };
        self.callers.len() <= CALLERS_MAX
            && self.callers.values().all(|caller| {
                share(caller.invocations) && caller.callees.len() <= CALLEES_MAX && caller.callees.iter().all(is_sound)
            })
    }
}

impl Caller {
    fn invoked(&mut self) {
        self.invocations += 1.0;
        if self.invocations > MEMORY {
            self.invocations *= 0.5;
            self.callees.iter_mut().for_each(|callee| callee.weight *= 0.5);
        }
    }

    fn call(&mut self, kind: u32, is_first: bool, lag_us: u64) {
        let lag_ln_us = numeric::ln(lag_us.max(1) as f32);
        match self.callees.iter_mut().find(|callee| callee.kind == kind) {
            Some(callee) => {
                callee.calls = callee.calls.saturating_add(1);
                if is_first {
                    callee.weight += 1.0;
                    callee.lag(lag_ln_us);
                }
            }
            None => {
                self.make_room();
                self.callees.push(Callee { kind, weight: 1.0, calls: 1, lag_ln_us, lag_ln_variance: 0.0 });
            }
        }
    }

    /// The one called least makes room.
    fn make_room(&mut self) {
        if self.callees.len() < CALLEES_MAX {
            return;
        }
        let least = self.callees.iter().enumerate().min_by(|(_, a), (_, b)| a.weight.total_cmp(&b.weight));
        if let Some((index, _)) = least {
            self.callees.swap_remove(index);
        }
    }

    fn edge(&self, caller: u32, callee: &Callee) -> Edge {
        let invocations = self.invocations.max(callee.weight);
        let probability = (callee.weight + 0.5) / (invocations + 1.0);
        let deviation = callee.lag_ln_variance.sqrt();
        Edge {
            caller,
            callee: callee.kind,
            probability,
            error: 1.96 * (probability * (1.0 - probability) / (invocations + 1.0)).sqrt(),
            lag_us: numeric::exp(callee.lag_ln_us) as u64,
            lag_late_us: numeric::exp(callee.lag_ln_us + LATE_DEVIATIONS * deviation) as u64,
            calls: callee.calls,
        }
    }
}

impl Callee {
    fn lag(&mut self, lag_ln_us: f32) {
        let share = (1.0 / self.weight.max(1.0)).max(NEW_SHARE);
        let distance = lag_ln_us - self.lag_ln_us;
        self.lag_ln_us += share * distance;
        self.lag_ln_variance = (1.0 - share) * (self.lag_ln_variance + share * distance * distance);
    }
}

/// A path not yet followed, ordered by probability.
struct Open(Descendant);

impl Ord for Open {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        let (a, b) = (&self.0, &other.0);
        a.probability.total_cmp(&b.probability).then(b.kind.cmp(&a.kind)).then(b.through.cmp(&a.through))
    }
}

impl PartialOrd for Open {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Open {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Open {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::timing::bins::Resolution;

    /// A child that is called 30 s after its parent, give or take a fifth, and one at once.
    #[test]
    fn a_child_is_expected_when_its_lag_is_over() {
        let mut graph = CallGraph::default();
        for round in 0..200u64 {
            let (id, at_us) = (u128::from(round) * 10, round * 600_000_000);
            graph.observe(&Seen { id, kind: 1, at_us, by: None });
            graph.observe(&Seen { id: id + 1, kind: 2, at_us: at_us + 3_000, by: Some(id) });
            let late_us = 24_000_000 + crate::hash::mix(round) % 12_000_000;
            graph.observe(&Seen { id: id + 2, kind: 3, at_us: at_us + late_us, by: Some(id) });
        }
        let bins = TimeBins::new(Resolution::Second);
        let within = |kind: u32, window_s: (f32, f32)| {
            let child = *graph.descendants(1, 0.1).iter().find(|next| next.kind == kind).unwrap();
            let mut forecast = crate::timing::forecast::Forecast::default();
            child.hazards(&bins, &mut forecast.hazards);
            forecast.probability_within(&bins, 0.0, window_s)
        };
        assert!(within(2, (0.0, 1.0)) > 0.99, "{}", within(2, (0.0, 1.0)));
        assert!(within(3, (0.0, 15.0)) < 0.01 && within(3, (20.0, 40.0)) > 0.9, "{}", within(3, (20.0, 40.0)));
        assert!(within(3, (0.0, 200.0)) > 0.99);
    }

    /// `count` invocations of 1, each of which calls 2 after a millisecond, which calls 3 after another; every second
    /// one of 1 calls 4 too.
    fn graph(count: u128) -> CallGraph {
        let mut graph = CallGraph::default();
        for round in 0..count {
            let (id, at_us) = (round * 10, 1_000_000 * round as u64);
            let mut see = |id, kind, at_us, by| graph.observe(&Seen { id, kind, at_us, by });
            see(id, 1, at_us, None);
            see(id + 1, 2, at_us + 1_000, Some(id));
            see(id + 2, 3, at_us + 2_000, Some(id + 1));
            see(id + 3, 3, at_us + 2_100, Some(id + 1));
            if round % 2 == 0 {
                see(id + 4, 4, at_us + 3_000, Some(id));
            }
        }
        graph
    }

    #[test]
    fn a_chain_is_foreseen_from_its_first_call() {
        let graph = graph(200);
        let found = graph.descendants(1, 0.05);
        let kinds: Vec<_> = found.iter().map(|next| (next.kind, next.through, next.steps)).collect();
        assert_eq!(kinds, [(2, 1, 1), (3, 2, 2), (4, 1, 1)]);
        assert!(found[0].probability > 0.99 && found[1].probability > 0.98, "{found:?}");
        assert!((0.45..0.55).contains(&found[2].probability), "{found:?}");
        assert!((900..1_100).contains(&found[0].lag_us) && (1_900..2_100).contains(&found[1].lag_us), "{found:?}");
        assert!(found[2].error > 0.05 && found[2].error < 0.2, "{found:?}");
        assert!(graph.descendants(3, 0.0).is_empty());
    }

    #[test]
    fn several_calls_of_one_invocation_are_one() {
        let graph = graph(50);
        let edge = graph.edges().find(|edge| (edge.caller, edge.callee) == (2, 3)).unwrap();
        assert!(edge.probability <= 1.0);
        assert_eq!(edge.calls, 100);
    }

    #[test]
    fn what_is_called_no_more_fades() {
        let mut graph = graph(100);
        for round in 1_000..6_000 {
            graph.observe(&Seen { id: round, kind: 1, at_us: round as u64 * 1_000_000, by: None });
        }
        let edge = graph.edges().find(|edge| edge.callee == 2).unwrap();
        assert!(edge.probability < 0.01, "{edge:?}");
    }

    #[test]
    fn loops_and_unknown_callers_end() {
        let mut graph = CallGraph::default();
        for round in 0..100u128 {
            let id = round * 2;
            graph.observe(&Seen { id, kind: 1, at_us: 0, by: Some(id.wrapping_sub(1)) });
            graph.observe(&Seen { id: id + 1, kind: 2, at_us: 0, by: Some(id) });
        }
        assert_eq!(graph.descendants(1, 0.0).iter().map(|next| next.kind).collect::<Vec<_>>(), [2]);
        graph.observe(&Seen { id: 7_777, kind: 9, at_us: 1, by: Some(9_999_999) });
        assert!(graph.descendants(9, 0.0).is_empty());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn nothing_breaks_it(calls in prop::collection::vec((0u128..60, 0u32..50, any::<u64>(), prop::option::of(0u128..60)), 0..300)) {
            let mut graph = CallGraph::default();
            for (id, kind, at_us, by) in calls {
                graph.observe(&Seen { id, kind, at_us, by });
            }
            prop_assert!(graph.is_sound());
            prop_assert!(graph.recent.len() <= RECENT_MAX);
            for kind in 0..50 {
                for next in graph.descendants(kind, 0.0) {
                    prop_assert!(next.probability > 0.0 && next.probability <= 1.0 && next.error.is_finite());
                    prop_assert!(next.steps <= STEPS_MAX);
                }
            }
            let kept = postcard::to_stdvec(&graph).unwrap();
            let back: CallGraph = postcard::from_bytes(&kept).unwrap();
            prop_assert!(back.is_sound());
            prop_assert_eq!(back.callers, graph.callers);
        }
    }
}
