//! The loop itself: look at what came, expect what comes, hold it ready.
//!
//! It sleeps until a request comes or something may be due. Its time is bounded ([`super::credit`]): a node that is
//! busy serving is learnt from in summary.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use forerun_predict::price::Halt;
use forerun_telemetry::{Announced, Arrival, ArrivalTally, EventReceiver};
use forerun_types::{FunctionName, LearningMode};

use super::Shared;
use super::credit::Credit;
use super::expectations::Expectations;
use super::holding::Holding;
use super::judging::Judging;
use super::keep_alive::KeepAlive;
use super::memory::Memory;
use super::moment::Moment;
use super::pressure::Machine;
use super::standing::Expectation;
use crate::background::in_background;
use crate::functions::{Functions, unix_ms};
use crate::paths::PathsRan;

/// Arrivals taken between two looks at what is due.
const BATCH_MAX: usize = 512;
/// Samples of code paths taken between two looks: each is compared with up to 32 sets of some hundred inner functions.
const PATHS_BATCH_MAX: usize = 16;
/// Time between two looks at what is due while nothing comes.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// After something came, nothing is looked at for so long: what follows at once is taken together, and who sends it need not
/// wake this thread, which costs a request more than anything else that learning does. All of a chain is expected from its
/// first call, so that this is as long as a chain of small functions takes.
const BREATH: Duration = Duration::from_millis(2);
/// The longest breath: while more comes after each, none of which is news, they become longer.
const BREATH_MAX: Duration = Duration::from_millis(8);
/// Step of the prices.
const PRICE_EVERY: Duration = Duration::from_secs(1);
/// What is learnt in the last of these may be lost by `kill -9`.
const KEEP_EVERY: Duration = Duration::from_secs(60);
/// What remains of an estimate of the arrivals between two looks, from one look to the next.
const DEMAND_LEFT: f32 = 0.7;
/// Weight of one arrival in that estimate: then a steady flow is estimated as what it is (`-ln DEMAND_LEFT`).
const DEMAND_ADDED: f32 = 0.357;

/// What it reads.
pub(super) struct Pipes {
    pub(super) arrivals: EventReceiver<Announced>,
    pub(super) ran: EventReceiver<PathsRan>,
}

pub(super) struct SlowLoop {
    shared: Arc<Shared>,
    arrivals: EventReceiver<Announced>,
    ran: EventReceiver<PathsRan>,
    functions: Arc<Functions>,
    memory: Memory,
    holding: Holding,
    judging: Judging,
    machine: Machine,
    /// In the place of what is expected, if the operator wants that.
    kept: Option<KeepAlive>,
    /// Arrivals of each function between two looks, estimated.
    demand: HashMap<FunctionName, f32>,
    credit: Credit,
    moment: Moment,
    breath: Duration,
    looked: Instant,
}

/// Calls of one function in a batch, and where those are counted that are not in it.
struct Told {
    tally: Arc<ArrivalTally>,
    count: u32,
    latest_unix_us: u64,
}

impl Told {
    fn of(announced: &Announced) -> Self {
        Self { tally: Arc::clone(announced.tally()), count: 0, latest_unix_us: 0 }
    }

    fn count(&mut self, arrival: &Arrival) {
        self.count += 1;
        self.latest_unix_us = self.latest_unix_us.max(arrival.at_unix_us);
    }
}

impl SlowLoop {
    /// Must be called within a runtime.
    pub(super) fn new(shared: Arc<Shared>, pipes: Pipes, functions: Arc<Functions>, memory: Memory) -> Self {
        let now = Instant::now();
        Self {
            judging: Judging::new(Arc::clone(&functions), Arc::clone(&shared.costs)),
            holding: Holding::new(Arc::clone(&functions), Arc::clone(&shared.costs)),
            moment: Moment::new(now),
            breath: BREATH,
            credit: Credit::new(shared.budget.processor_share, now),
            kept: shared.budget.keep_alive.map(KeepAlive::new),
            shared,
            arrivals: pipes.arrivals,
            ran: pipes.ran,
            functions,
            memory,
            machine: Machine::default(),
            demand: HashMap::new(),
            looked: now,
        }
    }

