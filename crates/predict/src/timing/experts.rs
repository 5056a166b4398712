//! The timing experts: each states, for a block of time bins, the logit of the hazard of the next call.
//!
//! The experts form a chain from the general to the particular; each shrinks its counts towards the one before, with
//! the strength of a few observations, so that none is ever without an opinion. A switched-off family leaves the chain.
//! There is no network among them: in the study it saved one or two percent of the coding cost of timing for most of
//! the time an event takes, and much of that is had from the pattern and tempo experts.

use super::bins::{BINS_MAX, HALF, TimeBins};
use super::counts::Counts;
use super::history::{CALLS_CLASSES, CLOCK_CLASSES, History, NO_BIN, RATE_CLASSES, TEMPO_CLASSES};
use super::mixer::{Block, MixContext};
use super::points;
use super::pooled::PooledHazards;
use super::sketch::Sketch;
use crate::numeric;
use crate::settings::ExpertFamilies;
use multiversion::multiversion;
use serde::{Deserialize, Serialize};
use std::ops::Range;

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

/// Where one function's present idle time counts in the shared tables.
#[derive(Debug, Default)]
pub struct Rows {
    /// Rows of the pooled tables: global, by calls, by calls and rate, after the last idle time, tempo, clock.
    classes: [usize; 6],
    pair: usize,
    calls_class: usize,
    rate_class: usize,
}

/// Everything the experts look at for one function's present idle time.
#[derive(Debug, Default)]
pub struct View {
    /// Where it counts.
    pub rows: Rows,
    pair_counts: Counts,
    own: Counts,
    recent: Counts,
    pattern: Counts,
    peakedness: usize,
    agreement: usize,
    repeats: bool,
}

/// What is stated about half a block of bins.
type Half = [f32; HALF];

/// Number of first and of second mixing contexts per segment.
pub const FIRST_CONTEXTS: usize = CALLS_CLASSES * 4;
/// See [`FIRST_CONTEXTS`].
pub const SECOND_CONTEXTS: usize = 4 * 2 * RATE_CLASSES;

impl View {
    /// Mixing contexts for a segment.
    pub fn mix_context(&self, segment: usize) -> MixContext {
        MixContext {
            first: segment * FIRST_CONTEXTS + self.rows.calls_class * 4 + self.peakedness,
            second: segment * SECOND_CONTEXTS
                + (self.agreement * 2 + usize::from(self.repeats)) * RATE_CLASSES
                + self.rows.rate_class,
        }
    }
}

/// The tables the experts share.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ExpertTables {
    pooled: PooledHazards,
    pairs: Pairs,
    bins: usize,
}

/// Histograms of what followed a pair of idle times, for the pairs that have been seen.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Pairs {
    /// Place of a pair's histogram, or [`UNSEEN`].
    places: Vec<u16>,
    sketches: Vec<Sketch>,
}

const UNSEEN: u16 = u16::MAX;

impl Pairs {
    fn new(bins: usize) -> Self {
        Self { places: vec![UNSEEN; (bins + 1) * (bins + 1)], sketches: Vec::new() }
    }

    fn get(&self, pair: usize) -> Option<&Sketch> {
        self.sketches.get(usize::from(self.places[pair]))
    }

    fn get_mut(&mut self, pair: usize) -> &mut Sketch {
        let place = &mut self.places[pair];
        if *place == UNSEEN {
            *place = self.sketches.len() as u16;
            self.sketches.push(Sketch::default());
        }
        &mut self.sketches[usize::from(*place)]
    }

    fn is_sound(&self, bins: usize) -> bool {
        let known = |place: &u16| *place == UNSEEN || usize::from(*place) < self.sketches.len();
        self.places.len() == (bins + 1) * (bins + 1)
            && self.places.iter().filter(|place| **place != UNSEEN).count() == self.sketches.len()
            && self.places.iter().all(known)
            && self.sketches.iter().all(|sketch| sketch.is_sound(bins))
    }
}

// As many pairs as the largest grid has can be numbered, with a number to spare.
const _: () = assert!((BINS_MAX + 1) * (BINS_MAX + 1) < UNSEEN as usize);

impl ExpertTables {
    /// Empty tables for a grid.
    pub fn new(bins: usize) -> Self {
        Self { pooled: PooledHazards::new(pooled_classes(bins), bins), pairs: Pairs::new(bins), bins }
    }

    /// Rows of the tables that an idle time of `history` counts in.
    pub fn rows(&self, history: &History, bins: &TimeBins) -> Rows {
        let index = |bin: u8| if bin == NO_BIN { bins.len() } else { usize::from(bin) };
        let (last, before) = (index(history.recent[0]), index(history.recent[1]));
        let (calls_class, rate_class) = (history.calls_class(), history.rate_class());
        let by_rate = 1 + CALLS_CLASSES;
        let by_last = by_rate + CALLS_CLASSES * RATE_CLASSES;
        let by_tempo = by_last + bins.len() + 1;
        let by_clock = by_tempo + TEMPO_CLASSES;
        Rows {
            classes: [
                0,
                1 + calls_class,
                by_rate + calls_class * RATE_CLASSES + rate_class,
                by_last + last,
                by_tempo + history.tempo_class(bins),
                by_clock + history.clock_class(calls_class, rate_class),
            ],
            pair: before * (bins.len() + 1) + last,
            calls_class,
            rate_class,
        }
    }

