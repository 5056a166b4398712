//! What the worker process does: the hidden role of the one binary.
//!
//! A component goes through the passes that its job names, then to the compiler. A pass that refuses it, or makes what
//! the compiler refuses, costs time and nothing else: the component is compiled as it is. Not so where something else
//! than the component was asked for (its twin, its parts): then there is none, and the job's error says why.

use std::panic::{AssertUnwindSafe, catch_unwind};

use forerun_driver::LoadError;
use forerun_runtime::{
    Compiled, Interruption, Tier, compile, compile_again, compile_module, compile_with, is_sequential,
};
use forerun_specialize::passes::body_hash::BodyHash;
use forerun_specialize::passes::coverage::add_coverage;
use forerun_specialize::passes::split::{Bundle, Known, Split, SplitIndex, SplitPlan, SplitRefusal, split};
use forerun_specialize::passes::{self, Made, Pass, PassReport};
use forerun_specialize::{JobError, JobInput, JobKind, ProgressSender};
use serde::{Deserialize, Serialize};

const COMPILE_QUICK: JobKind = JobKind(1);
const COMPILE_FULL: JobKind = JobKind(2);

/// What is told to a job beside the component.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Parameters {
    /// Names of the passes to apply, in order.
    pub(crate) passes: Vec<String>,
    /// What to split by; in jobs about the parts of a component.
    #[serde(default)]
    pub(crate) split: Option<SplitOrder>,
    /// In jobs that compile: how many bytes behind the component are what an earlier compilation has left. Then what this
    /// one leaves is wanted, too ([`parted`]).
    #[serde(default)]
    pub(crate) bodies_bytes: Option<usize>,
}

/// Bytes of a component and of the bodies behind it, together, as the supervisor takes them.
pub(crate) const INPUT_BYTES_MAX: usize = forerun_types::limits::COMPONENT_BYTES_MAX;
/// Bytes of the length behind code and bodies.
const LENGTH_BYTES: usize = 8;

/// How a component is split.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SplitOrder {
    /// Functions that requests run, behind the job's passes, and how many of a thousand requests do.
    pub(crate) known: Vec<(BodyHash, u16)>,
    /// What is kept together, at least so probable.
    pub(crate) hot_permille_min: u16,
    /// Names of the passes to apply behind those and before it is split, in order. They may change bodies, and leave functions
    /// where they are.
    pub(crate) then: Vec<String>,
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

/// The code of what requests are expected to run of a component.
pub(crate) const SPLIT_PRIMARY: JobKind = JobKind(21);
/// The rest of it, as modules, and where each function is: a [`Bundle`] with a [`SplitIndex`] as its head.
pub(crate) const SPLIT_GROUPS: JobKind = JobKind(22);
/// The code of the rest: a [`Bundle`] without a head.
pub(crate) const SPLIT_COLD_CODE: JobKind = JobKind(23);

fn twin(component: &[u8], tier: Option<Tier>) -> Result<Vec<u8>, JobError> {
    let covered = add_coverage(component).map_err(|refusal| JobError::new(refusal.name(), &refusal))?;
    match tier {
        None => Ok(covered.map.encode()),
        Some(tier) => compile(&covered.component, tier, true).map_err(|error| JobError::new("bad_twin", error)),
    }
}

/// A component in parts.
struct Parts {
    split: Split,
    /// How they are interrupted: as the whole component is that goes through the same passes.
    interruption: Interruption,
    /// What became of the passes.
    reports: Vec<PassReport>,
}

/// The component in parts. What is known of its functions is known by their bodies, of which the pass that has a component
/// look at flags makes others; so they are found before that.
fn parts(component: &[u8], passes: &[&Pass], order: &SplitOrder) -> Result<Parts, JobError> {
    let refused = |refusal: SplitRefusal| JobError::new(refusal.name(), &refusal);
    let known_in = prepared(component, component, passes);
    let named = known_in.component.as_deref().unwrap_or(component);
    let known = Known::ByBody(order.known.iter().copied().collect()).in_component(named).map_err(refused)?;
    let prepared = prepared(component, named, &known_all(&order.then)?);
    let plan = SplitPlan::new(known, order.hot_permille_min);
    let split = split(prepared.component.as_deref().unwrap_or(named), &plan).map_err(refused)?;
    let mut reports = [known_in.reports, prepared.reports].concat();
    let report = &split.report;
    let detail = format!(
        "{} of {} functions kept, {} ‰ of the code; {} groups of cold functions",
        report.functions - report.cold - report.dead,
        report.functions,
        report.hot_permille(),
        split.groups.len()
    );
    reports.push(PassReport::applied("split", &detail));
    Ok(Parts { split, interruption: prepared.interruption, reports })
}

