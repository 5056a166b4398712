//! `forerun replay`: a trace through the engine and the usual policies, without a node.
//!
//! The work is `forerun_sim`'s, and the node's where its own rule is asked; here are only the progress bar, where the report
//! goes, and what to do about an error.

use std::error::Error;
use std::io::{self, ErrorKind, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use forerun_node::{RecordedCall, Rehearsal, Rehearsed, Rule};
use forerun_sim::picture;
use forerun_sim::progress::{Progress, Silent};
use forerun_sim::reader::{Input, TraceError};
use forerun_sim::replay::{ReplayError, ReplayOptions, for_each_call, replay};
use forerun_sim::report::{OnVms, ReplayReport};

use crate::cli::meaning::Replay;
use crate::cli::output::{Format, Output};
use crate::cli::table::printable;

/// Cells of the bar: with the percentage and the longest stage it stays within 80 columns.
const BAR_CELLS: usize = 30;
/// What may decide which VMs are held. Where memory decides, ten minutes are as good as for ever.
const RULES: [(&str, Rule); 2] =
    [("expected", Rule::Expected), ("called last", Rule::CalledLast(Duration::from_secs(600)))];
/// Back to the start of the line, and clear it (ECMA-48).
const LINE_START: &str = "\r\u{1b}[K";

/// Replays a trace and says what became of it.
pub(crate) fn run(output: &Output, wanted: &Replay) -> ExitCode {
    let report = if wanted.progress {
        let mut bar = Bar::new(io::stderr().lock());
        let report = replay_files(wanted, &mut bar);
        bar.clear();
        report
    } else {
        replay_files(wanted, &mut Silent)
    };
    match report {
        Ok(report) => show(output, wanted, &report),
        Err(error) => {
            output.error(&with_causes(&error), hint(&error));
            ExitCode::FAILURE
        }
    }
}

fn replay_files(wanted: &Replay, progress: &mut dyn Progress) -> Result<ReplayReport, ReplayError> {
    let options = ReplayOptions {
        format: wanted.format,
        which: wanted.which,
        by_session: wanted.by_session,
        ..ReplayOptions::default()
    };
    let open = || wanted.traces.iter().map(|trace| Input::open(trace)).collect::<Result<Vec<_>, _>>();
    let mut report = replay(&options, open()?, progress)?;
    if wanted.on_vms.is_empty() {
        return Ok(report);
    }
    let rules = |vms: &u32| RULES.map(|(name, rule)| (name, *vms, Rehearsal::new(rule, *vms)));
    let mut rehearsals: Vec<_> = wanted.on_vms.iter().flat_map(rules).collect();
    for_each_call(&options, open()?, progress, |call| {
        let recorded =
            RecordedCall { at_us: call.at_us, function: call.function, app: call.scope, session: call.session };
        rehearsals.iter_mut().for_each(|(_, _, rehearsal)| rehearsal.call(&recorded));
    })?;
    report.on_vms = rehearsals.iter().map(|(rule, vms, rehearsal)| on_vms(rule, *vms, &rehearsal.finish())).collect();
    Ok(report)
}

fn on_vms(rule: &'static str, vms: u32, rehearsed: &Rehearsed) -> OnVms {
    OnVms {
        rule,
        vms,
        cold_percent: rehearsed.cold_percent,
        cold_percent_late: rehearsed.cold_percent_late,
        made_per_call: rehearsed.made_per_call,
        vm_s_held: rehearsed.vm_s_held,
    }
}

/// The picture comes first, so that a reader of the report that goes away does not cost it.
fn show(output: &Output, wanted: &Replay, report: &ReplayReport) -> ExitCode {
    let mut code = ExitCode::SUCCESS;
    if let Some(svg) = &wanted.svg {
        code = draw(output, svg, report);
    }
    if report.policies.is_empty() && report.which.is_empty() {
        output.warning("the trace has no times, so that no policy can be replayed; --which scores what came next");
    }
    match print(output, report) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            output.error(&format!("cannot write to stdout: {error}"), "look at where it goes: is the disk full?");
            ExitCode::FAILURE
        }
        Ok(()) | Err(_) => code,
    }
}

