//! Replay of a trace: the calls go through the engine and through the baselines, and a report comes out.
//!
//! ```text
//! read and sort ─► pass 1: fixed, hybrid histogram, Markov; engine at many prices ─► what ten fixed minutes waste
//!               └► pass 2: FaasCache with as much memory; engine at the prices that meet the baselines
//!               └► which function next (optional)
//! ```

use crate::policy::engine::{EngineContestant, Price};
use crate::policy::faascache::FaasCache;
use crate::policy::fixed::Fixed;
use crate::policy::hybrid::Hybrid;
use crate::policy::markov::Markov;
use crate::policy::{Contestant, Outcome};
use crate::progress::Progress;
use crate::reader::{self, Context, Input, TraceError, TraceFormat};
use crate::report::{Comparison, PolicyResult, ReplayReport, TraceSummary, Units};
use crate::sorted::{SortedTrace, Sorter};
use crate::trace::{Directory, Invocation, UNKNOWN};
use crate::which::{ABLATION, WhichScore, WhichScorer};
use forerun_predict::settings::{EngineSettings, ExpertFamilies};
use forerun_predict::timing::bins::Resolution;
use std::cell::RefCell;
use std::rc::Rc;
use thiserror::Error;

/// Progress is reported once in this many calls.
const REPORT_EVERY: u64 = 16_384;
/// Calls that can be put in the order of their sessions, which needs them all in memory.
const GROUPED_MAX: u64 = 20_000_000;
const MINUTE_S: u64 = 60;

/// What to replay, and how.
#[derive(Debug, Clone)]
pub struct ReplayOptions {
    /// The format; found out from the first line if not given.
    pub format: Option<TraceFormat>,
    /// Replay keep-alive policies.
    pub policies: bool,
    /// Score predictions of the next function, for each combination of families.
    pub which: bool,
    /// Take whole sessions one after the other when scoring, as the study did, instead of calls in time order.
    pub by_session: bool,
    /// Use only this many calls for scoring the next function.
    pub which_calls_max: u64,
    /// Families of experts of the engine.
    pub families: ExpertFamilies,
    /// Prices: seconds of holding one avoided cold start is worth.
    pub worth_s: Vec<f32>,
    /// Fairness of the second curve of the engine; 0 leaves it out.
    pub fairness: f32,
    /// Fixed keep-alive times, in minutes. Ten minutes are always replayed.
    pub fixed_min: Vec<u64>,
    /// Ranges of the hybrid histogram, in hours.
    pub hybrid_h: Vec<usize>,
    /// Sizes of the FaasCache, as multiples of the mean memory of the fixed ten minutes.
    pub faascache_sizes: Vec<f64>,
    /// Wait of one cold start, for the latency columns.
    pub cold_start_ms: f64,
    /// Worth of a cold start in the cost column, in seconds of holding. 600 is what ten fixed minutes pay at the margin.
    pub cost_worth_s: f64,
}

impl Default for ReplayOptions {
    fn default() -> Self {
        Self {
            format: None,
            policies: true,
            which: false,
            by_session: false,
            which_calls_max: u64::MAX,
            families: ExpertFamilies::ALL,
            worth_s: vec![
                300.0, 600.0, 1_200.0, 1_800.0, 2_700.0, 3_600.0, 5_400.0, 7_200.0, 10_800.0, 14_400.0, 28_800.0,
                57_600.0, 115_200.0,
            ],
            fairness: 40.0,
            fixed_min: vec![5, 20, 30, 60, 120, 240],
            hybrid_h: vec![1, 4],
            faascache_sizes: vec![0.5, 1.0, 1.5, 2.0],
            cold_start_ms: 500.0,
            cost_worth_s: 600.0,
        }
    }
}

