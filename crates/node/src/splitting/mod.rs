//! Layer 2 of the slow loop: from what is known of a function's code paths to an image of just those.
//!
//! ```text
//! paths ─► profile ─► workshop: split image ─► tried beside the whole ─► serves ─► cold code, behind it
//!            ▲         (worker processes)       (candidate, verify)        │
//!            └───────────── too many misses, drift: back to the whole ◄────┘ (cold: every miss is counted)
//! ```
//! A component stays whole where it is small, where the splitter refuses it, and wherever anything is in doubt. It runs
//! on a thread of its own, one function after the other; requests meet it only in the moment in which one program takes
//! the place of another. What each function has come to has a name ([`SplitState`]).

mod candidate;
mod cold;
mod judgement;
mod program;
mod state;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use forerun_driver::Host;
use forerun_runtime::WasmDriver;
use forerun_store::Store;
use forerun_types::{FunctionName, LearningMode, ProfileDigest, SpecializationProfile};
use parking_lot::Mutex;
use tokio::runtime::Handle;

use self::candidate::{Candidate, Compared, Tried};
use self::cold::Cold;
use self::judgement::Judgement;
use self::program::Judged;
use crate::functions::{Functions, Placed};
use crate::learning::Learning;
use crate::paths::Paths;
use crate::verify::Mismatch;
use crate::workshop::{SplitImage, Workshop};

pub(crate) use self::state::{ProfileView, Serving, SplitState};

/// Time between two looks at all functions.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Requests before misses are judged.
const JUDGED_REQUESTS_MIN: u64 = 50;
/// Misses in a thousand requests at which an image is given up: a miss costs some milliseconds and the VM.
const MISSES_PER_THOUSAND_MAX: f64 = 20.0;
/// Time between two images of one function: what its requests run does not change by the minute.
const AGAIN_AFTER: Duration = Duration::from_secs(60);
/// Time after which an image that could not be made is tried again for the same profile.
const RETRY_AFTER: Duration = Duration::from_secs(600);
/// Cases of wrong images that are kept on disk.
const MISMATCHES_MAX: usize = 20;

/// What split images are made with.
pub(crate) struct SplittingParts {
    pub(crate) workshop: Arc<Workshop>,
    pub(crate) driver: Arc<WasmDriver>,
    pub(crate) store: Arc<Store>,
    pub(crate) host: Host,
    pub(crate) paths: Arc<Paths>,
    pub(crate) functions: Arc<Functions>,
    pub(crate) learning: Arc<Learning>,
}

/// The split images of a node, for those who ask.
pub(crate) struct Splitting {
    functions: Mutex<BTreeMap<FunctionName, Function>>,
    paths: Arc<Paths>,
}

/// One function.
#[derive(Clone)]
struct Function {
    /// The revision that `state` is about.
    placed: Placed,
    state: SplitState,
    work: Option<Work>,
    /// The profile of the last image, and when it was begun.
    last: Option<(ProfileDigest, Instant)>,
}

/// An image that serves.
#[derive(Clone)]
struct Work {
    cold: Arc<Cold>,
    judgement: Arc<Judgement>,
}

impl Splitting {
    /// Starts the thread; it ends when this is dropped. Must be called within a runtime.
    pub(crate) fn start(parts: SplittingParts) -> std::io::Result<Arc<Self>> {
        let splitting = Arc::new(Self { functions: Mutex::default(), paths: Arc::clone(&parts.paths) });
        let own = Arc::downgrade(&splitting);
        let mismatches = parts.store.directory().join("mismatches");
        let maker = Maker { parts, runtime: Handle::current(), mismatches };
        std::thread::Builder::new().name("forerun-splitting".into()).spawn(move || maker.run(&own))?;
        Ok(splitting)
    }

    /// What a function's next image should be specialized for, and what has become of the last.
    pub(crate) fn view(&self, placed: &Placed) -> ProfileView {
        let profile = self.paths.profile(placed.spec(), placed.revision());
        let (profile, why_none) = match profile {
            Ok(profile) => (Some(profile), None),
            Err(why) => (None, Some(why.to_string())),
        };
        let digest = profile.as_ref().and_then(|profile| profile.digest().ok()).map(|digest| digest.to_string());
        let image = self.state(&placed.spec().name);
        let (image_name, image_line) = (image.as_ref().map(SplitState::name), image.as_ref().map(SplitState::line));
        ProfileView { profile, digest, why_none, image, image_name, image_line }
    }

    /// What has become of all functions' split images.
    pub(crate) fn all(&self) -> Vec<(FunctionName, SplitState)> {
        self.functions.lock().iter().map(|(name, function)| (name.clone(), function.state_now())).collect()
    }

    /// In short, what has become of each of them.
    pub(crate) fn state_names(&self) -> Vec<&'static str> {
        self.functions.lock().values().map(|function| function.state.name()).collect()
    }

    /// What has become of a function's split image.
    pub(crate) fn state(&self, name: &FunctionName) -> Option<SplitState> {
        self.functions.lock().get(name).map(Function::state_now)
    }
}

