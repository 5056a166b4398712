//! The answer to "what comes next?": candidates with probability, time, confidence, and from which experts and why.

use crate::engine::{Engine, Outlook};
use crate::event::Target;
use crate::timing::forecast::ExpertShare;
use serde::Serialize;

/// Candidates in an answer.
const CANDIDATES_SHOWN: usize = 10;
/// Windows shown as "when": within a minute, five, an hour, a day.
const HORIZONS_S: [f32; 4] = [60.0, 300.0, 3_600.0, 86_400.0];

/// What the engine expects after the latest call of a function.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Answer {
    /// Kind of the function asked about.
    pub kind: u32,
    /// Its scope.
    pub scope: Option<u32>,
    /// How often it was called again so far; a forecast from few calls is mostly that of functions like it.
    pub calls: u32,
    /// Probability that it is called again within a minute, five minutes, an hour, a day of now, given that it has not
    /// been since: seconds and probability.
    pub again_within: Vec<(f32, f32)>,
    /// The stretch of idle time in which its next call is most probable: start and end in seconds since its last call,
    /// and the probability.
    pub most_probable: Option<(f32, f32, f32)>,
    /// What the timing experts say of that stretch.
    pub timing_reasons: Vec<Reason>,
    /// Which function is called next in its scope.
    pub next: Vec<NextCall>,
    /// Probability that the next call of the scope is none of these.
    pub other: f32,
}

/// A candidate for the next call.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NextCall {
    /// Kind of the function.
    pub kind: u32,
    /// Calibrated probability.
    pub probability: f32,
    /// Half the width of its 95 % interval.
    pub error: f32,
    /// Probability that the scope's next call comes within each horizon and is this one: seconds and probability.
    pub within: Vec<(f32, f32)>,
    /// What the experts say of it, those with the most weight first.
    pub reasons: Vec<Reason>,
}

/// What one expert says, and how much it counts.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Reason {
    /// Name of the expert.
    pub expert: String,
    /// Its weight in the mixture.
    pub weight: f32,
    /// The probability it states on its own.
    pub stated: f32,
}

impl From<ExpertShare> for Reason {
    fn from(share: ExpertShare) -> Self {
        Self { expert: share.expert.to_owned(), weight: share.weight, stated: share.stated }
    }
}

impl Engine {
    /// Answers for a function, or [`None`] if it was never called. Time is taken to be `now_us`.
    pub fn answer(&mut self, target: Target, session: Option<u64>, now_us: u64) -> Option<Answer> {
        let index = self.index_of(target)?;
        self.advance(now_us);
        let mut outlook = Outlook::default();
        self.outlook(target, session, &mut outlook);
        let mut own = crate::timing::forecast::Forecast::default();
        self.timing().forecast(index, &mut own);
        let history = self.timing().history(index)?;
        let waited_s = self.now_us().saturating_sub(history.last_us) as f32 * 1e-6;
        let bins = self.bins();
        let within = |horizon_s: f32| own.probability_within(bins, waited_s, (waited_s, waited_s + horizon_s));
        let mode = own.mode(bins.bin_of(waited_s));
        let timing_reasons = mode.map_or_else(Vec::new, |(bin, _)| self.timing().explain(index, bin));
        Some(Answer {
            kind: target.kind,
            scope: target.scope,
            calls: history.idle_count,
            again_within: HORIZONS_S.iter().map(|horizon_s| (*horizon_s, within(*horizon_s))).collect(),
            most_probable: mode.map(|(bin, mass)| (bins.start_s(bin), bins.end_s(bin), mass)),
            timing_reasons: timing_reasons.into_iter().map(Reason::from).collect(),
            next: self.next_calls(&outlook),
            other: if target.scope.is_some() { self.last_evaluation().other() } else { 0.0 },
        })
    }

    fn next_calls(&self, outlook: &Outlook) -> Vec<NextCall> {
        let in_scope = |candidate: &&crate::engine::Candidate| candidate.target.scope.is_some();
        let mut candidates: Vec<_> = outlook.candidates.iter().filter(in_scope).copied().collect();
        candidates.sort_by(|a, b| b.probability.total_cmp(&a.probability).then(a.target.cmp(&b.target)));
        candidates.truncate(CANDIDATES_SHOWN);
        let event = |horizon_s: f32| outlook.event.probability_within(self.bins(), 0.0, (0.0, horizon_s));
        let describe = |candidate: crate::engine::Candidate| {
            let reasons = self.last_evaluation().reasons(candidate.target.kind);
            let mut reasons: Vec<Reason> =
                reasons.map(|(expert, weight, stated)| Reason { expert: expert.to_owned(), weight, stated }).collect();
            reasons.sort_by(|a, b| b.weight.total_cmp(&a.weight));
            NextCall {
                kind: candidate.target.kind,
                probability: candidate.probability,
                error: candidate.error,
                within: HORIZONS_S.iter().map(|h| (*h, event(*h) * candidate.probability)).collect(),
                reasons,
            }
        };
        candidates.into_iter().map(describe).collect()
    }
}
