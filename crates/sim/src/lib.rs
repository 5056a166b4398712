//! Trace readers, keep-alive baselines and replay through the prediction engine.

pub mod ledger;
pub mod policy;
pub mod trace;
