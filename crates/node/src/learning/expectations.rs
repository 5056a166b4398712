//! Which functions are expected to be called, and when it pays to hold one ready: the engine, names, and plans.
//!
//! Pure: arrivals, time, costs and prices come in, plans come out. Three things speak for a call: the sequence of its
//! session (or of its application, where sessions are not told apart), its own rhythm, and a function under way that
//! is known to call it. Calls from outside make sequences; calls that functions make of each other follow from them
//! within milliseconds, so they are announced by the first call of a chain, and by its expectation.

use std::collections::BTreeMap;

use forerun_predict::answer::Answer;
use forerun_predict::call_graph::{CallGraph, Descendant, Edge, Seen};
use forerun_predict::catalog::Catalog;
use forerun_predict::decision::{Claim, RungCost, Weight, decide, within_budget};
use forerun_predict::engine::{Candidate, Engine, Outlook};
use forerun_predict::event::{Call, Target};
use forerun_predict::paths::{PathForecast, PathSet, RequestContext};
use forerun_predict::plan::rates;
use forerun_predict::price::Prices;
use forerun_predict::session_gaps::SessionGaps;
use forerun_predict::timing::forecast::Forecast;
use forerun_telemetry::Arrival;
use serde::{Deserialize, Serialize};

use super::plans::{Cause, Ground, Plan, Plans, Source};
use crate::paths::PathsRan;

/// Names of applications have a space in front, which no function's name may hold.
const APP_PREFIX: &str = " ";
/// Calls less probable than this are not followed through the graph of calls.
const FOLLOWED_PROBABILITY_MIN: f32 = 0.05;
/// Functions looked at when a node starts: as many as it could ever hold ready, and some to choose from.
const STARTED_WITH_MAX: usize = 1_000;

/// Share of requests that may leave the set that is named for the next one.
const PATHS_LEFT_MAX: f32 = 0.05;

/// From when a VM is taken, or another one is wanted, until it is there: the loop's look and the making.
const REPLACED_WITHIN_S: f32 = 0.05;
/// How many times as much the worth of a VM counts that was chosen before: making another costs processor time, and what
/// changes by less than this is as likely to change back.
const STAYS: f32 = 1.5;

/// What the next request of a function is expected to run.
#[derive(Default)]
pub(crate) struct ExpectedPaths {
    pub(crate) forecast: PathForecast,
    /// The smallest set found that it stays within, but for [`PATHS_LEFT_MAX`].
    pub(crate) set: PathSet,
}

/// What is kept beside the engine's own state.
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
    pub(super) calls: CallGraph,
    pub(super) gaps: SessionGaps,
    outlook: Outlook,
    plans: Plans,
    /// VMs of each function that were last said to be worth holding.
    chosen: BTreeMap<u32, u32>,
}

/// What a rung costs, by name of function and probability of use.
pub(super) type CostOf<'a> = &'a dyn Fn(&str, f32) -> Option<RungCost>;

/// What plans are made from: the call that gave rise to them, and what things cost.
struct Making<'a> {
    after_function: &'a str,
    after_request: Option<String>,
    after_unix_us: u64,
    cost_of: CostOf<'a>,
    prices: &'a Prices,
}

/// A call that may come: who says so, which, when.
struct Statement<'a> {
    source: Source,
    by: Ground,
    candidate: Candidate,
    through: Option<u32>,
    hazards: &'a [f32],
    from_us: u64,
}

impl Expectations {
    pub(super) fn new(engine: Engine, names: Names, calls: CallGraph, gaps: SessionGaps) -> Self {
        Self {
            engine,
            names,
            calls,
            gaps,
            outlook: Outlook::default(),
            plans: Plans::default(),
            chosen: BTreeMap::new(),
        }
    }

    /// Why a call of `function` would be expected at `now_us`, if it is.
    pub(super) fn standing(&self, function: &str, now_us: u64) -> Option<Cause> {
        self.plans.cause(self.names.catalog.find(function)?, now_us).cloned()
    }

