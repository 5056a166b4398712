//! Shedding of the engine's own load: training of the network goes first, then asking it; the mixture goes on.
//!
//! Pressure is the length of the queue of calls not yet taken in, as a share of its capacity. Each level has a threshold
//! to enter and a lower one to leave, so that the engine does not flicker between levels.

use serde::{Deserialize, Serialize};

/// How much of the network's work is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub enum ShedLevel {
    /// Everything.
    #[default]
    Full,
    /// One chunk in eight is trained on.
    LittleTraining,
    /// The network is asked but not trained.
    NoTraining,
    /// The network is not asked; the mixture goes on without it.
    NoNetwork,
}

const LEVELS: [ShedLevel; 4] =
    [ShedLevel::Full, ShedLevel::LittleTraining, ShedLevel::NoTraining, ShedLevel::NoNetwork];
/// Backlog at which each level is entered from the one before. Training is three quarters of the network's cost, so it
/// goes while the queue is still half empty.
const ENTER: [f32; 3] = [0.25, 0.5, 0.75];
/// Backlog below which a level is left, as a share of the one at which it is entered.
const LEAVE_SHARE: f32 = 0.5;

/// The present level.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct LoadShed {
    level: ShedLevel,
}

impl LoadShed {
    /// Moves at most one level, by the present backlog (0 empty, 1 full; anything else is taken as the nearer end).
    pub fn update(&mut self, backlog: f32) {
        let backlog = if backlog.is_finite() { backlog.clamp(0.0, 1.0) } else { 1.0 };
        let level = self.level as usize;
        if level < ENTER.len() && backlog >= ENTER[level] {
            self.level = LEVELS[level + 1];
        } else if level > 0 && backlog < ENTER[level - 1] * LEAVE_SHARE {
            self.level = LEVELS[level - 1];
        }
    }

    /// The level.
    pub fn level(&self) -> ShedLevel {
        self.level
    }

    /// Every how many chunks the network is trained; 0 for never.
    pub fn train_every(&self) -> u64 {
        match self.level {
            ShedLevel::Full => 1,
            ShedLevel::LittleTraining => 8,
            ShedLevel::NoTraining | ShedLevel::NoNetwork => 0,
        }
    }

    /// Whether the network is asked.
    pub fn infer(&self) -> bool {
        self.level != ShedLevel::NoNetwork
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn training_goes_before_inference_and_comes_back_last() {
        let mut shed = LoadShed::default();
        let mut seen = Vec::new();
        for backlog in [0.1, 0.3, 0.6, 0.9, f32::NAN, 0.6, 0.3, 0.2, 0.1, 0.05] {
            shed.update(backlog);
            seen.push(shed.level());
        }
        use ShedLevel::{Full, LittleTraining, NoNetwork, NoTraining};
        let expected =
            [Full, LittleTraining, NoTraining, NoNetwork, NoNetwork, NoNetwork, NoTraining, LittleTraining, Full, Full];
        assert_eq!(seen, expected);
    }
}
