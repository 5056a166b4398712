//! What a replay found: numbers, and their form as text and JSON.

use crate::policy::Outcome;
use crate::which::WhichScore;
use serde::Serialize;
use std::fmt::Write;

/// The whole report.
#[derive(Debug, Clone, Serialize)]
pub struct ReplayReport {
    /// What the trace was.
    pub trace: TraceSummary,
    /// Each policy; the first is the fixed ten minutes that waste is counted in.
    pub policies: Vec<PolicyResult>,
    /// Comparisons at equal memory and at equal cold starts.
    pub comparisons: Vec<Comparison>,
    /// How well the next function was predicted, by families of experts; empty if it was not asked for.
    pub which: Vec<WhichScore>,
    /// What is cold on memory for so many VMs, by rule; empty if it was not asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub on_vms: Vec<OnVms>,
}

/// What a rule makes of memory for so many VMs, each of which serves once.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OnVms {
    /// Which VMs are held: those that are `expected`, or those `called last`.
    pub rule: &'static str,
    /// VMs that there is memory for.
    pub vms: u32,
    /// Percentage of the calls that no VM was there for.
    pub cold_percent: f64,
    /// The same of the second half of the calls.
    pub cold_percent_late: f64,
    /// VMs made, a call.
    pub made_per_call: f64,
    /// VMs that were there and not in use, times seconds.
    pub vm_s_held: f64,
}

/// What the trace was.
#[derive(Debug, Clone, Serialize)]
pub struct TraceSummary {
    /// Files, or a name for the source.
    pub names: Vec<String>,
    /// The format.
    pub format: String,
    /// Rows with a time and a function.
    pub events: u64,
    /// Calls (a row may stand for several).
    pub calls: u64,
    /// Functions.
    pub functions: u64,
    /// Applications or tenants; 0 if the trace does not say.
    pub scopes: u64,
    /// Days from the first call to the last.
    pub days: f64,
    /// Rows left out because they name no function.
    pub skipped: u64,
    /// Function-hours that the fixed ten minutes wasted: the unit of waste.
    pub waste_unit_h: f64,
}

/// What one policy achieved.
#[derive(Debug, Clone, Serialize)]
pub struct PolicyResult {
    /// Family of policies.
    pub family: String,
    /// Its parameter.
    pub parameter: String,
    /// The whole trace.
    pub whole: Metrics,
    /// The second half, when models have seen the first.
    pub late: Metrics,
    /// Times a function was made ready ahead of a call, per call.
    pub loads_per_call: f64,
    /// Wait added by cold starts, in milliseconds per call, at the cold-start time of the options.
    pub added_ms_per_call: f64,
    /// Latency-weighted cost: function-hours wasted, plus each cold start at its worth in function-hours.
    pub cost_h: f64,
}

/// The metrics of *Serverless in the Wild*.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Metrics {
    /// Cold starts in percent of calls.
    pub cold_percent: f64,
    /// Mean over functions of their share of cold calls.
    pub mean_function: f64,
    /// The function at the median.
    pub p50_function: f64,
    /// The function at the 75th percentile.
    pub p75_function: f64,
    /// Memory wasted, as a multiple of what the fixed ten minutes waste in the same time.
    pub waste: f64,
}

/// One statement of comparison.
#[derive(Debug, Clone, Serialize)]
pub struct Comparison {
    /// What is held equal.
    pub at: String,
    /// The baseline's figure.
    pub baseline: f64,
    /// Ours, interpolated between the two nearest prices.
    pub ours: f64,
    /// Change in percent; negative is better.
    pub change_percent: f64,
}

/// What the report needs to turn a ledger into numbers.
#[derive(Debug, Clone, Copy)]
pub struct Units {
    /// Waste of the fixed ten minutes, in the whole and in the second half.
    pub waste_us: (f64, f64),
    /// Wait of one cold start.
    pub cold_start_ms: f64,
    /// Seconds of holding one cold start is worth in the cost.
    pub worth_s: f64,
}

impl PolicyResult {
    /// Numbers of one outcome.
    pub fn new(outcome: &Outcome, units: &Units) -> Self {
        let (total, late) = (outcome.ledger.total(), outcome.ledger.late());
        let calls = total.calls.max(1) as f64;
        Self {
            family: outcome.family.clone(),
            parameter: outcome.parameter.clone(),
            whole: Metrics::new(total, &outcome.ledger.cold_shares(false), units.waste_us.0),
            late: Metrics::new(late, &outcome.ledger.cold_shares(true), units.waste_us.1),
            loads_per_call: outcome.ledger.loads() as f64 / calls,
            added_ms_per_call: total.cold as f64 * units.cold_start_ms / calls,
            cost_h: (total.wasted_us * 1e-6 + total.cold as f64 * units.worth_s) / 3_600.0,
        }
    }
}

