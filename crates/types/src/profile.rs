//! The specialization profile: everything that is decided about an image before it is built.
//!
//! What to build ([`BuildPlan`]) and how its VMs are run ([`VmParameters`]), how sure that is and where it
//! comes from. The plan alone, with the base component and the engine, determines the image's bytes; so
//! its canonical bytes are what the [`ProfileDigest`] in an image's key is made of. The rest may change
//! (more VMs parked, other processors) without a new build.
//!
//! Numbers are whole on purpose: a probability is a permille, so that the same knowledge gives the same
//! bytes on every machine, and a change too small to matter gives the same image.
//!
//! How a profile is learnt, and how an image is made from it, is known elsewhere.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::digest::{hex, unhex};
use crate::{ProfileDigest, ReusePolicy, RevisionNumber};

/// Version of the record. Part of the canonical bytes: another version is another image.
pub const PROFILE_VERSION: u16 = 1;
/// Code paths of one profile. The largest component seen has 14,000 functions.
pub const PATHS_MAX: usize = 200_000;
/// Libraries of one profile. A Python component has 14 core modules, an application some hundred modules.
pub const LIBRARIES_MAX: usize = 4_096;
/// Bytes of a library's name.
pub const LIBRARY_NAME_BYTES_MAX: usize = 256;
/// Processors of a set: more than the largest machines have.
pub const CPUS_MAX: usize = 1_024;
/// Largest text of a profile that is read: [`PATHS_MAX`] paths at some 70 bytes each.
pub const PROFILE_TEXT_BYTES_MAX: usize = 16 << 20;

/// A whole profile.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SpecializationProfile {
    /// [`PROFILE_VERSION`] of whoever wrote it.
    pub version: u16,
    /// What the image is made of.
    pub build: BuildPlan,
    /// How VMs of the image are run.
    pub vm: VmParameters,
    /// How probable it is that a request stays within what was prepared, at the lower end of what is known.
    pub confidence: Permille,
    /// Where it comes from.
    pub source: ProfileSource,
}

/// What determines the bytes of an image, beside base component and engine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BuildPlan {
    /// How much work goes into the code.
    pub optimisation: Optimisation,
    /// What is compiled for a first request: everything, or the paths predicted.
    pub coverage: Coverage,
    /// Libraries and modules to link and load ahead; sorted by name, each once.
    pub libraries: Vec<Library>,
}

/// How much work goes into the code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Optimisation {
    /// To be there soon: a fresh deployment.
    Quick,
    /// To be fast.
    Full,
}

/// What of the component is compiled first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Coverage {
    /// All of it.
    Whole,
    /// These paths; the others follow and are loaded when they are called.
    Paths {
        /// Sorted by hash, each once, at least one.
        paths: Vec<CodePath>,
    },
}

/// A function inside the component.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CodePath {
    /// Its body, normalised: the same in the next revision if the code is.
    pub body: BodyHash,
    /// How probable it is that a request runs it.
    pub probability: Permille,
}

/// A library or module that a request uses.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Library {
    /// As the component names it, at most [`LIBRARY_NAME_BYTES_MAX`] bytes.
    pub name: String,
    /// How probable it is that a request uses it.
    pub probability: Permille,
}

/// How VMs of an image are run. All are bounds or wishes that are applied when a VM is made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VmParameters {
    /// Most linear memory, in bytes; never above the function's limit.
    pub memory_bytes_max: u64,
    /// Memory kept resident in a VM that is ready, in bytes; at most `memory_bytes_max`.
    pub resident_bytes: u64,
    /// Epochs a request may run before it is stopped. The node says how long an epoch is.
    pub epochs_max: u64,
    /// Processors to run on; sorted, each once; empty for any.
    pub cpus: Vec<u16>,
    /// Whether a VM serves one request or several.
    pub reuse: ReusePolicy,
    /// VMs held ready ahead of requests.
    pub parked: u32,
    /// Groups of unprepared code that one VM may load before its requests go to a whole image.
    pub cold_groups_max: u32,
}

/// Where a profile comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum ProfileSource {
    /// Nothing is known yet: what every fresh revision gets.
    Deployment,
    /// From other functions that share code with this one.
    SharedCode {
        /// How many of them.
        functions: u32,
    },
    /// Learnt from this function's own requests.
    Observed {
        /// Sampled requests it was learnt from.
        requests: u64,
        /// The revision they went to; bodies that it shares with others keep their hash.
        revision: RevisionNumber,
    },
    /// Written by a person.
    Operator,
}

/// A probability in thousandths, at most 1000.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "u16", into = "u16")]
pub struct Permille(u16);