    /// Takes a call in. A name the catalog does not take is not predicted.
    pub(super) fn observe(&mut self, arrival: &Arrival) -> Option<Target> {
        let kind = self.names.catalog.number(arrival.function.as_str()).ok()?;
        let by = arrival.caller.as_ref().map(|caller| caller.id.as_u128());
        self.calls.observe(&Seen { id: arrival.id.as_u128(), kind, at_us: arrival.at_unix_us, by });
        let mut call = Call {
            at_us: arrival.at_unix_us,
            target: Target { scope: None, kind },
            session: None,
            caller: None,
            class: 0,
            count: 1,
        };
        match &arrival.caller {
            // Its own timing is learnt. It is no step of the session, but part of one.
            Some(caller) => call.caller = self.names.catalog.find(caller.function.as_str()),
            None => {
                let scope = self.names.catalog.number(&format!("{APP_PREFIX}{}", arrival.app)).ok()?;
                self.names.scopes.insert(kind, scope);
                call.target.scope = Some(scope);
                call.session = arrival.session.map(|session| session.as_u64());
                if let Some(session) = call.session {
                    self.gaps.observe(self.engine.bins(), session, scope, kind, arrival.at_unix_us);
                }
            }
        }
        self.engine.observe(&call);
        Some(call.target)
    }

    /// Takes in what a sampled request ran. Who called it is not told, and the size of its body is part of its class.
    pub(super) fn observe_paths(&mut self, ran: &PathsRan) {
        if let Ok(kind) = self.names.catalog.number(ran.function.as_str()) {
            let request = RequestContext { class: ran.class, ..RequestContext::default() };
            self.engine.paths.observe(kind, &request, &ran.keys);
        }
    }

    /// What the next request of a function is expected to run, whatever its class; `None` if none was ever sampled.
    pub(super) fn expected_paths(&self, function: &str) -> Option<ExpectedPaths> {
        let kind = self.names.catalog.find(function)?;
        let forecast = self.engine.paths.forecast(kind, &RequestContext::default());
        let set = self.engine.paths.smallest_set(kind, &forecast, PATHS_LEFT_MAX);
        (forecast.samples > 0).then_some(ExpectedPaths { forecast, set })
    }

    /// Takes `count` further calls of a function in at one go: of a busy function only the pace is learnt.
    pub(super) fn observe_many(&mut self, function: &str, at_us: u64, count: u32) {
        let Some(kind) = self.names.catalog.find(function) else { return };
        let target = Target { scope: self.names.scopes.get(&kind).copied(), kind };
        self.engine.observe(&Call { at_us, target, session: None, caller: None, class: 0, count });
    }

    /// Plans anew what depends on a call that was taken in as one of `target`.
    pub(super) fn plan(&mut self, arrival: &Arrival, target: Target, cost_of: CostOf<'_>, prices: &Prices) {
        let making = Making {
            after_function: arrival.function.as_str(),
            after_request: Some(arrival.id.to_string()),
            after_unix_us: arrival.at_unix_us,
            cost_of,
            prices,
        };
        self.plans.end(Source::Rhythm(target.kind));
        if arrival.caller.is_some() {
            self.plans.fulfil(target.kind);
        } else {
            self.plan_sequence(&making, target, arrival.session.map(|session| session.as_u64()));
        }
        self.plan_calls(&making, target.kind, arrival);
    }

    /// What the session, or the application, calls next; and what that will call.
    fn plan_sequence(&mut self, making: &Making<'_>, target: Target, session: Option<u64>) {
        let (source, by) = match (session, target.scope) {
            (Some(session), _) => (Source::Session(session), Ground::Session),
            (None, Some(scope)) => (Source::App(scope), Ground::Sequence),
            (None, None) => return,
        };
        self.plans.end(source);
        let mut outlook = std::mem::take(&mut self.outlook);
        self.engine.outlook(target, session, &mut outlook);
        if session.is_some() {
            self.gaps.forecast(self.engine.bins(), target, &mut outlook.event);
        }
        for candidate in &outlook.candidates {
            let (hazards, from_us) = (&outlook.event.hazards, outlook.from_us);
            self.state(making, &Statement { source, by, candidate: *candidate, through: None, hazards, from_us });
        }
        if !outlook.rhythm.hazards.is_empty() {
            self.plan_rhythm(making, target, &outlook.rhythm, outlook.from_us);
        }
        self.outlook = outlook;
    }

