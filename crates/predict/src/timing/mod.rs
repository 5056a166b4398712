//! *When*: the hazard of the next call of each function (or application), learnt on line.
//!
//! A call ends one idle time and starts the next. While a function is idle its segments of the time grid are crossed
//! one by one, found by a queue of checks; crossing segments teaches the mixture and the pooled tables that nothing
//! happened there. A call teaches them that something did. [`TimingModel::forecast`] then states the hazard of every
//! bin ahead. Indices are dense and given by the caller; time never runs backwards in here (the caller clamps it).

pub mod bins;
pub mod counts;
pub mod experts;
pub mod forecast;
pub mod history;
pub mod mixer;
pub mod points;
pub mod pooled;
pub mod queue;
pub mod sketch;

use crate::numeric;
use crate::settings::ExpertFamilies;
use bins::{LANES, Resolution, TimeBins, lane_mask};
use experts::{EXPERTS, ExpertTables, FIRST_CONTEXTS, SECOND_CONTEXTS, TIMING_EXPERTS, View};
use forecast::{ExpertShare, Forecast};
use history::History;
use mixer::{Block, HazardMixer, Mixed};
use multiversion::multiversion;
use queue::CheckQueue;
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Survival below which a forecast stops: a call is then so certain to have happened that no plan depends on the rest.
const SURVIVAL_MIN: f32 = 1e-4;

/// Where there are many functions, idle times end and are checked far more often than the mixture needs in order to follow
/// them: its few weights are shared by all and have long settled. The pooled tables count everything, which costs little.
/// The mixture learns from one observation in so many, with the weight of all of them: as many as there are times this
/// many functions, at least all and at most one in [`SHARE_MAX`]. Below it nothing is left out.
const SHARED_FUNCTIONS: usize = 1_024;
/// See [`SHARED_FUNCTIONS`]. Eight steps at once are still less than the first steps of a fresh set of weights.
const SHARE_MAX: usize = 8;

/// The timing model.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TimingModel {
    #[serde(skip, default = "unset_bins")]
    bins: TimeBins,
    resolution: Resolution,
    families: ExpertFamilies,
    tables: ExpertTables,
    mixer: HazardMixer,
    histories: Vec<History>,
    queue: CheckQueue,
    /// Checks so far, of which every so many teach the mixture; see [`SHARE_MAX`].
    silences: u64,
}

fn unset_bins() -> TimeBins {
    TimeBins::new(Resolution::Second)
}

impl TimingModel {
    /// A model that has seen nothing.
    pub fn new(resolution: Resolution, families: ExpertFamilies) -> Self {
        let bins = TimeBins::new(resolution);
        let active = TIMING_EXPERTS.map(|expert| expert.takes_part(families));
        let mixer = HazardMixer::new(active, bins.segments() * FIRST_CONTEXTS, bins.segments() * SECOND_CONTEXTS);
        Self {
            tables: ExpertTables::new(bins.len()),
            mixer,
            histories: Vec::new(),
            queue: CheckQueue::default(),
            silences: 0,
            bins,
            resolution,
            families,
        }
    }

    /// The time grid.
    pub fn bins(&self) -> &TimeBins {
        &self.bins
    }

    /// Number of functions known.
    pub fn len(&self) -> usize {
        self.histories.len()
    }

    /// Whether no function is known.
    pub fn is_empty(&self) -> bool {
        self.histories.is_empty()
    }

    /// History of a function, if it is known.
    pub fn history(&self, index: u32) -> Option<&History> {
        self.histories.get(index as usize)
    }

    /// Adds a function whose first call is at `at_us`, and returns its index.
    pub fn add(&mut self, at_us: u64, count: u32) -> u32 {
        let index = self.histories.len() as u32;
        self.histories.push(History::first(at_us, count));
        self.schedule(index);
        index
    }

    /// Records a call of a known function. `at_us` must not be before any time seen earlier.
    pub fn record(&mut self, index: u32, at_us: u64, count: u32) {
        let Some(history) = self.histories.get(index as usize) else { return };
        let idle_s = at_us.saturating_sub(history.last_us) as f32 * 1e-6;
        let bin = self.bins.bin_of(idle_s);
        let crossed = usize::from(history.crossed).min(bin);
        // Functions take turns, and so do the calls of each.
        let turn = u64::from(index) + u64::from(history.idle_count);
        self.observe(index, crossed..bin + 1, true, turn);
        self.histories[index as usize].record(at_us, idle_s, bin, count);
        self.schedule(index);
    }

