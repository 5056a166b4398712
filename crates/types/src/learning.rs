//! How far a node may go in learning from its requests: the words of the operator's switch.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// From nothing to everything; each does what the one before does, and more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LearningMode {
    /// Nothing is learnt and nothing made ready; what was learnt before stays on disk.
    Off,
    /// Learn and say what would be expected; make nothing ready.
    Observe,
    /// Let images be specialized on disk by what is learnt too; hold no VM in memory.
    Images,
    /// Hold VMs ready ahead of requests too.
    #[default]
    Full,
}

/// All modes, from nothing to everything.
pub const LEARNING_MODES: [LearningMode; 4] =
    [LearningMode::Off, LearningMode::Observe, LearningMode::Images, LearningMode::Full];

impl LearningMode {
    /// The word for it.
    pub fn label(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Observe => "observe",
            Self::Images => "images",
            Self::Full => "full",
        }
    }
}

impl fmt::Display for LearningMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.label())
    }
}

/// The text is none of `off`, `observe`, `images` and `full`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("how far to learn is `off`, `observe`, `images` or `full`")]
pub struct LearningModeError;

impl FromStr for LearningMode {
    type Err = LearningModeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        LEARNING_MODES.into_iter().find(|mode| mode.label() == text).ok_or(LearningModeError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_ordered_and_read_as_they_are_written() {
        assert!(LEARNING_MODES.is_sorted());
        for mode in LEARNING_MODES {
            assert_eq!(mode.label().parse(), Ok(mode));
            assert_eq!(serde_json::to_string(&mode).unwrap(), format!("\"{mode}\""));
        }
        assert_eq!("on".parse::<LearningMode>(), Err(LearningModeError));
    }
}
