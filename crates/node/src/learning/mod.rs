//! The slow loop: what the node learns from its requests, and what it makes ready because of it.
//!
//! ```text
//! code paths ──────┐
//! arrivals ─► expectations ─────────────────► plans ─► what is due now ─► holding ─► VMs held ready
//!             (predict: next call of a      (threshold)      ▲                       (Program::hold_ready)
//!             session, rhythm, calls of                      │
//!             functions; catalog of names)     switches, budget, verdict
//!                  ▲            ▲                  (ready against control: keep or give up)
//!                costs       pressure
//!       (measured per function)  (prices)
//!                │
//!                └─► arms (prepared VMs against control) ─► judging ─► how far they may be used (Program::trust)
//! ```
//!
//! It runs on a thread of its own (`slow_loop`), for a bounded share of a processor (`credit`), and touches the request
//! path in two places: it reads arrivals and events from bounded pipes, and it tells programs what to hold ready and to trust. Late,
//! wrong or dead, it changes how fast a request is served and never what is answered. What it has learnt is kept on disk
//! (`memory`) and believed after a check. This file is its face to the rest of the node.

mod answers;
mod arm;
#[cfg(test)]
mod budget_trials;
mod costs;
mod credit;
mod expectations;
mod holding;
mod judging;
mod keep_alive;
mod memory;
mod moment;
mod plans;
mod pressure;
pub(crate) mod rehearsal;
mod second_attempts;
mod slow_loop;
mod standing;
mod switches;
mod verdict;
mod view;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use forerun_gateway::Gateway;
use forerun_predict::answer::Answer as Prediction;
use forerun_predict::call_graph::Edge;
use forerun_predict::price::Prices;
use forerun_telemetry::{Announced, EventReceiver};
use forerun_types::{FunctionName, InvocationId, LearningMode};
use parking_lot::Mutex;

use self::costs::Arms;
use self::expectations::Expectations;
use self::holding::Held;
use self::slow_loop::{Pipes, SlowLoop, now_us};
use self::switches::Switches;
use crate::functions::Functions;
use crate::paths::PathsRan;
use crate::settings::LearningSettings;

pub(crate) use answers::Answer;
pub(crate) use costs::{CostSink, Costs};
pub(crate) use expectations::ExpectedPaths;
pub(crate) use memory::Recall;
pub(crate) use standing::{Expectation, Standings};
pub(crate) use switches::Setting;
pub(crate) use verdict::{Comparison, Group, Verdict};

/// What the loop works on.
pub(crate) struct LearningParts {
    pub(crate) arrivals: EventReceiver<Announced>,
    /// What sampled requests ran.
    pub(crate) ran: EventReceiver<PathsRan>,
    pub(crate) costs: Costs,
    pub(crate) standings: Arc<Mutex<Standings>>,
    pub(crate) functions: Arc<Functions>,
    pub(crate) gateway: Gateway,
}

/// The loop at work.
pub(crate) struct Learning {
    shared: Arc<Shared>,
    gateway: Gateway,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// What the loop and those who ask share.
struct Shared {
    stop: AtomicBool,
    switches: Switches,
    budget: LearningSettings,
    learnt: Mutex<Expectations>,
    standings: Arc<Mutex<Standings>>,
    costs: Costs,
    prices: Mutex<Prices>,
    worked_us: AtomicU64,
    vms_asked: AtomicU64,
    vms_held: AtomicU64,
    memory_bytes_held: AtomicU64,
    /// Samples of code paths that came faster than they were learnt from.
    paths_dropped: AtomicU64,
}

impl Shared {
    fn held(&self, held: Held) {
        self.vms_asked.fetch_add(held.asked, Ordering::Relaxed);
        self.vms_held.store(held.vms, Ordering::Relaxed);
        self.memory_bytes_held.store(held.memory_bytes, Ordering::Relaxed);
    }
}

impl Learning {
    /// Goes on from what was learnt before and starts the thread. Must be called within a runtime.
    pub(crate) fn start(recall: Recall, settings: &LearningSettings, parts: LearningParts) -> std::io::Result<Self> {
        let (memory, kept) = recall.get()?;
        *parts.costs.lock() = kept.costs;
        parts.gateway.announce(settings.mode != LearningMode::Off);
        let shared = Arc::new(Shared {
            stop: AtomicBool::new(false),
            switches: Switches::new(settings.mode, kept.functions),
            budget: settings.clone(),
            learnt: Mutex::new(kept.learnt),
            standings: parts.standings,
            costs: parts.costs,
            prices: Mutex::default(),
            worked_us: AtomicU64::new(0),
            vms_asked: AtomicU64::new(0),
            vms_held: AtomicU64::new(0),
            memory_bytes_held: AtomicU64::new(0),
            paths_dropped: AtomicU64::new(0),
        });
        let pipes = Pipes { arrivals: parts.arrivals, ran: parts.ran };
        let slow = SlowLoop::new(Arc::clone(&shared), pipes, parts.functions, memory);
        let thread = std::thread::Builder::new().name("forerun-learning".into()).spawn(move || slow.run())?;
        Ok(Self { shared, gateway: parts.gateway, thread: Mutex::new(Some(thread)) })
    }

