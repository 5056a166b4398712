//! Settings of the engine: plain data with documented defaults.

use crate::timing::bins::Resolution;
use serde::{Deserialize, Serialize};

/// Which families of experts take part. Switching one off is for ablation and for shedding load; the mixture adapts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExpertFamilies {
    /// Statistical profile: pooled and own hazards, recency, clock, frequency.
    pub statistical: bool,
    /// Markov models on idle times and on call sequences.
    pub markov: bool,
    /// Recurrent networks.
    pub lstm: bool,
}

impl ExpertFamilies {
    /// Every family.
    pub const ALL: Self = Self { statistical: true, markov: true, lstm: true };
}

/// Settings of the engine. They are part of a snapshot: state learnt under one set is not restored under another.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct EngineSettings {
    /// How finely the events know the time.
    pub resolution: Resolution,
    /// Families that take part.
    pub families: ExpertFamilies,
    /// Seed of the networks' first weights, the only randomness there is.
    pub seed: u64,
}

impl Default for EngineSettings {
    fn default() -> Self {
        Self { resolution: Resolution::Second, families: ExpertFamilies::ALL, seed: 1 }
    }
}