    /// Learns from the idle times that crossed a segment by `now_us`.
    pub fn advance(&mut self, now_us: u64) {
        loop {
            let due = self.queue.pop_due(now_us);
            if due.is_empty() {
                return;
            }
            for index in due {
                self.check(index, now_us);
            }
        }
    }

    /// States the hazard of each bin of the present idle time, counted from the last call.
    pub fn forecast(&self, index: u32, forecast: &mut Forecast) {
        forecast.clear();
        if let Some(history) = self.histories.get(index as usize) {
            let mut view = View::default();
            self.tables.view(history, &self.bins, &mut view);
            state_hazards(self, &view, &mut forecast.hazards);
        }
    }

    /// What each expert says of the bin that is most probable in `forecast`, with its weight: the reasons.
    pub fn explain(&self, index: u32, bin: usize) -> Vec<ExpertShare> {
        let Some(history) = self.histories.get(index as usize) else { return Vec::new() };
        let mut view = View::default();
        self.tables.view(history, &self.bins, &mut view);
        let segment = self.bins.segment_of(bin);
        let start = bin / LANES * LANES;
        let mut logits = [[0.0; LANES]; EXPERTS];
        self.tables.evaluate(&view, start, 0..LANES, self.families, &mut logits);
        let weights = self.mixer.weights(view.mix_context(segment));
        weights
            .map(|(weight, expert)| ExpertShare {
                expert: TIMING_EXPERTS[expert].name(),
                weight,
                stated: numeric::sigmoid(logits[expert][bin - start]),
            })
            .collect()
    }

    fn check(&mut self, index: u32, now_us: u64) {
        let Some(history) = self.histories.get_mut(index as usize) else { return };
        history.queued = false;
        let idle_us = now_us.saturating_sub(history.last_us);
        let crossed = usize::from(history.crossed);
        // Bins are known to be empty up to the one the idle time is in now; only whole segments are taken. The times are
        // compared as they were put in the queue: rounded to seconds a check could fall due that finds nothing to do and
        // waits for the same moment again, for ever.
        let end = self.bins.checked_reached(idle_us).map_or(0, |segment| self.bins.segment_start(segment));
        if end > crossed {
            self.silences = self.silences.wrapping_add(1);
            self.observe(index, crossed..end, false, self.silences);
            self.histories[index as usize].crossed = end as u8;
        }
        self.schedule(index);
    }

    fn schedule(&mut self, index: u32) {
        let history = &mut self.histories[index as usize];
        let next = self.bins.next_checked(usize::from(history.crossed));
        let Some(segment) = next.filter(|_| !history.queued) else { return };
        let wait_us = self.bins.segment_start_us(segment);
        history.queued = true;
        self.queue.push(history.last_us.saturating_add(wait_us), wait_us, index);
    }

    /// Teaches that the idle time of `index` ran through `bins` and, if `ended`, that a call came in the last of them. The
    /// mixture learns from one observation in so many, in `turn`, and takes it for all of them.
    fn observe(&mut self, index: u32, bins: Range<usize>, ended: bool, turn: u64) {
        let history = &self.histories[index as usize];
        let share = (self.histories.len() / SHARED_FUNCTIONS).clamp(1, SHARE_MAX);
        if !turn.is_multiple_of(share as u64) {
            let rows = self.tables.rows(history, &self.bins);
            self.tables.record(&rows, bins, ended);
            return;
        }
        let mut view = View::default();
        self.tables.view(history, &self.bins, &mut view);
        teach_mixture(self, &view, bins.clone(), ended, share);
        self.tables.record(&view.rows, bins, ended);
    }
}

