//! How well the next function is predicted: every call is predicted before it is learnt from, and the second half of the
//! calls is scored; the first call of a sequence is not.

use crate::trace::{Invocation, UNKNOWN};
use forerun_predict::hash;
use forerun_predict::sequence::model::{Evaluation, SequenceModel, Surroundings};
use forerun_predict::sequence::session::Session;
use forerun_predict::settings::{EngineSettings, ExpertFamilies};
use serde::Serialize;
use std::collections::HashMap;

/// Cells of the reliability table.
const CELLS: usize = 20;
/// Contexts the model may hold.
const CONTEXTS_MAX: usize = 1 << 20;

/// Score of one choice of expert families.
#[derive(Debug, Clone, Serialize)]
pub struct WhichScore {
    /// Families that took part: S statistical, M Markov, L network.
    pub families: String,
    /// Calls scored.
    pub scored: u64,
    /// Share of calls whose most probable candidate was right.
    pub top1: f64,
    /// Mean of `-log2` of the probability given to what came.
    pub bits: f64,
    /// Expected calibration error of the top candidate's probability, over twenty cells.
    pub calibration_error: f64,
    /// For each cell: calls, mean stated probability, share that was right.
    pub reliability: Vec<(u64, f64, f64)>,
}

/// The families compared, by name.
pub const ABLATION: [(&str, ExpertFamilies); 5] = [
    ("S", ExpertFamilies { statistical: true, markov: false, lstm: false }),
    ("M", ExpertFamilies { statistical: false, markov: true, lstm: false }),
    ("L", ExpertFamilies { statistical: false, markov: false, lstm: true }),
    ("S+M", ExpertFamilies { statistical: true, markov: true, lstm: false }),
    ("S+M+L", ExpertFamilies::ALL),
];

/// Scores one choice of families while calls go by.
#[derive(Debug)]
pub struct WhichScorer {
    name: String,
    model: SequenceModel,
    sessions: HashMap<u64, Session>,
    evaluation: Evaluation,
    score_from: u64,
    vocabulary: usize,
    seen: u64,
    scored: u64,
    right: u64,
    bits: f64,
    cells: [(u64, f64, u64); CELLS],
}

impl WhichScorer {
    /// A scorer for a trace of `calls` calls of `vocabulary` kinds.
    pub fn new(name: &str, families: ExpertFamilies, calls: u64, vocabulary: usize) -> Self {
        let settings = EngineSettings { families, ..EngineSettings::default() };
        Self {
            name: name.to_owned(),
            model: SequenceModel::new(&settings, CONTEXTS_MAX),
            sessions: HashMap::new(),
            evaluation: Evaluation::default(),
            score_from: calls / 2,
            vocabulary: vocabulary + 1,
            seen: 0,
            scored: 0,
            right: 0,
            bits: 0.0,
            cells: [(0, 0.0, 0); CELLS],
        }
    }

    /// Predicts a call, scores the prediction, and learns.
    pub fn call(&mut self, call: &Invocation) {
        self.seen += 1;
        let key = if call.session != 0 { call.session } else { hash::mix(u64::from(call.scope)) };
        let mut session = self.sessions.remove(&key).unwrap_or_default();
        // One scope for everything tells nothing.
        let scope = (call.session == 0 && call.scope != UNKNOWN).then_some(u64::from(call.scope));
        let around = Surroundings { scope, ..Surroundings::default() };
        self.model.evaluate(&session, &around, &mut self.evaluation);
        if self.seen > self.score_from && !session.is_empty() {
            self.score(call.kind);
        }
        self.model.observe(key, &mut session, &self.evaluation, call.kind);
        self.sessions.insert(key, session);
    }

    /// A sequence will not go on.
    pub fn end(&mut self, session: u64) {
        self.model.end(session);
        self.sessions.remove(&session);
    }

    fn score(&mut self, kind: u32) {
        let probability = self.model.probability(&self.evaluation, kind, self.vocabulary).max(1e-9);
        self.scored += 1;
        self.bits -= f64::from(probability).log2();
        if let Some((top, calibrated)) = self.evaluation.top() {
            let right = u64::from(top == kind);
            self.right += right;
            let cell = &mut self.cells[((calibrated.probability * CELLS as f32) as usize).min(CELLS - 1)];
            cell.0 += 1;
            cell.1 += f64::from(calibrated.probability);
            cell.2 += right;
        }
    }

    /// The score.
    pub fn finish(self) -> WhichScore {
        let scored = self.scored.max(1) as f64;
        let error: f64 = self.cells.iter().map(|(_, stated, right)| (stated - *right as f64).abs()).sum();
        let mean = |(calls, stated, right): &(u64, f64, u64)| {
            let n = (*calls).max(1) as f64;
            (*calls, stated / n, *right as f64 / n)
        };
        WhichScore {
            families: self.name,
            scored: self.scored,
            top1: self.right as f64 / scored,
            bits: self.bits / scored,
            calibration_error: error / scored,
            reliability: self.cells.iter().map(mean).collect(),
        }
    }
}
