//! The engine of layer 1: takes calls, and after each says what may be called next, and when.
//!
//! ```text
//! call ── own timing ────────► hazard of this function's next call ─────┐
//!    └─── timing of its scope ► hazard of the scope's next call ─┐       ├─► Outlook
//!    └─── sequence ───────────► probability of each candidate ───┴ joint ┘
//! ```
//!
//! For a candidate `g` of a scope whose next call has hazard `h_a(j)`, the joint statement is that this call is `g`
//! with probability `P(g | sequence)`: `P(g in bin j) = P(g | sequence) h_a(j) S_a(j)`, stated anew after each call of
//! the scope. A function with a rhythm of its own (a timer) is expected at its own time as well, whatever the scope
//! does in between; that statement stands until its next call. The two are kept apart and their plans united: merging
//! the hazards of every function by noisy-or counts the same calls twice and was measured to waste a fifth more memory
//! at equal cold starts. The engine plans nothing: see [`crate::plan`] and [`crate::decision`].

use crate::event::{Call, Target};
use crate::hash::{self, KeyMap};
use crate::known::KnownCalls;
use crate::paths::PathModel;
use crate::sequence::model::{Evaluation, SequenceModel, Surroundings};
use crate::sequence::session::Session;
use crate::sessions::SessionTable;
use crate::settings::EngineSettings;
use crate::shed::LoadShed;
use crate::timing::TimingModel;
use crate::timing::bins::TimeBins;
use crate::timing::forecast::Forecast;
use crate::timing::history::History;
use serde::{Deserialize, Serialize};

/// Functions and scopes the engine knows at most. A new one beyond it is served but not predicted.
pub const FUNCTIONS_MAX: usize = 2_000_000;
/// Contexts of call sequences held at most, about 80 bytes each.
const CONTEXTS_MAX: usize = 1 << 20;
/// Latest time the engine believes, the year 3000: beyond it a time is a mistake, and adding to it must not overflow.
pub const TIME_US_MAX: u64 = 32_503_680_000_000_000;
/// Candidates less probable than this are not worth a plan: even a cold start worth a day of holding would not pay for
/// a function that is called once in a hundred times at an unknown moment.
pub const CANDIDATE_PROBABILITY_MIN: f32 = 0.01;

const TAG_SESSION: u64 = 1;
const TAG_SCOPE: u64 = 2;
const SEED_CALLER: u64 = 0xca11e4;
const SEED_CLASS: u64 = 0xc1a55;

/// The engine.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Engine {
    settings: EngineSettings,
    now_us: u64,
    #[serde(with = "crate::sorted")]
    functions: KeyMap<Target, u32>,
    targets: Vec<Target>,
    timing: TimingModel,
    #[serde(with = "crate::sorted")]
    scopes: KeyMap<u32, u32>,
    scope_timing: TimingModel,
    sequence: SequenceModel,
    sessions: SessionTable,
    shed: LoadShed,
    counters: Counters,
    /// Layer 2.
    pub paths: PathModel,
    /// Calls that are known to come.
    pub known: KnownCalls,
    #[serde(skip)]
    scratch: Evaluation,
    /// Whose evaluation `scratch` is, as long as nothing has been learnt since that could change it: a call of the same
    /// sequence that comes next need not be evaluated again.
    #[serde(skip)]
    evaluated: Option<(u64, Surroundings)>,
}

/// What the engine has met.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Calls taken in.
    pub calls: u64,
    /// Calls whose time was before an earlier one, or beyond all reason, and was moved to the nearest that is not.
    pub times_moved: u64,
    /// Calls of functions beyond [`FUNCTIONS_MAX`].
    pub functions_refused: u64,
}

/// A function that may be called next.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candidate {
    /// Which.
    pub target: Target,
    /// Probability that the next event is a call of this one; 1 where there is no scope.
    pub probability: f32,
    /// Half the width of the 95 % interval of that probability.
    pub error: f32,
}

/// What may come after a call.
#[derive(Debug, Clone, Default)]
pub struct Outlook {
    /// The moment the grids start.
    pub from_us: u64,
    /// Hazards of the next event: of the scope's next call, or of the function's own where there is no scope.
    pub event: Forecast,
    /// Functions the next event may be a call of. A plan for one of them stands until the next event.
    pub candidates: Vec<Candidate>,
    /// Hazards of the called function's own rhythm, if it has a scope and a rhythm; empty otherwise. A plan for it
    /// stands until its own next call.
    pub rhythm: Forecast,
}

