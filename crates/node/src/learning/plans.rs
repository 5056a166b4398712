//! What is to be held ready, when, and why: plans by function, each with the source whose next word ends it.
//!
//! A plan made of a session's sequence stands until that session's next call, one of a rhythm until that function's
//! next call, one announced by a call until the announced call has come. Plans of different sources for the same
//! function stand side by side: two sessions that are about to call it need two VMs.
//!
//! Pure, and bounded: beyond [`PLANS_MAX`] a new plan is refused and counted.

use std::collections::{BTreeMap, HashMap};

use forerun_predict::decision::RungTerms;
use serde::Serialize;

/// Plans at the same time. They are looked through at every look; more would make looking slow.
const PLANS_MAX: usize = 20_000;
/// Making a VM takes milliseconds and begins so much before its window.
const LEAD_US: u64 = 50_000;

/// Whose word a plan rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Source {
    /// The calls of a session.
    Session(u64),
    /// The calls of an application whose sessions are not told apart, by its number.
    App(u32),
    /// A function's own rhythm, by its number.
    Rhythm(u32),
    /// An invocation under way, by its id.
    Call(u128),
    /// Someone who knows a schedule: the function's number, and when the call may come first.
    Told(u32, u64),
}

/// Why a function is expected.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Cause {
    /// What speaks for it.
    pub(crate) by: Ground,
    /// The call it follows from.
    pub(crate) after_function: String,
    /// The id of that call; absent for what was known before the node started.
    pub(crate) after_request: Option<String>,
    /// When that call came, in microseconds since the Unix epoch.
    pub(crate) after_unix_us: u64,
    /// The function that will call it, if it is not called from outside.
    pub(crate) through: Option<String>,
    /// Probability that it is called.
    pub(crate) probability: f32,
    /// Half the width of its 95 % interval.
    pub(crate) error: f32,
    /// The terms of the threshold.
    pub(crate) terms: Option<RungTerms>,
}

/// What speaks for a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Ground {
    /// What the session called before.
    Session,
    /// What was called before it in its application.
    Sequence,
    /// Its own rhythm.
    Rhythm,
    /// A function that calls it is running.
    Call,
    /// Someone who knows has said so.
    Told,
}

pub(super) struct Plan {
    pub(super) source: Source,
    /// Start and end, in microseconds since the Unix epoch.
    pub(super) windows: Vec<(u64, u64)>,
    /// Memory of one VM, in bytes.
    pub(super) memory_bytes: u64,
    /// Calls a second until so many microseconds since the Unix epoch, in order; in the windows only.
    pub(super) rates: Vec<(u64, f32)>,
    /// What it is worth that a VM is there for a call, in milliseconds.
    pub(super) value_ms: f32,
    pub(super) cause: Cause,
}

/// A function that should be ready now.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Due {
    pub(super) kind: u32,
    /// VMs that are expected to be used.
    pub(super) vms: u32,
    /// Memory of one of them, in bytes.
    pub(super) memory_bytes: u64,
    /// How many calls come in a second from now on, if nothing changes.
    pub(super) calls_per_s: f32,
    /// What it is worth that a VM is there for one of them, in milliseconds.
    pub(super) value_ms: f32,
}

#[derive(Default)]
pub(super) struct Plans {
    by_kind: BTreeMap<u32, Vec<Plan>>,
    kinds_of: HashMap<Source, Vec<u32>>,
    count: usize,
    refused_total: u64,
}

impl Plans {
    pub(super) fn add(&mut self, kind: u32, plan: Plan) {
        let plans = self.by_kind.entry(kind).or_default();
        match plans.iter_mut().find(|known| known.source == plan.source) {
            // Reached on two ways, by itself and called by another: the likelier counts.
            Some(known) if known.cause.probability >= plan.cause.probability => {}
            Some(known) => *known = plan,
            None if self.count >= PLANS_MAX => self.refused_total += 1,
            None => {
                self.kinds_of.entry(plan.source).or_default().push(kind);
                plans.push(plan);
                self.count += 1;
            }
        }
    }

