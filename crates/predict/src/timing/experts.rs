//! The timing experts: each states, for a block of time bins, the logit of the hazard of the next call.
//!
//! The experts form a chain from the general to the particular; each shrinks its counts towards the one before, with
//! the strength of a few observations, so that none is ever without an opinion. A switched-off family leaves the chain.
//! There is no network among them: in the study it saved one or two percent of the coding cost of timing for most of
//! the time an event takes, and much of that is had from the pattern and tempo experts.

use super::bins::{LANES, TimeBins};
use super::history::{CALLS_CLASSES, CLOCK_CLASSES, History, NO_BIN, RATE_CLASSES, TEMPO_CLASSES};
use super::mixer::{Block, MixContext};
use super::points::Points;
use super::pooled::PooledHazards;
use super::sketch::{ONE, Sketch};
use crate::numeric;
use crate::settings::ExpertFamilies;
use serde::{Deserialize, Serialize};

/// A timing expert.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum TimingExpert {
    /// Kaplan-Meier hazard of functions called as often and as many times.
    Pooled,
    /// Markov of order one: functions whose last idle time was the same.
    AfterLast,
    /// Markov of order two on idle times.
    AfterTwo,
    /// The function's own idle times.
    Own,
    /// Its latest idle times.
    Recent,
    /// What followed when its latest idle times occurred before.
    Pattern,
    /// Functions at the same point of a burst or of falling asleep.
    Tempo,
    /// Functions last called at the same kind of minute.
    Clock,
}

/// All timing experts, in the order of their indices.
pub const TIMING_EXPERTS: [TimingExpert; 8] = [
    TimingExpert::Pooled,
    TimingExpert::AfterLast,
    TimingExpert::AfterTwo,
    TimingExpert::Own,
    TimingExpert::Recent,
    TimingExpert::Pattern,
    TimingExpert::Tempo,
    TimingExpert::Clock,
];
/// Number of timing experts.
pub const EXPERTS: usize = TIMING_EXPERTS.len();

impl TimingExpert {
    /// Whether the expert takes part when `families` are switched on.
    pub fn takes_part(self, families: ExpertFamilies) -> bool {
        match self {
            Self::Pooled | Self::Own | Self::Recent | Self::Pattern | Self::Tempo | Self::Clock => families.statistical,
            Self::AfterLast | Self::AfterTwo => families.markov,
        }
    }

    /// A short name for reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pooled => "pooled",
            Self::AfterLast => "markov-1",
            Self::AfterTwo => "markov-2",
            Self::Own => "own",
            Self::Recent => "recent",
            Self::Pattern => "pattern",
            Self::Tempo => "tempo",
            Self::Clock => "clock",
        }
    }
}

/// Hazard stated before anything is known: one call in a hundred bins. A heavier law (Lomax with tail 1/2) was tried and
/// held more memory without fewer cold starts on each of the public traces.
const HAZARD_START: f32 = 0.01;
/// Strengths of the priors, in observations. Each level is trusted after a handful of observations of its own; the
/// short-memory ones, which have few to offer, after one or two.
const STRENGTH_GLOBAL: f32 = 2.0;
const STRENGTH_CLASS: f32 = 6.0;
const STRENGTH_SIDE: f32 = 8.0;
const STRENGTH_PAIR: f32 = 4.0;
const STRENGTH_OWN: f32 = 2.0;
const STRENGTH_SHORT: f32 = 1.0;
/// Observations in the histogram of a pair of idle times before it is halved.
const PAIR_OBSERVATIONS_MAX: u32 = 250;

/// Number of pooled classes for a grid.
pub fn pooled_classes(bins: usize) -> usize {
    1 + CALLS_CLASSES + CALLS_CLASSES * RATE_CLASSES + (bins + 1) + TEMPO_CLASSES + CLOCK_CLASSES
}

/// Everything the experts look at for one function's present idle time.
#[derive(Debug)]
pub struct View {
    /// Rows of the pooled tables: global, by calls, by calls and rate, after the last idle time, tempo, clock.
    pub classes: [usize; 6],
    pair: usize,
    recent: Points,
    pattern: Points,
    calls_class: usize,
    peakedness: usize,
    agreement: usize,
    repeats: bool,
}

/// Number of first and of second mixing contexts per segment.
pub const FIRST_CONTEXTS: usize = CALLS_CLASSES * 4;
/// See [`FIRST_CONTEXTS`].
pub const SECOND_CONTEXTS: usize = 4 * 2 * RATE_CLASSES;

impl View {
    /// Looks at a history.
    pub fn new(history: &History, bins: &TimeBins) -> Self {
        let (pattern, agreement) = Points::pattern(history, bins.len());
        let last = if history.recent[0] == NO_BIN { bins.len() } else { usize::from(history.recent[0]) };
        let before = if history.recent[1] == NO_BIN { bins.len() } else { usize::from(history.recent[1]) };
        let pair = before * (bins.len() + 1) + last;
        let calls_class = history.calls_class();
        let by_rate = 1 + CALLS_CLASSES;
        let by_last = by_rate + CALLS_CLASSES * RATE_CLASSES;
        let by_tempo = by_last + bins.len() + 1;
        let by_clock = by_tempo + TEMPO_CLASSES;
        Self {
            classes: [
                0,
                1 + calls_class,
                by_rate + calls_class * RATE_CLASSES + history.rate_class(),
                by_last + last,
                by_tempo + history.tempo_class(bins),
                by_clock + history.clock_class(),
            ],
            pair,
            recent: Points::recent(history, bins.len()),
            pattern,
            calls_class,
            peakedness: history.peakedness(),
            agreement,
            repeats: history.repeats(),
        }
    }