    /// Looks at a history; `view` is a fresh one.
    pub fn view(&self, history: &History, bins: &TimeBins, view: &mut View) {
        view.rows = self.rows(history, bins);
        view.peakedness = history.peakedness();
        view.repeats = history.repeats();
        if let Some(pair) = self.pairs.get(view.rows.pair) {
            pair.unpack(&mut view.pair_counts);
        }
        history.own.unpack(&mut view.own);
        points::recent(history, bins.len(), &mut view.recent);
        view.agreement = points::pattern(history, bins.len(), &mut view.pattern);
        for counts in [&mut view.pair_counts, &mut view.own, &mut view.recent, &mut view.pattern] {
            counts.settle();
        }
    }

    /// Records that an idle time that counts in `rows` ran through `bins` and, if `ended`, ended in the last of them.
    pub fn record(&mut self, rows: &Rows, bins: Range<usize>, ended: bool) {
        record_all(&mut self.pooled, &rows.classes, bins.clone(), ended);
        if let (true, Some(bin)) = (ended, bins.last()) {
            self.pairs.get_mut(rows.pair).add(bin as u8, PAIR_OBSERVATIONS_MAX);
        }
    }

    /// Logits of every expert for the bins of a block that starts at `first`, as far as they are in one half with one
    /// that is `wanted`.
    #[inline(always)]
    pub fn evaluate(
        &self,
        view: &View,
        first: usize,
        wanted: Range<usize>,
        families: ExpertFamilies,
        logits: &mut [Block; EXPERTS],
    ) {
        for half in wanted.start / HALF..wanted.end.div_ceil(HALF) {
            let start = half * HALF;
            let mut state = |expert: usize, stated: &Half| {
                logits[expert][start..start + HALF].copy_from_slice(stated);
            };
            self.evaluate_half(view, first + start, families, &mut state);
        }
    }

    /// Logits of every expert for the half block that starts at `first`, each given to `tell`.
    #[inline(always)]
    fn evaluate_half(&self, view: &View, first: usize, families: ExpertFamilies, tell: &mut impl FnMut(usize, &Half)) {
        let classes = &view.rows.classes;
        let mut base = [HAZARD_START; HALF];
        self.pooled.shrink(classes[0], first, STRENGTH_GLOBAL, &mut base);
        self.pooled.shrink(classes[1], first, STRENGTH_CLASS, &mut base);
        self.pooled.shrink(classes[2], first, STRENGTH_CLASS, &mut base);
        let mut chain = base;
        // The last statement of the chain: an expert without evidence in the block repeats it.
        let mut stated = state(&base);
        if families.statistical {
            tell(0, &stated);
            for (class, index) in [(classes[4], 6), (classes[5], 7)] {
                let mut side = base;
                self.pooled.shrink(class, first, STRENGTH_SIDE, &mut side);
                tell(index, &state(&side));
            }
        }
        if families.markov {
            self.pooled.shrink(classes[3], first, STRENGTH_SIDE, &mut chain);
            stated = state(&chain);
            tell(1, &stated);
            if view.pair_counts.shrink(first, STRENGTH_PAIR, &mut chain) {
                stated = state(&chain);
            }
            tell(2, &stated);
        }
        if families.statistical {
            if view.own.shrink(first, STRENGTH_OWN, &mut chain) {
                stated = state(&chain);
            }
            tell(3, &stated);
            for (counts, index) in [(&view.recent, 4), (&view.pattern, 5)] {
                let mut short = chain;
                let changed = counts.shrink(first, STRENGTH_SHORT, &mut short);
                tell(index, &if changed { state(&short) } else { stated });
            }
        }
    }

    /// Whether restored state has the expected shape.
    pub fn is_sound(&self, bins: usize) -> bool {
        self.bins == bins && self.pairs.is_sound(bins) && self.pooled.is_sound(pooled_classes(bins), bins)
    }
}

#[multiversion(targets("x86_64+avx+avx2"))]
fn record_all(pooled: &mut PooledHazards, classes: &[usize; 6], bins: Range<usize>, ended: bool) {
    for class in classes {
        pooled.record(*class, bins.clone(), ended);
    }
}

#[inline(always)]
fn state(hazards: &Half) -> Half {
    let mut logits = [0.0; HALF];
    for lane in 0..HALF {
        logits[lane] = numeric::stretch(hazards[lane]);
    }
    logits
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::timing::bins::{LANES, Resolution};
    use crate::timing::sketch::ONE;

    #[test]
    fn every_expert_states_finite_logits_about_a_new_function() {
        let bins = TimeBins::new(Resolution::Second);
        let tables = ExpertTables::new(bins.len());
        let history = History::first(0, 1);
        let mut view = View::default();
        tables.view(&history, &bins, &mut view);
        let mut logits = [[0.0; LANES]; EXPERTS];
        tables.evaluate(&view, 128, 0..LANES, ExpertFamilies::ALL, &mut logits);
        assert!(logits.iter().flatten().all(|logit| *logit < 0.0), "a hazard is rare before anything is known");
        assert!(logits.iter().flatten().all(|logit| logit.is_finite()));
    }

    #[test]
    fn own_counts_dominate_after_a_few_observations() {
        let mut hazards = [0.01; HALF];
        let mut own = Counts::default();
        own.add(3, 20 * ONE as u16);
        own.settle();
        own.shrink(0, STRENGTH_OWN, &mut hazards);
        assert!(hazards[3] > 0.9, "{}", hazards[3]);
        assert!(hazards[2] < 0.01);
        assert!((hazards[4] - 0.01).abs() < 1e-6, "nothing was at risk beyond");
    }
}