/// Why a replay failed.
#[derive(Debug, Error)]
pub enum ReplayError {
    /// The trace could not be read.
    #[error(transparent)]
    Trace(#[from] TraceError),
    /// There was nothing to replay.
    #[error("no calls in {names}")]
    Empty {
        /// The files.
        names: String,
    },
    /// Too many calls to put in the order of sessions.
    #[error("{calls} calls are too many to put in the order of their sessions; leave that option out")]
    TooManyToGroup {
        /// How many there are.
        calls: u64,
    },
}

struct Trace {
    sorted: SortedTrace,
    directory: Rc<RefCell<Directory>>,
    format: TraceFormat,
    names: Vec<String>,
    calls: u64,
    skipped: u64,
    functions: u64,
}

/// Replays a trace.
pub fn replay(
    options: &ReplayOptions,
    inputs: Vec<Input>,
    progress: &mut dyn Progress,
) -> Result<ReplayReport, ReplayError> {
    let trace = load(options, inputs, progress)?;
    let mut report = ReplayReport {
        trace: trace.summary(),
        policies: Vec::new(),
        comparisons: Vec::new(),
        which: Vec::new(),
        on_vms: Vec::new(),
    };
    if options.policies && trace.format != TraceFormat::Sequences {
        replay_policies(options, &trace, progress, &mut report)?;
    }
    if options.which {
        for (name, families) in ABLATION {
            report.which.push(score_which(options, &trace, name, families, progress)?);
        }
    }
    Ok(report)
}

/// Shows each call of a trace to `visit`, in their order in time.
///
/// # Errors
/// See [`ReplayError`].
pub fn for_each_call(
    options: &ReplayOptions,
    inputs: Vec<Input>,
    progress: &mut dyn Progress,
    mut visit: impl FnMut(&Invocation),
) -> Result<(), ReplayError> {
    let trace = load(options, inputs, progress)?;
    trace.sorted.for_each(|call| {
        visit(call);
        Ok(())
    })?;
    Ok(())
}

fn load(options: &ReplayOptions, inputs: Vec<Input>, progress: &mut dyn Progress) -> Result<Trace, ReplayError> {
    let names: Vec<String> = inputs.iter().map(|input| input.name.clone()).collect();
    let mut directory = Directory::default();
    let mut sorter = Sorter::default();
    let (mut calls, mut skipped) = (0, 0);
    let mut format = options.format;
    for (file, input) in inputs.into_iter().enumerate() {
        let mut sink = |call: Invocation| {
            calls += u64::from(call.count);
            sorter.push(call)
        };
        let mut context = Context { directory: &mut directory, sink: &mut sink, file: file as u64, skipped: 0 };
        format = Some(reader::read(input, format, &mut context, progress)?);
        skipped += context.skipped;
    }
    let sorted = sorter.finish();
    match format {
        Some(format) if sorted.len > 0 => {
            let functions = directory.functions() as u64;
            let directory = Rc::new(RefCell::new(directory));
            Ok(Trace { sorted, directory, format, names, calls, skipped, functions })
        }
        Some(_) | None => Err(ReplayError::Empty { names: names.join(", ") }),
    }
}

impl Trace {
    fn summary(&self) -> TraceSummary {
        TraceSummary {
            names: self.names.clone(),
            format: self.format.name().to_owned(),
            events: self.sorted.len,
            calls: self.calls,
            functions: self.functions,
            scopes: self.directory.borrow().scopes.len() as u64,
            days: (self.sorted.last_us - self.sorted.first_us) as f64 / 86_400e6,
            skipped: self.skipped,
            waste_unit_h: 0.0,
        }
    }

    /// The end of the trace; a minute of calls lasts a minute.
    fn end_us(&self) -> u64 {
        self.sorted.last_us + if self.format.is_by_minute() { MINUTE_S * 1_000_000 } else { 0 }
    }

    fn middle_us(&self) -> u64 {
        self.sorted.first_us + (self.end_us() - self.sorted.first_us) / 2
    }

    fn engine(&self, options: &ReplayOptions, prices: &[Price]) -> Box<dyn Contestant> {
        let resolution = if self.format.is_by_minute() { Resolution::Minute } else { Resolution::Second };
        let settings = EngineSettings { resolution, families: options.families, ..EngineSettings::default() };
        Box::new(EngineContestant::new(settings, prices, self.middle_us(), Rc::clone(&self.directory)))
    }

