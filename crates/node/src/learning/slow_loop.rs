//! The loop itself: look at what came, expect what comes, hold it ready; and answers for those who ask why.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use forerun_predict::answer::Answer;
use forerun_predict::price::Prices;
use forerun_telemetry::{Arrival, EventReceiver};
use forerun_types::{FunctionName, InvocationId};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::runtime::Handle;

use super::costs::{Cost, Costs};
use super::expectations::Expectations;
use super::memory::Memory;
use super::pressure::Machine;
use super::standing::{Expectation, Standings};
use super::verdict::Verdict;
use crate::functions::{Functions, unix_ms};

/// Arrivals taken between two looks at what is due.
const BATCH_MAX: usize = 512;
/// Pause between two looks: a person's next click is seconds away.
const PAUSE: Duration = Duration::from_millis(5);
/// Time between two looks at what is due while nothing comes.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Step of the prices.
const PRICE_EVERY: Duration = Duration::from_secs(1);
/// What is learnt in the last of these may be lost by `kill -9`.
const KEEP_EVERY: Duration = Duration::from_secs(60);
/// VMs of one function held ready at most.
const VMS_MAX: usize = 8;
/// VMs held ready in all, a quarter of those a node can have: serving on the standard path must never lack one.
const VMS_ALL_MAX: usize = 250;
/// Memory all VMs held ready may take together.
const BUDGET_BYTES: u64 = 1 << 30;

/// What the loop works on.
pub(crate) struct LearningParts {
    pub(crate) arrivals: EventReceiver<Arrival>,
    pub(crate) costs: Costs,
    pub(crate) functions: Arc<Functions>,
}

/// The loop at work.
pub(crate) struct Learning {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    stop: AtomicBool,
    learnt: Mutex<Expectations>,
    standings: Mutex<Standings>,
    costs: Costs,
    prices: Mutex<Prices>,
    vms_made: AtomicU64,
}

/// What the last request to make or free VMs of a function was.
struct Told {
    vms: u32,
    /// The program it was told, by address: a new revision knows nothing of it.
    program: usize,
    work: tokio::task::JoinHandle<()>,
}

impl Learning {
    /// Recalls what was learnt before and starts the thread. Must be called within a runtime.
    pub(crate) fn start(data: &Path, parts: LearningParts) -> std::io::Result<Self> {
        let memory = Memory::new(data);
        let (learnt, costs) = memory.recall();
        *parts.costs.lock() = costs;
        let shared = Arc::new(Shared {
            stop: AtomicBool::new(false),
            learnt: Mutex::new(learnt),
            standings: Mutex::default(),
            costs: Arc::clone(&parts.costs),
            prices: Mutex::default(),
            vms_made: AtomicU64::new(0),
        });
        let slow = SlowLoop {
            shared: Arc::clone(&shared),
            arrivals: parts.arrivals,
            functions: parts.functions,
            memory,
            runtime: Handle::current(),
            told: HashMap::new(),
            machine: Machine::default(),
        };
        let thread = std::thread::Builder::new().name("forerun-learning".into()).spawn(move || slow.run())?;
        Ok(Self { shared, thread: Mutex::new(Some(thread)) })
    }

    /// Ends the thread, which keeps what was learnt; waits for it.
    pub(crate) fn stop(&self) {
        self.shared.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.lock().take()
            && thread.join().is_err()
        {
            tracing::error!("the learning thread panicked");
        }
    }

    /// Whether the request `id` was expected, and why; `None` if it is not known any more.
    pub(crate) fn expectation(&self, id: InvocationId) -> Option<Expectation> {
        self.shared.standings.lock().get(id)
    }

    /// Which call is expected next in the application of a function, with the names of those that may follow.
    pub(crate) fn answer(&self, function: &FunctionName) -> Option<(Answer, BTreeMap<u32, String>)> {
        let mut learnt = self.shared.learnt.lock();
        let answer = learnt.answer(function.as_str(), now_us())?;
        let kinds = answer.next.iter().map(|next| next.kind).chain([answer.kind]);
        let name = |kind| Some((kind, learnt.names.catalog.name(kind)?.to_owned()));
        let names = kinds.filter_map(name).collect();
        Some((answer, names))
    }

    /// What is known of one function's costs and of the comparison with its control group.
    pub(crate) fn cost(&self, function: &FunctionName) -> Option<Value> {
        self.shared.costs.lock().get(function).map(cost_view)
    }

    /// The ledger and the prices, for display.
    pub(crate) fn view(&self) -> Value {
        let functions: BTreeMap<_, _> =
            self.shared.costs.lock().iter().map(|(name, cost)| (name.to_string(), cost_view(cost))).collect();
        json!({
            "functions": functions,
            "prices": *self.shared.prices.lock(),
            "vms_made_total": self.shared.vms_made.load(Ordering::Relaxed),
        })
    }
}

