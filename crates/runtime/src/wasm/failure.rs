//! What went wrong in a VM, by name.

use forerun_types::Outcome;
use wasmtime::{PoolConcurrencyLimitError, Trap, WasmBacktrace, WasmCoreDump};
use wasmtime_wasi::I32Exit;

use super::lazy::LazyFailure;
use super::limiter::MemoryLimiter;

/// Longest text kept of an error: guests can make it as long as they like.
const DETAIL_CHARS_MAX: usize = 2_000;

/// Stops a guest whose time is up.
#[derive(Debug, thiserror::Error)]
#[error("the invocation ran out of time")]
pub(super) struct TimedOut;

/// How an invocation failed, and what to write in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) outcome: Outcome,
    pub(super) detail: String,
}

impl Failure {
    pub(super) fn new(outcome: Outcome, detail: impl Into<String>) -> Self {
        Self { outcome, detail: shorten(detail.into()) }
    }

    /// A VM that could not be made.
    pub(super) fn of_instantiation(error: &wasmtime::Error) -> Self {
        if error.is::<PoolConcurrencyLimitError>() {
            return Self::new(Outcome::NoVm, "all VM slots of the node are taken");
        }
        if error.is::<TimedOut>() {
            return Self::new(Outcome::Timeout, "out of time while the VM was made");
        }
        Self::new(Outcome::NoVm, format!("the VM could not be made: {error:#}"))
    }

    /// A guest that was entered and did not return normally.
    pub(super) fn of_guest(error: &wasmtime::Error, limiter: &MemoryLimiter) -> Self {
        if error.is::<TimedOut>() {
            return Self::new(Outcome::Timeout, "the guest used up its time");
        }
        if let Some(late @ LazyFailure::OutOfTime(_)) = error.downcast_ref::<LazyFailure>() {
            return Self::new(Outcome::Timeout, late.to_string());
        }
        if let Some(exit) = error.downcast_ref::<I32Exit>() {
            return Self::new(Outcome::Trap, format!("the guest called exit({}) while serving a request", exit.0));
        }
        let out_of_memory = limiter.refused();
        let outcome = if out_of_memory { Outcome::OutOfMemory } else { Outcome::Trap };
        let cause = match error.downcast_ref::<Trap>() {
            Some(trap) => trap.to_string(),
            None => error.root_cause().to_string(),
        };
        let hint = if out_of_memory { " after memory beyond the limit was refused" } else { "" };
        Self::new(outcome, format!("{cause}{hint}\n{}", places(error)))
    }
}

/// Where it happened. An engine for split components attaches a core dump to every trap, whose list of modules is
/// longer than what is kept of a text and says nothing.
fn places(error: &wasmtime::Error) -> String {
    match error.downcast_ref::<WasmBacktrace>() {
        Some(places) if error.is::<WasmCoreDump>() => places.to_string(),
        _ => format!("{error:?}"),
    }
}

fn shorten(text: String) -> String {
    match text.char_indices().nth(DETAIL_CHARS_MAX) {
        None => text,
        Some((end, _)) => format!("{} [cut]", &text[..end]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_cause() {
        let calm = MemoryLimiter::new(1);
        assert_eq!(Failure::of_guest(&TimedOut.into(), &calm).outcome, Outcome::Timeout);
        assert_eq!(Failure::of_guest(&I32Exit(3).into(), &calm).outcome, Outcome::Trap);
        assert_eq!(Failure::of_guest(&Trap::UnreachableCodeReached.into(), &calm).outcome, Outcome::Trap);
        let mut full = MemoryLimiter::new(1);
        assert!(!wasmtime::ResourceLimiter::memory_growing(&mut full, 0, 2, None).unwrap());
        assert_eq!(Failure::of_guest(&Trap::UnreachableCodeReached.into(), &full).outcome, Outcome::OutOfMemory);
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        let cut = shorten("é".repeat(DETAIL_CHARS_MAX + 1));
        assert!(cut.ends_with(" [cut]"));
        assert_eq!(shorten("short".into()), "short");
    }
}
