//! The prediction engine: events in; forecasts, profiles and decisions out.
//!
//! Pure and deterministic: there is no clock, no randomness, no I/O and no thread in here. Time is part of each event;
//! the seed of the networks is a setting. The same events give the same bytes of state on every machine.
//!
//! - [`engine`] takes calls and says what may come next ([`answer`] explains it); [`timing`] is *when*, [`sequence`] is
//!   *which*, [`paths`] is layer 2.
//! - [`call_graph`] is which functions call which, [`session_gaps`] when a session goes on.
//! - [`plan`] and [`decision`] turn that into what to hold ready and when, at the prices of [`price`].
//! - [`snapshot`] keeps the state; [`shed`] sheds the engine's own load.

// Several arrays are walked in step, lane by lane; an index says so more plainly than four zipped iterators.
#![allow(clippy::needless_range_loop)]

pub mod answer;
pub mod call_graph;
pub mod catalog;
pub mod decision;
pub mod engine;
pub mod event;
pub mod hash;
pub mod known;
pub mod numeric;
pub mod path_map;
pub mod paths;
pub mod plan;
pub mod price;
pub mod sequence;
pub mod session_gaps;
pub mod sessions;
pub mod settings;
pub mod shed;
pub mod snapshot;
mod sorted;
pub mod timing;
