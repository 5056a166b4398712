//! The Specialization Profile: all that the specializer is told about one image, and how sure we are.

use serde::{Deserialize, Serialize};

/// What an image of a function is to be specialized for. It can be printed and exported, and alone determines the image.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SpecializationProfile {
    /// Version of this record's form.
    pub version: u16,
    /// Kind of the function.
    pub kind: u32,
    /// Class of request it is for; 0 for all.
    pub class: u32,
    /// Libraries to load ahead, most probable first.
    pub libraries: Vec<Share>,
    /// Code paths (functions inside the component) to compile and optimise, most probable first.
    pub paths: Vec<Share>,
    /// Probability that a request stays inside `paths`, calibrated.
    pub path_mass: f32,
    /// Parameters of the VM.
    pub vm: VmParameters,
    /// How sure the profile is, from 0 to 1: the lower end of the 95 % interval of `path_mass`.
    pub confidence: f32,
    /// Sampled calls it was learnt from.
    pub calls: u64,
}

/// Something used, and the probability that the next request uses it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Share {
    /// Its number, as the samples name it.
    pub id: u32,
    /// The probability.
    pub probability: f32,
}

/// Parameters of the VM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VmParameters {
    /// Memory to make resident ahead: what nearly all calls needed.
    pub memory_bytes: u64,
    /// CPU time to grant before a call is suspicious: several times what nearly all calls needed.
    pub cpu_time_us: u64,
    /// Cores to prefer; empty for any. Nothing is learnt about it yet: the node fills it in.
    pub cpu_affinity: Vec<u16>,
}

/// Version of [`SpecializationProfile`].
pub const PROFILE_VERSION: u16 = 1;