impl Outlook {
    fn clear(&mut self, from_us: u64) {
        self.from_us = from_us;
        self.event.clear();
        self.candidates.clear();
        self.rhythm.clear();
    }
}

impl Engine {
    /// An engine that has seen nothing.
    pub fn new(settings: EngineSettings) -> Self {
        Self {
            settings,
            now_us: 0,
            functions: KeyMap::default(),
            targets: Vec::new(),
            timing: TimingModel::new(settings.resolution, settings.families),
            scopes: KeyMap::default(),
            scope_timing: TimingModel::new(settings.resolution, settings.families),
            sequence: SequenceModel::new(&settings, CONTEXTS_MAX),
            sessions: SessionTable::default(),
            shed: LoadShed::default(),
            counters: Counters::default(),
            paths: PathModel::new(&settings),
            known: KnownCalls::default(),
            scratch: Evaluation::default(),
            evaluated: None,
        }
    }

    /// Settings it was made with.
    pub fn settings(&self) -> &EngineSettings {
        &self.settings
    }

    /// Counters.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// The latest time seen.
    pub fn now_us(&self) -> u64 {
        self.now_us
    }

    /// The time grid of all forecasts.
    pub fn bins(&self) -> &TimeBins {
        self.timing.bins()
    }

    /// Timing of single functions.
    pub fn timing(&self) -> &TimingModel {
        &self.timing
    }

    /// Number of a function's timing history, if it has been called.
    pub fn index_of(&self, target: Target) -> Option<u32> {
        self.functions.get(&target).copied()
    }

    /// Lets time pass without a call, so that silence teaches too.
    pub fn advance(&mut self, now_us: u64) {
        self.now_us = self.now_us.max(now_us.min(TIME_US_MAX));
        self.timing.advance(self.now_us);
        self.scope_timing.advance(self.now_us);
        self.known.expire(self.now_us);
    }

    /// Tells the engine how loaded the node is; see [`LoadShed`].
    pub fn set_pressure(&mut self, backlog: f32) {
        self.shed.update(backlog);
        self.evaluated = None;
        self.sequence.train_every = self.shed.train_every();
        self.sequence.infer = self.shed.infer();
        self.paths.shed(self.shed.train_every(), self.shed.infer());
    }

    /// Takes a call in.
    pub fn observe(&mut self, call: &Call) {
        self.counters.calls = self.counters.calls.saturating_add(1);
        if call.at_us < self.now_us || call.at_us > TIME_US_MAX {
            self.counters.times_moved = self.counters.times_moved.saturating_add(1);
        }
        self.advance(call.at_us);
        let at_us = self.now_us;
        match self.functions.get(&call.target) {
            Some(index) => self.timing.record(*index, at_us, call.count),
            None if self.targets.len() < FUNCTIONS_MAX => {
                self.functions.insert(call.target, self.timing.add(at_us, call.count));
                self.targets.push(call.target);
            }
            None => self.counters.functions_refused = self.counters.functions_refused.saturating_add(1),
        }
        if let Some(scope) = call.target.scope {
            self.observe_scope(scope, at_us, call.count);
        }
        self.observe_sequence(call);
    }

    /// Says what may come after the latest call of `target`.
    pub fn outlook(&mut self, target: Target, session: Option<u64>, outlook: &mut Outlook) {
        outlook.clear(self.now_us);
        let Some(scope) = target.scope else {
            self.outlook_alone(target, outlook);
            return;
        };
        let Some(scope_index) = self.scopes.get(&scope).copied() else { return };
        self.scope_timing.forecast(scope_index, &mut outlook.event);
        let key = sequence_key(Some(scope), session);
        // A sequence that is not known is one that began with this call.
        let mut fresh = Session::default();
        fresh.push(target.kind);
        let known = key.and_then(|key| self.sessions.get(key));
        let around = surroundings(Some(scope), None, 0);
        self.evaluated = key.filter(|_| known.is_some()).map(|key| (key, around));
        let state = known.unwrap_or(&fresh);
        self.sequence.evaluate(state, &around, &mut self.scratch);
        let top = self.scratch.top();
        for (kind, probability) in self.scratch.candidates() {
            if probability < CANDIDATE_PROBABILITY_MIN {
                continue;
            }
            let error = top.filter(|(symbol, _)| *symbol == kind).map(|(_, calibrated)| calibrated.error);
            let target = Target { scope: Some(scope), kind };
            // What is not the top has no calibration of its own; half of it is a cautious error bar.
            outlook.candidates.push(Candidate { target, probability, error: error.unwrap_or(probability * 0.5) });
        }
        self.add_rhythm(target, outlook);
    }

