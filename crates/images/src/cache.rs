//! The cache itself: opened on a folder, asked for images.
//!
//! Publishing is in `publish.rs`, who may build in `claim.rs`, discarding in `discard.rs`, what people see in
//! `list.rs`. Every call may wait for the disk: none belongs on the request path, which uses leases it holds.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use forerun_types::{EngineFingerprint, ImageKey};
use parking_lot::Mutex;

use crate::clock::Clock;
use crate::flaw::Flaw;
use crate::load::{self, LoadError, Loaded};
use crate::meta::ImageMeta;
use crate::miss::{GoneReason, Miss};
use crate::record::{Found, Presence, State};
use crate::secret::CacheSecret;
use crate::{files, format, index};

/// An image discarded and published again while we loaded it is looked up again; not for ever.
const GET_ATTEMPTS_MAX: usize = 3;

/// What can be set about the cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageCacheSettings {
    /// All files together, those being written among them. Default 2 GiB: some 60 images of a language runtime.
    pub bytes_max: u64,
    /// One file. Default 512 MiB: an order of magnitude above the largest image seen. It is held in memory when used.
    pub image_bytes_max: u64,
    /// Files. Default 4096: keeps start, index and lists quick when images are tiny.
    pub images_max: usize,
}

impl Default for ImageCacheSettings {
    fn default() -> Self {
        Self { bytes_max: 2 << 30, image_bytes_max: 512 << 20, images_max: 4096 }
    }
}

/// Why the cache cannot be opened. The node can run without: everything is then served on the generic path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The folder cannot be made, read or cleared of unfinished files.
    #[error("image cache {}: {detail}", path.display())]
    Unusable {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        detail: String,
    },
}

/// Specialized images on disk. Clones share one cache.
#[derive(Clone)]
pub struct ImageCache {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) directory: PathBuf,
    pub(crate) image_key: [u8; 32],
    pub(crate) index_key: [u8; 32],
    pub(crate) engines: BTreeSet<EngineFingerprint>,
    pub(crate) settings: ImageCacheSettings,
    pub(crate) clock: Box<dyn Clock>,
    /// Held while the index is written, so that an earlier one never replaces a later one. Taken before `state`.
    saving: Mutex<()>,
    pub(crate) state: Mutex<State>,
}

/// An authenticated image in use. While any lease of it lives, it stays in memory and is not evicted. Keep it as
/// long as what was made from it: memory mapped from the file outlives the lease, but is then no longer accounted for.
#[derive(Clone, Debug)]
pub struct ImageLease {
    loaded: Arc<Loaded>,
}

impl ImageLease {
    /// The payload, from offset 0 to the end, in a sealed file in memory: nobody can change it, so what is mapped
    /// from it is what was authenticated. Its position is shared by all leases; map it or read at offsets.
    pub fn file(&self) -> &File {
        &self.loaded.payload
    }

    /// The same file for a caller that wants one of its own to map.
    ///
    /// # Errors
    /// What the system says, such as too many open files.
    pub fn file_cloned(&self) -> io::Result<File> {
        self.loaded.payload.try_clone()
    }

    /// Size of the payload.
    pub fn bytes(&self) -> u64 {
        self.loaded.payload_bytes
    }

    /// Whose image it is.
    pub fn key(&self) -> &ImageKey {
        &self.loaded.key
    }

    /// What was written down about it.
    pub fn meta(&self) -> &ImageMeta {
        &self.loaded.meta
    }
}

impl ImageCache {
    /// Opens the cache in `directory`, making it if needed. `engines` are those whose code this node can run: images
    /// of others are removed, counted and never given out. At most one cache may be open on a folder; it is inside
    /// the data directory, whose lock (`Store`) keeps a second node out.
    ///
    /// # Errors
    /// See [`OpenError`]. Damaged files are no error: they are removed and counted.
    pub fn open(
        directory: &Path,
        secret: &CacheSecret,
        engines: &[EngineFingerprint],
        settings: ImageCacheSettings,
        clock: Box<dyn Clock>,
    ) -> Result<Self, OpenError> {
        let inner = Inner {
            directory: directory.to_owned(),
            image_key: secret.image_key(),
            index_key: secret.index_key(),
            engines: engines.iter().copied().collect(),
            settings,
            clock,
            saving: Mutex::new(()),
            state: Mutex::new(State::default()),
        };
        let unusable = |error: io::Error| OpenError::Unusable { path: directory.to_owned(), detail: error.to_string() };
        files::make_directory(directory).map_err(unusable)?;
        inner.take_stock().map_err(unusable)?;
        inner.save();
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Gives out the image of `key`. The first lease reads and authenticates the whole file; overlapping ones share it.
    ///
    /// # Errors
    /// The reason why there is none. A file that failed a check has been removed.
    pub fn get(&self, key: &ImageKey) -> Result<ImageLease, Miss> {
        let result = self.inner.get(key);
        let mut state = self.inner.state.lock();
        match result {
            Ok(loaded) => {
                state.note_hit(key);
                Ok(ImageLease { loaded })
            }
            Err(miss) => {
                state.note_miss(key, &miss);
                Err(miss)
            }
        }
    }

    /// Whether the image of `key` is stored, as far as is known without looking. It is not counted as asked for, so that
    /// looking for what is seldom there leaves no trace in lists.
    pub fn holds(&self, key: &ImageKey) -> bool {
        let state = self.inner.state.lock();
        state.records.get(key).is_some_and(|record| matches!(record.presence, Presence::Stored(_)))
    }

    /// Loads the image of `key` and keeps it in memory, and from being evicted, until it is unpinned or discarded.
    ///
    /// # Errors
    /// As [`ImageCache::get`].
    pub fn pin(&self, key: &ImageKey) -> Result<(), Miss> {
        let lease = self.get(key)?;
        let mut state = self.inner.state.lock();
        match state.records.get_mut(key).map(|record| &mut record.presence) {
            Some(Presence::Stored(stored)) => {
                stored.pinned = Some(lease.loaded);
                Ok(())
            }
            // Discarded since.
            Some(Presence::Absent(reason)) => Err(reason.as_ref().map_or(Miss::Vanished, GoneReason::miss)),
            Some(Presence::Building) => Err(Miss::Building),
            None => Err(Miss::Vanished),
        }
    }

    /// Takes back [`ImageCache::pin`]. The image leaves memory with its last lease.
    pub fn unpin(&self, key: &ImageKey) {
        let mut state = self.inner.state.lock();
        if let Some(Presence::Stored(stored)) = state.records.get_mut(key).map(|record| &mut record.presence) {
            stored.pinned = None;
        }
    }

    /// Writes statistics to disk; call it now and then and at the end. Whatever else changes is written at once.
    pub fn save(&self) {
        self.inner.save();
    }
}

impl Inner {
    pub(crate) fn path(&self, key: &ImageKey) -> PathBuf {
        self.directory.join(format::file_name(key))
    }

