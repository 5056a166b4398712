//! What people and planners see: every key with its figures, what went and why, counters.

use forerun_types::{ImageKey, ImageState};

use crate::cache::ImageCache;
use crate::counters::ImageCounters;
use crate::meta::ImageMeta;
use crate::miss::Gone;
use crate::publish::sane;
use crate::record::{Presence, Record, Stored};
use crate::trouble::Wait;

/// One key as `forerun images` shows it.
#[derive(Clone, PartialEq, Debug)]
pub struct ImageRow {
    /// Whose image it is.
    pub key: ImageKey,
    /// How it stands.
    pub state: ImageState,
    /// Size of its file; 0 if there is none.
    pub bytes: u64,
    /// What its file says about it. Authenticated only once it was loaded, or if this process wrote it.
    pub meta: Option<ImageMeta>,
    /// Since its build began; 0 if the clock was set back since.
    pub age_ms: u64,
    /// Times it was given out.
    pub hits: u64,
    /// Looks for any image since it was last given out; none if it never was. Order, not time: no clock is involved.
    pub uses_since: Option<u64>,
    /// Times it was asked for and not given out.
    pub misses: u64,
    /// Requests served with it, as reported by [`ImageCache::note_served`].
    pub served: u64,
    /// Latency saved by it, as reported by [`ImageCache::note_served`].
    pub saved_ms: f64,
    /// What it is worth, as set by [`ImageCache::set_value`].
    pub value_ms_per_byte: f64,
    /// Leases given out and not returned.
    pub leases: usize,
    /// Whether it is kept in memory without a lease.
    pub pinned: bool,
    /// Failed builds in a row and discards for cause, together.
    pub failures: u32,
    /// When the next build may begin, in Unix time, if it has to wait.
    pub until_unix_ms: Option<u64>,
    /// Why it is not here, or what the last failure was.
    pub why: Option<String>,
}

impl ImageCache {
    /// Every key that is known, ordered by key: what is stored, being built or in trouble, and the last that went.
    pub fn list(&self) -> Vec<ImageRow> {
        let now_unix_ms = self.inner.clock.unix_ms();
        let mut state = self.inner.state.lock();
        let uses = state.uses;
        state.records.iter_mut().map(|(key, record)| row(key, record, uses, now_unix_ms)).collect()
    }

    /// The last images that went, the latest last.
    pub fn gone(&self) -> Vec<Gone> {
        self.inner.state.lock().gone.iter().cloned().collect()
    }

    /// Everything that is counted.
    pub fn counters(&self) -> ImageCounters {
        let state = self.inner.state.lock();
        let mut counters = state.counters.clone();
        counters.stored_bytes = state.stored_bytes;
        counters.stored_images = state.stored_images as u64;
        for record in state.records.values() {
            if let Presence::Stored(stored) = &record.presence {
                counters.leases += stored.leases() as u64;
                counters.loaded_bytes += stored.loaded.upgrade().map_or(0, |loaded| loaded.payload_bytes);
            }
        }
        counters
    }

    /// Says what an image is worth: milliseconds it is expected to save, per byte. Decides who gives way to whom.
    /// Nothing happens if the key is not known.
    pub fn set_value(&self, key: &ImageKey, value_ms_per_byte: f64) {
        if let Some(record) = self.inner.state.lock().records.get_mut(key) {
            record.statistics.value_ms_per_byte = sane(value_ms_per_byte);
        }
    }

    /// Adds requests that were served with an image, and the latency they were spared. Nothing happens if the key is
    /// not known.
    pub fn note_served(&self, key: &ImageKey, requests: u64, saved_ms: f64) {
        if let Some(record) = self.inner.state.lock().records.get_mut(key) {
            record.statistics.served = record.statistics.served.saturating_add(requests);
            // What was lost counts, too: the sum may go down.
            if saved_ms.is_finite() {
                let sum = record.statistics.saved_ms + saved_ms;
                record.statistics.saved_ms = sum.clamp(f64::MIN, f64::MAX);
            }
        }
    }
}

fn row(key: &ImageKey, record: &mut Record, uses: u64, now_unix_ms: u64) -> ImageRow {
    let wait = record.trouble.at(now_unix_ms);
    let until_unix_ms = match wait {
        Wait::Over => None,
        Wait::BackingOff { until_unix_ms } | Wait::Quarantined { until_unix_ms } => Some(until_unix_ms),
    };
    let stored = match &record.presence {
        Presence::Stored(stored) => Some(stored),
        Presence::Building | Presence::Absent(_) => None,
    };
    let meta = stored.and_then(|stored| stored.meta.clone());
    ImageRow {
        key: *key,
        state: image_state(&record.presence, wait),
        bytes: stored.map_or(0, |stored| stored.bytes),
        age_ms: meta.as_ref().map_or(0, |meta| now_unix_ms.saturating_sub(meta.created_unix_ms)),
        meta,
        hits: record.statistics.hits,
        uses_since: (record.statistics.hits > 0).then(|| uses.saturating_sub(record.statistics.last_use)),
        misses: record.statistics.misses,
        served: record.statistics.served,
        saved_ms: record.statistics.saved_ms,
        value_ms_per_byte: record.statistics.value_ms_per_byte,
        leases: stored.map_or(0, Stored::leases),
        pinned: stored.is_some_and(|stored| stored.pinned.is_some()),
        failures: record.trouble.count(),
        until_unix_ms,
        why: why(record),
    }
}

fn image_state(presence: &Presence, wait: Wait) -> ImageState {
    match (presence, wait) {
        (Presence::Stored(stored), _) if stored.loaded.strong_count() > 0 => ImageState::Loaded,
        (Presence::Stored(_), _) => ImageState::Stored,
        (Presence::Building, _) => ImageState::Building,
        (Presence::Absent(_), Wait::Quarantined { .. }) => ImageState::Quarantined,
        (Presence::Absent(_), Wait::BackingOff { .. }) => ImageState::BackingOff,
        (Presence::Absent(_), Wait::Over) => ImageState::Absent,
    }
}

fn why(record: &Record) -> Option<String> {
    if !record.trouble.is_none() && !record.trouble.detail.is_empty() {
        return Some(record.trouble.detail.clone());
    }
    match &record.presence {
        Presence::Absent(reason) => reason.as_ref().map(|reason| reason.miss().to_string()),
        Presence::Building | Presence::Stored(_) => None,
    }
}
