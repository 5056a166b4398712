//! Why an image is not given out, and why one that was there is gone. Closed lists with stable labels.

use std::fmt;

use forerun_types::ImageKey;
use serde::{Deserialize, Serialize};

use crate::flaw::Flaw;

/// Why [`ImageCache::get`](crate::ImageCache::get) gave no image. In every case the generic path serves.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
pub enum Miss {
    /// No build of it has ever succeeded here, as far as is remembered.
    #[error("it was never built")]
    NeverBuilt,
    /// A build is under way.
    #[error("it is being built")]
    Building,
    /// A build failed a short time ago.
    #[error("its build failed ({failures} times); the next may begin later")]
    BackingOff {
        /// When the next build may begin, in Unix time.
        until_unix_ms: u64,
        /// Failures in a row.
        failures: u32,
    },
    /// Builds failed repeatedly, or the image was discarded for cause.
    #[error("it is quarantined after {failures} failures")]
    Quarantined {
        /// When the next build may begin, in Unix time.
        until_unix_ms: u64,
        /// Failures in a row and discards for cause, together.
        failures: u32,
    },
    /// It gave way to another one.
    #[error("it was evicted to make room")]
    Evicted,
    /// It was discarded on request.
    #[error("it was discarded: {0}")]
    Discarded(DiscardReason),
    /// Somebody else removed the file.
    #[error("its file was removed by somebody else")]
    Vanished,
    /// Its file failed a check, now or earlier, and was removed.
    #[error("{0}")]
    Flawed(#[from] Flaw),
    /// The system failed; the file is left as it is.
    #[error("its file cannot be read: {detail}")]
    Io {
        /// What the system said.
        detail: String,
    },
}

impl Miss {
    /// Every label, for metrics that must exist before the first miss.
    pub const LABELS: [&'static str; 15] = [
        "never_built",
        "building",
        "backing_off",
        "quarantined",
        "evicted",
        "discarded",
        "vanished",
        "torn",
        "tampered",
        "other_key",
        "foreign_engine",
        "foreign_format",
        "newer_format",
        "too_large",
        "io",
    ];

    /// Stable label: metrics, `Server-Timing`, logs.
    pub fn label(&self) -> &'static str {
        match self {
            Self::NeverBuilt => "never_built",
            Self::Building => "building",
            Self::BackingOff { .. } => "backing_off",
            Self::Quarantined { .. } => "quarantined",
            Self::Evicted => "evicted",
            Self::Discarded(_) => "discarded",
            Self::Vanished => "vanished",
            Self::Flawed(flaw) => flaw.label(),
            Self::Io { .. } => "io",
        }
    }
}

/// Why an image is discarded on request.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum DiscardReason {
    /// Requests on it were slower than on the generic path. For cause: the key is quarantined.
    #[error("worse than the generic path: {figure}")]
    Worse {
        /// By how much, and on how many requests.
        figure: String,
    },
    /// It answered differently, or trapped where the generic path does not. For cause: the key is quarantined.
    #[error("misbehaved: {detail}")]
    Misbehaved {
        /// What it did.
        detail: String,
    },
    /// A later image of the same function has replaced it.
    #[error("a later image replaced it")]
    Superseded,
    /// An operator asked for it.
    #[error("an operator asked for it")]
    Operator,
}

/// Why an image that was here is not here any more.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GoneReason {
    /// It gave way to another one.
    Evicted {
        /// What it was worth, in milliseconds saved per byte.
        value_ms_per_byte: f64,
    },
    /// It was discarded on request.
    Discarded(DiscardReason),
    /// Somebody else removed the file.
    Vanished,
    /// Its file failed a check.
    Flawed(Flaw),
}

impl fmt::Display for GoneReason {
    /// For people.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.miss().fmt(f)
    }
}

impl GoneReason {
    /// Every label, for metrics that must exist before the first removal.
    pub const LABELS: [&'static str; 10] = [
        "evicted",
        "discarded",
        "vanished",
        "torn",
        "tampered",
        "other_key",
        "foreign_engine",
        "foreign_format",
        "newer_format",
        "too_large",
    ];

    /// Stable label: metrics, the admin API.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Evicted { .. } => "evicted",
            Self::Discarded(_) => "discarded",
            Self::Vanished => "vanished",
            Self::Flawed(flaw) => flaw.label(),
        }
    }

    pub(crate) fn miss(&self) -> Miss {
        match self {
            Self::Evicted { .. } => Miss::Evicted,
            Self::Discarded(reason) => Miss::Discarded(reason.clone()),
            Self::Vanished => Miss::Vanished,
            Self::Flawed(flaw) => Miss::Flawed(*flaw),
        }
    }
}

/// One image that went, for the list shown to people.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Gone {
    /// Whose image it was.
    pub key: ImageKey,
    /// When, in Unix time. For display only: clocks jump.
    pub at_unix_ms: u64,
    /// Size of its file.
    pub bytes: u64,
    /// Why.
    pub reason: GoneReason,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_label_is_listed() {
        let flaws = [
            Flaw::Torn,
            Flaw::Tampered,
            Flaw::OtherKey,
            Flaw::ForeignEngine,
            Flaw::ForeignFormat,
            Flaw::NewerFormat { found: 2 },
            Flaw::TooLarge { bytes: 2, max: 1 },
        ];
        let (until_unix_ms, failures) = (0, 0);
        let reasons = [
            GoneReason::Evicted { value_ms_per_byte: 0.0 },
            GoneReason::Discarded(DiscardReason::Operator),
            GoneReason::Vanished,
        ];
        let misses = [
            Miss::NeverBuilt,
            Miss::Building,
            Miss::BackingOff { until_unix_ms, failures },
            Miss::Quarantined { until_unix_ms, failures },
        ];
        let reasons: Vec<_> = reasons.into_iter().chain(flaws.map(GoneReason::Flawed)).collect();
        let gone: Vec<_> = reasons.iter().map(GoneReason::label).collect();
        assert_eq!(gone, GoneReason::LABELS);
        let missed: Vec<_> = misses.into_iter().chain(reasons.iter().map(GoneReason::miss)).collect();
        let mut missed: Vec<_> = missed.iter().map(Miss::label).collect();
        missed.push(Miss::Io { detail: String::new() }.label());
        assert_eq!(missed, Miss::LABELS);
    }
}
