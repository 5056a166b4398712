//! Replay of traces: what prediction would have done on given traffic, against the usual keep-alive policies.
//!
//! Readers turn public trace formats into calls; [`replay::replay`] feeds them through the very engine that a node runs
//! and through the baselines; [`report`] and [`picture`] show what came out. There is no clock and no network in here;
//! files are read, and calls that do not fit in memory are kept in temporary files.

pub mod ledger;
pub mod picture;
pub mod policy;
pub mod progress;
pub mod reader;
pub mod replay;
pub mod report;
pub mod sorted;
pub mod trace;
pub mod which;
