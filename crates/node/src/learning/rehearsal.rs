//! What a node would hold of recorded calls on memory for so many VMs, in virtual time: its own rule, or those called last.
//!
//! The rule is the very code that the slow loop asks what is due; what is made up is the rest of a node: a VM serves once, is
//! the same for every function, and is made in the background in a fixed time. So it says which functions are held, and not
//! how long anything takes. Pure, but for memory: a bit for each call.

use std::collections::BTreeMap;
use std::time::Duration;

use forerun_predict::call_graph::CallGraph;
use forerun_predict::decision::RungCost;
use forerun_predict::engine::Engine;
use forerun_predict::price::Prices;
use forerun_predict::session_gaps::SessionGaps;
use forerun_predict::settings::EngineSettings;
use forerun_telemetry::Arrival;
use forerun_types::{FunctionName, InvocationId, SessionKey};

use super::expectations::{Expectations, Names};
use super::keep_alive::KeepAlive;

/// Memory of a VM; a budget is a multiple of it.
const VM_BYTES: u64 = 1 << 20;
/// Making a VM, and what it saves a request to find one: those of a language runtime. Only their ratio says anything, and that
/// little where nothing is short but memory.
const MAKE_MS: f32 = 5.0;
const SAVED_MS: f32 = 2.5;
/// Time between two looks at what is due; where nothing comes for long, so many looks.
const LOOK_EVERY_US: u64 = 50_000;
const LOOKS_MAX: u64 = 1_000;

/// What decides which functions have a VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Those that are expected, as a node does.
    Expected,
    /// Those that were called last, for so long at most.
    CalledLast(Duration),
}

/// A recorded call. Numbers stand for names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordedCall {
    /// In microseconds; any epoch will do. Not before the call before it.
    pub at_us: u64,
    /// The function.
    pub function: u32,
    /// Its application.
    pub app: u32,
    /// Calls of one client; 0 if not known.
    pub session: u64,
}

/// What came of it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rehearsed {
    /// Calls.
    pub calls: u64,
    /// Percentage of them that no VM was there for.
    pub cold_percent: f64,
    /// The same of the second half of them.
    pub cold_percent_late: f64,
    /// VMs made, a call.
    pub made_per_call: f64,
    /// VMs that were there and not in use, times seconds.
    pub vm_s_held: f64,
    /// VMs at the same time at most.
    pub vms_max: u32,
}

/// A node without anything but its rule.
pub struct Rehearsal {
    rule: Deciding,
    budget_bytes: u64,
    /// Of each function, when each of its VMs is made.
    held: BTreeMap<String, Vec<u64>>,
    now_us: u64,
    cold: Vec<bool>,
    made: u64,
    vm_us_held: u64,
    vms_max: usize,
}

enum Deciding {
    Expected(Box<Expectations>, Prices),
    CalledLast(KeepAlive),
}

impl Rehearsal {
    /// On memory for so many VMs, before the first call.
    pub fn new(rule: Rule, vms: u32) -> Self {
        let rule = match rule {
            Rule::CalledLast(time) => Deciding::CalledLast(KeepAlive::new(time)),
            Rule::Expected => {
                let engine = Engine::new(EngineSettings::default());
                let learnt = Expectations::new(engine, Names::default(), CallGraph::default(), SessionGaps::default());
                Deciding::Expected(Box::new(learnt), Prices::least())
            }
        };
        Self {
            rule,
            budget_bytes: u64::from(vms) * VM_BYTES,
            held: BTreeMap::new(),
            now_us: 0,
            cold: Vec::new(),
            made: 0,
            vm_us_held: 0,
            vms_max: 0,
        }
    }

    /// The next call.
    pub fn call(&mut self, call: &RecordedCall) {
        if self.cold.is_empty() {
            self.now_us = call.at_us;
        }
        let step_us = LOOK_EVERY_US.max(call.at_us.saturating_sub(self.now_us) / LOOKS_MAX);
        while self.now_us + step_us < call.at_us {
            self.look(self.now_us + step_us);
        }
        self.pass(call.at_us);
        let function = name(call.function);
        let vms = self.held.get_mut(function.as_str());
        let ready = vms.and_then(|vms| vms.iter().position(|made_us| *made_us <= call.at_us).map(|at| vms.remove(at)));
        self.cold.push(ready.is_none());
        self.rule.called(function, call);
        self.look(call.at_us);
    }

    /// What came of all calls.
    pub fn finish(&self) -> Rehearsed {
        let percent =
            |cold: &[bool]| 100.0 * cold.iter().filter(|cold| **cold).count() as f64 / cold.len().max(1) as f64;
        Rehearsed {
            calls: self.cold.len() as u64,
            cold_percent: percent(&self.cold),
            cold_percent_late: percent(&self.cold[self.cold.len() / 2..]),
            made_per_call: self.made as f64 / self.cold.len().max(1) as f64,
            vm_s_held: self.vm_us_held as f64 * 1e-6,
            vms_max: u32::try_from(self.vms_max).unwrap_or(u32::MAX),
        }
    }

    fn pass(&mut self, now_us: u64) {
        let vms: usize = self.held.values().map(Vec::len).sum();
        self.vm_us_held += now_us.saturating_sub(self.now_us) * vms as u64;
        self.now_us = now_us;
    }

    fn look(&mut self, now_us: u64) {
        self.pass(now_us);
        let due = self.rule.due(now_us, self.budget_bytes);
        self.held.retain(|function, _| due.contains_key(function));
        for (function, vms) in due {
            let there = self.held.entry(function).or_default();
            let missing = (vms as usize).saturating_sub(there.len());
            there.truncate(vms as usize);
            there.extend(std::iter::repeat_n(now_us + (MAKE_MS * 1e3) as u64, missing));
            self.made += missing as u64;
        }
        self.vms_max = self.vms_max.max(self.held.values().map(Vec::len).sum());
    }
}

impl Deciding {
    fn called(&mut self, function: FunctionName, call: &RecordedCall) {
        match self {
            Self::CalledLast(kept) => kept.called(&function, call.at_us),
            Self::Expected(learnt, prices) => {
                let arrival = Arrival {
                    id: InvocationId::from_random(u128::from(call.at_us) << 64 | u128::from(call.session)),
                    at_unix_us: call.at_us,
                    function,
                    app: format!("a{}", call.app).into(),
                    session: (call.session != 0).then(|| SessionKey::from_hash(call.session)),
                    caller: None,
                };
                if let Some(target) = learnt.observe(&arrival) {
                    learnt.plan(&arrival, target, &cost, prices);
                }
            }
        }
    }

    fn due(&mut self, now_us: u64, budget_bytes: u64) -> BTreeMap<String, u32> {
        match self {
            Self::CalledLast(kept) => kept.due(now_us, budget_bytes, |_| VM_BYTES),
            Self::Expected(learnt, _) => learnt.due(now_us, budget_bytes),
        }
    }
}

fn name(function: u32) -> FunctionName {
    format!("f{function}").parse().expect("a letter and digits are a name")
}

fn cost(_: &str, probability: f32) -> Option<RungCost> {
    Some(RungCost { memory_bytes: VM_BYTES, load_cpu_ms: MAKE_MS * (1.0 - probability), saved_ms: SAVED_MS })
}