    /// The source has spoken again: what was planned by its earlier word is over.
    pub(super) fn end(&mut self, source: Source) {
        for kind in self.kinds_of.remove(&source).unwrap_or_default() {
            self.retain(kind, |plan| plan.source != source);
        }
    }

    /// A function was called by another one: the oldest announcement of it is fulfilled.
    pub(super) fn fulfil(&mut self, kind: u32) {
        let Some(plans) = self.by_kind.get_mut(&kind) else { return };
        if let Some(index) = plans.iter().position(|plan| matches!(plan.source, Source::Call(_))) {
            let source = plans.remove(index).source;
            self.forget(kind, source);
        }
    }

    /// Why a call of `kind` is expected at `now_us`; of several reasons the likeliest.
    pub(super) fn cause(&self, kind: u32, now_us: u64) -> Option<&Cause> {
        let covering = self.by_kind.get(&kind)?.iter().filter(|plan| plan.covers(now_us));
        covering.map(|plan| &plan.cause).max_by(|a, b| a.probability.total_cmp(&b.probability))
    }

    /// What should be ready at `now_us`; what is over is forgotten.
    pub(super) fn due(&mut self, now_us: u64) -> Vec<Due> {
        let over = |plan: &Plan| plan.windows.last().is_none_or(|(_, until_us)| *until_us <= now_us);
        let kinds: Vec<u32> =
            self.by_kind.iter().filter(|(_, plans)| plans.iter().any(over)).map(|(kind, _)| *kind).collect();
        kinds.into_iter().for_each(|kind| self.retain(kind, |plan| !over(plan)));
        self.by_kind.iter().filter_map(|(kind, plans)| due(*kind, plans, now_us)).collect()
    }

    /// Plans that could not be taken because there were too many.
    pub(super) fn refused_total(&self) -> u64 {
        self.refused_total
    }

    fn retain(&mut self, kind: u32, keep: impl Fn(&Plan) -> bool) {
        let Some(plans) = self.by_kind.get_mut(&kind) else { return };
        let gone: Vec<Source> = plans.extract_if(.., |plan| !keep(plan)).map(|plan| plan.source).collect();
        gone.into_iter().for_each(|source| self.forget(kind, source));
    }

    /// A plan was taken out: what points to it goes too.
    fn forget(&mut self, kind: u32, source: Source) {
        self.count -= 1;
        if self.by_kind.get(&kind).is_some_and(Vec::is_empty) {
            self.by_kind.remove(&kind);
        }
        if let Some(kinds) = self.kinds_of.get_mut(&source) {
            kinds.retain(|known| *known != kind);
            if kinds.is_empty() {
                self.kinds_of.remove(&source);
            }
        }
    }
}

impl Plan {
    fn covers(&self, now_us: u64) -> bool {
        let ahead_us = now_us.saturating_add(LEAD_US);
        self.windows.iter().any(|(from_us, until_us)| *from_us <= ahead_us && now_us < *until_us)
    }

    /// Calls a second at a time that the plan covers.
    fn calls_per_s(&self, now_us: u64) -> f32 {
        let at = self.rates.partition_point(|(until_us, _)| *until_us <= now_us);
        self.rates.get(at).map_or(0.0, |(_, per_s)| *per_s)
    }
}