/// The hash of a function's normalised body, written as 32 hexadecimal digits. How bodies are normalised
/// and hashed is the business of whoever reads them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BodyHash([u8; 16]);

/// Why a profile or a part of it is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProfileError {
    /// Longer than any profile.
    #[error("a profile has at most {PROFILE_TEXT_BYTES_MAX} bytes, this one has {0}")]
    TooLong(usize),
    /// Not JSON of this shape.
    #[error("not a specialization profile: {0}")]
    Shape(String),
    /// Written by another version.
    #[error("profile of version {0}, known is {PROFILE_VERSION}")]
    Version(u16),
    /// More entries than its bound.
    #[error("{count} {list}, at most {count_max} are allowed")]
    TooMany {
        /// `paths`, `libraries` or `cpus`.
        list: &'static str,
        /// How many there are.
        count: usize,
        /// The bound.
        count_max: usize,
    },
    /// Not strictly ascending, so not the one way to write it.
    #[error("{0} are not sorted, or one is there twice")]
    Order(&'static str),
    /// A coverage of no path is a whole one.
    #[error("a coverage by paths names at least one")]
    NoPaths,
    /// The name of a library is empty or too long.
    #[error("a library's name has 1 to {LIBRARY_NAME_BYTES_MAX} bytes")]
    LibraryName,
    /// More memory resident than there may be.
    #[error("resident memory is larger than the memory")]
    Resident,
    /// A probability above one.
    #[error("a permille is at most 1000")]
    Permille,
    /// Not 32 hexadecimal digits in lower case.
    #[error("a body hash has 32 lower-case hexadecimal digits")]
    BodyHash,
}

impl BuildPlan {
    /// A whole component with nothing else, which needs no knowledge of its requests.
    pub fn whole(optimisation: Optimisation) -> Self {
        Self { optimisation, coverage: Coverage::Whole, libraries: Vec::new() }
    }

    /// A plan for these, in the one order there is. Of an entry that comes twice, the more probable stays.
    /// Without paths it covers the whole component.
    pub fn new(optimisation: Optimisation, mut paths: Vec<CodePath>, mut libraries: Vec<Library>) -> Self {
        paths.sort_unstable_by(|a, b| (a.body, b.probability).cmp(&(b.body, a.probability)));
        paths.dedup_by_key(|path| path.body);
        libraries.sort_unstable_by(|a, b| (&a.name, b.probability).cmp(&(&b.name, a.probability)));
        libraries.dedup_by(|a, b| a.name == b.name);
        let coverage = if paths.is_empty() { Coverage::Whole } else { Coverage::Paths { paths } };
        Self { optimisation, coverage, libraries }
    }

    /// The bytes that two equal plans have in common and two different ones do not: version and plan as
    /// JSON without spaces, fields in the order of the type, numbers whole, lists sorted.
    ///
    /// # Errors
    /// What is not in its one form or out of bounds.
    pub fn canonical_bytes(&self) -> Result<Vec<u8>, ProfileError> {
        self.check()?;
        serde_json::to_vec(&(PROFILE_VERSION, self)).map_err(|error| ProfileError::Shape(error.to_string()))
    }

    /// What stands for this plan in an image's key: the SHA-256 of its canonical bytes.
    ///
    /// # Errors
    /// As [`Self::canonical_bytes`].
    pub fn digest(&self) -> Result<ProfileDigest, ProfileError> {
        Ok(ProfileDigest::of(&self.canonical_bytes()?))
    }

    fn check(&self) -> Result<(), ProfileError> {
        match &self.coverage {
            Coverage::Whole => {}
            Coverage::Paths { paths } if paths.is_empty() => return Err(ProfileError::NoPaths),
            Coverage::Paths { paths } => ascending("paths", paths, PATHS_MAX, |a, b| a.body < b.body)?,
        }
        ascending("libraries", &self.libraries, LIBRARIES_MAX, |a, b| a.name < b.name)?;
        let is_name = |library: &Library| (1..=LIBRARY_NAME_BYTES_MAX).contains(&library.name.len());
        if self.libraries.iter().all(is_name) { Ok(()) } else { Err(ProfileError::LibraryName) }
    }
}

