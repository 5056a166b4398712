//! What the worker process does: the hidden role of the one binary.

use forerun_runtime::{Tier, compile};
use forerun_specialize::{JobError, JobInput, JobKind};

const COMPILE_QUICK: JobKind = JobKind(1);
const COMPILE_FULL: JobKind = JobKind(2);

/// The job that makes code of `tier`.
pub(crate) fn kind(tier: Tier) -> JobKind {
    match tier {
        Tier::Quick => COMPILE_QUICK,
        Tier::Full => COMPILE_FULL,
    }
}

/// Does one job.
///
/// # Errors
/// Why the component is none, or what the compiler said.
pub fn work(input: JobInput) -> Result<Vec<u8>, JobError> {
    let JobInput { kind, component, progress, .. } = input;
    let tier = match kind {
        COMPILE_QUICK => Tier::Quick,
        COMPILE_FULL => Tier::Full,
        JobKind(other) => return Err(JobError::new("unknown_kind", format!("no job has the number {other}"))),
    };
    progress.report(0, "compiling");
    compile(&component, tier, true).map_err(|error| JobError::new("bad_component", error))
}