    /// Ends the thread, which keeps what was learnt; waits for it.
    pub(crate) fn stop(&self) {
        self.shared.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.lock().take() {
            thread.thread().unpark();
            if thread.join().is_err() {
                tracing::error!("the learning thread panicked");
            }
        }
    }

    /// Sets how far learning goes, of the node or of one function, from now on.
    pub(crate) fn switch(&self, function: Option<FunctionName>, mode: LearningMode) {
        match function {
            Some(function) => self.shared.switches.set_function(function, mode),
            None => {
                self.shared.switches.set_mode(mode);
                self.gateway.announce(mode != LearningMode::Off);
            }
        }
        if let Some(thread) = &*self.thread.lock() {
            thread.thread().unpark();
        }
    }

    /// The switches as they stand.
    pub(crate) fn setting(&self) -> Setting {
        self.shared.switches.setting()
    }

    /// How far learning goes for a function.
    pub(crate) fn mode_of(&self, function: &FunctionName) -> LearningMode {
        self.shared.switches.of(function)
    }

    /// Whether anything is learnt at present.
    pub(crate) fn is_on(&self) -> bool {
        self.shared.switches.mode() != LearningMode::Off
    }

    /// Whether the request `id` was expected, and why; `None` if it is not known any more.
    pub(crate) fn expectation(&self, id: InvocationId) -> Option<Expectation> {
        self.shared.standings.lock().get(id)
    }

    /// Which call is expected next in the application of a function, with the names of those that may follow.
    pub(crate) fn answer(&self, function: &FunctionName) -> Option<(Prediction, BTreeMap<u32, String>)> {
        let mut learnt = self.shared.learnt.lock();
        let answer = learnt.answer(function.as_str(), now_us())?;
        let kinds = answer.next.iter().map(|next| next.kind).chain([answer.kind]);
        let name = |kind| Some((kind, learnt.names.catalog.name(kind)?.to_owned()));
        let names = kinds.filter_map(name).collect();
        Some((answer, names))
    }

    /// How many functions there are whose prepared VMs are left alone because they served worse, by how they are prepared.
    pub(crate) fn given_up(&self) -> [(&'static str, usize); 3] {
        let costs = self.shared.costs.lock();
        let mut counts = Arms::default().all().map(|(prepared, _)| (prepared, 0));
        for cost in costs.values() {
            for ((_, count), (_, arm)) in counts.iter_mut().zip(cost.arms.all()) {
                *count += usize::from(arm.given_up().is_some());
            }
        }
        counts
    }

    /// Takes word that a call of a function comes between two times, in microseconds since the Unix epoch. Says whether
    /// there was room for it.
    pub(crate) fn tell(&self, function: &FunctionName, window_us: (u64, u64)) -> bool {
        let costs = self.shared.costs.lock();
        let cost_of = |name: &str, probability: f32| costs.get(name)?.ready_rung(probability);
        self.shared.learnt.lock().tell(function.as_str(), window_us, now_us(), &cost_of)
    }

    /// What the next request of a function is expected to run; `None` if none was ever sampled.
    pub(crate) fn expected_paths(&self, function: &FunctionName) -> Option<ExpectedPaths> {
        self.shared.learnt.lock().expected_paths(function.as_str())
    }

    /// The calls that functions make of each other: caller, callee, and what is known of it.
    pub(crate) fn edges(&self) -> Vec<(String, String, Edge)> {
        self.shared.learnt.lock().edges()
    }
}