    /// A session has ended: what is left of it can teach the network.
    pub fn end_session(&mut self, scope: Option<u32>, session: u64) {
        if let Some(key) = sequence_key(scope, Some(session)) {
            self.sequence.end(key);
            self.sessions.remove(key);
            self.evaluated = None;
        }
    }

    /// The sequence model, for explanations.
    pub fn sequence(&self) -> &SequenceModel {
        &self.sequence
    }

    /// The last evaluation made by [`Engine::outlook`], for explanations.
    pub fn last_evaluation(&self) -> &Evaluation {
        &self.scratch
    }

    fn outlook_alone(&mut self, target: Target, outlook: &mut Outlook) {
        let Some(index) = self.functions.get(&target) else { return };
        self.timing.forecast(*index, &mut outlook.event);
        let last_us = self.timing.history(*index).map_or(self.now_us, |history| history.last_us);
        outlook.from_us = last_us;
        outlook.candidates.push(Candidate { target, probability: 1.0, error: 0.0 });
    }

    fn add_rhythm(&self, target: Target, outlook: &mut Outlook) {
        let Some(index) = self.functions.get(&target) else { return };
        if self.timing.history(*index).is_some_and(History::has_rhythm) {
            self.timing.forecast(*index, &mut outlook.rhythm);
        }
    }

    fn observe_scope(&mut self, scope: u32, at_us: u64, count: u32) {
        match self.scopes.get(&scope) {
            Some(index) => self.scope_timing.record(*index, at_us, count),
            None if self.scopes.len() < FUNCTIONS_MAX => {
                self.scopes.insert(scope, self.scope_timing.add(at_us, count));
            }
            None => {}
        }
    }

    fn observe_sequence(&mut self, call: &Call) {
        let Some(key) = sequence_key(call.target.scope, call.session) else { return };
        let state = self.sessions.get_mut(key);
        let around = surroundings(call.target.scope, call.caller, call.class);
        if self.evaluated.take() != Some((key, around)) {
            self.sequence.evaluate(state, &around, &mut self.scratch);
        }
        self.sequence.observe(key, state, &self.scratch, call.target.kind);
    }

    pub(crate) fn after_restore(&mut self) -> bool {
        let dense = |numbers: &mut dyn Iterator<Item = u32>, len: usize| {
            let mut seen: Vec<u32> = numbers.collect();
            seen.sort_unstable();
            seen.len() == len && seen.iter().enumerate().all(|(index, number)| index as u32 == *number)
        };
        self.timing.after_restore()
            && self.scope_timing.after_restore()
            && self.timing.matches(&self.settings)
            && self.scope_timing.matches(&self.settings)
            && self.now_us <= TIME_US_MAX
            && self.sequence.is_sound(self.settings.families, CONTEXTS_MAX)
            && self.sessions.is_sound()
            && self.paths.is_sound(&self.settings)
            && self.known.is_sound()
            && self.targets.len() <= FUNCTIONS_MAX
            && self.targets.len() == self.functions.len()
            && self
                .targets
                .iter()
                .enumerate()
                .all(|(index, target)| self.functions.get(target) == Some(&(index as u32)))
            && dense(&mut self.functions.values().copied(), self.timing.len())
            && dense(&mut self.scopes.values().copied(), self.scope_timing.len())
    }
}

/// The sequence a call belongs to.
fn sequence_key(scope: Option<u32>, session: Option<u64>) -> Option<u64> {
    match (session, scope) {
        (Some(session), _) => Some(hash::combine(TAG_SESSION, session)),
        (None, Some(scope)) => Some(hash::combine(TAG_SCOPE, u64::from(scope))),
        (None, None) => None,
    }
}

