//! Machine code for functions: taken from the image cache, or made in a worker process and kept there.
//!
//! ```text
//! find:  cache (authenticated) ───────────────────────────────────────────► image
//! make:  claim ─► worker process (sandboxed): passes ─► compile ─► publish ► image
//! ```
//! Code is made of the component as the passes leave it ([`Form::Prepared`]). Where that code turned out to be no
//! good its key is in quarantine, and code of the component as it was deployed takes its place ([`Form::AsDeployed`]).
//!
//! Compilers run on what strangers wrote, so none runs in this process while a worker can be had. What
//! cannot be made for reasons of this machine (no process, no disk) is no reason not to serve: the caller
//! then compiles here, as if there were no workshop. What a component did to its compiler is one.

mod again;
mod product;
mod refusals;
mod split;
mod twin;

pub(crate) use again::{Before, Lineage};
pub(crate) use refusals::Refusals;
pub(crate) use split::{Parts, SplitImage};

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use forerun_driver::AuthenticImage;
use forerun_images::{
    BuildTicket, CacheSecret, Claim, DiscardReason, ImageCache, ImageCacheSettings, ImageLabel, ImageLease, ImageMeta,
    Miss, NoteText, PassNote, PassNotes, PublishError, SystemClock, VerifiedPayload,
};
use forerun_runtime::Tier;
use forerun_specialize::passes::{self, Made, Pass, PassReport};
use forerun_specialize::{Artifact, FailureKind, Guard, Job, Scheduling, Supervisor, WorkerFailure, WorkerSettings};
use forerun_types::{ComponentDigest, EngineFingerprint, ImageKey, ProfileDigest};

use crate::worker;

/// Components up to this size are compiled with full optimisation at once: it takes a fraction of a second.
const SMALL_COMPONENT_BYTES: usize = 2 << 20;
/// What an image of a whole component is expected to save for each of its bytes: a second of compilation
/// for about four megabytes of machine code.
const VALUE_MS_PER_BYTE: f64 = 1000.0 / (4 << 20) as f64;

/// Where machine code comes from.
pub(crate) struct Workshop {
    cache: ImageCache,
    /// For deployments, which somebody waits for.
    urgent: Supervisor,
    /// For everything else: only the time that nobody wants.
    idle: Supervisor,
    engine: EngineFingerprint,
    refusals: Refusals,
    /// Whether it was said that workers lack a part of their sandbox.
    is_said: AtomicBool,
}

/// Passes that every component goes through, in order.
const PREPARING: &[&str] = &[MERGING, STATE, worker::INTERRUPT];
/// Before others look at its code: they see one core module then. What is learnt of a component's functions is learnt
/// behind this pass, too.
const MERGING: &str = "prelink";
/// Behind all that add globals that have to be put back: it must see every one there is.
const STATE: &str = "state";

/// How a component is compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// As the passes leave it.
    Prepared,
    /// As it came.
    AsDeployed,
}

/// Which of the images of a component one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Variant {
    pub(crate) tier: Tier,
    pub(crate) form: Form,
    /// Whose it is, if bodies of an earlier component are in it.
    pub(crate) lineage: Option<Lineage>,
}

/// An image to be loaded.
pub(crate) struct Found {
    pub(crate) image: AuthenticImage,
    pub(crate) variant: Variant,
    /// Whether its component is another than was deployed, so that a failure may be the fault of a pass.
    pub(crate) is_changed: bool,
    /// Time the worker took, in milliseconds; 0 if it was there already.
    pub(crate) build_ms: u64,
    /// Time a worker took for it whenever that was, in milliseconds.
    pub(crate) made_in_ms: u64,
}

