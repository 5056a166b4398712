//! Sequences of symbols: which comes next. Used for calls of functions (layer 1) and for code paths (layer 2).

pub mod candidates;
pub mod contexts;
pub mod lstm;
pub mod map;
pub mod mixer;
pub mod model;
pub mod popular;
pub mod session;
pub mod trainer;