    fn run(
        &self,
        name: &str,
        contestants: Vec<Box<dyn Contestant>>,
        progress: &mut dyn Progress,
    ) -> Result<Vec<Outcome>, ReplayError> {
        let mut contestants = contestants;
        progress.stage(name, Some(self.sorted.len));
        let mut done = 0u64;
        self.sorted.for_each(|call| {
            for contestant in &mut contestants {
                contestant.call(call);
            }
            done += 1;
            if done.is_multiple_of(REPORT_EVERY) {
                progress.at(done);
            }
            Ok(())
        })?;
        let end_us = self.end_us();
        Ok(contestants.into_iter().flat_map(|contestant| contestant.finish(end_us)).collect())
    }
}

fn replay_policies(
    options: &ReplayOptions,
    trace: &Trace,
    progress: &mut dyn Progress,
    report: &mut ReplayReport,
) -> Result<(), ReplayError> {
    let middle_us = trace.middle_us();
    let mut first: Vec<Box<dyn Contestant>> = vec![Box::new(Fixed::new(10 * MINUTE_S, middle_us))];
    first.push(Box::new(Fixed::new(0, middle_us)));
    for minutes in &options.fixed_min {
        first.push(Box::new(Fixed::new(minutes * MINUTE_S, middle_us)));
    }
    for hours in &options.hybrid_h {
        first.push(Box::new(Hybrid::new(*hours, 0.05, 0.99, middle_us)));
    }
    if report.trace.scopes > 0 {
        first.push(Box::new(Markov::new(5 * MINUTE_S, 10 * MINUTE_S, 0.3, middle_us)));
        first.push(Box::new(Markov::new(10 * MINUTE_S, 10 * MINUTE_S, 0.3, middle_us)));
        first.push(Box::new(Markov::new(10 * MINUTE_S, 20 * MINUTE_S, 0.5, middle_us)));
    }
    first.push(trace.engine(options, &prices(options)));
    let outcomes = trace.run("replaying", first, progress)?;
    let unit = (outcomes[0].ledger.total().wasted_us, outcomes[0].ledger.late().wasted_us);
    report.trace.waste_unit_h = unit.0 / 3.6e9;
    let units = Units { waste_us: unit, cold_start_ms: options.cold_start_ms, worth_s: options.cost_worth_s };
    report.policies = outcomes.iter().map(|outcome| PolicyResult::new(outcome, &units)).collect();
    drop(outcomes);

    let span_us = (trace.end_us() - trace.sorted.first_us).max(1) as f64;
    let mut second: Vec<Box<dyn Contestant>> = Vec::new();
    for size in &options.faascache_sizes {
        let capacity = (unit.0 / span_us * size).round() as usize;
        second.push(Box::new(FaasCache::new(capacity, middle_us)));
    }
    let refined = refined_prices(&report.policies);
    if !refined.is_empty() {
        second.push(trace.engine(options, &refined));
    }
    let outcomes = trace.run("replaying at equal memory", second, progress)?;
    report.policies.extend(outcomes.iter().map(|outcome| PolicyResult::new(outcome, &units)));
    report.comparisons = comparisons(&report.policies);
    Ok(())
}

fn prices(options: &ReplayOptions) -> Vec<Price> {
    let plain = options.worth_s.iter().map(|worth_s| Price { worth_s: *worth_s, fairness: 0.0 });
    let fair = options.worth_s.iter().filter(|_| options.fairness > 0.0);
    plain.chain(fair.map(|worth_s| Price { worth_s: *worth_s, fairness: options.fairness })).collect()
}

/// The price that would meet the memory of the fixed ten minutes, and the cold starts of each hybrid histogram.
fn refined_prices(policies: &[PolicyResult]) -> Vec<Price> {
    let ours = curve(policies, "forerun");
    let mut prices = Vec::new();
    let mut add = |worth: Option<f64>| {
        if let Some(worth) = worth {
            prices.push(Price { worth_s: worth.exp() as f32, fairness: 0.0 });
        }
    };
    let worth = |policy: &PolicyResult| policy.parameter.trim_end_matches(" s").parse::<f64>().unwrap_or(1.0).ln();
    add(interpolate(ours.iter().map(|p| (p.whole.waste, worth(p))), 1.0));
    for hybrid in curve(policies, "hybrid histogram") {
        add(interpolate(ours.iter().map(|p| (p.whole.cold_percent, worth(p))), hybrid.whole.cold_percent));
    }
    prices
}

fn curve<'a>(policies: &'a [PolicyResult], family: &str) -> Vec<&'a PolicyResult> {
    policies.iter().filter(|policy| policy.family == family).collect()
}