fn print(output: &Output, report: &ReplayReport) -> io::Result<()> {
    match output.format {
        Format::Json => output.json(&serde_json::to_value(report).map_err(io::Error::other)?),
        Format::Human => output.item(report.to_text().trim_end(), &serde_json::Value::Null),
    }
}

fn draw(output: &Output, svg: &Path, report: &ReplayReport) -> ExitCode {
    let name = svg.display();
    if report.policies.is_empty() {
        output.error(&format!("no picture in {name}: no policy was replayed"), "leave --svg out for this trace");
        return ExitCode::FAILURE;
    }
    match std::fs::write(svg, picture::frontier(report)) {
        Ok(()) => {
            output.note(&format!("picture in {name}"));
            ExitCode::SUCCESS
        }
        Err(error) => {
            output.error(&format!("cannot write {name}: {error}"), "give --svg a path that can be written");
            ExitCode::FAILURE
        }
    }
}

fn with_causes(error: &ReplayError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}

fn hint(error: &ReplayError) -> &'static str {
    match error {
        ReplayError::Trace(TraceError::Open { .. }) => "is the file readable, and what its ending (.gz, .zst) says?",
        ReplayError::Trace(TraceError::Read { .. }) => "the file may be damaged or cut short; fetch it again",
        ReplayError::Trace(TraceError::Line { .. }) => {
            "correct the line or leave it out; if the format was mistaken, name another with --format"
        }
        ReplayError::Trace(TraceError::UnknownFormat { .. }) => "name the format, such as --format access-log",
        ReplayError::Trace(TraceError::Spill(_)) => "make room in the folder for temporary files, or set TMPDIR",
        ReplayError::Empty { .. } => "give a trace with calls; if the format was mistaken, name another with --format",
        ReplayError::TooManyToGroup { .. } => "leave --by-session out, or give a shorter trace",
    }
}

/// One line that is drawn again whenever its percentage changes.
struct Bar<W> {
    out: W,
    name: String,
    total: u64,
    percent: u64,
}

impl<W: Write> Bar<W> {
    fn new(out: W) -> Self {
        Self { out, name: String::new(), total: 0, percent: 0 }
    }

    fn draw(&mut self) {
        let filled = "=".repeat(BAR_CELLS * self.percent as usize / 100);
        // Nobody is left to tell if stderr is gone, and the replay can go on.
        let _ = write!(self.out, "{LINE_START}[{filled:<BAR_CELLS$}] {:>3} % {}", self.percent, self.name);
        let _ = self.out.flush();
    }

    fn clear(&mut self) {
        let _ = write!(self.out, "{LINE_START}");
    }
}

impl<W: Write> Progress for Bar<W> {
    fn stage(&mut self, name: &str, total: Option<u64>) {
        (self.name, self.total, self.percent) = (printable(name), total.unwrap_or(0), 0);
        self.draw();
    }

    fn at(&mut self, done: u64) {
        // A file may grow while it is read.
        let percent = done.saturating_mul(100).checked_div(self.total).unwrap_or(0).min(100);
        if percent != self.percent {
            self.percent = percent;
            self.draw();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_is_drawn_once_a_percent_and_survives_odd_totals() {
        let mut bar = Bar::new(Vec::new());
        bar.stage("reading \u{1b}[2J", Some(1_000));
        (0..=1_500).for_each(|done| bar.at(done));
        bar.stage("unknown", None);
        bar.at(u64::MAX);
        bar.clear();
        let text = String::from_utf8(bar.out).unwrap();
        assert_eq!(text.matches(LINE_START).count(), 103, "101 percentages, a stage without length, and clearing");
        assert!(text.contains("==] 100 % reading \\u{1b}[2J"), "{text:?}");
    }

    #[test]
    fn errors_say_their_cause_and_what_to_do() {
        let full = ReplayError::Trace(TraceError::Spill(io::Error::other("disk full")));
        assert!(with_causes(&full).ends_with("temporary file: disk full"), "{}", with_causes(&full));
        assert!(hint(&full).contains("TMPDIR"));
    }
}