    /// Mixing contexts for a segment.
    pub fn mix_context(&self, segment: usize, history: &History) -> MixContext {
        MixContext {
            first: segment * FIRST_CONTEXTS + self.calls_class * 4 + self.peakedness,
            second: segment * SECOND_CONTEXTS
                + (self.agreement * 2 + usize::from(self.repeats)) * RATE_CLASSES
                + history.rate_class(),
        }
    }
}

/// The tables the experts share.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ExpertTables {
    pooled: PooledHazards,
    pairs: Vec<Sketch>,
    bins: usize,
}

impl ExpertTables {
    /// Empty tables for a grid.
    pub fn new(bins: usize) -> Self {
        Self {
            pooled: PooledHazards::new(pooled_classes(bins), bins),
            pairs: vec![Sketch::default(); (bins + 1) * (bins + 1)],
            bins,
        }
    }

    /// Records that the idle time under view ran through `bins` and, if `ended`, ended in the last of them.
    pub fn record(&mut self, view: &View, bins: std::ops::Range<usize>, ended: bool) {
        for class in view.classes {
            self.pooled.record(class, bins.clone(), ended);
        }
        if let (true, Some(bin)) = (ended, bins.last()) {
            self.pairs[view.pair].add(bin as u8, PAIR_OBSERVATIONS_MAX);
        }
    }

    /// Logits of every expert for the block of bins that starts at `first`.
    pub fn evaluate(
        &self,
        view: &View,
        history: &History,
        first: usize,
        families: ExpertFamilies,
        logits: &mut [Block; EXPERTS],
    ) {
        let mut base = [HAZARD_START; LANES];
        self.pooled.shrink(view.classes[0], first, STRENGTH_GLOBAL, &mut base);
        self.pooled.shrink(view.classes[1], first, STRENGTH_CLASS, &mut base);
        self.pooled.shrink(view.classes[2], first, STRENGTH_CLASS, &mut base);
        let mut chain = base;
        if families.statistical {
            state(&base, &mut logits[0]);
            self.evaluate_sides(view, first, &base, logits);
        }
        if families.markov {
            self.pooled.shrink(view.classes[3], first, STRENGTH_SIDE, &mut chain);
            state(&chain, &mut logits[1]);
            let pair = &self.pairs[view.pair];
            shrink_counts(pair.total(), |deaths| pair.read(first, deaths), STRENGTH_PAIR, &mut chain);
            state(&chain, &mut logits[2]);
        }
        if families.statistical {
            let own = &history.own;
            shrink_counts(own.total(), |deaths| own.read(first, deaths), STRENGTH_OWN, &mut chain);
            state(&chain, &mut logits[3]);
            for (points, index) in [(&view.recent, 4), (&view.pattern, 5)] {
                let mut short = chain;
                shrink_counts(points.total(), |deaths| points.read(first, deaths), STRENGTH_SHORT, &mut short);
                state(&short, &mut logits[index]);
            }
        }
    }

    fn evaluate_sides(&self, view: &View, first: usize, base: &Block, logits: &mut [Block; EXPERTS]) {
        for (class, index) in [(view.classes[4], 6), (view.classes[5], 7)] {
            let mut side = *base;
            self.pooled.shrink(class, first, STRENGTH_SIDE, &mut side);
            state(&side, &mut logits[index]);
        }
    }

    /// Whether restored state has the expected shape.
    pub fn is_sound(&self, bins: usize) -> bool {
        self.bins == bins
            && self.pairs.len() == (bins + 1) * (bins + 1)
            && self.pooled.is_sound(pooled_classes(bins), bins)
    }
}

fn state(hazards: &Block, logits: &mut Block) {
    for lane in 0..LANES {
        logits[lane] = numeric::stretch(hazards[lane]);
    }
}

/// Shrinks sparse counts towards `hazards`. What is at risk in a bin is everything that did not end before it.
fn shrink_counts(total: u32, read: impl Fn(&mut [u32; LANES]) -> u32, strength: f32, hazards: &mut Block) {
    if total == 0 {
        return;
    }
    let mut deaths = [0u32; LANES];
    let mut at_risk = total.saturating_sub(read(&mut deaths));
    const UNIT: f32 = 1.0 / ONE as f32;
    for lane in 0..LANES {
        let (died, reached) = (deaths[lane] as f32 * UNIT, at_risk as f32 * UNIT);
        hazards[lane] = (died + strength * hazards[lane]) / (reached + strength);
        at_risk = at_risk.saturating_sub(deaths[lane]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::timing::bins::Resolution;

    #[test]
    fn every_expert_states_finite_logits_about_a_new_function() {
        let bins = TimeBins::new(Resolution::Second);
        let tables = ExpertTables::new(bins.len());
        let history = History::first(0, 1);
        let view = View::new(&history, &bins);
        let mut logits = [[0.0; LANES]; EXPERTS];
        tables.evaluate(&view, &history, 128, ExpertFamilies::ALL, &mut logits);
        assert!(logits.iter().flatten().all(|logit| logit.is_finite()));
    }

    #[test]
    fn own_counts_dominate_after_a_few_observations() {
        let mut hazards = [0.01; LANES];
        let mut own = Sketch::default();
        (0..20).for_each(|_| own.add(3, 64));
        shrink_counts(own.total(), |deaths| own.read(0, deaths), STRENGTH_OWN, &mut hazards);
        assert!(hazards[3] > 0.9, "{}", hazards[3]);
        assert!(hazards[2] < 0.01);
        assert!((hazards[4] - 0.01).abs() < 1e-6, "nothing was at risk beyond");
    }
}