impl SpecializationProfile {
    /// Reads a profile and checks all of it.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn from_json(text: &[u8]) -> Result<Self, ProfileError> {
        if text.len() > PROFILE_TEXT_BYTES_MAX {
            return Err(ProfileError::TooLong(text.len()));
        }
        let shape = |error: serde_json::Error| ProfileError::Shape(error.to_string());
        // The version first: a newer profile may have another shape, and that is not the thing to complain of.
        let VersionOnly { version } = serde_json::from_slice(text).map_err(shape)?;
        if version != PROFILE_VERSION {
            return Err(ProfileError::Version(version));
        }
        let profile: Self = serde_json::from_slice(text).map_err(shape)?;
        profile.check()?;
        Ok(profile)
    }

    /// The profile for people and for export: JSON with line breaks, as [`Self::from_json`] reads it.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("numbers, texts and lists are always JSON")
    }

    /// What stands for it in an image's key; see [`BuildPlan::digest`].
    ///
    /// # Errors
    /// What is not in its one form or out of bounds.
    pub fn digest(&self) -> Result<ProfileDigest, ProfileError> {
        self.build.digest()
    }

    /// Whether it is of this version, in its one form and within its bounds.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn check(&self) -> Result<(), ProfileError> {
        if self.version != PROFILE_VERSION {
            return Err(ProfileError::Version(self.version));
        }
        self.build.check()?;
        ascending("cpus", &self.vm.cpus, CPUS_MAX, |a, b| a < b)?;
        if self.vm.resident_bytes <= self.vm.memory_bytes_max { Ok(()) } else { Err(ProfileError::Resident) }
    }
}

#[derive(Deserialize)]
struct VersionOnly {
    version: u16,
}

fn ascending<T>(
    list: &'static str,
    entries: &[T],
    count_max: usize,
    is_before: impl Fn(&T, &T) -> bool,
) -> Result<(), ProfileError> {
    let count = entries.len();
    if count > count_max {
        return Err(ProfileError::TooMany { list, count, count_max });
    }
    if entries.is_sorted_by(is_before) { Ok(()) } else { Err(ProfileError::Order(list)) }
}

impl Permille {
    /// For certain.
    pub const CERTAIN: Self = Self(1000);

    /// The nearest permille to a probability; what is no probability becomes the nearest one, and what is
    /// no number zero.
    pub fn nearest(probability: f64) -> Self {
        // A cast of a float saturates and makes zero of what is no number.
        Self(((probability * 1000.0).round() as u16).min(1000))
    }

    /// As a whole number from 0 to 1000.
    pub fn get(self) -> u16 {
        self.0
    }
}

impl TryFrom<u16> for Permille {
    type Error = ProfileError;

    fn try_from(permille: u16) -> Result<Self, ProfileError> {
        if permille <= 1000 { Ok(Self(permille)) } else { Err(ProfileError::Permille) }
    }
}

impl From<Permille> for u16 {
    fn from(permille: Permille) -> Self {
        permille.0
    }
}

impl BodyHash {
    /// The hash that was made elsewhere.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Its 16 bytes.
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for BodyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for BodyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for BodyHash {
    type Err = ProfileError;

    fn from_str(text: &str) -> Result<Self, ProfileError> {
        let mut bytes = [0; 16];
        if unhex(text.as_bytes(), &mut bytes) { Ok(Self(bytes)) } else { Err(ProfileError::BodyHash) }
    }
}

impl TryFrom<String> for BodyHash {
    type Error = ProfileError;