    pub(super) fn run(mut self) {
        in_background();
        let (mut priced, mut kept) = (Instant::now(), Instant::now());
        let mut batch = Vec::new();
        self.remember();
        while !self.shared.stop.load(Ordering::Acquire) {
            let began = Instant::now();
            let came = self.arrivals.drain(&mut batch, BATCH_MAX);
            self.observe(&mut batch);
            self.observe_paths();
            self.judging.judge(&self.shared.switches, unix_ms());
            self.moment.came(came, Instant::now());
            let put_off = self.moment.wait(Instant::now(), || self.functions.are_busy());
            self.hold_what_is_due(put_off.is_zero());
            if priced.elapsed() >= PRICE_EVERY {
                self.price(priced.elapsed());
                priced = Instant::now();
            }
            if kept.elapsed() >= KEEP_EVERY {
                self.keep();
                kept = Instant::now();
            }
            self.credit.pay(began, Instant::now());
            self.rest(came, put_off);
        }
        self.keep();
    }

    /// Rests without credit, sleeps without work.
    fn rest(&mut self, came: usize, put_off: Duration) {
        let rest = self.credit.rest(Instant::now());
        let worked_us = u64::try_from(self.credit.worked().as_micros()).unwrap_or(u64::MAX);
        self.shared.worked_us.store(worked_us, Ordering::Relaxed);
        if !rest.is_zero() {
            std::thread::sleep(rest);
        } else if (1..BATCH_MAX).contains(&came) {
            std::thread::sleep(self.breath);
            self.breath = (self.breath * 2).min(BREATH_MAX);
        } else if came < BATCH_MAX {
            self.breath = BREATH;
            self.arrivals.wait(if put_off.is_zero() { LOOK_EVERY } else { put_off });
        }
    }

    /// What was learnt before the node started makes ready what is due by now.
    fn remember(&self) {
        if self.shared.switches.mode() == LearningMode::Full {
            let (prices, costs) = (*self.shared.prices.lock(), self.shared.costs.lock());
            let cost_of = |name: &str, probability: f32| costs.get(name)?.ready_rung(probability);
            self.shared.learnt.lock().plan_from_memory(&cost_of, &prices);
        }
    }

    /// What came teaches the engine; whether it had been expected is remembered. Then the next may be told of.
    fn observe(&mut self, batch: &mut Vec<Announced>) {
        if batch.is_empty() || self.shared.switches.mode() == LearningMode::Off {
            batch.clear();
            return;
        }
        let prices = *self.shared.prices.lock();
        let costs = self.shared.costs.lock();
        let cost_of = |name: &str, probability: f32| costs.get(name)?.ready_rung(probability);
        let mut learnt = self.shared.learnt.lock();
        learnt.engine.set_pressure(self.arrivals.fullness());
        let mut told: HashMap<FunctionName, Told> = HashMap::new();
        for announced in batch.drain(..) {
            let arrival = &announced.arrival;
            if let Some(kept) = &mut self.kept {
                kept.called(&arrival.function, arrival.at_unix_us);
            }
            let cause = learnt.standing(arrival.function.as_str(), arrival.at_unix_us);
            let expectation = Expectation { at_unix_us: arrival.at_unix_us, cause };
            self.shared.standings.lock().note(arrival.id, expectation);
            if let Some(target) = learnt.observe(arrival) {
                learnt.plan(arrival, target, &cost_of, &prices);
            }
            told.entry(arrival.function.clone()).or_insert_with(|| Told::of(&announced)).count(arrival);
        }
        for (function, Told { tally, count, latest_unix_us }) in told {
            let untold = tally.take_untold();
            if untold > 0 {
                learnt.observe_many(function.as_str(), latest_unix_us, untold);
            }
            *self.demand.entry(function).or_default() += DEMAND_ADDED * (count + untold) as f32;
        }
    }