fn split_primary(Parts { split, interruption, reports }: Parts) -> Result<Vec<u8>, JobError> {
    let code = compile_with(&split.primary, Tier::Full, true, interruption);
    let code = code.map_err(|error| JobError::new("bad_primary", error))?;
    Ok(Made { code, passes: reports }.into_artifact())
}

fn split_groups(Parts { split, interruption, .. }: &Parts) -> Result<Vec<u8>, JobError> {
    let groups: Vec<&[u8]> = split.groups.iter().map(|group| &*group.module).collect();
    let head = SplitIndex::of(split, *interruption == Interruption::Flags).to_json();
    Bundle::encode(head.as_bytes(), &groups).map_err(|error| JobError::new("too_many_groups", error))
}

fn split_cold_code(Parts { split, interruption, .. }: &Parts, progress: &ProgressSender) -> Result<Vec<u8>, JobError> {
    let mut codes = Vec::with_capacity(split.groups.len());
    for (number, group) in split.groups.iter().enumerate() {
        let permille = number * 1000 / split.groups.len();
        progress.report(u16::try_from(permille).unwrap_or(1000), "compiling cold groups");
        let code = compile_module(&group.module, Tier::Full, *interruption);
        codes.push(code.map_err(|error| JobError::new("bad_group", error))?);
    }
    Bundle::encode(b"", &codes).map_err(|error| JobError::new("too_many_groups", error))
}

/// Does one job.
///
/// # Errors
/// Why the component is none, or what the compiler said.
pub fn work(input: JobInput) -> Result<Vec<u8>, JobError> {
    let Parameters { passes, split, bodies_bytes } = input.read_parameters()?;
    let JobInput { kind, mut component, progress, .. } = input;
    let bodies = bodies_bytes.map(|bytes| component.split_off(component.len().saturating_sub(bytes)));
    let passes = known_all(&passes)?;
    match kind {
        COMPILE_QUICK => compile_prepared(&component, &passes, Tier::Quick, bodies, &progress),
        COMPILE_FULL => compile_prepared(&component, &passes, Tier::Full, bodies, &progress),
        TWIN_MAP | TWIN_QUICK | TWIN_FULL => {
            let (changed, _) = passes::apply(&component, &passes);
            let tier = match kind {
                TWIN_QUICK => Some(Tier::Quick),
                TWIN_FULL => Some(Tier::Full),
                _ => None,
            };
            twin(changed.as_deref().unwrap_or(&component), tier)
        }
        SPLIT_PRIMARY | SPLIT_GROUPS | SPLIT_COLD_CODE => {
            let order = split.ok_or_else(|| JobError::new("parameters", "nothing is said about how to split"))?;
            let parts = parts(&component, &passes, &order)?;
            match kind {
                SPLIT_PRIMARY => split_primary(parts),
                SPLIT_GROUPS => split_groups(&parts),
                _ => split_cold_code(&parts, &progress),
            }
        }
        JobKind(other) => Err(JobError::new("unknown_kind", format!("no job has the number {other}"))),
    }
}

fn compile_prepared(
    component: &[u8],
    passes: &[&Pass],
    tier: Tier,
    bodies: Option<Vec<u8>>,
    progress: &ProgressSender,
) -> Result<Vec<u8>, JobError> {
    progress.report(0, "applying passes");
    let Prepared { component: changed, interruption, mut reports } = prepared(component, component, passes);
    progress.report(10, "compiling");
    if let Some(changed) = changed {
        match compile_changed(&changed, (tier, interruption), bodies.clone(), progress) {
            Ok(code) => return Ok(Made { code, passes: reports }.into_artifact()),
            Err(error) => reports = reports.into_iter().map(|report| withdrawn(report, &error)).collect(),
        }
    }
    let code = compiled(component, (tier, Interruption::Epochs), bodies, progress);
    let code = code.map_err(|error| JobError::new("bad_component", error))?;
    Ok(Made { code, passes: reports }.into_artifact())
}