    fn try_from(text: String) -> Result<Self, ProfileError> {
        text.parse()
    }
}

impl From<BodyHash> for String {
    fn from(hash: BodyHash) -> Self {
        hash.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(byte: u8, permille: u16) -> CodePath {
        CodePath { body: BodyHash::from_bytes([byte; 16]), probability: Permille(permille) }
    }

    fn library(name: &str) -> Library {
        Library { name: name.to_owned(), probability: Permille::CERTAIN }
    }

    fn profile() -> SpecializationProfile {
        let vm = VmParameters {
            memory_bytes_max: 64 << 20,
            resident_bytes: 4 << 20,
            epochs_max: 100,
            cpus: vec![0, 3],
            reuse: ReusePolicy::Fresh,
            parked: 2,
            cold_groups_max: 8,
        };
        SpecializationProfile {
            version: PROFILE_VERSION,
            build: BuildPlan::new(Optimisation::Full, vec![path(2, 10), path(1, 999)], vec![library("libc.so")]),
            vm,
            confidence: Permille(950),
            source: ProfileSource::Observed { requests: 40, revision: RevisionNumber(3) },
        }
    }

    #[test]
    fn a_profile_reads_as_it_was_written() {
        assert_eq!(SpecializationProfile::from_json(profile().to_json().as_bytes()), Ok(profile()));
    }

    /// A golden: whoever changes these bytes makes every image of every node stale and must say so by a new version.
    #[test]
    fn the_canonical_bytes_stay_as_they_are() {
        let bytes = profile().build.canonical_bytes().unwrap();
        let expected = concat!(
            r#"[1,{"optimisation":"full","coverage":{"kind":"paths","paths":["#,
            r#"{"body":"01010101010101010101010101010101","probability":999},"#,
            r#"{"body":"02020202020202020202020202020202","probability":10}]},"#,
            r#""libraries":[{"name":"libc.so","probability":1000}]}]"#
        );
        assert_eq!(String::from_utf8(bytes).unwrap(), expected);
    }

    #[test]
    fn only_what_determines_the_image_is_in_the_digest() {
        let base = profile().digest().unwrap();
        let mut other = profile();
        other.vm.parked = 9;
        other.confidence = Permille(1);
        other.source = ProfileSource::Operator;
        assert_eq!(other.digest().unwrap(), base);
        other.build.optimisation = Optimisation::Quick;
        assert_ne!(other.digest().unwrap(), base);
        let mut other = profile();
        other.build = BuildPlan::new(Optimisation::Full, vec![path(1, 999)], vec![library("libc.so")]);
        assert_ne!(other.digest().unwrap(), base);
    }

    #[test]
    fn the_order_of_what_is_known_does_not_matter() {
        let paths = vec![path(3, 1), path(1, 5), path(2, 7), path(1, 9)];
        let reversed = paths.iter().rev().copied().collect();
        let libraries = vec![library("b"), library("a"), library("b")];
        let plan = BuildPlan::new(Optimisation::Full, paths, libraries.clone());
        assert_eq!(plan, BuildPlan::new(Optimisation::Full, reversed, libraries));
        assert_eq!(plan.coverage, Coverage::Paths { paths: vec![path(1, 9), path(2, 7), path(3, 1)] });
        assert_eq!(plan.libraries, [library("a"), library("b")]);
        assert_eq!(
            BuildPlan::new(Optimisation::Quick, vec![], vec![]).digest(),
            BuildPlan::whole(Optimisation::Quick).digest()
        );
    }

    #[test]
    fn what_is_wrong_is_refused_by_name() {
        type Change = fn(&mut SpecializationProfile);
        let cases: [(Change, ProfileError); 8] = [
            (|p| p.version = 2, ProfileError::Version(2)),
            (|p| p.build.coverage = Coverage::Paths { paths: vec![] }, ProfileError::NoPaths),
            (
                |p| p.build.coverage = Coverage::Paths { paths: vec![path(2, 1), path(1, 1)] },
                ProfileError::Order("paths"),
            ),
            (|p| p.build.libraries = vec![library("a"), library("a")], ProfileError::Order("libraries")),
            (|p| p.build.libraries = vec![library("")], ProfileError::LibraryName),
            (|p| p.build.libraries = vec![library(&"x".repeat(257))], ProfileError::LibraryName),
            (|p| p.vm.cpus = vec![1, 1], ProfileError::Order("cpus")),
            (|p| p.vm.resident_bytes = p.vm.memory_bytes_max + 1, ProfileError::Resident),
        ];
        for (change, expected) in cases {
            let mut profile = profile();
            change(&mut profile);
            assert_eq!(SpecializationProfile::from_json(profile.to_json().as_bytes()), Err(expected));
        }
        let mut many = profile();
        many.vm.cpus = (0..=1024).collect();
        let too_many = ProfileError::TooMany { list: "cpus", count: 1025, count_max: CPUS_MAX };
        assert_eq!(many.check(), Err(too_many));
        assert!(matches!(SpecializationProfile::from_json(b"{"), Err(ProfileError::Shape(_))));
        let long = vec![b' '; PROFILE_TEXT_BYTES_MAX + 1];
        assert_eq!(SpecializationProfile::from_json(&long), Err(ProfileError::TooLong(long.len())));
    }

    #[test]
    fn numbers_out_of_range_are_refused() {
        let text = profile().to_json();
        for (from, to) in [("999", "1001"), ("0101010101", "010101010A"), ("\"parked\"", "\"unknown\"")] {
            let changed = text.replacen(from, to, 1);
            let outcome = SpecializationProfile::from_json(changed.as_bytes());
            assert!(matches!(outcome, Err(ProfileError::Shape(_))), "{to}: {outcome:?}");
        }
    }

    #[test]
    fn any_float_has_a_nearest_permille() {
        let cases =
            [(0.0, 0), (0.4996, 500), (1.0, 1000), (7.0, 1000), (-1.0, 0), (f64::NAN, 0), (f64::INFINITY, 1000)];
        for (probability, permille) in cases {
            assert_eq!(Permille::nearest(probability).get(), permille, "{probability}");
        }
    }
}