    /// What sampled requests ran, a few at a time: the rest waits, and is dropped and counted if it waits too long.
    fn observe_paths(&mut self) {
        let mut ran = Vec::new();
        self.ran.drain(&mut ran, PATHS_BATCH_MAX);
        self.shared.paths_dropped.store(self.ran.dropped_total(), Ordering::Relaxed);
        if ran.is_empty() || self.shared.switches.mode() == LearningMode::Off {
            return;
        }
        let mut learnt = self.shared.learnt.lock();
        ran.iter().for_each(|ran| learnt.observe_paths(ran));
    }

    fn price(&mut self, elapsed: Duration) {
        let waiting = self.functions.pressure().iter().map(|(_, _, queued)| queued).sum();
        let pressure = self.machine.look(waiting);
        let mut prices = self.shared.prices.lock();
        prices.update(&pressure, elapsed.as_secs_f32());
        let halt = prices.halt;
        drop(prices);
        // Those held ready are given up by whoever holds them; those that have served are nobody's to hold.
        if halt == Some(Halt::Memory) {
            let vms = self.functions.give_back_memory();
            tracing::warn!(vms, memory_share = pressure.memory_share, "memory is short: idle VMs are given up");
        }
    }

    /// Every function is told how many VMs it should hold: some if a call is due, none otherwise.
    /// `may_replace`: whether VMs that requests have taken are made anew now.
    fn hold_what_is_due(&mut self, may_replace: bool) {
        let passed = self.looked.elapsed();
        self.looked = Instant::now();
        let mut wanted: BTreeMap<FunctionName, u32> = BTreeMap::new();
        if self.may_hold() {
            for (name, vms) in self.due() {
                let Ok(name) = name.parse::<FunctionName>() else { continue };
                if self.shared.switches.of(&name) == LearningMode::Full && !self.is_given_up(&name) {
                    // Those that came since the last look will come until the next one, too.
                    let demand = self.demand.get(&name).map_or(0, |demand| demand.round() as u32);
                    wanted.insert(name, vms.max(demand));
                }
            }
        }
        let held = self.holding.hold(&wanted, passed, may_replace);
        self.shared.held(held);
        let left = DEMAND_LEFT.powf(passed.as_secs_f32() / LOOK_EVERY.as_secs_f32());
        self.demand.retain(|_, demand| {
            *demand *= left;
            *demand >= 0.1
        });
    }

    /// What should be held now, and how much of it.
    fn due(&mut self) -> BTreeMap<String, u32> {
        let budget_bytes = self.shared.budget.memory_bytes;
        match &mut self.kept {
            None => self.shared.learnt.lock().due(now_us(), budget_bytes),
            Some(kept) => {
                let costs = self.shared.costs.lock();
                kept.due(now_us(), budget_bytes, |name| costs.get(name).map_or(0, |cost| cost.memory_bytes as u64))
            }
        }
    }

    fn may_hold(&self) -> bool {
        self.shared.switches.mode() == LearningMode::Full && self.shared.prices.lock().halt.is_none()
    }

    fn is_given_up(&self, name: &FunctionName) -> bool {
        let costs = self.shared.costs.lock();
        costs.get(name).is_some_and(|cost| cost.arms.ready.given_up().is_some())
    }

    fn keep(&self) {
        let costs = self.shared.costs.lock().clone();
        let functions = self.shared.switches.setting().functions;
        let learnt: &Expectations = &self.shared.learnt.lock();
        if let Err(error) = self.memory.keep(learnt, costs, functions) {
            tracing::warn!(%error, "what was learnt could not be kept");
        }
    }
}

pub(super) fn now_us() -> u64 {
    unix_ms().saturating_mul(1_000)
}
