//! Keep-alive policies that a trace is replayed through: the published baselines, and the engine.

pub mod engine;
pub mod faascache;
pub mod fixed;
pub mod hybrid;
pub mod markov;

use crate::ledger::Ledger;
use crate::trace::Invocation;

/// What one policy achieved: its name, the parameter that was varied, and its ledger.
#[derive(Debug)]
pub struct Outcome {
    /// Family of policies; one curve in the picture.
    pub family: String,
    /// The parameter, for people.
    pub parameter: String,
    /// What it did and cost.
    pub ledger: Ledger,
}

/// A policy (or several that share a model) under replay.
pub trait Contestant {
    /// Takes the next call. Calls come in time order.
    fn call(&mut self, call: &Invocation);
    /// Closes the accounts at the end of the trace and hands them over.
    fn finish(self: Box<Self>, end_us: u64) -> Vec<Outcome>;
}
