//! Machine code for functions: taken from the image cache, or made in a worker process and kept there.
//!
//! ```text
//! find:  cache (authenticated) ─────────────────────────────► image
//! make:  claim ─► worker process (sandboxed) ─► publish ────► image
//! ```
//! Compilers run on what strangers wrote, so none runs in this process while a worker can be had. What
//! cannot be made for reasons of this machine (no process, no disk) is no reason not to serve: the caller
//! then compiles here, as if there were no workshop. What a component did to its compiler is one.

use std::path::Path;

use bytes::Bytes;
use forerun_driver::AuthenticImage;
use forerun_images::{
    CacheSecret, Claim, DiscardReason, ImageCache, ImageCacheSettings, ImageLabel, ImageMeta, Miss, PublishError,
    SystemClock, VerifiedPayload,
};
use forerun_runtime::Tier;
use forerun_specialize::{FailureKind, Job, Scheduling, Supervisor, WorkerFailure, WorkerSettings};
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
}

/// An image that has just been made.
pub(crate) struct Fresh {
    pub(crate) image: AuthenticImage,
    /// Time the worker took, in milliseconds; 0 if somebody else made it meanwhile.
    pub(crate) build_ms: u64,
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
    /// The worker could not do its work.
    #[error("{0}")]
    Worker(WorkerFailure),
    /// The cache does not want it built now.
    #[error("not built now: {0}")]
    NotNow(String),
    /// The cache could not keep it.
    #[error("{0}")]
    Publish(#[from] PublishError),
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
        Ok(Self { cache, urgent: Supervisor::new(urgent), idle: Supervisor::new(idle), engine })
    }

    /// How much optimisation the first code of a component gets.
    pub(crate) fn first_tier(source: &[u8]) -> Tier {
        if source.len() <= SMALL_COMPONENT_BYTES { Tier::Full } else { Tier::Quick }
    }

    /// The best image of a component that is there already.
    pub(crate) fn find(&self, component: ComponentDigest) -> Option<(AuthenticImage, Tier)> {
        [Tier::Full, Tier::Quick].into_iter().find_map(|tier| match self.image(component, tier) {
            Ok(image) => Some((image, tier)),
            Err(miss) => {
                tracing::debug!(%component, ?tier, %miss, "no image");
                None
            }
        })
    }

    /// Makes an image and keeps it. Blocks for as long as the compiler takes.
    pub(crate) fn make(
        &self,
        component: ComponentDigest,
        source: Bytes,
        tier: Tier,
        urgent: bool,
    ) -> Result<Fresh, MakeFailure> {
        let ticket = match self.cache.claim(&self.key(component, tier)) {
            Claim::Yours(ticket) => ticket,
            Claim::Present => return Ok(Fresh { image: self.image(component, tier)?, build_ms: 0 }),
            claim @ (Claim::UnderWay
            | Claim::TooManyUnderWay
            | Claim::BackingOff { .. }
            | Claim::Quarantined { .. }
            | Claim::ForeignEngine) => return Err(MakeFailure::NotNow(format!("{claim:?}"))),
        };
        let created_unix_ms = crate::functions::unix_ms();
        let supervisor = if urgent { &self.urgent } else { &self.idle };
        let job = Job { kind: worker::kind(tier), parameters: b"{}".to_vec(), component: source };
        let artifact = match supervisor.run(job) {
            Ok(artifact) => artifact,
            Err(failure) => {
                self.cache.fail(ticket, &failure.to_string());
                return Err(blame(failure));
            }
        };
        let build_ms = artifact.usage.wall_ms;
        let meta = ImageMeta { created_unix_ms, build_ms, label: label(tier) };
        self.cache.publish(ticket, VerifiedPayload::vouch(&artifact.bytes), &meta, VALUE_MS_PER_BYTE)?;
        Ok(Fresh { image: self.image(component, tier)?, build_ms })
    }

    /// An image turned out to be unusable: it goes.
    pub(crate) fn reject(&self, component: ComponentDigest, tier: Tier, reason: &str) {
        tracing::warn!(%component, ?tier, reason, "image discarded");
        self.cache.discard(&self.key(component, tier), DiscardReason::Misbehaved { detail: reason.to_owned() });
    }

    /// The cache, for display.
    pub(crate) fn cache(&self) -> &ImageCache {
        &self.cache
    }

    fn image(&self, component: ComponentDigest, tier: Tier) -> Result<AuthenticImage, Miss> {
        let lease = self.cache.get(&self.key(component, tier))?;
        let file = lease.file_cloned().map_err(|error| Miss::Io { detail: error.to_string() })?;
        // The one place that vouches: the lease's file is sealed, and its bytes carry the keyed hash of what
        // `publish` above was given, which is what our compiler made.
        Ok(AuthenticImage::vouch_for(file, lease))
    }

    fn key(&self, component: ComponentDigest, tier: Tier) -> ImageKey {
        let profile = ProfileDigest::of(format!("whole component, {}", label(tier)).as_bytes());
        ImageKey { component, profile, engine: self.engine }
    }
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
