//! What the tests of the cache share: keys, a clock that is set by hand, a folder in memory.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "each test uses a part; a test fails by panicking")]

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use forerun_images::{
    BuildTicket, CacheSecret, Claim, Clock, ImageCache, ImageCacheSettings, ImageLabel, ImageLease, ImageMeta,
    PassNotes, PublishError, Published, VerifiedPayload,
};
use forerun_types::{ComponentDigest, EngineFingerprint, ImageKey, ProfileDigest};

pub const HOUR_MS: u64 = 3_600_000;

/// A clock that stands still until it is set.
#[derive(Clone, Default)]
pub struct HandClock(Arc<AtomicU64>);

impl HandClock {
    pub fn at(unix_ms: u64) -> Self {
        Self(Arc::new(AtomicU64::new(unix_ms)))
    }

    pub fn set(&self, unix_ms: u64) {
        self.0.store(unix_ms, Ordering::Relaxed);
    }
}

impl Clock for HandClock {
    fn unix_ms(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

pub fn engine() -> EngineFingerprint {
    EngineFingerprint::of(b"engine 1 on cpu a")
}

pub fn key(number: u64) -> ImageKey {
    ImageKey {
        component: ComponentDigest::of(&number.to_le_bytes()),
        profile: ProfileDigest::of(b"profile"),
        engine: engine(),
    }
}

pub fn payload(number: u64, bytes: usize) -> Vec<u8> {
    (0..bytes).map(|index| (index as u64).wrapping_mul(31).wrapping_add(number) as u8).collect()
}

pub fn meta() -> ImageMeta {
    let (label, passes) = (ImageLabel::new("t0").unwrap(), PassNotes::default());
    ImageMeta { created_unix_ms: 1_000, build_ms: 5, label, passes }
}

/// Bytes of the file around a payload.
pub fn around() -> u64 {
    (120 + serde_json::to_vec(&meta()).unwrap().len() + 32) as u64
}

pub fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

pub fn small() -> ImageCacheSettings {
    ImageCacheSettings { bytes_max: 4_000, image_bytes_max: 2_000, images_max: 6 }
}

pub fn open_with(path: &Path, settings: ImageCacheSettings, clock: &HandClock) -> ImageCache {
    let secret = CacheSecret::given([7; 32]);
    ImageCache::open(&path.join("images"), &secret, &[engine()], settings, Box::new(clock.clone())).unwrap()
}

pub fn open(path: &Path) -> ImageCache {
    open_with(path, small(), &HandClock::default())
}

pub fn ticket(cache: &ImageCache, key: &ImageKey) -> BuildTicket {
    match cache.claim(key) {
        Claim::Yours(ticket) => ticket,
        other => panic!("{other:?}"),
    }
}

pub fn publish(cache: &ImageCache, number: u64, bytes: usize, value: f64) -> Result<Published, PublishError> {
    let payload = payload(number, bytes);
    cache.publish(ticket(cache, &key(number)), VerifiedPayload::vouch(&payload), &meta(), value)
}

/// Everything in the file of a lease.
pub fn content(lease: &ImageLease) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(lease.bytes()).unwrap() + 1];
    let length = lease.file().read_at(&mut bytes, 0).unwrap();
    bytes.truncate(length);
    bytes
}

pub fn path(directory: &Path, key: &ImageKey) -> PathBuf {
    let name = format!("{}-{}-{}.image", key.component.hex(), key.profile.hex(), key.engine.hex());
    directory.join("images").join(name)
}

/// Names and sizes of the image files.
pub fn files(directory: &Path) -> Vec<(PathBuf, u64)> {
    let Ok(entries) = std::fs::read_dir(directory.join("images")) else { return Vec::new() };
    let entries = entries.map(|entry| entry.unwrap()).filter(|entry| entry.file_name() != "index");
    let mut files: Vec<_> = entries.map(|entry| (entry.path(), entry.metadata().unwrap().len())).collect();
    files.sort();
    files
}