/// What passes made.
struct Prepared {
    /// The component they made, if any of them made one.
    component: Option<Vec<u8>>,
    /// How it is interrupted.
    interruption: Interruption,
    reports: Vec<PassReport>,
}

/// Applies `passes` to `current`, which others may have made of the component as it was `deployed`; but not that for flags,
/// where that one is left to epochs.
fn prepared(deployed: &[u8], current: &[u8], passes: &[&Pass]) -> Prepared {
    let unfit = why_no_flags(deployed);
    let is_fit = |pass: &Pass| unfit.is_none() || pass.name != INTERRUPT;
    let (fit, left_out): (Vec<&Pass>, Vec<&Pass>) = passes.iter().partition(|pass| is_fit(pass));
    let (component, mut reports) = passes::apply(current, &fit);
    let looks_at_flags = reports.iter().any(|report| report.pass == INTERRUPT && report.is_applied());
    let refused = |pass: &&Pass| unfit.map(|(refusal, detail)| PassReport::refused(pass.name, refusal, detail));
    reports.extend(left_out.iter().filter_map(refused));
    let interruption = if looks_at_flags { Interruption::Flags } else { Interruption::Epochs };
    Prepared { component, interruption, reports }
}

/// The pass that has a component look at flags, so that it is compiled for an engine without epochs. Of those by name it comes
/// after all others: what is added behind it could not be stopped.
pub(crate) const INTERRUPT: &str = "interrupt";
/// Components up to this size keep their epochs: what they do between two calls of the host takes microseconds, and a memory
/// more is a part of what each of their VMs costs.
const EPOCHS_BYTES_MAX: usize = 2 << 20;

/// Why a component is left to its engine's epochs, if it is.
fn why_no_flags(component: &[u8]) -> Option<(&'static str, &'static str)> {
    if component.len() <= EPOCHS_BYTES_MAX {
        return Some(("small-component", "it is stopped by its engine's epochs, which cost it little"));
    }
    let reason = ("tasks", "components of WASI 0.3 are stopped by their engine's epochs");
    (!is_sequential(component)).then_some(reason)
}

/// The code alone, or with what it leaves to the next compilation, if that is wanted.
fn compiled(
    component: &[u8],
    (tier, interruption): (Tier, Interruption),
    bodies: Option<Vec<u8>>,
    progress: &ProgressSender,
) -> Result<Vec<u8>, LoadError> {
    let Some(bodies) = bodies else {
        return compile_with(component, tier, true, interruption);
    };
    let Compiled { mut code, bodies, reused, made } = compile_again(component, tier, true, interruption, bodies)?;
    progress.report(90, &format!("{reused} bodies reused, {made} compiled"));
    let code_bytes = code.len() as u64;
    code.extend_from_slice(&bodies);
    code.extend_from_slice(&code_bytes.to_le_bytes());
    Ok(code)
}

/// What a job with bodies makes: the code, and what it leaves to the next one. `None` if it is something else.
pub(crate) fn parted(mut made: Vec<u8>) -> Option<(Vec<u8>, Vec<u8>)> {
    let (rest, length) = made.split_last_chunk::<LENGTH_BYTES>()?;
    let code_bytes = usize::try_from(u64::from_le_bytes(*length)).ok().filter(|length| *length <= rest.len())?;
    let end = rest.len();
    made.truncate(end);
    let bodies = made.split_off(code_bytes);
    Some((made, bodies))
}

/// Even a panic is no reason to give up: the compiler may bear the component as it is.
fn compile_changed(
    component: &[u8],
    how: (Tier, Interruption),
    bodies: Option<Vec<u8>>,
    progress: &ProgressSender,
) -> Result<Vec<u8>, String> {
    match catch_unwind(AssertUnwindSafe(|| compiled(component, how, bodies, progress))) {
        Ok(outcome) => outcome.map_err(|error| error.to_string()),
        Err(_panic) => Err("the compiler panicked".to_owned()),
    }
}

fn known_all(names: &[String]) -> Result<Vec<&'static Pass>, JobError> {
    let known = |name: &String| {
        passes::known(name).ok_or_else(|| JobError::new("unknown_pass", format!("no pass is called `{name}`")))
    };
    names.iter().map(known).collect()
}

/// What the passes made does not compile, so none of them counts.
fn withdrawn(report: PassReport, error: &str) -> PassReport {
    if report.is_applied() { PassReport::refused(&report.pass, "not_compiled", error) } else { report }
}
