//! Which functions are expected to be called, and when it pays to hold one ready: the engine, names, and plans.
//!
//! Pure: arrivals, time, costs and prices come in, plans come out. A plan made after a call of an application stands
//! until the application's next call; one made of a function's own rhythm stands until that function's next call.

use std::collections::BTreeMap;

use forerun_predict::answer::Answer;
use forerun_predict::catalog::Catalog;
use forerun_predict::decision::{Claim, Decision, RungCost, RungTerms, Weight, decide, within_budget};
use forerun_predict::engine::{Candidate, Engine, Outlook};
use forerun_predict::event::{Call, Target};
use forerun_predict::price::Prices;
use forerun_telemetry::Arrival;
use serde::{Deserialize, Serialize};

/// Making a VM takes milliseconds and begins so much before its window.
const LEAD_US: u64 = 50_000;
/// Names of applications have a space in front, which no function's name may hold.
const APP_PREFIX: &str = " ";

/// Names, as they are kept beside the engine's own state.
#[derive(Default, Serialize, Deserialize)]
pub(super) struct Names {
    pub(super) catalog: Catalog,
    /// The scope each function was last called in.
    pub(super) scopes: BTreeMap<u32, u32>,
}

/// What is expected.
pub(super) struct Expectations {
    pub(super) engine: Engine,
    pub(super) names: Names,
    outlook: Outlook,
    plans: BTreeMap<(Target, Layer), Plan>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Layer {
    /// From what was called before it in its application.
    Sequence,
    /// From its own rhythm.
    Rhythm,
}

struct Plan {
    /// Start and end, in microseconds since the Unix epoch.
    windows: Vec<(u64, u64)>,
    claim: Claim,
    cause: Cause,
}

/// Why a function is expected.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Cause {
    /// The call it follows from.
    pub(crate) after_function: String,
    /// The id of that call.
    pub(crate) after_request: String,
    /// When that call came, in microseconds since the Unix epoch.
    pub(crate) after_unix_us: u64,
    /// Whether its own rhythm is the reason, and not the sequence of calls.
    pub(crate) by_rhythm: bool,
    /// Probability that the next call is this one.
    pub(crate) probability: f32,
    /// Half the width of its 95 % interval.
    pub(crate) error: f32,
    /// The terms of the threshold.
    pub(crate) terms: Option<RungTerms>,
}

/// What a rung costs, by name of function and probability of use.
pub(super) type CostOf<'a> = &'a dyn Fn(&str, f32) -> Option<RungCost>;

impl Expectations {
    pub(super) fn new(engine: Engine, names: Names) -> Self {
        Self { engine, names, outlook: Outlook::default(), plans: BTreeMap::new() }
    }

    /// Why a call of `function` would be expected at `now_us`, if it is.
    pub(super) fn standing(&self, function: &str, now_us: u64) -> Option<Cause> {
        let target = self.target(function)?;
        let of_target = self.plans.range((target, Layer::Sequence)..=(target, Layer::Rhythm));
        of_target.map(|(_, plan)| plan).find(|plan| plan.covers(now_us)).map(|plan| plan.cause.clone())
    }

    /// Takes a call in and plans anew what depends on it. A name the catalog does not take is not predicted.
    pub(super) fn arrive(&mut self, arrival: &Arrival, cost_of: CostOf<'_>, prices: &Prices) {
        let scope = self.names.catalog.number(&format!("{APP_PREFIX}{}", arrival.app));
        let (Ok(scope), Ok(kind)) = (scope, self.names.catalog.number(arrival.function.as_str())) else {
            return;
        };
        let caller = arrival.caller.as_ref().and_then(|caller| self.names.catalog.find(caller.as_str()));
        self.names.scopes.insert(kind, scope);
        let target = Target { scope: Some(scope), kind };
        self.engine.observe(&Call { at_us: arrival.at_unix_us, target, session: None, caller, class: 0, count: 1 });
        self.plans.retain(|(planned, layer), _| {
            let over = match layer {
                Layer::Sequence => planned.scope == target.scope,
                Layer::Rhythm => *planned == target,
            };
            !over
        });
        self.engine.outlook(target, None, &mut self.outlook);
        let candidates = std::mem::take(&mut self.outlook.candidates);
        for candidate in &candidates {
            self.plan(arrival, candidate, Layer::Sequence, cost_of, prices);
        }
        self.outlook.candidates = candidates;
        if !self.outlook.rhythm.hazards.is_empty() {
            let own = Candidate { target, probability: 1.0, error: 0.0 };
            self.plan(arrival, &own, Layer::Rhythm, cost_of, prices);
        }
    }

    fn plan(&mut self, arrival: &Arrival, candidate: &Candidate, layer: Layer, cost_of: CostOf<'_>, prices: &Prices) {
        let Some(name) = self.names.catalog.name(candidate.target.kind) else { return };
        let cost = cost_of(name, candidate.probability);
        let hazards = match layer {
            Layer::Sequence => &self.outlook.event.hazards,
            Layer::Rhythm => &self.outlook.rhythm.hazards,
        };
        let ladder = [None, None, cost];
        let weight = Weight::default().of(0);
        let decision = decide(self.engine.bins(), hazards, candidate, &ladder, weight, None, prices);
        let Decision { target, rung: _, windows, terms } = decision;
        let (Some(cost), Some(terms)) = (cost, terms.into_iter().last()) else { return };
        if windows.is_empty() {
            return;
        }
        let from_us = self.outlook.from_us;
        let moment = |seconds: f32| from_us.saturating_add((f64::from(seconds) * 1e6) as u64);
        let plan = Plan {
            windows: windows.iter().map(|window| (moment(window.start_s), moment(window.end_s))).collect(),
            claim: Claim { target, memory_bytes: cost.memory_bytes, gain_ms: terms.gain_ms },
            cause: Cause {
                after_function: arrival.function.to_string(),
                after_request: arrival.id.to_string(),
                after_unix_us: arrival.at_unix_us,
                by_rhythm: layer == Layer::Rhythm,
                probability: candidate.probability,
                error: candidate.error,
                terms: Some(terms),
            },
        };
        self.plans.insert((target, layer), plan);
    }