    fn plan_rhythm(&mut self, making: &Making<'_>, target: Target, rhythm: &Forecast, from_us: u64) {
        let candidate = Candidate { target, probability: 1.0, error: 0.0 };
        let (source, hazards) = (Source::Rhythm(target.kind), &rhythm.hazards);
        self.state(making, &Statement { source, by: Ground::Rhythm, candidate, through: None, hazards, from_us });
    }

    /// What a function under way will call. Those that an earlier call of the chain has announced are known.
    fn plan_calls(&mut self, making: &Making<'_>, kind: u32, arrival: &Arrival) {
        if !self.follows_calls() {
            return;
        }
        let (from_us, mut hazards) = (arrival.at_unix_us, Vec::new());
        for next in self.calls.descendants(kind, FOLLOWED_PROBABILITY_MIN) {
            let known = self.plans.cause(next.kind, from_us);
            if arrival.caller.is_some() && known.is_some_and(|known| known.by == Ground::Call) {
                continue;
            }
            next.hazards(self.engine.bins(), &mut hazards);
            let source = Source::Call(arrival.id.as_u128());
            let statement = Statement {
                source,
                by: Ground::Call,
                candidate: called(&next, 1.0, 0.0),
                through: Some(next.through),
                hazards: &hazards,
                from_us,
            };
            self.make(making, &statement);
        }
    }

    /// Plans for a call that may come, and for those that it will make.
    fn state(&mut self, making: &Making<'_>, statement: &Statement<'_>) {
        self.make(making, statement);
        if !self.follows_calls() {
            return;
        }
        let Candidate { target, probability, error } = statement.candidate;
        let followed = FOLLOWED_PROBABILITY_MIN / probability.max(FOLLOWED_PROBABILITY_MIN);
        for next in self.calls.descendants(target.kind, followed) {
            let candidate = called(&next, probability, error);
            // The grid is that of its caller's call, which its own follows by the lag.
            let from_us = statement.from_us.saturating_add(next.lag_us);
            self.make(making, &Statement { candidate, through: Some(next.through), from_us, ..*statement });
        }
    }

    /// Whether calls that functions make of each other are foreseen: a Markov expert, with its family.
    fn follows_calls(&self) -> bool {
        self.engine.settings().families.markov
    }

    /// The plan for one function, if holding it ready pays at any time.
    fn make(&mut self, making: &Making<'_>, statement: &Statement<'_>) {
        let Statement { source, by, candidate, through, hazards, from_us } = statement;
        let name = |kind: u32| self.names.catalog.name(kind);
        let Some(function) = name(candidate.target.kind) else { return };
        let Some(cost) = (making.cost_of)(function, candidate.probability) else { return };
        let weight = Weight::default().of(self.idle_times(candidate.target.kind));
        let ladder = [None, None, Some(cost)];
        let decision = decide(self.engine.bins(), hazards, candidate, &ladder, weight, None, making.prices);
        let Some(terms) = decision.terms.into_iter().last() else { return };
        if decision.windows.is_empty() {
            return;
        }
        let moment = |seconds: f32| from_us.saturating_add((f64::from(seconds) * 1e6) as u64);
        let share = candidate.probability * terms.confidence_factor;
        let rates = rates(self.engine.bins(), hazards, share, &decision.windows);
        let plan = Plan {
            source: *source,
            windows: decision.windows.iter().map(|window| (moment(window.start_s), moment(window.end_s))).collect(),
            memory_bytes: cost.memory_bytes,
            rates: rates.iter().map(|rate| (moment(rate.end_s), rate.per_s)).collect(),
            value_ms: terms.value_ms,
            cause: Cause {
                by: *by,
                after_function: making.after_function.to_owned(),
                after_request: making.after_request.clone(),
                after_unix_us: making.after_unix_us,
                through: through.and_then(name).map(str::to_owned),
                probability: candidate.probability,
                error: candidate.error,
                terms: Some(terms),
            },
        };
        self.plans.add(candidate.target.kind, plan);
    }

