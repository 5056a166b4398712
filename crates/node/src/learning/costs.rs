//! What being ready costs and saves, function by function, measured from the invocations as they end.
//!
//! Means forget slowly, so that a new revision is known after some tens of requests. Nothing here decides.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use forerun_predict::decision::RungCost;
use forerun_telemetry::{EventSink, InvocationEvent, Phases};
use forerun_types::{FunctionName, GenericReason, Outcome, RevisionNumber, ServePath};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::answers::Answer;
use super::arm::Arm;
use super::standing::Standings;

/// Share of a new measurement in a mean, once there are many.
const NEW_SHARE: f64 = 0.05;

/// A request that has waited so long for a place is one of a crowd: how long it took then is what the others left it of the
/// processors, and says nothing of its VM. Learning yields first.
const CROWDED_AFTER_US: u64 = 10_000;

/// What is known of one function.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Cost {
    /// Requests measured on the standard path.
    generic: u64,
    /// Time the standard path needs until a VM is ready, in microseconds.
    pub(crate) generic_deploy_us: f64,
    /// The same where a VM was ready.
    pub(crate) ready_deploy_us: f64,
    /// Most linear memory of a VM, in bytes.
    pub(crate) memory_bytes: f64,
    /// Requests served by a ready VM.
    pub(crate) ready: u64,
    /// Time that ready VMs saved in all, in microseconds.
    pub(crate) saved_us: f64,
    /// Each way of preparing VMs against control.
    pub(crate) arms: Arms,
    /// Whether requests were expected, and what came of it.
    pub(crate) foresight: Foresight,
    /// Memory held ready, in byte-seconds.
    pub(crate) held_byte_s: f64,
    /// VMs made ready.
    pub(crate) made: u64,
    /// Time spent on making them, in microseconds.
    pub(crate) make_us_total: f64,
}

/// Each way of preparing VMs of one revision, on trial.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Arms {
    /// The revision they are of, once a request of it has been seen.
    revision: Option<RevisionNumber>,
    pub(crate) ready: Arm,
    pub(crate) rolled_back: Arm,
    pub(crate) specialized: Arm,
    /// Whether anything has come since they were last judged.
    #[serde(skip)]
    pub(super) unjudged: bool,
}

/// Requests, by what was expected of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Foresight {
    /// A VM was ready.
    pub(crate) hit: u64,
    /// It was expected, and no VM was ready.
    pub(crate) late: u64,
    /// It was not expected, or not enough to pay.
    pub(crate) missed: u64,
}

/// Costs of all functions, shared by those who measure and those who decide.
pub(crate) type Costs = Arc<Mutex<BTreeMap<FunctionName, Cost>>>;

/// Takes the measurements from the event pipe.
pub(crate) struct CostSink {
    costs: Costs,
    /// What was expected of the requests of the recent past.
    standings: Arc<Mutex<Standings>>,
}

impl CostSink {
    pub(crate) fn new(costs: Costs, standings: Arc<Mutex<Standings>>) -> Self {
        Self { costs, standings }
    }
}

impl EventSink for CostSink {
    fn take(&mut self, events: &[InvocationEvent]) {
        for event in events {
            let expected = self.standings.lock().was_expected(event.id);
            let mut costs = self.costs.lock();
            let cost = costs.entry(event.function.clone()).or_default();
            cost.arms.take(event);
            if event.outcome == Outcome::Ok {
                cost.measure(event);
                cost.foresight.count(event.serve_path, expected);
            }
        }
    }

    fn flush(&mut self) {}
}

impl Cost {
    fn measure(&mut self, event: &InvocationEvent) {
        let phases = &event.phases;
        let deploy_us = phases.deployed_us.saturating_sub(phases.admitted_us);
        match event.serve_path {
            ServePath::Ready => {
                self.ready += 1;
                mean(&mut self.ready_deploy_us, deploy_us as f64, self.ready);
                self.saved_us += self.saves_us(deploy_us as f64);
            }
            // The time until its VM was there is that of two of them, and of a failure.
            ServePath::Generic(
                GenericReason::RetriedReady | GenericReason::RetriedRolledBack | GenericReason::RetriedSpecialized,
            )
            | ServePath::RolledBack
            | ServePath::Specialized
            | ServePath::Reused => {}
            ServePath::Generic(_) => {
                self.generic += 1;
                mean(&mut self.generic_deploy_us, deploy_us as f64, self.generic);
            }
        }
        mean(&mut self.memory_bytes, event.memory_bytes_peak as f64, self.generic + self.ready);
    }