/// Why there is no image.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MakeFailure {
    /// The component is at fault: the compiler refuses it.
    #[error("{0}")]
    BadComponent(String),
    /// The component is at fault: it makes the compiler misbehave.
    #[error("compiling it had to be stopped: {0}")]
    HarmfulComponent(WorkerFailure),
    /// What the image should be specialized for does not fit.
    #[error("the profile cannot be used: {0}")]
    BadProfile(String),
    /// The worker could not do its work.
    #[error("{0}")]
    Worker(WorkerFailure),
    /// It is being made, for another function of the same component, or as many as may be are.
    #[error("not built now: others are being made")]
    UnderWay,
    /// The cache does not want it built now.
    #[error("not built now: {0}")]
    NotNow(String),
    /// The cache could not keep it.
    #[error("{0}")]
    Publish(#[from] PublishError),
    /// What the worker made cannot be read.
    #[error("{0}")]
    Malformed(#[from] passes::MalformedMade),
    /// Published, and not to be had.
    #[error("{0}")]
    Lost(#[from] Miss),
}

impl Workshop {
    /// Opens the cache below `data`.
    pub(crate) fn open(data: &Path, engine: [u8; 32], settings: ImageCacheSettings) -> Result<Self, String> {
        let engine = EngineFingerprint::from_bytes(engine);
        let secret = CacheSecret::read_or_create(data).map_err(|error| error.to_string())?;
        let cache = ImageCache::open(&data.join("images"), &secret, &[engine], settings, Box::new(SystemClock))
            .map_err(|error| error.to_string())?;
        // Somebody waits for these; half of the processors stay free to serve.
        let urgent = WorkerSettings { scheduling: Scheduling::Normal, ..WorkerSettings::default() };
        let idle = WorkerSettings { compile_threads: 1, ..WorkerSettings::default() };
        Ok(Self {
            cache,
            urgent: Supervisor::new(urgent),
            idle: Supervisor::new(idle),
            engine,
            refusals: Refusals::default(),
            is_said: AtomicBool::new(false),
        })
    }

    /// How much optimisation the first code of a component gets.
    pub(crate) fn first_tier(source: &[u8]) -> Tier {
        if source.len() <= SMALL_COMPONENT_BYTES { Tier::Full } else { Tier::Quick }
    }

    /// The best image of a component that is there already, for a function's `lineage`; of its form, or made as it was
    /// deployed.
    pub(crate) fn find(&self, component: ComponentDigest, form: Form, lineage: Lineage) -> Option<Found> {
        let forms: &[Form] = match form {
            Form::Prepared => &[Form::Prepared, Form::AsDeployed],
            Form::AsDeployed => &[Form::AsDeployed],
        };
        let of = |tier| {
            let one = move |form: &Form| [None, Some(lineage)].map(|lineage| Variant { tier, form: *form, lineage });
            forms.iter().flat_map(one)
        };
        let is_likely = |variant: &Variant| match (variant.form, variant.lineage) {
            (Form::Prepared, None) => true,
            // There is one only where a pass did harm, or where it was deployed behind another one.
            (Form::AsDeployed, _) | (Form::Prepared, Some(_)) => self.cache.holds(&self.key(component, *variant)),
        };
        of(Tier::Full).chain(of(Tier::Quick)).filter(is_likely).find_map(|variant| {
            match self.image(component, variant, 0) {
                Ok(found) => Some(found),
                Err(miss) => {
                    tracing::debug!(%component, ?variant, %miss, "no image");
                    None
                }
            }
        })
    }

    /// Makes an image and keeps it; one of the component as it was deployed, where what the passes made of it is in
    /// quarantine. What is the same as in `before` is not compiled again. Blocks for as long as the compiler takes.
    pub(crate) fn make(
        &self,
        component: ComponentDigest,
        source: Bytes,
        variant: Variant,
        urgent: bool,
        before: Option<Before>,
    ) -> Result<Found, MakeFailure> {
        let before = before.filter(|_| Self::keeps_bodies(&source, variant));
        self.make_of(component, || Ok(source), variant, urgent, before)
    }

    /// The same, with a source that is read only if the image is to be made now: reading it may be most of the work.
    /// Bodies of `before` are taken if there are any.
    pub(crate) fn make_of(
        &self,
        component: ComponentDigest,
        source: impl FnOnce() -> Result<Bytes, String>,
        mut variant: Variant,
        urgent: bool,
        before: Option<Before>,
    ) -> Result<Found, MakeFailure> {
        let before = before.filter(|before| self.has_bodies(*before, variant.form));
        variant.lineage = before.map(|before| before.lineage);
        let mut claim = self.cache.claim(&self.key(component, variant));
        if matches!(claim, Claim::Quarantined { .. }) {
            variant.form = Form::AsDeployed;
            claim = self.cache.claim(&self.key(component, variant));
        }
        let Some(ticket) = granted(claim)? else {
            return Ok(self.image(component, variant, 0)?);
        };
        let source = match source() {
            Ok(source) => source,
            Err(reason) => {
                self.cache.fail(ticket, &reason);
                return Err(MakeFailure::NotNow(reason));
            }
        };
        let keeps_bodies = Self::keeps_bodies(&source, variant);
        let created_unix_ms = crate::functions::unix_ms();
        let supervisor = if urgent { &self.urgent } else { &self.idle };
        let again = before.and_then(|before| self.compiled_again(supervisor, before, variant, &source));
        let (ticket, artifact) = match again {
            Some(artifact) => (ticket, artifact),
            None => self.worked(supervisor, ticket, job(variant, source, keeps_bodies.then(Vec::new)), "compile")?,
        };
        let build_ms = artifact.usage.wall_ms;
        // Dropping the ticket notes a failed build.
        let Made { mut code, passes } = Made::from_artifact(artifact.bytes)?;
        if keeps_bodies {
            let (alone, bodies) = worker::parted(code).ok_or(passes::MalformedMade)?;
            self.keep_bodies(component, variant, &bodies);
            code = alone;
        }
        let passes = self.noted(component, &passes);
        let meta = ImageMeta { created_unix_ms, build_ms, label: label(variant.tier), passes };
        self.cache.publish(ticket, VerifiedPayload::vouch(&code), &meta, VALUE_MS_PER_BYTE)?;
        Ok(self.image(component, variant, build_ms)?)
    }

    /// What a worker makes of a component of which much was compiled before; `None` where it has to be compiled as a whole.
    fn compiled_again(
        &self,
        supervisor: &Supervisor,
        before: Before,
        variant: Variant,
        source: &Bytes,
    ) -> Option<Artifact> {
        let bodies = self.bodies(before, variant.form, source)?;
        match supervisor.run(job(variant, source.clone(), Some(bodies))) {
            Ok(artifact) => {
                self.note_guards(&artifact);
                tracing::info!(before = %before.component, took_ms = artifact.usage.wall_ms, "compiled where it differs from the one before");
                Some(artifact)
            }
            Err(failure) => {
                self.drop_bodies(before, variant.form, &failure.to_string());
                None
            }
        }
    }

    /// What a worker makes of `job`, which the metrics call `name`; a failure is noted where the ticket is from.
    fn worked(
        &self,
        supervisor: &Supervisor,
        ticket: BuildTicket,
        job: Job,
        name: &str,
    ) -> Result<(BuildTicket, Artifact), MakeFailure> {
        match supervisor.run(job) {
            Ok(artifact) => {
                self.note_guards(&artifact);
                Ok((ticket, artifact))
            }
            Err(failure) => {
                if let WorkerFailure::JobFailed(error) = &failure {
                    self.refusals.count(name, &error.name);
                }
                self.cache.fail(ticket, &failure.to_string());
                Err(blame(failure))
            }
        }
    }

    /// An image turned out to be unusable: it goes, and is not made again soon.
    pub(crate) fn reject(&self, component: ComponentDigest, variant: Variant, reason: &str) {
        tracing::warn!(%component, ?variant, reason, "image discarded");
        self.cache.discard(&self.key(component, variant), DiscardReason::Misbehaved { detail: reason.to_owned() });
    }

    /// Workers that did without a part of their sandbox, by that part.
    pub(crate) fn guards_missing(&self) -> Vec<(Guard, u64)> {
        let (urgent, idle) = (self.urgent.counters().sandbox_missing, self.idle.counters().sandbox_missing);
        urgent.into_iter().zip(idle).map(|((guard, count), (_, more))| (guard, count + more)).collect()
    }

    /// Said once: it is so for every worker, and the metrics count them.
    fn note_guards(&self, artifact: &Artifact) {
        let missing: Vec<_> = artifact.sandbox.missing().iter().map(|guard| guard.name()).collect();
        if !missing.is_empty() && !self.is_said.swap(true, Ordering::Relaxed) {
            tracing::warn!(?missing, "workers that compile do without a part of their sandbox");
        }
    }

    /// What passes and jobs have refused, for the metrics.
    pub(crate) fn refusals(&self) -> &Refusals {
        &self.refusals
    }

    /// The cache, for display.
    pub(crate) fn cache(&self) -> &ImageCache {
        &self.cache
    }

    fn image(&self, component: ComponentDigest, variant: Variant, build_ms: u64) -> Result<Found, Miss> {
        let lease = self.cache.get(&self.key(component, variant))?;
        let is_changed = lease.meta().passes.iter().any(|note| note.applied);
        let made_in_ms = lease.meta().build_ms;
        Ok(Found { image: vouched(lease)?, variant, is_changed, build_ms, made_in_ms })
    }

    /// What came of the passes: into the log and the metrics, and beside the image.
    fn noted(&self, component: ComponentDigest, passes: &[PassReport]) -> PassNotes {
        for PassReport { pass, refusal, detail } in passes {
            match refusal {
                None => tracing::info!(%component, pass, detail, "the component was changed before it was compiled"),
                Some(refusal) => {
                    self.refusals.count(pass, refusal);
                    tracing::info!(%component, pass, refusal, detail, "a pass left the component as it was");
                }
            }
        }
        let note = |report: &PassReport| {
            let detail = match &report.refusal {
                Some(refusal) => format!("{refusal}: {}", report.detail),
                None => report.detail.clone(),
            };
            PassNote { pass: NoteText::new(&report.pass), applied: report.is_applied(), detail: NoteText::new(&detail) }
        };
        PassNotes::new(passes.iter().map(note))
    }

    /// Other passes, or other revisions of them, are another image.
    fn key(&self, component: ComponentDigest, variant: Variant) -> ImageKey {
        let passes: Vec<_> = variant.form.passes().collect();
        let (tier, passes) = (label(variant.tier), passes::revision(&passes));
        let recipe = format!("whole component, {tier}, {passes}{}", Lineage::recipe(variant.lineage));
        ImageKey { component, profile: ProfileDigest::of(recipe.as_bytes()), engine: self.engine }
    }
}

/// The one place that vouches: the lease's file is sealed, and its bytes carry the keyed hash of what was published
/// here, which is what our compiler made.
fn vouched(lease: ImageLease) -> Result<AuthenticImage, Miss> {
    let file = lease.file_cloned().map_err(|error| Miss::Io { detail: error.to_string() })?;
    Ok(AuthenticImage::vouch_for(file, lease))
}

/// The ticket to build; `None` if it is there already.
fn granted(claim: Claim) -> Result<Option<BuildTicket>, MakeFailure> {
    match claim {
        Claim::Yours(ticket) => Ok(Some(ticket)),
        Claim::Present => Ok(None),
        Claim::UnderWay | Claim::TooManyUnderWay => Err(MakeFailure::UnderWay),
        claim @ (Claim::BackingOff { .. } | Claim::Quarantined { .. } | Claim::ForeignEngine) => {
            Err(MakeFailure::NotNow(format!("{claim:?}")))
        }
    }
}

impl Form {
    fn passes(self) -> impl Iterator<Item = &'static Pass> {
        let names: &[&str] = match self {
            Self::Prepared => PREPARING,
            Self::AsDeployed => &[],
        };
        passes_named(names)
    }
}

/// To compile a component: with what an earlier compilation has left behind it, if bodies are wanted.
fn job(variant: Variant, source: Bytes, bodies: Option<Vec<u8>>) -> Job {
    let passes = variant.form.passes().map(|pass| pass.name.to_owned()).collect();
    let bodies_bytes = bodies.as_ref().map(Vec::len);
    let parameters = encoded(&worker::Parameters { passes, split: None, bodies_bytes });
    let component = match bodies {
        Some(bodies) if !bodies.is_empty() => [&source[..], &bodies].concat().into(),
        Some(_) | None => source,
    };
    Job { kind: worker::kind(variant.tier), parameters, component }
}

fn encoded(parameters: &worker::Parameters) -> Vec<u8> {
    serde_json::to_vec(parameters).expect("names and numbers are always JSON")
}

/// What tells images apart that were made with other passes, or other revisions of them.
fn revisions(names: &[&str]) -> String {
    passes::revision(&passes_named(names).collect::<Vec<_>>())
}

fn passes_named(names: &[&str]) -> impl Iterator<Item = &'static Pass> {
    names.iter().map(|name| passes::known(name).expect("this build knows its own passes"))
}

fn label(tier: Tier) -> ImageLabel {
    let text = match tier {
        Tier::Quick => "t0-quick",
        Tier::Full => "t2-full",
    };
    ImageLabel::new(text).expect("a short plain word")
}

/// Whose fault a failed job is.
fn blame(failure: WorkerFailure) -> MakeFailure {
    if let WorkerFailure::JobFailed(error) = failure {
        return MakeFailure::BadComponent(error.detail);
    }
    match failure.kind() {
        FailureKind::OutOfMemory
        | FailureKind::CpuLimit
        | FailureKind::Deadline
        | FailureKind::TooManyThreads
        | FailureKind::Refused
        | FailureKind::Panicked
        | FailureKind::OutputTooLarge => MakeFailure::HarmfulComponent(failure),
        FailureKind::JobFailed
        | FailureKind::QueueFull
        | FailureKind::Cancelled
        | FailureKind::InputTooLarge
        | FailureKind::Spawn
        | FailureKind::SupervisorPanicked
        | FailureKind::Killed
        | FailureKind::Torn
        | FailureKind::Malformed
        | FailureKind::SandboxIncomplete
        | FailureKind::Exited => MakeFailure::Worker(failure),
    }
}
