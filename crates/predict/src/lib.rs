//! The prediction engine: events in; forecasts, profiles and decisions out.
//!
//! Pure and deterministic: there is no clock, no randomness, no I/O and no thread in here. Time is part of each event;
//! the seed of the networks is a setting. The same events give the same bytes of state on every machine.

pub mod engine;
pub mod event;
pub mod hash;
pub mod numeric;
pub mod plan;
pub mod sequence;
pub mod sessions;
pub mod settings;
pub mod shed;
mod sorted;
pub mod timing;
