//! From what is known of a function's code paths to what an image of it should be specialized for.
//!
//! ```text
//!   settled      SAMPLES_MIN samples, and of each class in them CLASS_SAMPLES_MIN with novelty below NOVELTY_MAX
//!   confidence = 1 - max(novelty, 1 / (samples + 2))       that the next request stays within what was seen
//! ```
//! Whether such an image is worth its time is not decided here.

use forerun_types::{
    BodyHash, BuildPlan, CodePath, FunctionSpec, Library, Optimisation, PROFILE_VERSION, Permille, ProfileSource,
    RevisionNumber, SpecializationProfile, VmParameters,
};
use serde::Serialize;

use super::book::{Book, Path};

/// Samples before anything is made of them.
const SAMPLES_MIN: u64 = 16;
/// Samples of each class before anything is made of it: the sampler takes as many whatever they cost.
const CLASS_SAMPLES_MIN: u64 = 8;
/// Share of the recent samples that ran something new, at most.
const NOVELTY_MAX: f32 = 0.2;
/// Probabilities are rounded up to one of these: what is known a little better is no reason for another image.
const STEPS_PERMILLE: [f32; 4] = [10.0, 100.0, 500.0, 1000.0];
/// Groups of code nobody expected that one VM may load: enough for a whole request to go another way.
pub(crate) const COLD_GROUPS_MAX: u32 = 256;
/// Length of an epoch, in milliseconds, that a profile's bound counts in.
const EPOCH_MS: u64 = 5;

/// Why there is no profile yet.
#[derive(Clone, Debug, PartialEq, thiserror::Error, Serialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
pub(crate) enum NoProfile {
    #[error("none of its requests has been sampled")]
    NotFollowed,
    #[error("{samples} of {samples_min} requests have been sampled")]
    TooFewSamples { samples: u64, samples_min: u64 },
    #[error("a class of its requests has {samples} samples, and {novelty:.2} of the recent ones ran something new")]
    Unsettled { samples: u64, novelty: f32 },
    #[error("no sample ran any code of this revision")]
    NothingRan,
}

/// The profile of a revision.
pub(super) fn of(
    book: &Book,
    spec: &FunctionSpec,
    revision: RevisionNumber,
) -> Result<SpecializationProfile, NoProfile> {
    let classes = book.classes();
    let samples: u64 = classes.iter().map(|class| class.samples).sum();
    if samples < SAMPLES_MIN {
        return Err(NoProfile::TooFewSamples { samples, samples_min: SAMPLES_MIN });
    }
    let is_settled = |samples: u64, novelty: f32| samples >= CLASS_SAMPLES_MIN && novelty <= NOVELTY_MAX;
    // A class that hardly ever comes must not hold up all others; what it runs is known to the map all the same.
    let frequent = classes.iter().filter(|class| class.samples * 20 >= samples);
    if let Some(class) = frequent.clone().find(|class| !is_settled(class.samples, class.novelty)) {
        return Err(NoProfile::Unsettled { samples: class.samples, novelty: class.novelty });
    }
    let paths = book.paths();
    if paths.is_empty() {
        return Err(NoProfile::NothingRan);
    }
    let novelty = frequent.map(|class| class.novelty).fold(1.0 / (samples as f32 + 2.0), f32::max);
    let build = BuildPlan::new(Optimisation::Full, paths.iter().map(code_path).collect(), libraries(&paths));
    Ok(SpecializationProfile {
        version: PROFILE_VERSION,
        build,
        vm: vm(spec, book.dirty_bytes()),
        confidence: Permille::nearest(f64::from(1.0 - novelty)),
        source: ProfileSource::Observed { requests: samples, revision },
    })
}

fn code_path(path: &Path<'_>) -> CodePath {
    CodePath { body: BodyHash::from_bytes(path.body.0), probability: rounded(path.probability) }
}

fn rounded(probability: f32) -> Permille {
    let permille = probability * 1000.0;
    let step = STEPS_PERMILLE.into_iter().find(|step| permille <= *step).unwrap_or(1000.0);
    Permille::nearest(f64::from(step) / 1000.0)
}

fn libraries(paths: &[Path<'_>]) -> Vec<Library> {
    let of = |path: &Path<'_>| Library { name: path.library.to_owned(), probability: rounded(path.probability) };
    let mut libraries: Vec<Library> = paths.iter().filter(|path| !path.library.is_empty()).map(of).collect();
    libraries.sort_unstable_by(|a, b| (&a.name, b.probability).cmp(&(&b.name, a.probability)));
    libraries.dedup_by(|a, b| a.name == b.name);
    libraries.truncate(forerun_types::LIBRARIES_MAX);
    libraries
}

/// How many VMs are held ready is decided from moment to moment, by what is called.
fn vm(spec: &FunctionSpec, resident_bytes: u64) -> VmParameters {
    VmParameters {
        memory_bytes_max: spec.limits.memory_bytes,
        resident_bytes: resident_bytes.min(spec.limits.memory_bytes),
        epochs_max: spec.limits.timeout_ms / EPOCH_MS,
        cpus: spec.limits.cpus.clone(),
        reuse: spec.reuse,
        parked: 0,
        cold_groups_max: COLD_GROUPS_MAX,
    }
}

#[cfg(test)]
mod tests {
    use super::super::book::tests::map;
    use super::*;

    fn book(samples: u32, ran: impl Fn(u32) -> [u8; 3]) -> Book {
        let mut book = Book::default();
        book.adopt(&map(&[1, 2, 3]), &[]);
        (0..samples).for_each(|number| drop(book.observe(7, "GET /", &ran(number))));
        book
    }

    fn profile(book: &Book) -> Result<SpecializationProfile, NoProfile> {
        of(book, &FunctionSpec::named("f".parse().unwrap()), RevisionNumber(3))
    }

    #[test]
    fn what_ran_is_in_the_profile_and_nothing_else() {
        let profile = profile(&book(40, |number| [1, 0, u8::from(number % 10 == 0)])).unwrap();
        let forerun_types::Coverage::Paths { paths } = &profile.build.coverage else { panic!("{profile:?}") };
        let found: Vec<_> = paths.iter().map(|path| (path.body.as_bytes()[0], path.probability.get())).collect();
        assert_eq!(found, [(1, 1000), (3, 500)]);
        assert!(profile.check().is_ok() && profile.confidence.get() > 900, "{profile:?}");
        assert_eq!(profile.source, ProfileSource::Observed { requests: 40, revision: RevisionNumber(3) });
    }

    #[test]
    fn knowing_a_little_more_is_the_same_image() {
        let of = |samples| profile(&book(samples, |_| [1, 1, 0])).unwrap().digest().unwrap();
        assert_eq!(of(40), of(90));
    }

    #[test]
    fn what_is_not_settled_has_a_reason() {
        assert_eq!(profile(&Book::default()), Err(NoProfile::TooFewSamples { samples: 0, samples_min: 16 }));
        let news = book(16, |number| [1, u8::from(number == 14), u8::from(number == 15)]);
        assert!(matches!(profile(&news), Err(NoProfile::Unsettled { samples: 16, .. })), "{:?}", profile(&news));
        assert_eq!(profile(&book(40, |_| [0, 0, 0])), Err(NoProfile::NothingRan));
    }
}