/// The hazards of all bins, up to where the next call is certain to have come; see [`TimingModel::forecast`].
#[multiversion(targets("x86_64+avx+avx2"))]
fn state_hazards(model: &TimingModel, view: &View, stated: &mut Vec<f32>) {
    let mut looked = Looked::default();
    let mut survival = 1.0f32;
    for segment in 0..model.bins.segments() {
        let bins = model.bins.segment_start(segment)..model.bins.segment_start(segment + 1);
        let lanes = model.look(view, bins, model.bins.len(), &mut looked);
        model.mixer.mix(view.mix_context(segment), &looked.logits, &mut looked.mixed);
        let hazards = &looked.mixed.hazards[lanes];
        survival = hazards.iter().fold(survival, |survival, hazard| survival * (1.0 - hazard));
        stated.extend_from_slice(hazards);
        if survival < SURVIVAL_MIN {
            return;
        }
    }
}

/// Teaches the mixture what happened in `bins`; see [`TimingModel::observe`].
#[multiversion(targets("x86_64+avx+avx2"))]
fn teach_mixture(model: &mut TimingModel, view: &View, bins: Range<usize>, ended: bool, times: usize) {
    let mut looked = Looked::default();
    let mut start = bins.start;
    while start < bins.end {
        let segment = model.bins.segment_of(start);
        let next = model.bins.segment_start(segment + 1).min(bins.end);
        let lanes = model.look(view, start..next, bins.end, &mut looked);
        let context = view.mix_context(segment);
        model.mixer.mix(context, &looked.logits, &mut looked.mixed);
        let hit = (ended && next == bins.end).then(|| lanes.end - 1);
        let errors = errors(&looked.mixed.hazards, lanes, hit, times as f32);
        model.mixer.learn(context, &looked.logits, &looked.mixed.mean, &errors, (next - start) * times);
        start = next;
    }
}

/// What the experts say of one block of bins. The narrow segments at the short end share the first block.
struct Looked {
    first: usize,
    logits: [Block; EXPERTS],
    mixed: Mixed,
}

impl Default for Looked {
    fn default() -> Self {
        Self { first: usize::MAX, logits: [[0.0; LANES]; EXPERTS], mixed: Mixed::default() }
    }
}

impl TimingModel {
    /// Sees to it that `looked` is at the block that has `bins`, which are of one segment; returns their lanes in it.
    /// Bins from `end` on will not be asked for.
    #[inline(always)]
    fn look(&self, view: &View, bins: Range<usize>, end: usize, looked: &mut Looked) -> Range<usize> {
        let first = bins.start / LANES * LANES;
        let lanes = bins.start - first..bins.end - first;
        if looked.first != first {
            looked.first = first;
            let wanted = lanes.start..(end - first).min(LANES);
            self.tables.evaluate(view, first, wanted, self.families, &mut looked.logits);
            looked.mixed.mean = self.mixer.mean(&looked.logits);
        }
        lanes
    }
}

/// Outcome minus hazard for the lanes observed, `times` over; zero for the rest.
#[inline(always)]
fn errors(hazards: &Block, lanes: Range<usize>, hit: Option<usize>, times: f32) -> Block {
    let observed = lane_mask(lanes);
    let mut errors = [0.0; LANES];
    for lane in 0..LANES {
        errors[lane] = if observed[lane] > 0.0 { -hazards[lane] * times } else { 0.0 };
    }
    if let Some(lane) = hit {
        errors[lane] = (1.0 - hazards[lane]) * times;
    }
    errors
}

impl TimingModel {
    /// Whether the model was made with these settings.
    pub(crate) fn matches(&self, settings: &crate::settings::EngineSettings) -> bool {
        self.resolution == settings.resolution && self.families == settings.families
    }

    /// Makes restored state usable, or says that it is not sound.
    pub(crate) fn after_restore(&mut self) -> bool {
        self.bins = TimeBins::new(self.resolution);
        let (bins, segments) = (self.bins.len(), self.bins.segments());
        let active = TIMING_EXPERTS.map(|expert| expert.takes_part(self.families));
        self.tables.is_sound(bins)
            && self.mixer.is_sound(&active, segments * FIRST_CONTEXTS, segments * SECOND_CONTEXTS)
            && self
                .queue
                .is_sound(|index| self.histories.get(index).map(|history| history.queued), self.histories.len())
            && self.histories.iter().all(|history| history.is_sound(bins))
    }
}