    /// What a ready VM saves that was there after `ready_deploy_us`: making one, and whatever else a new one does in its
    /// first request that was done ahead, such as touching its pages. The second is not seen in the deployment but in
    /// answers beside those of the control group.
    fn saves_us(&self, ready_deploy_us: f64) -> f64 {
        let deploying = self.generic_deploy_us - ready_deploy_us;
        deploying.max(self.arms.ready.saves_us().unwrap_or(0.0)).max(0.0)
    }

    /// What a request without a ready VM is saved all the same, where those get a copy of the warm state that is not given up.
    fn saved_otherwise_us(&self) -> f64 {
        let specialized = &self.arms.specialized;
        let saves_us = specialized.saves_us().filter(|_| specialized.given_up().is_none());
        saves_us.unwrap_or(0.0).max(0.0)
    }

    /// Time it takes to make a VM ready: as measured, or as the standard path does.
    fn load_us(&self) -> f64 {
        if self.made == 0 { self.generic_deploy_us } else { self.make_us_total / self.made as f64 }
    }

    /// VMs of `memory_bytes` in all were held for so long.
    pub(crate) fn held(&mut self, memory_bytes: u64, passed: Duration) {
        self.held_byte_s += memory_bytes as f64 * passed.as_secs_f64();
    }

    /// So many VMs were made, the last of them in `make_us`.
    pub(crate) fn made(&mut self, vms: u32, make_us: u64) {
        self.made += u64::from(vms);
        self.make_us_total += f64::from(vms) * make_us as f64;
    }

    /// The rung "a VM is ready", if the standard path was ever measured. `probability`: that the VM will be used. The
    /// work of making it is then not done on the request path, so only the other part of it is an expense. What it saves
    /// is reckoned against what the request would get otherwise.
    pub(crate) fn ready_rung(&self, probability: f32) -> Option<RungCost> {
        let load_ms = (self.load_us() * 1e-3) as f32;
        (self.generic > 0).then(|| RungCost {
            memory_bytes: self.memory_bytes as u64,
            load_cpu_ms: load_ms * (1.0 - probability.clamp(0.0, 1.0)),
            saved_ms: ((self.saves_us(self.ready_deploy_us) - self.saved_otherwise_us()).max(0.0) * 1e-3) as f32,
        })
    }
}