fn cost_view(cost: &Cost) -> Value {
    json!({
        "generic_deploy_us": cost.generic_deploy_us.round(),
        "ready_deploy_us": cost.ready_deploy_us.round(),
        "memory_bytes": cost.memory_bytes.round(),
        "served_ready_total": cost.ready,
        "saved_us_total": cost.saved_us.round(),
        "verdict": cost.comparison.verdict(),
        "ready": { "requests": cost.comparison.ready.samples(), "typical_us": cost.comparison.ready.typical_us().round() },
        "control": {
            "requests": cost.comparison.control.samples(),
            "typical_us": cost.comparison.control.typical_us().round(),
        },
    })
}

struct SlowLoop {
    shared: Arc<Shared>,
    arrivals: EventReceiver<Arrival>,
    functions: Arc<Functions>,
    memory: Memory,
    runtime: Handle,
    told: HashMap<FunctionName, Told>,
    machine: Machine,
}

impl SlowLoop {
    fn run(mut self) {
        let (mut looked, mut priced, mut kept) = (Instant::now(), Instant::now(), Instant::now());
        let mut batch = Vec::new();
        while !self.shared.stop.load(Ordering::Acquire) {
            batch.clear();
            let came = self.arrivals.drain(&mut batch, BATCH_MAX) > 0;
            self.observe(&batch);
            if priced.elapsed() >= PRICE_EVERY {
                self.price(priced.elapsed());
                priced = Instant::now();
            }
            if came || looked.elapsed() >= LOOK_EVERY {
                self.hold_what_is_due();
                looked = Instant::now();
            }
            if kept.elapsed() >= KEEP_EVERY {
                self.keep();
                kept = Instant::now();
            }
            if !came {
                std::thread::sleep(PAUSE);
            }
        }
        self.keep();
    }

    /// What came teaches the engine; whether it had been expected is remembered.
    fn observe(&self, arrivals: &[Arrival]) {
        if arrivals.is_empty() {
            return;
        }
        let prices = *self.shared.prices.lock();
        let costs = self.shared.costs.lock().clone();
        let cost_of = |name: &str, probability: f32| costs.get(name)?.ready_rung(probability);
        let (mut learnt, mut standings) = (self.shared.learnt.lock(), self.shared.standings.lock());
        for arrival in arrivals {
            let cause = learnt.standing(arrival.function.as_str(), arrival.at_unix_us);
            standings.note(arrival.id, Expectation { at_unix_us: arrival.at_unix_us, cause });
            learnt.arrive(arrival, &cost_of, &prices);
        }
    }

    fn price(&mut self, elapsed: Duration) {
        let waiting = self.functions.pressure().iter().map(|(_, _, queued)| queued).sum();
        let pressure = self.machine.look(waiting);
        self.shared.prices.lock().update(&pressure, elapsed.as_secs_f32());
    }

    /// Every function is told how many VMs it should hold: some if a call is due, none otherwise.
    fn hold_what_is_due(&mut self) {
        let halted = self.shared.prices.lock().halt.is_some();
        let due = if halted { Vec::new() } else { self.shared.learnt.lock().due(now_us(), BUDGET_BYTES) };
        let mut left = VMS_ALL_MAX;
        let running = self.functions.pressure();
        self.told.retain(|name, _| running.iter().any(|(known, _, _)| **known == *name.as_str()));
        for (name, in_flight, _) in running {
            let Ok(name) = name.parse::<FunctionName>() else { continue };
            let is_due = |due: &String| *due == name.as_str();
            let vms = if due.iter().any(is_due) && !self.is_given_up(&name) { (in_flight + 1).min(VMS_MAX) } else { 0 };
            let vms = vms.min(left);
            left -= vms;
            self.tell(name, u32::try_from(vms).unwrap_or(0));
        }
    }

    fn is_given_up(&self, name: &FunctionName) -> bool {
        let costs = self.shared.costs.lock();
        costs.get(name).is_some_and(|cost| cost.comparison.verdict() == Verdict::Worse)
    }

    fn tell(&mut self, name: FunctionName, vms: u32) {
        let Some(program) = self.functions.program(&name) else { return };
        let address = Arc::as_ptr(&program).cast::<()>() as usize;
        let held = program.held_ready().vms;
        if let Some(told) = self.told.get(&name)
            && told.program == address
            && (!told.work.is_finished() || (told.vms == vms && held == vms))
        {
            return;
        }
        self.shared.vms_made.fetch_add(u64::from(vms.saturating_sub(held)), Ordering::Relaxed);
        let function = name.clone();
        let work = self.runtime.spawn(async move {
            if let Err(failure) = program.hold_ready(vms).await {
                tracing::warn!(%function, %failure, "no VM could be made ready");
            }
        });
        self.told.insert(name, Told { vms, program: address, work });
    }

    fn keep(&self) {
        let costs = self.shared.costs.lock().clone();
        if let Err(error) = self.memory.keep(&self.shared.learnt.lock(), costs) {
            tracing::warn!(%error, "what was learnt could not be kept");
        }
    }
}

fn now_us() -> u64 {
    unix_ms().saturating_mul(1_000)
}