    pub(crate) fn can_run(&self, key: &ImageKey) -> bool {
        self.engines.contains(&key.engine)
    }

    /// Writes the index. A failure is counted: losing it loses statistics, not images.
    pub(crate) fn save(&self) {
        let _saving = self.saving.lock();
        let bytes = index::bytes(&self.state.lock(), &self.index_key);
        let written = files::make_directory(&self.directory).and_then(|()| index::write(&self.directory, &bytes));
        if written.is_err() {
            self.state.lock().counters.index_save_failed += 1;
        }
    }

    fn get(&self, key: &ImageKey) -> Result<Arc<Loaded>, Miss> {
        if !self.can_run(key) {
            return Err(Flaw::ForeignEngine.into());
        }
        for _ in 0..GET_ATTEMPTS_MAX {
            let found = self.state.lock().find(key, self.clock.unix_ms())?;
            match found {
                Found::Loaded(loaded) => return Ok(loaded),
                Found::OnDisk(gate) => {
                    if let Some(result) = self.load(key, &gate) {
                        return result;
                    }
                }
            }
        }
        Err(Miss::Vanished)
    }

    /// Loads what `find` found on disk; nothing if it was discarded in the meantime.
    fn load(&self, key: &ImageKey, gate: &Arc<Mutex<()>>) -> Option<Result<Arc<Loaded>, Miss>> {
        let _loading = gate.lock();
        {
            let mut state = self.state.lock();
            let stored = state.stored_of(key, gate)?;
            if let Some(loaded) = stored.loaded.upgrade() {
                stored.loading -= 1;
                return Some(Ok(loaded));
            }
        }
        let begin = Instant::now();
        let result = load::load(&self.path(key), key, &self.image_key, self.settings.image_bytes_max);
        let load_us = u64::try_from(begin.elapsed().as_micros()).unwrap_or(u64::MAX);
        let settled = self.settle(key, gate, result, load_us)?;
        if matches!(settled, Err(Miss::Vanished | Miss::Flawed(_))) {
            self.save();
        }
        Some(settled)
    }

    /// Notes how a load went; removes a file that is no good.
    fn settle(
        &self,
        key: &ImageKey,
        gate: &Arc<Mutex<()>>,
        result: Result<Loaded, LoadError>,
        load_us: u64,
    ) -> Option<Result<Arc<Loaded>, Miss>> {
        let now_unix_ms = self.clock.unix_ms();
        let mut state = self.state.lock();
        let stored = state.stored_of(key, gate)?;
        stored.loading -= 1;
        let reason = match result {
            Ok(loaded) => {
                let loaded = Arc::new(loaded);
                stored.meta = Some(loaded.meta.clone());
                stored.loaded = Arc::downgrade(&loaded);
                state.counters.loads += 1;
                state.counters.load_us_total += load_us;
                return Some(Ok(loaded));
            }
            Err(LoadError::Io(error)) => return Some(Err(Miss::Io { detail: error.to_string() })),
            Err(LoadError::Absent) => GoneReason::Vanished,
            Err(LoadError::Flawed(flaw)) => GoneReason::Flawed(flaw),
        };
        // Under the lock, so that no later image of this key can be there yet.
        self.remove(&mut state, key);
        let miss = reason.miss();
        state.note_gone(key, reason, now_unix_ms);
        Some(Err(miss))
    }

    /// Removes the file of `key`; a failure is counted, the image is not used any more in any case.
    pub(crate) fn remove(&self, state: &mut State, key: &ImageKey) {
        if files::remove_if_there(&self.path(key)).is_err() {
            state.counters.remove_failed += 1;
        }
    }
}