impl Arms {
    /// Each with its name.
    pub(crate) fn all(&self) -> [(&'static str, &Arm); 3] {
        [("ready", &self.ready), ("rolled-back", &self.rolled_back), ("specialized", &self.specialized)]
    }

    /// Takes in how a request was served. What is of another revision begins anew.
    fn take(&mut self, event: &InvocationEvent) {
        let Some(answer) = Answer::of(event.outcome, event.status) else { return };
        if self.revision != Some(event.revision) {
            *self = Self { revision: Some(event.revision), ..Self::default() };
        }
        self.unjudged = true;
        let served = event.outcome == Outcome::Ok;
        let latency_us = if served { own_us(&event.phases, event.calls_us) } else { None };
        match event.serve_path {
            ServePath::Ready => self.ready.served(answer, latency_us),
            ServePath::RolledBack => self.rolled_back.served(answer, latency_us),
            ServePath::Specialized => self.specialized.served(answer, latency_us),
            ServePath::Generic(GenericReason::Control) => self.ready.control(answer, latency_us),
            ServePath::Generic(GenericReason::ControlRolledBack) => self.rolled_back.control(answer, latency_us),
            ServePath::Generic(GenericReason::ControlSpecialized) => self.specialized.control(answer, latency_us),
            ServePath::Generic(GenericReason::RetriedReady) => self.ready.served_again(served),
            ServePath::Generic(GenericReason::RetriedRolledBack) => self.rolled_back.served_again(served),
            ServePath::Generic(GenericReason::RetriedSpecialized) => self.specialized.served_again(served),
            ServePath::Reused
            | ServePath::Generic(
                GenericReason::NoImage
                | GenericReason::BelowThreshold
                | GenericReason::AllTaken
                | GenericReason::Quarantined
                | GenericReason::Sampled
                | GenericReason::Disabled,
            ) => {}
        }
    }
}

impl Foresight {
    fn count(&mut self, serve_path: ServePath, expected: bool) {
        match serve_path {
            ServePath::Ready => self.hit += 1,
            // A VM was ready and left alone on purpose.
            ServePath::Generic(GenericReason::Control | GenericReason::RetriedReady) => self.hit += 1,
            // A VM that is kept anyway needs no foresight.
            ServePath::Reused | ServePath::RolledBack => {}
            ServePath::Generic(GenericReason::ControlRolledBack | GenericReason::RetriedRolledBack) => {}
            ServePath::Specialized | ServePath::Generic(_) if expected => self.late += 1,
            ServePath::Specialized | ServePath::Generic(_) => self.missed += 1,
        }
    }
}

/// How long a request took by itself, in microseconds: without its calls, which are in the same group and are judged by
/// themselves. `None` if it was one of a crowd.
fn own_us(phases: &Phases, calls_us: u64) -> Option<u64> {
    let waited_us = phases.admitted_us.saturating_sub(phases.routed_us);
    let took_us = phases.first_byte_us.saturating_sub(phases.admitted_us);
    (waited_us < CROWDED_AFTER_US).then(|| took_us.saturating_sub(calls_us))
}

/// The mean of all values while they are few, then one that forgets.
fn mean(mean: &mut f64, value: f64, count: u64) {
    *mean += (value - *mean) * (1.0 / count.max(1) as f64).max(NEW_SHARE);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_that_was_never_measured_has_no_price() {
        let mut cost = Cost::default();
        assert_eq!(cost.ready_rung(0.5), None);
        (cost.generic, cost.generic_deploy_us, cost.memory_bytes) = (3, 2_000.0, 1e6);
        let rung = cost.ready_rung(0.75).unwrap();
        assert_eq!((rung.memory_bytes, rung.load_cpu_ms, rung.saved_ms), (1_000_000, 0.5, 2.0));
    }

    #[test]
    fn a_request_is_measured_without_its_calls_and_not_at_all_in_a_crowd() {
        let alone = Phases { routed_us: 10, admitted_us: 20, deployed_us: 120, first_byte_us: 1_020, total_us: 2_000 };
        assert_eq!((own_us(&alone, 0), own_us(&alone, 300), own_us(&alone, 5_000)), (Some(1_000), Some(700), Some(0)));
        let waited = |us: u64| own_us(&Phases { admitted_us: 10 + us, first_byte_us: 1_010 + us, ..alone }, 0);
        assert_eq!((waited(CROWDED_AFTER_US - 1), waited(CROWDED_AFTER_US)), (Some(1_000), None));
    }

    #[test]
    fn what_is_done_ahead_beside_deploying_is_saved_too() {
        let mut cost = Cost { generic: 3, generic_deploy_us: 100.0, ready_deploy_us: 1.0, ..Cost::default() };
        for _ in 0..20 {
            cost.arms.ready.served(Answer::Success, Some(2_000));
            assert!((cost.ready_rung(1.0).unwrap().saved_ms - 0.099).abs() < 1e-6, "too few to tell");
            cost.arms.ready.control(Answer::Success, Some(5_000));
        }
        assert!((cost.ready_rung(1.0).unwrap().saved_ms - 3.0).abs() < 0.01);
        cost.made(2, 700);
        assert!((cost.ready_rung(0.5).unwrap().load_cpu_ms - 0.35).abs() < 1e-6);
    }

    #[test]
    fn a_ready_vm_is_worth_what_the_request_would_not_have_otherwise() {
        let mut cost = Cost { generic: 3, generic_deploy_us: 100.0, ready_deploy_us: 1.0, ..Cost::default() };
        for _ in 0..20 {
            cost.arms.ready.served(Answer::Success, Some(2_000));
            cost.arms.ready.control(Answer::Success, Some(5_000));
        }
        for (copied_us, saved_ms) in [(3_000, 1.0), (1_000, 0.0), (9_000, 3.0)] {
            cost.arms.specialized = Arm::default();
            for _ in 0..20 {
                cost.arms.specialized.served(Answer::Success, Some(copied_us));
                cost.arms.specialized.control(Answer::Success, Some(5_000));
            }
            let saved = cost.ready_rung(1.0).unwrap().saved_ms;
            assert!((saved - saved_ms).abs() < 0.01, "{copied_us} us in a copy: {saved} ms");
        }
    }

    #[test]
    fn a_mean_follows_a_change() {
        let mut value = 0.0;
        (1..=100).for_each(|count| mean(&mut value, 10.0, count));
        assert_eq!(value, 10.0);
        (101..=200).for_each(|count| mean(&mut value, 20.0, count));
        assert!(value > 19.0 && value < 20.0, "{value}");
    }
}