    /// How often a function has been called again, in whichever scope it was called last.
    fn idle_times(&self, kind: u32) -> u32 {
        let scope = self.names.scopes.get(&kind).copied();
        let target = [Target { scope, kind }, Target { scope: None, kind }];
        let seen = target.iter().filter_map(|target| self.engine.timing().history(self.engine.index_of(*target)?));
        seen.map(|history| history.idle_count).max().unwrap_or(0)
    }

    /// Someone knows that a call of `function` comes between `from_us` and `until_us`: it is as good as certain, so no
    /// threshold is asked. Says whether there was room to remember it.
    pub(super) fn tell(
        &mut self,
        function: &str,
        (from_us, until_us): (u64, u64),
        now_us: u64,
        cost_of: CostOf<'_>,
    ) -> bool {
        let Ok(kind) = self.names.catalog.number(function) else { return false };
        let known = self.engine.known.add(Target { scope: None, kind }, from_us, until_us);
        if known {
            self.plan_told(kind, (from_us, until_us), now_us, cost_of);
        }
        known
    }

    fn plan_told(&mut self, kind: u32, window_us: (u64, u64), now_us: u64, cost_of: CostOf<'_>) {
        let function = self.names.catalog.name(kind).unwrap_or_default().to_owned();
        // A function that has never run has no measured cost: its VM is taken to be small, and the budget is kept by
        // whoever holds it.
        let cost = cost_of(&function, 1.0);
        let cause = Cause {
            by: Ground::Told,
            after_function: function,
            after_request: None,
            after_unix_us: now_us,
            through: None,
            probability: 1.0,
            error: 0.0,
            terms: None,
        };
        let plan = Plan {
            source: Source::Told(kind, window_us.0),
            windows: vec![window_us],
            memory_bytes: cost.map_or(0, |cost| cost.memory_bytes),
            // As if it came at any moment: nobody else is as sure.
            rates: vec![(window_us.1, 1.0 / REPLACED_WITHIN_S)],
            value_ms: cost.map_or(1.0, |cost| cost.saved_ms.max(1.0)),
            cause,
        };
        self.plans.add(kind, plan);
    }

    /// Plans from what was told and from the functions' own timing, for a node that starts with what was learnt before.
    pub(super) fn plan_from_memory(&mut self, cost_of: CostOf<'_>, prices: &Prices) {
        let told: Vec<(Target, u64, u64)> = self.engine.known.before(u64::MAX).collect();
        for (target, from_us, until_us) in told {
            self.plan_told(target.kind, (from_us, until_us), self.engine.now_us(), cost_of);
        }
        let known: Vec<(u32, Option<u32>)> = (0..u32::try_from(self.names.catalog.len()).unwrap_or(u32::MAX))
            .filter(|kind| self.names.catalog.name(*kind).is_some_and(|name| cost_of(name, 1.0).is_some()))
            .map(|kind| (kind, self.names.scopes.get(&kind).copied()))
            .take(STARTED_WITH_MAX)
            .collect();
        let mut forecast = Forecast::default();
        for (kind, scope) in known {
            for target in [Target { scope, kind }, Target { scope: None, kind }] {
                let Some(index) = self.engine.index_of(target) else { continue };
                let Some(last_us) = self.engine.timing().history(index).map(|history| history.last_us) else {
                    continue;
                };
                self.engine.timing().forecast(index, &mut forecast);
                let name = self.names.catalog.name(kind).unwrap_or_default().to_owned();
                let making =
                    Making { after_function: &name, after_request: None, after_unix_us: last_us, cost_of, prices };
                self.plan_rhythm(&making, target, &forecast, last_us);
            }
        }
    }