impl Function {
    fn new(placed: Placed, state: SplitState) -> Self {
        Self { placed, state, work: None, last: None }
    }

    /// With the counts of this moment.
    fn state_now(&self) -> SplitState {
        match (&self.state, &self.work) {
            (SplitState::Serving(serving), Some(work)) => {
                let counts = work.cold.counts();
                let misses_per_thousand = counts.misses_per_thousand();
                let trial = Some(work.judgement.trial());
                SplitState::Serving(Box::new(Serving { counts, misses_per_thousand, trial, ..(**serving).clone() }))
            }
            (state, _) => state.clone(),
        }
    }
}

/// Who makes them.
struct Maker {
    parts: SplittingParts,
    runtime: Handle,
    mismatches: PathBuf,
}

impl Maker {
    fn run(self, splitting: &Weak<Splitting>) {
        loop {
            std::thread::sleep(LOOK_EVERY);
            let Some(splitting) = splitting.upgrade() else { return };
            let names: Vec<_> = self.parts.functions.list().into_iter().map(|function| function.spec.name).collect();
            splitting.functions.lock().retain(|name, _| names.contains(name));
            for name in names {
                if let Some(placed) = self.parts.functions.placed(&name) {
                    self.look_at(&splitting, placed);
                }
            }
        }
    }

    /// One step for one function.
    fn look_at(&self, splitting: &Splitting, placed: Placed) {
        let name = placed.spec().name.clone();
        // Nobody else changes the list; the lock is for those who read it.
        let known = splitting.functions.lock().get(&name).cloned();
        let known = known.filter(|known| known.placed.is_of_revision_of(&placed));
        let next = match known {
            Some(function) if function.work.is_some() && function.placed.is(&placed) => self.watch(function),
            known => self.consider(splitting, placed, known),
        };
        splitting.functions.lock().insert(name, next);
    }

    fn may_specialize(&self, placed: &Placed) -> bool {
        self.parts.learning.mode_of(&placed.spec().name) >= LearningMode::Images
    }

    /// The whole component serves: is it time for a split image?
    fn consider(&self, splitting: &Splitting, placed: Placed, known: Option<Function>) -> Function {
        let last = known.as_ref().and_then(|known| known.last);
        let keep = |placed, state| Function { last, ..Function::new(placed, state) };
        if !self.may_specialize(&placed) {
            return keep(placed, SplitState::SwitchedOff);
        }
        let (code_bytes, code_bytes_min) = (placed.code_bytes(), self.parts.paths.code_bytes_min());
        if code_bytes < code_bytes_min {
            return keep(placed, SplitState::TooSmall { code_bytes, code_bytes_min });
        }
        let profile = match self.parts.paths.profile(placed.spec(), placed.revision()) {
            Ok(profile) => profile,
            Err(why) => return keep(placed, SplitState::Learning { why }),
        };
        let digest = match profile.digest() {
            Ok(digest) => digest,
            Err(error) => return keep(placed, SplitState::NotMade { reason: error.to_string() }),
        };
        if let (Some((tried, when)), Some(known)) = (last, known) {
            let wait = match &known.state {
                // It did no harm: it may serve again as soon as it is wanted.
                SplitState::SwitchedOff => Some(Duration::ZERO),
                SplitState::Learning { .. } | SplitState::NothingToTry => Some(AGAIN_AFTER),
                SplitState::NotMade { .. } if tried == digest => Some(RETRY_AFTER),
                _ => (tried != digest).then_some(AGAIN_AFTER),
            };
            if wait.is_none_or(|wait| when.elapsed() < wait) {
                return keep(placed, known.state);
            }
        }
        let name = placed.spec().name.clone();
        let building = keep(placed.clone(), SplitState::Building);
        splitting.functions.lock().insert(name.clone(), building);
        let source = match self.parts.store.component(placed.digest()) {
            Ok(source) => Bytes::from(source),
            Err(error) => return keep(placed, SplitState::NotMade { reason: error.to_string() }),
        };
        let function = self.build(placed, &profile, &source);
        tracing::info!(function = %name, state = function.state.name(), "split image: {}", function.state.line());
        let function = Function { last: Some((digest, Instant::now())), ..function };
        if let Some(work) = &function.work {
            // It serves already, and is shown as serving, while the rest of its code is made.
            splitting.functions.lock().insert(name.clone(), function.clone());
            match self.parts.workshop.cold_code(function.placed.digest(), &source, &profile) {
                Ok(code) => work.cold.publish(code),
                Err(failure) => tracing::warn!(function = %name, reason = %failure, "no code of cold groups"),
            }
        }
        function
    }