    /// Names of the functions that should be ready at `now_us` within `budget_bytes`, the most worthwhile first; what is over is forgotten.
    pub(super) fn due(&mut self, now_us: u64, budget_bytes: u64) -> Vec<String> {
        self.plans.retain(|_, plan| plan.windows.last().is_some_and(|(_, until_us)| *until_us > now_us));
        let mut claims: BTreeMap<Target, Claim> = BTreeMap::new();
        for ((target, _), plan) in self.plans.iter().filter(|(_, plan)| plan.covers(now_us)) {
            let claim = claims.entry(*target).or_insert(plan.claim);
            claim.gain_ms = claim.gain_ms.max(plan.claim.gain_ms);
        }
        let mut claims: Vec<Claim> = claims.into_values().collect();
        within_budget(&mut claims, budget_bytes);
        let name = |claim: &Claim| Some(self.names.catalog.name(claim.target.kind)?.to_owned());
        claims.iter().filter_map(name).collect()
    }

    /// What the engine expects next in the application of `function`; `None` if it was never called.
    pub(super) fn answer(&mut self, function: &str, now_us: u64) -> Option<Answer> {
        let target = self.target(function)?;
        self.engine.answer(target, None, now_us)
    }

    fn target(&self, function: &str) -> Option<Target> {
        let kind = self.names.catalog.find(function)?;
        Some(Target { scope: self.names.scopes.get(&kind).copied(), kind })
    }
}

impl Plan {
    fn covers(&self, now_us: u64) -> bool {
        let ahead_us = now_us.saturating_add(LEAD_US);
        self.windows.iter().any(|(from_us, until_us)| *from_us <= ahead_us && now_us < *until_us)
    }
}

#[cfg(test)]
mod tests {
    use forerun_predict::settings::EngineSettings;
    use forerun_types::InvocationId;

    use super::*;

    const SECOND_US: u64 = 1_000_000;
    const START_US: u64 = 1_700_000_000 * SECOND_US;

    fn arrival(function: &str, at_unix_us: u64) -> Arrival {
        let id = InvocationId::from_random(u128::from(at_unix_us));
        Arrival { id, at_unix_us, function: function.parse().unwrap(), app: "shop".into(), caller: None }
    }

    fn cost(_: &str, probability: f32) -> Option<RungCost> {
        Some(RungCost { memory_bytes: 1 << 20, load_cpu_ms: 2.0 * (1.0 - probability), saved_ms: 2.0 })
    }

    /// Sessions that look, fill and pay, five seconds between two steps.
    fn after_sessions(count: u64) -> (Expectations, u64) {
        let mut expectations = Expectations::new(Engine::new(EngineSettings::default()), Names::default());
        let mut at_us = START_US;
        for _ in 0..count {
            for function in ["look", "fill", "pay"] {
                at_us += 5 * SECOND_US;
                expectations.arrive(&arrival(function, at_us), &cost, &Prices::default());
            }
        }
        at_us += 5 * SECOND_US;
        expectations.arrive(&arrival("look", at_us), &cost, &Prices::default());
        (expectations, at_us)
    }

    #[test]
    fn the_next_step_of_a_session_is_due_and_says_why() {
        let (mut expectations, now_us) = after_sessions(50);
        let due = expectations.due(now_us + 4 * SECOND_US, u64::MAX);
        assert!(due.iter().any(|name| name == "fill"), "{due:?}");
        let fill = expectations.standing("fill", now_us + 4 * SECOND_US).expect("after a look comes a fill");
        let after = if fill.by_rhythm { "fill" } else { "look" };
        assert_eq!(fill.after_function, after, "{fill:?}");
        assert!(fill.probability > 0.8, "{fill:?}");
        // A call of the application ends the plans made before it.
        expectations.arrive(&arrival("pay", now_us + 5 * SECOND_US), &cost, &Prices::default());
        let still = expectations.standing("fill", now_us + 5 * SECOND_US);
        assert!(still.is_none_or(|cause| cause.by_rhythm));
    }

    #[test]
    fn nothing_is_due_without_budget_or_measured_cost() {
        let (mut expectations, now_us) = after_sessions(50);
        assert!(expectations.due(now_us + SECOND_US, 1).is_empty());
        let unknown = |_: &str, _: f32| None;
        expectations.arrive(&arrival("look", now_us + SECOND_US), &unknown, &Prices::default());
        assert!(expectations.due(now_us + 2 * SECOND_US, u64::MAX).is_empty());
    }

    #[test]
    fn expectations_end_and_unknown_functions_have_none() {
        let (mut expectations, now_us) = after_sessions(50);
        assert!(expectations.due(now_us + 40 * 86_400 * SECOND_US, u64::MAX).is_empty());
        assert!(expectations.answer("nobody", now_us).is_none());
        assert!(expectations.answer("look", now_us).is_some());
    }
}