    /// Names of the functions that should be ready at `now_us` within `budget_bytes`, with how many VMs of each; the
    /// most worthwhile are chosen.
    ///
    /// Where the budget is short, a VM is worth what it is likely to save until another could be in its place: the
    /// `k`-th VM of a function with `r` calls a second, each of which it saves `V` ms, is worth
    ///
    /// ```text
    /// V P(N >= k),    N ~ Poisson(r T),    T the time in which a VM is replaced
    /// ```
    ///
    /// and the worth of one that is there already counts [`STAYS`] times, since another would have to be made.
    pub(super) fn due(&mut self, now_us: u64, budget_bytes: u64) -> BTreeMap<String, u32> {
        let mut claims = Vec::new();
        for due in self.plans.due(now_us) {
            let there = self.chosen.get(&due.kind).copied().unwrap_or(0);
            let mut at_least = at_least(due.calls_per_s * REPLACED_WITHIN_S);
            claims.extend((0..due.vms).map(|vm| Claim {
                target: Target { scope: None, kind: due.kind },
                memory_bytes: due.memory_bytes,
                gain_ms: due.value_ms * at_least() * if vm < there { STAYS } else { 1.0 },
            }));
        }
        within_budget(&mut claims, budget_bytes);
        self.chosen.clear();
        for claim in &claims {
            *self.chosen.entry(claim.target.kind).or_default() += 1;
        }
        let named = |(kind, vms): (&u32, &u32)| Some((self.names.catalog.name(*kind)?.to_owned(), *vms));
        self.chosen.iter().filter_map(named).collect()
    }

    /// What the engine expects next in the application of `function`; `None` if it was never called.
    pub(super) fn answer(&mut self, function: &str, now_us: u64) -> Option<Answer> {
        let kind = self.names.catalog.find(function)?;
        let target = Target { scope: self.names.scopes.get(&kind).copied(), kind };
        self.engine.answer(target, None, now_us)
    }

    /// The calls that functions make of each other, with names.
    pub(super) fn edges(&self) -> Vec<(String, String, Edge)> {
        let name = |kind: u32| self.names.catalog.name(kind).map(str::to_owned);
        self.calls.edges().filter_map(|edge| Some((name(edge.caller)?, name(edge.callee)?, edge))).collect()
    }

    /// Plans refused because there were too many.
    pub(super) fn plans_refused_total(&self) -> u64 {
        self.plans.refused_total()
    }
}

/// Probabilities that of a Poisson number of calls with this mean at least one comes, at least two, and so on: one more
/// with each call.
fn at_least(mean: f32) -> impl FnMut() -> f32 {
    let mean = f64::from(mean);
    let (mut exactly, mut count, mut below) = ((-mean).exp(), 0.0, 0.0);
    move || {
        below += exactly;
        count += 1.0;
        exactly *= mean / count;
        // Not nothing: what does not pay is not planned, and is held where there is room.
        (1.0 - below).max(f64::from(f32::MIN_POSITIVE)) as f32
    }
}

/// A descendant of something that comes with this probability and error itself.
fn called(next: &Descendant, probability: f32, error: f32) -> Candidate {
    let both = probability * next.probability;
    let relative = error / probability.max(f32::MIN_POSITIVE) + next.error / next.probability;
    Candidate { target: Target { scope: None, kind: next.kind }, probability: both, error: both * relative.min(1.0) }
}

#[cfg(test)]
mod tests {
    use forerun_predict::settings::EngineSettings;
    use forerun_telemetry::CallingInvocation;
    use forerun_types::{InvocationId, SessionKey};

    use super::*;

    const SECOND_US: u64 = 1_000_000;
    const START_US: u64 = 1_700_000_000 * SECOND_US;

    fn arrival(function: &str, at_unix_us: u64) -> Arrival {
        let id = InvocationId::from_random(u128::from(at_unix_us));
        let function = function.parse().unwrap();
        Arrival { id, at_unix_us, function, app: "shop".into(), session: None, caller: None }
    }