fn surroundings(scope: Option<u32>, caller: Option<u32>, class: u32) -> Surroundings {
    let class = (class != 0).then(|| hash::combine(SEED_CLASS, u64::from(class)));
    Surroundings {
        scope: scope.map(u64::from),
        sides: [class, caller.map(|caller| hash::combine(SEED_CALLER, u64::from(caller))), None],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::ExpertFamilies;
    use crate::snapshot::{SNAPSHOT_VERSION, SnapshotError};
    use crate::timing::bins::Resolution;
    use proptest::prelude::*;

    const SECOND_US: u64 = 1_000_000;

    fn call(at_us: u64, scope: Option<u32>, kind: u32) -> Call {
        Call { at_us, target: Target { scope, kind }, session: None, caller: None, class: 0, count: 1 }
    }

    /// A shop: sessions that look, then pay; and a timer.
    fn shop(engine: &mut Engine, calls: std::ops::Range<u64>) {
        for step in calls {
            let at_us = 1_700_000_000 * SECOND_US + step * 20 * SECOND_US;
            engine.observe(&call(at_us, Some((step % 7) as u32), [1, 2, 3][(step / 7 % 3) as usize]));
            if step % 30 == 0 {
                engine.observe(&call(at_us, None, 9));
            }
        }
    }

    #[test]
    fn the_same_events_give_the_same_bytes() {
        let run = || {
            let mut engine = Engine::new(EngineSettings::default());
            shop(&mut engine, 0..1_000);
            engine.snapshot().unwrap()
        };
        let (first, second) = (run(), run());
        assert!(first == second);
        // And a call less gives others.
        let mut engine = Engine::new(EngineSettings::default());
        shop(&mut engine, 0..999);
        assert!(engine.snapshot().unwrap() != first);
    }

    #[test]
    fn asking_changes_nothing_that_is_learnt() {
        let (mut asked, mut silent) = (Engine::new(EngineSettings::default()), Engine::new(EngineSettings::default()));
        let mut outlook = Outlook::default();
        for step in 0..600u64 {
            let one = Call {
                session: (step % 3 == 0).then_some(step % 2),
                ..call(step * SECOND_US, Some(1), (step % 5) as u32)
            };
            asked.observe(&one);
            silent.observe(&one);
            asked.outlook(one.target, one.session, &mut outlook);
            if step % 7 == 0 {
                asked.answer(Target { scope: Some(1), kind: 4 }, None, step * SECOND_US);
            }
            if step % 50 == 49 {
                asked.end_session(Some(1), 0);
                silent.end_session(Some(1), 0);
            }
        }
        assert!(asked.snapshot().unwrap() == silent.snapshot().unwrap());
    }

    #[test]
    fn an_engine_goes_on_from_a_snapshot_as_if_nothing_had_happened() {
        let mut whole = Engine::new(EngineSettings::default());
        shop(&mut whole, 0..1_000);
        let mut restored = Engine::restore(&whole.snapshot().unwrap()).unwrap();
        shop(&mut whole, 1_000..2_000);
        shop(&mut restored, 1_000..2_000);
        assert!(whole.snapshot().unwrap() == restored.snapshot().unwrap());
    }

    #[test]
    fn damaged_snapshots_are_refused_by_name() {
        let mut engine = Engine::new(EngineSettings::default());
        shop(&mut engine, 0..100);
        let bytes = engine.snapshot().unwrap();
        let refused = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut damaged = bytes.clone();
            change(&mut damaged);
            Engine::restore(&damaged).err()
        };
        assert_eq!(refused(&|bytes| bytes[0] ^= 1), Some(SnapshotError::Magic));
        let found = SNAPSHOT_VERSION + 1;
        assert_eq!(refused(&|bytes| bytes[8] += 1), Some(SnapshotError::Version { found }));
        assert!(matches!(
            refused(&|bytes| {
                bytes.pop();
            }),
            Some(SnapshotError::Size { .. })
        ));
        assert_eq!(refused(&|bytes| *bytes.last_mut().unwrap() ^= 1), Some(SnapshotError::Checksum));
        assert_eq!(refused(&|bytes| bytes.truncate(5)), Some(SnapshotError::Magic));
        // A body that carries a right checksum and nonsense.
        let rehash = |bytes: &mut Vec<u8>| {
            for byte in &mut bytes[60..400] {
                *byte = 0xff;
            }
            let checksum = *blake3::hash(&bytes[52..]).as_bytes();
            bytes[20..52].copy_from_slice(&checksum);
        };
        assert!(matches!(refused(&rehash), Some(SnapshotError::Decode | SnapshotError::Unsound)));
    }

    #[test]
    fn a_session_and_a_timer_are_foreseen() {
        let mut engine = Engine::new(EngineSettings::default());
        shop(&mut engine, 0..3_000);
        let now_us = engine.now_us();
        let next = engine.answer(Target { scope: Some(3), kind: 2 }, None, now_us).unwrap();
        let total: f32 = next.next.iter().map(|next| next.probability).sum::<f32>() + next.other;
        assert!((total - 1.0).abs() < 0.05, "{total}");
        assert!(!next.next[0].reasons.is_empty() && !next.timing_reasons.is_empty());
        let timer = engine.answer(Target { scope: None, kind: 9 }, None, now_us).unwrap();
        let (start_s, end_s, probability) = timer.most_probable.unwrap();
        assert!(start_s <= 600.0 && 600.0 <= end_s && probability > 0.8, "{start_s} {end_s} {probability}");
        assert!(engine.answer(Target { scope: None, kind: 77 }, None, now_us).is_none());
    }

    #[test]
    fn time_that_runs_backwards_is_counted_and_harmless() {
        let mut engine = Engine::new(EngineSettings::default());
        engine.observe(&call(1_000 * SECOND_US, None, 1));
        engine.observe(&call(5 * SECOND_US, None, 1));
        engine.observe(&call(u64::MAX, None, 1));
        engine.observe(&call(0, None, 1));
        assert_eq!(engine.counters().times_moved, 3);
        assert_eq!(engine.now_us(), TIME_US_MAX);
        assert!(Engine::restore(&engine.snapshot().unwrap()).is_ok());
    }

    #[test]
    fn a_check_that_falls_due_to_the_microsecond_is_over_at_once() {
        // The start of every segment that is checked, found by waiting; times at which the queue does not round up.
        for resolution in [Resolution::Second, Resolution::Minute] {
            let bins = TimeBins::new(resolution);
            for segment in bins.next_checked(0).unwrap_or(0)..bins.segments() {
                let wait_us = bins.segment_start_us(segment);
                let due_us = (wait_us.next_power_of_two() / 8) * 16;
                let mut engine = Engine::new(EngineSettings { resolution, ..EngineSettings::default() });
                engine.observe(&call(due_us - wait_us, None, 1));
                engine.advance(due_us);
                let crossed = engine.timing().history(0).map(|history| usize::from(history.crossed));
                assert_eq!(crossed, Some(bins.segment_start(segment)));
            }
        }
    }

    #[test]
    fn a_crowd_called_once_can_be_written_and_read_back() {
        let mut engine = Engine::new(EngineSettings::default());
        for kind in 0..20_000 {
            engine.observe(&call(0, None, kind));
        }
        for hour in 1..30 {
            engine.advance(hour * 3_600 * SECOND_US);
        }
        assert!(Engine::restore(&engine.snapshot().unwrap()).is_ok());
    }

    #[test]
    fn one_function_called_without_end_stays_bounded() {
        let mut engine = Engine::new(EngineSettings::default());
        let target = Target { scope: Some(1), kind: 1 };
        let mut sizes = Vec::new();
        for step in 0..20_000u64 {
            // Each event stands for a burst, so that this is more than 10^9 calls.
            engine.observe(&Call { count: 60_000, ..call(step, Some(1), 1) });
            if step == 10_000 || step == 19_999 {
                sizes.push(engine.snapshot().unwrap().len());
            }
        }
        assert!(sizes[1] < sizes[0] + 65_536, "{sizes:?}");
        let mut outlook = Outlook::default();
        engine.outlook(target, None, &mut outlook);
        assert!(outlook.candidates[0].probability > 0.98);
        assert!(outlook.event.hazards.iter().all(|hazard| hazard.is_finite()));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(6))]

        #[test]
        fn adversarial_calls_leave_a_sound_engine(
            calls in prop::collection::vec((any::<u64>(), prop::option::of(0u32..4), 0u32..200, any::<u32>(), prop::option::of(0u64..9)), 1..150),
            statistical: bool, markov: bool, lstm: bool, backlog in prop::collection::vec(any::<f32>(), 3),
        ) {
            let families = ExpertFamilies { statistical, markov, lstm };
            let mut engine = Engine::new(EngineSettings { families, ..EngineSettings::default() });
            let mut outlook = Outlook::default();
            for (index, (at_us, scope, kind, count, session)) in calls.into_iter().enumerate() {
                let target = Target { scope, kind };
                // Mostly small steps of time, now and then anything.
                let at_us = if index % 16 == 7 { at_us } else { engine.now_us().saturating_add(at_us % (100 * SECOND_US)) };
                engine.observe(&Call { at_us, target, session, caller: Some(kind), class: count, count });
                engine.set_pressure(backlog[index % 3]);
                engine.outlook(target, session, &mut outlook);
                prop_assert!(outlook.event.hazards.iter().chain(&outlook.rhythm.hazards).all(|h| (0.0..=1.0).contains(h)));
                let total: f32 = outlook.candidates.iter().map(|candidate| candidate.probability).sum();
                prop_assert!(total <= 1.001, "{total}");
            }
            let bytes = engine.snapshot().unwrap();
            let restored = Engine::restore(&bytes);
            prop_assert!(restored.is_ok());
        }
    }
}