/// The plans of one function that cover `now_us`, together: expected calls are the sum of the probabilities, and so are
/// calls a second.
fn due(kind: u32, plans: &[Plan], now_us: u64) -> Option<Due> {
    let covering = || plans.iter().filter(|plan| plan.covers(now_us));
    let memory_bytes = covering().map(|plan| plan.memory_bytes).max()?;
    let expected: f32 = covering().map(|plan| plan.cause.probability).sum();
    let calls_per_s: f32 = covering().map(|plan| plan.calls_per_s(now_us)).sum();
    let worth: f32 = covering().map(|plan| plan.calls_per_s(now_us) * plan.value_ms).sum();
    // A plan may bridge a time in which nothing comes; a VM is worth as much then, and needed by nobody yet.
    let most_ms = covering().map(|plan| plan.value_ms).fold(0.0, f32::max);
    let value_ms = if calls_per_s > 0.0 { worth / calls_per_s } else { most_ms };
    Some(Due { kind, vms: (expected.round() as u32).max(1), memory_bytes, calls_per_s, value_ms })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(source: Source, probability: f32) -> Plan {
        let cause = Cause {
            by: Ground::Session,
            after_function: "look".into(),
            after_request: None,
            after_unix_us: 0,
            through: None,
            probability,
            error: 0.0,
            terms: None,
        };
        Plan {
            source,
            windows: vec![(1_000_000, 2_000_000)],
            memory_bytes: 10,
            rates: vec![(1_500_000, probability), (2_000_000, 0.5 * probability)],
            value_ms: 1.0,
            cause,
        }
    }

    #[test]
    fn two_sessions_need_two_and_each_ends_its_own() {
        let mut plans = Plans::default();
        plans.add(7, plan(Source::Session(1), 0.9));
        plans.add(7, plan(Source::Session(2), 0.8));
        plans.add(8, plan(Source::Session(2), 0.1));
        assert_eq!(plans.due(1_500_000).iter().map(|due| (due.kind, due.vms)).collect::<Vec<_>>(), [(7, 2), (8, 1)]);
        plans.end(Source::Session(2));
        assert_eq!(plans.due(1_500_000).iter().map(|due| (due.kind, due.vms)).collect::<Vec<_>>(), [(7, 1)]);
        assert_eq!(plans.cause(7, 1_500_000).unwrap().probability, 0.9);
        assert!(plans.cause(8, 1_500_000).is_none());
    }

    #[test]
    fn calls_a_second_are_those_of_all_plans_at_that_time() {
        let mut plans = Plans::default();
        plans.add(7, plan(Source::Session(1), 0.5));
        plans.add(7, Plan { value_ms: 4.0, ..plan(Source::Session(2), 0.25) });
        let at = |plans: &mut Plans, now_us| {
            let due = plans.due(now_us)[0];
            (due.calls_per_s, due.value_ms)
        };
        // A moment ahead of the window it is what it will be.
        assert_eq!(at(&mut plans, 960_000), (0.75, 2.0));
        assert_eq!(at(&mut plans, 1_600_000), (0.375, 2.0));
        // Nothing comes now, and it is to be held all the same.
        let mut plans = Plans::default();
        plans.add(7, Plan { rates: vec![(2_000_000, 0.0)], ..plan(Source::Session(1), 0.5) });
        assert_eq!(at(&mut plans, 1_600_000), (0.0, 1.0));
    }

    #[test]
    fn an_announced_call_is_fulfilled_once_and_time_ends_the_rest() {
        let mut plans = Plans::default();
        plans.add(7, plan(Source::Call(1), 1.0));
        plans.add(7, plan(Source::Call(2), 1.0));
        plans.fulfil(7);
        assert_eq!(plans.due(1_500_000)[0].vms, 1);
        assert!(plans.due(900_000).is_empty());
        assert_eq!(plans.due(960_000).len(), 1, "made a moment before its window");
        assert!(plans.due(2_000_000).is_empty());
        assert_eq!((plans.count, plans.by_kind.len(), plans.kinds_of.len()), (0, 0, 0));
    }

    #[test]
    fn plans_are_bounded_and_refusals_counted() {
        let mut plans = Plans::default();
        for number in 0..PLANS_MAX as u64 + 5 {
            plans.add(7, plan(Source::Session(number), 0.5));
        }
        assert_eq!((plans.count, plans.refused_total()), (PLANS_MAX, 5));
        plans.add(7, plan(Source::Session(1), 0.9));
        assert_eq!(plans.refused_total(), 5);
    }
}