    fn cost(_: &str, probability: f32) -> Option<RungCost> {
        Some(RungCost { memory_bytes: 1 << 20, load_cpu_ms: 2.0 * (1.0 - probability), saved_ms: 2.0 })
    }

    fn nothing_learnt() -> Expectations {
        let engine = Engine::new(EngineSettings::default());
        Expectations::new(engine, Names::default(), CallGraph::default(), SessionGaps::default())
    }

    fn arrive(expectations: &mut Expectations, arrival: &Arrival, cost: CostOf<'_>) {
        let target = expectations.observe(arrival).unwrap();
        expectations.plan(arrival, target, cost, &Prices::default());
    }

    /// Sessions that look, fill and pay, five seconds between two steps.
    fn after_sessions(count: u64) -> (Expectations, u64) {
        let mut expectations = nothing_learnt();
        let mut at_us = START_US;
        for _ in 0..count {
            for function in ["look", "fill", "pay"] {
                at_us += 5 * SECOND_US;
                arrive(&mut expectations, &arrival(function, at_us), &cost);
            }
        }
        at_us += 5 * SECOND_US;
        arrive(&mut expectations, &arrival("look", at_us), &cost);
        (expectations, at_us)
    }

    #[test]
    fn the_next_step_of_an_application_is_due_and_says_why() {
        let (mut expectations, now_us) = after_sessions(50);
        let due = expectations.due(now_us + 4 * SECOND_US, u64::MAX);
        assert!(due.contains_key("fill"), "{due:?}");
        let fill = expectations.standing("fill", now_us + 4 * SECOND_US).expect("after a look comes a fill");
        let after = if fill.by == Ground::Rhythm { "fill" } else { "look" };
        assert_eq!(fill.after_function, after, "{fill:?}");
        assert!(fill.probability > 0.8, "{fill:?}");
        // A call of the application ends the plans made before it.
        arrive(&mut expectations, &arrival("pay", now_us + 5 * SECOND_US), &cost);
        let still = expectations.standing("fill", now_us + 5 * SECOND_US);
        assert!(still.is_none_or(|cause| cause.by == Ground::Rhythm));
    }

    /// Ten sessions at a time, each of which looks, fills and pays; their steps interleave.
    #[test]
    fn interleaved_sessions_are_told_apart() {
        let mut expectations = nothing_learnt();
        let mut now_us = START_US;
        let step_of =
            |session: u64, round: u64| ["look", "fill", "pay"].get((round + 3 - session % 3) as usize % 3).copied();
        for round in 0..60 {
            for session in 0..10u64 {
                now_us += 200_000 + (round * 7_919 + session * 104_729) * 31 % 600_000;
                let mut one = arrival(step_of(session, round).unwrap(), now_us);
                // A session is over when it has paid; the next one of this place has another key.
                let turn = (round + 3 - session % 3) / 3;
                one.session = Some(SessionKey::from_hash(turn * 100 + session));
                arrive(&mut expectations, &one, &cost);
            }
        }
        let mut look = arrival("look", now_us + 500_000);
        look.session = Some(SessionKey::from_hash(999_999));
        arrive(&mut expectations, &look, &cost);
        let fill = expectations.standing("fill", now_us + 4 * SECOND_US).expect("this session fills next");
        assert_eq!(fill.by, Ground::Session, "{fill:?}");
        assert!(fill.probability > 0.7, "{fill:?}");
    }

    #[test]
    fn a_chain_is_ready_as_soon_as_its_first_function_is_called() {
        let mut expectations = nothing_learnt();
        let mut chain = |at_us: u64, length: usize| {
            let mut caller: Option<CallingInvocation> = None;
            for (step, function) in ["one", "two", "three", "four", "five"].into_iter().enumerate().take(length) {
                let mut call = arrival(function, at_us + 700 * step as u64);
                call.caller = caller.take();
                caller = Some(CallingInvocation { function: call.function.clone(), id: call.id });
                arrive(&mut expectations, &call, &cost);
            }
        };
        // At times without a rhythm.
        (1..40u64).for_each(|round| chain(START_US + round * round * 7 * SECOND_US, 5));
        let now_us = START_US + 20_000 * SECOND_US;
        chain(now_us, 1);
        let due = expectations.due(now_us + 100, u64::MAX);
        for function in ["two", "three", "four", "five"] {
            assert_eq!(due.get(function), Some(&1), "{due:?}");
        }
        let five = expectations.standing("five", now_us + 100).unwrap();
        assert_eq!(
            (five.by, five.after_function.as_str(), five.through.as_deref()),
            (Ground::Call, "one", Some("four"))
        );
        assert!(expectations.due(now_us + 60 * SECOND_US, u64::MAX).is_empty());
    }

