//! The engine under replay: one model, and one ledger for each price of memory.

use super::{Contestant, Outcome};
use crate::ledger::{Held, Layer, Ledger};
use crate::trace::{Directory, Invocation, UNKNOWN};
use forerun_predict::engine::{Engine, Outlook};
use forerun_predict::event::{Call, Target};
use forerun_predict::plan::{Course, PlanTerms, PlanWindow};
use forerun_predict::settings::EngineSettings;
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

/// What making a function ready ahead of time costs, in seconds of holding it: a gap shorter than this is not worth
/// letting go for.
const LOAD_S: f32 = 30.0;

/// One setting of the prices.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Price {
    /// Seconds of holding that one avoided cold start is worth.
    pub worth_s: f32,
    /// How much more the cold start of a function seen `n` times is worth: `1 + fairness / (n + 1)`.
    pub fairness: f32,
}

/// The engine with a number of prices.
pub struct EngineContestant {
    engine: Engine,
    outlook: Outlook,
    runs: Vec<Run>,
    directory: Rc<RefCell<Directory>>,
    windows: Vec<PlanWindow>,
}

struct Run {
    price: Price,
    ledger: Ledger,
    planned: HashMap<u32, Vec<u32>>,
}

impl EngineContestant {
    /// The engine with `settings`, replayed once for all `prices`.
    pub fn new(settings: EngineSettings, prices: &[Price], middle_us: u64, directory: Rc<RefCell<Directory>>) -> Self {
        let run = |price: &Price| Run { price: *price, ledger: Ledger::new(middle_us), planned: HashMap::new() };
        Self {
            engine: Engine::new(settings),
            outlook: Outlook::default(),
            runs: prices.iter().map(run).collect(),
            directory,
            windows: Vec::new(),
        }
    }
}

impl Contestant for EngineContestant {
    fn call(&mut self, call: &Invocation) {
        let known = |number: u32| (number != UNKNOWN).then_some(number);
        let target = Target { scope: known(call.scope), kind: call.kind };
        let session = (call.session != 0).then_some(call.session);
        self.engine.observe(&Call {
            at_us: call.at_us,
            target,
            session,
            caller: known(call.caller),
            class: 0,
            count: call.count,
        });
        self.engine.outlook(target, session, &mut self.outlook);
        let seen = Seen {
            engine: &self.engine,
            outlook: &self.outlook,
            event: Course::new(self.engine.bins(), &self.outlook.event.hazards),
            rhythm: Course::new(self.engine.bins(), &self.outlook.rhythm.hazards),
            directory: &self.directory,
        };
        for run in &mut self.runs {
            run.ledger.call(call.function, call.at_us, call.count, false);
            run.plan(call, &seen, &mut self.windows);
        }
    }

    fn finish(self: Box<Self>, end_us: u64) -> Vec<Outcome> {
        let close = |mut run: Run| {
            run.ledger.close(end_us);
            let family = if run.price.fairness > 0.0 { "forerun, fair" } else { "forerun" };
            let parameter = format!("{:.0} s", run.price.worth_s);
            Outcome { family: family.to_owned(), parameter, ledger: run.ledger }
        };
        self.runs.into_iter().map(close).collect()
    }
}

impl Run {
    fn plan(&mut self, call: &Invocation, seen: &Seen<'_>, windows: &mut Vec<PlanWindow>) {
        let Seen { engine, outlook, event, rhythm, directory } = seen;
        let mut now = Vec::new();
        for candidate in &outlook.candidates {
            let terms = self.terms(engine, candidate.target, candidate.target.kind == call.kind);
            event.plan(engine.bins(), candidate.probability, terms, windows);
            if windows.is_empty() {
                continue;
            }
            let Some(scope) = candidate.target.scope else {
                self.ledger.plan(call.function, call.at_us, Layer::Own, held(windows, outlook.from_us));
                return;
            };
            let function = directory.borrow_mut().function(scope, candidate.target.kind);
            self.ledger.plan(function, call.at_us, Layer::Others, held(windows, outlook.from_us));
            now.push(function);
        }
        if call.scope == UNKNOWN {
            return;
        }
        if !outlook.rhythm.hazards.is_empty() {
            let terms = self.terms(engine, Target { scope: Some(call.scope), kind: call.kind }, true);
            rhythm.plan(engine.bins(), 1.0, terms, windows);
            self.ledger.plan(call.function, call.at_us, Layer::Own, held(windows, outlook.from_us));
        }
        let before = self.planned.insert(call.scope, now).unwrap_or_default();
        let now = &self.planned[&call.scope];
        for function in before.into_iter().filter(|function| !now.contains(function)) {
            self.ledger.plan(function, call.at_us, Layer::Others, std::iter::empty());
        }
    }

    fn terms(&self, engine: &Engine, target: Target, held: bool) -> PlanTerms {
        let history = engine.index_of(target).and_then(|index| engine.timing().history(index));
        let seen = history.map_or(0, |history| history.idle_count);
        let weight = 1.0 + self.price.fairness / (seen as f32 + 1.0);
        PlanTerms { value: self.price.worth_s * weight, hold_per_s: 1.0, load: LOAD_S, held }
    }
}

/// What the engine said after a call, with what plans need.
struct Seen<'a> {
    engine: &'a Engine,
    outlook: &'a Outlook,
    event: Course,
    rhythm: Course,
    directory: &'a RefCell<Directory>,
}

fn held(windows: &[PlanWindow], from_us: u64) -> impl Iterator<Item = Held> + '_ {
    let moment = move |time_s: f32| from_us.saturating_add((f64::from(time_s) * 1e6) as u64);
    windows.iter().map(move |window| Held { from_us: moment(window.start_s), until_us: moment(window.end_s) })
}