/// Linear interpolation in a set of points, by their first coordinate; [`None`] outside their range.
fn interpolate(points: impl Iterator<Item = (f64, f64)>, at: f64) -> Option<f64> {
    let mut points: Vec<(f64, f64)> = points.collect();
    points.sort_by(|a, b| a.0.total_cmp(&b.0));
    let pair = points.windows(2).find(|pair| pair[0].0 <= at && at <= pair[1].0)?;
    let share = (at - pair[0].0) / (pair[1].0 - pair[0].0).max(f64::MIN_POSITIVE);
    Some(pair[0].1 + share * (pair[1].1 - pair[0].1))
}

fn comparisons(policies: &[PolicyResult]) -> Vec<Comparison> {
    let mut found = Vec::new();
    let mut add = |at: String, baseline: f64, ours: Option<f64>| {
        if let Some(ours) = ours {
            let change_percent = 100.0 * (ours / baseline.max(f64::MIN_POSITIVE) - 1.0);
            found.push(Comparison { at, baseline, ours, change_percent });
        }
    };
    let ours = curve(policies, "forerun");
    for baseline in policies.iter().filter(|policy| !policy.family.starts_with("forerun") && policy.whole.waste > 0.0) {
        let name = format!("{} {}", baseline.family, baseline.parameter);
        let (whole, late) = (&baseline.whole, &baseline.late);
        let cold = interpolate(ours.iter().map(|p| (p.whole.waste, p.whole.cold_percent)), whole.waste);
        add(format!("cold % at the memory of {name}"), whole.cold_percent, cold);
        let waste = interpolate(ours.iter().map(|p| (p.whole.cold_percent, p.whole.waste)), whole.cold_percent);
        add(format!("memory at the cold starts of {name}"), whole.waste, waste);
        let waste = interpolate(ours.iter().map(|p| (p.late.cold_percent, p.late.waste)), late.cold_percent);
        add(format!("memory at the cold starts of {name}, second half"), late.waste, waste);
    }
    found
}

fn score_which(
    options: &ReplayOptions,
    trace: &Trace,
    name: &str,
    families: ExpertFamilies,
    progress: &mut dyn Progress,
) -> Result<WhichScore, ReplayError> {
    let calls = trace.sorted.len.min(options.which_calls_max);
    progress.stage(&format!("predicting with {name}"), Some(calls));
    let vocabulary = trace.directory.borrow().kinds.len();
    let mut scorer = WhichScorer::new(name, families, calls, vocabulary);
    if options.by_session {
        for session in sessions(trace, calls)? {
            session.iter().for_each(|call| scorer.call(call));
            if let Some(last) = session.last().filter(|last| last.session != 0) {
                scorer.end(last.session);
            }
        }
        return Ok(scorer.finish());
    }
    let mut done = 0;
    trace.sorted.for_each(|call| {
        done += 1;
        if done <= calls {
            scorer.call(call);
        }
        if done.is_multiple_of(REPORT_EVERY) {
            progress.at(done);
        }
        Ok(())
    })?;
    Ok(scorer.finish())
}

/// The calls by session (by scope where there are no sessions), in the order in which these appear, up to `calls`.
fn sessions(trace: &Trace, calls: u64) -> Result<Vec<Vec<Invocation>>, ReplayError> {
    if trace.sorted.len > GROUPED_MAX {
        return Err(ReplayError::TooManyToGroup { calls: trace.sorted.len });
    }
    let mut order: std::collections::HashMap<(u64, u32), usize> = std::collections::HashMap::new();
    let mut sessions: Vec<Vec<Invocation>> = Vec::new();
    trace.sorted.for_each(|call| {
        let scope = if call.session == 0 { call.scope } else { UNKNOWN };
        let index = *order.entry((call.session, scope)).or_insert(sessions.len());
        if index == sessions.len() {
            sessions.push(Vec::new());
        }
        sessions[index].push(*call);
        Ok(())
    })?;
    let mut taken = 0;
    sessions.retain(|session| {
        let keep = taken < calls;
        taken += session.len() as u64;
        keep
    });
    Ok(sessions)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interpolation_is_linear_and_stays_inside() {
        let points = [(1.0, 10.0), (3.0, 30.0)];
        assert_eq!(interpolate(points.into_iter(), 2.0), Some(20.0));
        assert_eq!(interpolate(points.into_iter(), 4.0), None);
    }
}