    #[test]
    fn a_node_that_starts_again_knows_what_is_due() {
        let (learnt, last_us) = after_sessions(50);
        let Expectations { engine, names, calls, gaps, .. } = learnt;
        let mut again = Expectations::new(engine, names, calls, gaps);
        assert!(again.due(last_us + 4_500_000, u64::MAX).is_empty());
        again.plan_from_memory(&cost, &Prices::default());
        // The last call of `fill` was ten seconds before; it comes every fifteen.
        let due = again.due(last_us + 4_500_000, u64::MAX);
        assert!(due.contains_key("fill"), "{due:?}");
    }

    #[test]
    fn what_sampled_requests_ran_is_expected_of_the_next() {
        let mut expectations = nothing_learnt();
        let (function, class) = ("cart".parse::<forerun_types::FunctionName>().unwrap(), 7);
        assert!(expectations.expected_paths("cart").is_none());
        for round in 0..60u32 {
            // Every second request goes another way.
            let keys = if round % 2 == 0 { vec![1, 2, 3] } else { vec![1, 8, 9] };
            expectations.observe_paths(&PathsRan { function: function.clone(), class, keys });
        }
        let expected = expectations.expected_paths("cart").unwrap();
        assert_eq!((expected.forecast.samples, expected.forecast.map[0].id), (60, 1));
        assert!(expected.set.mass > 0.8 && expected.set.functions.contains(&2), "{:?}", expected.set);
        assert!(expectations.expected_paths("look").is_none());
    }

    #[test]
    fn what_was_told_is_due_in_its_window_and_after_a_restart() {
        let mut expectations = nothing_learnt();
        let window_us = (START_US + 60 * SECOND_US, START_US + 90 * SECOND_US);
        assert!(expectations.tell("report", window_us, START_US, &cost));
        assert!(expectations.due(START_US + 50 * SECOND_US, u64::MAX).is_empty());
        assert_eq!(expectations.due(START_US + 61 * SECOND_US, u64::MAX).get("report"), Some(&1));
        let cause = expectations.standing("report", START_US + 61 * SECOND_US).unwrap();
        assert_eq!((cause.by, cause.probability), (Ground::Told, 1.0));
        let Expectations { engine, names, calls, gaps, .. } = expectations;
        let mut again = Expectations::new(engine, names, calls, gaps);
        again.plan_from_memory(&cost, &Prices::default());
        assert!(again.due(START_US + 89 * SECOND_US, u64::MAX).contains_key("report"));
        assert!(again.due(START_US + 91 * SECOND_US, u64::MAX).is_empty());
    }

    #[test]
    fn what_nobody_needs_yet_is_held_where_there_is_room() {
        let mut vms = at_least(0.0);
        assert!((0..3).all(|_| vms() > 0.0), "and so is chosen last, and not refused");
        let mut vms = at_least(1.0);
        let [one, two] = [vms(), vms()];
        assert!((one - 0.632).abs() < 1e-3 && (two - 0.264).abs() < 1e-3, "{one} {two}");
    }

    #[test]
    fn nothing_is_due_without_budget_or_measured_cost() {
        let (mut expectations, now_us) = after_sessions(50);
        assert!(expectations.due(now_us + SECOND_US, 1).is_empty());
        let unknown = |_: &str, _: f32| None;
        arrive(&mut expectations, &arrival("look", now_us + SECOND_US), &unknown);
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