impl Metrics {
    fn new(tally: crate::ledger::Tally, shares: &[f64], unit_us: f64) -> Self {
        let at = |share: f64| shares.get((shares.len().saturating_sub(1) as f64 * share) as usize);
        Self {
            cold_percent: 100.0 * tally.cold as f64 / tally.calls.max(1) as f64,
            mean_function: shares.iter().sum::<f64>() / shares.len().max(1) as f64,
            p50_function: at(0.5).copied().unwrap_or(0.0),
            p75_function: at(0.75).copied().unwrap_or(0.0),
            waste: if unit_us > 0.0 { tally.wasted_us / unit_us } else { 0.0 },
        }
    }
}

impl ReplayReport {
    /// The report as text for a terminal of 120 columns.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        self.write_text(&mut text).unwrap_or_default();
        text
    }

    /// The report as JSON.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_default()
    }

    fn write_text(&self, out: &mut String) -> std::fmt::Result {
        let trace = &self.trace;
        writeln!(out, "{} ({})", trace.names.join(", "), trace.format)?;
        writeln!(
            out,
            "{} calls in {} rows, {} functions, {} applications, {:.2} days; {} rows without a function left out",
            trace.calls, trace.events, trace.functions, trace.scopes, trace.days, trace.skipped
        )?;
        if !self.policies.is_empty() {
            self.write_policies(out)?;
        }
        if !self.which.is_empty() {
            self.write_which(out)?;
        }
        if !self.on_vms.is_empty() {
            self.write_on_vms(out)?;
        }
        Ok(())
    }

    fn write_on_vms(&self, out: &mut String) -> std::fmt::Result {
        writeln!(out, "\non memory for so many VMs, each of which serves once")?;
        writeln!(
            out,
            "{:<14}{:>6}{:>9}{:>14}{:>13}{:>14}",
            "held", "VMs", "cold %", "second half", "made a call", "VM-seconds"
        )?;
        for row in &self.on_vms {
            writeln!(
                out,
                "{:<14}{:>6}{:>9.1}{:>14.1}{:>13.2}{:>14.0}",
                row.rule, row.vms, row.cold_percent, row.cold_percent_late, row.made_per_call, row.vm_s_held
            )?;
        }
        Ok(())
    }

    fn write_policies(&self, out: &mut String) -> std::fmt::Result {
        writeln!(out, "waste 1.000 = {:.0} function-hours (fixed 10 min)\n", self.trace.waste_unit_h)?;
        writeln!(
            out,
            "{:<44}{:>8}{:>7}{:>7}{:>7}{:>8}  |{:>8}{:>7}{:>8}  |{:>7}{:>8}{:>9}",
            "policy", "cold %", "mean", "p50", "p75", "waste", "cold %", "p75", "waste", "loads", "+ms", "cost h"
        )?;
        writeln!(out, "{:<81}  |{:<23}  |{:>24}", "", " second half", "per call, per call")?;
        for policy in &self.policies {
            let (whole, late) = (&policy.whole, &policy.late);
            writeln!(
                out,
                "{:<44}{:>8.3}{:>7.3}{:>7.3}{:>7.3}{:>8.3}  |{:>8.3}{:>7.3}{:>8.3}  |{:>7.3}{:>8.2}{:>9.0}",
                format!("{} {}", policy.family, policy.parameter),
                whole.cold_percent,
                whole.mean_function,
                whole.p50_function,
                whole.p75_function,
                whole.waste,
                late.cold_percent,
                late.p75_function,
                late.waste,
                policy.loads_per_call,
                policy.added_ms_per_call,
                policy.cost_h,
            )?;
        }
        writeln!(out)?;
        for comparison in &self.comparisons {
            writeln!(
                out,
                "{}: {:.3} against {:.3} ({:+.1} %)",
                comparison.at, comparison.ours, comparison.baseline, comparison.change_percent
            )?;
        }
        Ok(())
    }

    fn write_which(&self, out: &mut String) -> std::fmt::Result {
        writeln!(out, "\nwhich function next (second half, first call of a sequence not scored)")?;
        writeln!(out, "{:<8}{:>10}{:>9}{:>9}{:>9}", "experts", "scored", "top-1", "bits", "ECE")?;
        for score in &self.which {
            writeln!(
                out,
                "{:<8}{:>10}{:>9.4}{:>9.4}{:>9.4}",
                score.families, score.scored, score.top1, score.bits, score.calibration_error
            )?;
        }
        let Some(all) = self.which.last() else { return Ok(()) };
        writeln!(out, "\nreliability of {}: stated, right, calls", all.families)?;
        for (calls, stated, right) in all.reliability.iter().filter(|(calls, _, _)| *calls > 0) {
            let bar = "#".repeat((right * 40.0).round() as usize);
            writeln!(out, "{stated:>7.3}{right:>7.3}{calls:>10}  {bar}")?;
        }
        Ok(())
    }
}