    /// Makes an image for `profile`, tries it, and lets it serve.
    fn build(&self, placed: Placed, profile: &SpecializationProfile, source: &Bytes) -> Function {
        let not_made = |placed, reason: String| Function::new(placed, SplitState::NotMade { reason });
        let workshop = &self.parts.workshop;
        let image = match workshop.split(placed.digest(), source, profile) {
            Ok(image) => image,
            Err(failure) => return not_made(placed, failure.to_string()),
        };
        let cold = Arc::new(Cold::new(Arc::clone(&image.groups)));
        let cold_groups_max = profile.vm.cold_groups_max;
        let candidate = Candidate { driver: &self.parts.driver, image: &image, cold: &cold, cold_groups_max };
        let shapes = self.parts.paths.shapes(&placed.spec().name);
        let compared = match candidate.try_out(&placed, workshop, &shapes, &self.runtime) {
            Tried::Same(compared) => compared,
            Tried::NothingToTry => return Function::new(placed, SplitState::NothingToTry),
            Tried::Slower(pace) => return Function::new(placed, SplitState::Slower { pace }),
            Tried::NotLoaded(reason) => return not_made(placed, reason),
            Tried::Different(mismatch) => {
                workshop.reject_split(placed.digest(), profile, &mismatch.to_string());
                self.keep_case(&placed, &mismatch);
                return Function::new(placed, SplitState::Different { mismatch });
            }
        };
        let serving = serving(&placed, profile, &image, compared);
        let program = match candidate.load(&placed, self.parts.host.clone()) {
            Ok(program) => program,
            Err(reason) => return not_made(placed, reason),
        };
        if let Some(reason) = self.runtime.block_on(candidate::loses_warmth(&placed, &program)) {
            return Function::new(placed, SplitState::NotWarm { reason });
        }
        // What the trial missed says nothing about requests.
        cold.forget_counts();
        let judgement = Arc::new(Judgement::new(placed.program()));
        let judged = Judged { program, cold: Arc::clone(&cold), judgement: Arc::clone(&judgement) };
        if !self.runtime.block_on(self.parts.functions.replace(&placed, Arc::new(judged))) {
            return not_made(placed, "another revision or other code serves by now".to_owned());
        }
        let placed = self.parts.functions.placed(&placed.spec().name).unwrap_or(placed);
        let work = Some(Work { cold, judgement });
        Function { work, ..Function::new(placed, SplitState::Serving(Box::new(serving))) }
    }

    /// A split image serves: does it do?
    fn watch(&self, function: Function) -> Function {
        let Some(work) = &function.work else { return function };
        let counts = work.cold.counts();
        let state = if !self.may_specialize(&function.placed) {
            SplitState::SwitchedOff
        } else if counts.requests >= JUDGED_REQUESTS_MIN && counts.misses_per_thousand() > MISSES_PER_THOUSAND_MAX {
            SplitState::TooManyMisses { counts, misses_per_thousand_max: MISSES_PER_THOUSAND_MAX }
        } else if let Some(fault) = work.judgement.fault() {
            SplitState::Worse { fault }
        } else {
            return function;
        };
        let name = &function.placed.spec().name;
        tracing::info!(function = %name, state = state.name(), "split image: {}", state.line());
        if let Err(reason) = self.runtime.block_on(self.parts.functions.restore_whole(&function.placed)) {
            // The image serves on, so it is watched on, and this is tried again at the next look.
            tracing::error!(function = %name, reason, "the whole component cannot take over again");
            return function;
        }
        let Function { placed, last, .. } = function;
        let name = &placed.spec().name;
        let placed = self.parts.functions.placed(name).unwrap_or(placed);
        Function { last, ..Function::new(placed, state) }
    }

    /// Keeps the request by which an image was found wrong, so that it can be tried again.
    fn keep_case(&self, placed: &Placed, mismatch: &Mismatch) {
        let keep = || -> std::io::Result<PathBuf> {
            std::fs::create_dir_all(&self.mismatches)?;
            let kept = std::fs::read_dir(&self.mismatches)?.count();
            if kept >= MISMATCHES_MAX {
                return Err(std::io::Error::other(format!("{kept} are kept already")));
            }
            let path = self.mismatches.join(format!("{}-{}-{kept}.json", placed.spec().name, placed.revision()));
            let case = serde_json::json!({ "component": placed.digest(), "mismatch": mismatch });
            std::fs::write(&path, serde_json::to_vec_pretty(&case)?)?;
            Ok(path)
        };
        match keep() {
            Ok(path) => tracing::warn!(path = %path.display(), "the case in which a split image was wrong is kept"),
            Err(error) => tracing::warn!(%error, "the case in which a split image was wrong is not kept"),
        }
    }
}

fn serving(placed: &Placed, profile: &SpecializationProfile, image: &SplitImage, compared: Compared) -> Serving {
    let report = &image.index.report;
    Serving {
        revision: placed.revision(),
        profile: profile.digest().map(|digest| digest.to_string()).unwrap_or_default(),
        confidence_permille: profile.confidence.get(),
        hot_permille: report.hot_permille(),
        functions_kept: report.functions - report.cold - report.dead,
        functions: report.functions,
        groups: image.index.groups.len(),
        code_bytes: image.primary_bytes,
        whole_code_bytes: placed.code_bytes(),
        build_ms: image.build_ms,
        whole_build_ms: compared.whole_build_ms,
        compared: compared.requests,
        compared_steadily: compared.steady,
        pace: compared.pace,
        counts: Default::default(),
        misses_per_thousand: 0.0,
        trial: None,
    }
}
