//! What the worker process does: the hidden role of the one binary.
//!
//! A component goes through the passes that its job names, then to the compiler. A pass that refuses it, or makes what
//! the compiler refuses, costs time and nothing else: the component is compiled as it is.

use std::panic::{AssertUnwindSafe, catch_unwind};

use forerun_runtime::{Tier, compile};
use forerun_specialize::passes::coverage::add_coverage;
use forerun_specialize::passes::{self, Made, Pass, PassReport};
use forerun_specialize::{JobError, JobInput, JobKind};
use serde::{Deserialize, Serialize};

const COMPILE_QUICK: JobKind = JobKind(1);
const COMPILE_FULL: JobKind = JobKind(2);

/// What is told to a job beside the component.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Parameters {
    /// Names of the passes to apply, in order. Twins go through none of them.
    #[serde(default)]
    pub(crate) passes: Vec<String>,
}

/// The job that makes code of `tier`.
pub(crate) fn kind(tier: Tier) -> JobKind {
    match tier {
        Tier::Quick => COMPILE_QUICK,
        Tier::Full => COMPILE_FULL,
    }
}

/// The map of what a component's twin notes.
pub(crate) const TWIN_MAP: JobKind = JobKind(11);
const TWIN_QUICK: JobKind = JobKind(12);
const TWIN_FULL: JobKind = JobKind(13);

/// The job that makes code of a component's instrumented twin.
pub(crate) fn twin_kind(tier: Tier) -> JobKind {
    match tier {
        Tier::Quick => TWIN_QUICK,
        Tier::Full => TWIN_FULL,
    }
}

fn twin(component: &[u8], tier: Option<Tier>) -> Result<Vec<u8>, JobError> {
    let covered = add_coverage(component).map_err(|refusal| JobError::new(refusal.name(), &refusal))?;
    match tier {
        None => Ok(covered.map.encode()),
        Some(tier) => compile(&covered.component, tier, true).map_err(|error| JobError::new("bad_twin", error)),
    }
}

/// Does one job.
///
/// # Errors
/// Why the component is none, or what the compiler said.
pub fn work(input: JobInput) -> Result<Vec<u8>, JobError> {
    let Parameters { passes } = input.read_parameters()?;
    let JobInput { kind, component, progress, .. } = input;
    let tier = match kind {
        TWIN_MAP => return twin(&component, None),
        TWIN_QUICK => return twin(&component, Some(Tier::Quick)),
        TWIN_FULL => return twin(&component, Some(Tier::Full)),
        COMPILE_QUICK => Tier::Quick,
        COMPILE_FULL => Tier::Full,
        JobKind(other) => return Err(JobError::new("unknown_kind", format!("no job has the number {other}"))),
    };
    let passes = passes.iter().map(|name| known(name)).collect::<Result<Vec<_>, _>>()?;
    progress.report(0, "applying passes");
    let (changed, mut reports) = passes::apply(&component, &passes);
    progress.report(10, "compiling");
    if let Some(changed) = changed {
        match compile_changed(&changed, tier) {
            Ok(code) => return Ok(Made { code, passes: reports }.into_artifact()),
            Err(error) => reports = reports.into_iter().map(|report| withdrawn(report, &error)).collect(),
        }
    }
    let code = compile(&component, tier, true).map_err(|error| JobError::new("bad_component", error))?;
    Ok(Made { code, passes: reports }.into_artifact())
}

/// Even a panic is no reason to give up: the compiler may bear the component as it is.
fn compile_changed(component: &[u8], tier: Tier) -> Result<Vec<u8>, String> {
    match catch_unwind(AssertUnwindSafe(|| compile(component, tier, true))) {
        Ok(outcome) => outcome.map_err(|error| error.to_string()),
        Err(_panic) => Err("the compiler panicked".to_owned()),
    }
}

fn known(name: &str) -> Result<&'static Pass, JobError> {
    passes::known(name).ok_or_else(|| JobError::new("unknown_pass", format!("no pass is called `{name}`")))
}

/// What the passes made does not compile, so none of them counts.
fn withdrawn(report: PassReport, error: &str) -> PassReport {
    if report.is_applied() { PassReport::refused(&report.pass, "not_compiled", error) } else { report }
}
