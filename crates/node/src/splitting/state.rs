//! What has become of the split image of a function, by name, and for people.

use forerun_types::{RevisionNumber, SpecializationProfile};
use serde::Serialize;

use super::cold::ColdCounts;
use super::judgement::Trial;
use crate::paths::NoProfile;
use crate::verify::{Mismatch, Pace};

/// Where a function stands.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub(crate) enum SplitState {
    /// Not enough is known of what its requests run.
    Learning {
        /// Why not.
        #[serde(flatten)]
        why: NoProfile,
    },
    /// The operator's switch says no.
    SwitchedOff,
    /// Its machine code is so small that nothing would be won.
    TooSmall {
        /// Size of the whole.
        code_bytes: u64,
        /// From which on it is tried.
        code_bytes_min: u64,
    },
    /// It is being made or tried.
    Building,
    /// No image could be made for the profile.
    NotMade {
        /// What the worker or the driver said.
        reason: String,
    },
    /// No request could be found to try it with.
    NothingToTry,
    /// It answered otherwise than the whole component does, and was thrown away.
    Different {
        /// The request and what differed.
        mismatch: Box<Mismatch>,
    },
    /// It answered the same and took longer, and was not used.
    Slower {
        /// How long both took.
        #[serde(flatten)]
        pace: Pace,
    },
    /// Its VMs are not put back to the state after the warm-up requests, though those of the whole component are.
    NotWarm {
        /// Why not.
        reason: String,
    },
    /// It serves.
    Serving(Box<Serving>),
    /// It served, and worse than the whole component, which serves again.
    Worse {
        /// In which respect, with the figures.
        fault: String,
    },
    /// It served, and had to load too much that was not expected; the whole component serves again.
    TooManyMisses {
        /// How it fared.
        counts: ColdCounts,
        /// Misses in a thousand requests at which it is given up.
        misses_per_thousand_max: f64,
    },
}

/// A split image that serves.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Serving {
    pub(crate) revision: RevisionNumber,
    /// The profile it was made for.
    pub(crate) profile: String,
    pub(crate) confidence_permille: u16,
    /// Share of the component's code that stays, in permille.
    pub(crate) hot_permille: u64,
    /// Inner functions that stay.
    pub(crate) functions_kept: u32,
    /// Of so many.
    pub(crate) functions: u32,
    pub(crate) groups: usize,
    /// Size of its machine code.
    pub(crate) code_bytes: u64,
    /// That of the whole component.
    pub(crate) whole_code_bytes: u64,
    /// Time it took to make, in milliseconds.
    pub(crate) build_ms: u64,
    /// Time it took to make that of the whole component, in milliseconds.
    pub(crate) whole_build_ms: u64,
    /// Requests in which it was compared with the whole component before it served.
    pub(crate) compared: usize,
    /// Of these, how many could be compared in every detail.
    pub(crate) compared_steadily: usize,
    /// How long both took then.
    pub(crate) pace: Pace,
    #[serde(flatten)]
    pub(crate) counts: ColdCounts,
    pub(crate) misses_per_thousand: f64,
    /// How it compares with the whole component.
    pub(crate) trial: Option<Trial>,
}

impl SplitState {
    /// A short stable name.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Learning { .. } => "learning",
            Self::SwitchedOff => "switched_off",
            Self::TooSmall { .. } => "too_small",
            Self::Building => "building",
            Self::NotMade { .. } => "not_made",
            Self::NothingToTry => "nothing_to_try",
            Self::Different { .. } => "different",
            Self::Slower { .. } => "slower",
            Self::NotWarm { .. } => "not_warm",
            Self::Serving(_) => "serving",
            Self::Worse { .. } => "worse",
            Self::TooManyMisses { .. } => "too_many_misses",
        }
    }

    /// A line for people.
    pub(crate) fn line(&self) -> String {
        match self {
            Self::Learning { why } => format!("still learning: {why}"),
            Self::SwitchedOff => "images are switched off for it".to_owned(),
            Self::TooSmall { code_bytes, code_bytes_min } => {
                format!("its code has {code_bytes} bytes; below {code_bytes_min} nothing would be won")
            }
            Self::Building => "being made and compared with the whole component".to_owned(),
            Self::NotMade { reason } => format!("not made: {reason}"),
            Self::NothingToTry => "no request is known that it could be tried with".to_owned(),
            Self::Different { mismatch } => format!("thrown away, it answered otherwise: {mismatch}"),
            Self::Slower { pace } => format!(
                "not used, its requests took {} µs and those of the whole component {}, before it served: longer in {} of {} pairs",
                pace.candidate_us, pace.whole_us, pace.longer, pace.pairs
            ),
            Self::NotWarm { reason } => {
                format!("not used, its VMs would not be warmed up as those of the whole component are: {reason}")
            }
            Self::Serving(serving) => format!(
                "serves: {} ‰ of the code kept, {} groups, {:.1} misses in 1,000 requests; made in {} ms, the whole in {} ms",
                serving.hot_permille,
                serving.groups,
                serving.misses_per_thousand,
                serving.build_ms,
                serving.whole_build_ms
            ),
            Self::Worse { fault } => format!("given up: {fault}"),
            Self::TooManyMisses { counts, misses_per_thousand_max } => format!(
                "given up: {} misses in {} requests, more than {misses_per_thousand_max} in 1,000",
                counts.misses, counts.requests
            ),
        }
    }
}

/// What a function's next image should be specialized for, and what has become of the last.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ProfileView {
    /// Absent while not enough is known.
    pub(crate) profile: Option<SpecializationProfile>,
    pub(crate) digest: Option<String>,
    pub(crate) why_none: Option<String>,
    pub(crate) image: Option<SplitState>,
    pub(crate) image_name: Option<&'static str>,
    pub(crate) image_line: Option<String>,
}
