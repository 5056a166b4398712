//! What is known about each key, in memory. Transitions only; files are written and removed elsewhere.
//!
//! ```text
//!            claim                publish
//!   absent ────────► building ──────────────► stored ⇄ loaded (while leased or pinned)
//!     ▲                 │ fail, ticket dropped    │
//!     ├─────────────────┘                         │ evicted, discarded, vanished, flawed
//!     └───────────────────────────────────────────┘
//! ```
//!
//! Beside that a key may be in trouble: builds failed, or its image was discarded for cause. While a wait lasts,
//! an absent key cannot be claimed.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Weak};

use forerun_types::{EngineFingerprint, ImageKey};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::counters::ImageCounters;
use crate::evict::Candidate;
use crate::flaw::Flaw;
use crate::load::Loaded;
use crate::meta::ImageMeta;
use crate::miss::{Gone, GoneReason, Miss};
use crate::trouble::{Trouble, Wait};

/// Keys remembered that have no image: enough to explain a day of misses, at a few hundred bytes each.
pub(crate) const ABSENT_MAX: usize = 1024;
/// Images that went and are still listed: a few screens.
pub(crate) const GONE_MAX: usize = 256;

/// What has been seen of one key.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Statistics {
    pub(crate) hits: u64,
    pub(crate) misses: u64,
    pub(crate) served: u64,
    pub(crate) saved_ms: f64,
    pub(crate) value_ms_per_byte: f64,
    /// Number of its last use in the order of all uses; no clock is involved.
    pub(crate) last_use: u64,
}

/// An image on disk.
pub(crate) struct Stored {
    pub(crate) bytes: u64,
    /// What the file says; authenticated once it was loaded or if this process wrote it.
    pub(crate) meta: Option<ImageMeta>,
    pub(crate) loaded: Weak<Loaded>,
    pub(crate) pinned: Option<Arc<Loaded>>,
    /// Calls that are about to load it or are loading it.
    pub(crate) loading: usize,
    /// Held by the one that loads; also tells this image from a later one of the same key.
    pub(crate) gate: Arc<Mutex<()>>,
}

impl Stored {
    pub(crate) fn new(bytes: u64, meta: Option<ImageMeta>) -> Self {
        Self { bytes, meta, loaded: Weak::new(), pinned: None, loading: 0, gate: Arc::default() }
    }

    /// Leases given out, the cache's own pin not among them.
    pub(crate) fn leases(&self) -> usize {
        self.loaded.strong_count().saturating_sub(usize::from(self.pinned.is_some()))
    }

    fn is_in_use(&self) -> bool {
        self.loading > 0 || self.loaded.strong_count() > 0
    }
}

/// Where the image of a key is.
pub(crate) enum Presence {
    /// Not here; why, if it ever was.
    Absent(Option<GoneReason>),
    Building,
    Stored(Stored),
}

pub(crate) struct Record {
    pub(crate) presence: Presence,
    pub(crate) trouble: Trouble,
    pub(crate) statistics: Statistics,
    /// As `last_use`, but misses count, too: what is forgotten first.
    pub(crate) touched: u64,
}

impl Record {
    pub(crate) fn absent(reason: Option<GoneReason>) -> Self {
        Self {
            presence: Presence::Absent(reason),
            trouble: Trouble::default(),
            statistics: Statistics::default(),
            touched: 0,
        }
    }
}

/// Everything the cache knows. One lock around it, never held while an image is read or written.
#[derive(Default)]
pub(crate) struct State {
    pub(crate) records: BTreeMap<ImageKey, Record>,
    /// Uses counted so far; gives `last_use` and `touched`.
    pub(crate) uses: u64,
    pub(crate) gone: VecDeque<Gone>,
    pub(crate) counters: ImageCounters,
    pub(crate) stored_bytes: u64,
    pub(crate) stored_images: usize,
    /// Room kept for images being written.
    pub(crate) reserved_bytes: u64,
    pub(crate) reserved_images: usize,
}

/// What a call of `get` has to do.
pub(crate) enum Found {
    Loaded(Arc<Loaded>),
    /// Counted in `loading`; the caller takes the gate and loads, or finds it loaded.
    OnDisk(Arc<Mutex<()>>),
}

impl State {
    /// The record of `key`, made if there is none, and noted as asked for.
    pub(crate) fn touch(&mut self, key: &ImageKey) -> &mut Record {
        self.uses += 1;
        let record = self.records.entry(*key).or_insert_with(|| Record::absent(None));
        record.touched = self.uses;
        record
    }

    /// What is to be done to get the image of `key`.
    pub(crate) fn find(&mut self, key: &ImageKey, now_unix_ms: u64) -> Result<Found, Miss> {
        let other_engine = self.has_other_engine(key);
        let record = self.touch(key);
        match &mut record.presence {
            Presence::Stored(stored) => {
                if let Some(loaded) = stored.loaded.upgrade() {
                    return Ok(Found::Loaded(loaded));
                }
                stored.loading += 1;
                Ok(Found::OnDisk(Arc::clone(&stored.gate)))
            }
            Presence::Building => Err(Miss::Building),
            Presence::Absent(reason) => {
                let failures = record.trouble.count();
                Err(match (record.trouble.at(now_unix_ms), reason) {
                    (Wait::Quarantined { until_unix_ms }, _) => Miss::Quarantined { until_unix_ms, failures },
                    (Wait::BackingOff { until_unix_ms }, _) => Miss::BackingOff { until_unix_ms, failures },
                    (Wait::Over, Some(reason)) => reason.miss(),
                    (Wait::Over, None) if other_engine => Miss::Flawed(Flaw::ForeignEngine),
                    (Wait::Over, None) => Miss::NeverBuilt,
                })
            }
        }
    }

    /// Whether there is, or was removed for that reason, the same image for another engine.
    fn has_other_engine(&self, key: &ImageKey) -> bool {
        let first = ImageKey { engine: EngineFingerprint::from_bytes([0; 32]), ..*key };
        let last = ImageKey { engine: EngineFingerprint::from_bytes([0xff; 32]), ..*key };
        self.records.range(first..=last).any(|(other, record)| {
            let relevant = match &record.presence {
                Presence::Stored(_) => true,
                Presence::Absent(Some(GoneReason::Flawed(Flaw::ForeignEngine))) => true,
                Presence::Absent(_) | Presence::Building => false,
            };
            relevant && other.engine != key.engine
        })
    }

    /// The image of `key` on disk, if it is still the one that `gate` belongs to.
    pub(crate) fn stored_of(&mut self, key: &ImageKey, gate: &Arc<Mutex<()>>) -> Option<&mut Stored> {
        match &mut self.records.get_mut(key)?.presence {
            Presence::Stored(stored) if Arc::ptr_eq(&stored.gate, gate) => Some(stored),
            Presence::Stored(_) | Presence::Building | Presence::Absent(_) => None,
        }
    }

    pub(crate) fn note_hit(&mut self, key: &ImageKey) {
        self.counters.hits += 1;
        let uses = self.uses;
        if let Some(record) = self.records.get_mut(key) {
            record.statistics.hits += 1;
            record.statistics.last_use = uses;
        }
    }

    pub(crate) fn note_miss(&mut self, key: &ImageKey, miss: &Miss) {
        self.counters.count_miss(miss);
        if let Some(record) = self.records.get_mut(key) {
            record.statistics.misses += 1;
        }
        self.forget();
    }

    /// An image is on disk now, found at start or just written.
    pub(crate) fn note_stored(&mut self, key: &ImageKey, stored: Stored) {
        self.stored_bytes += stored.bytes;
        self.stored_images += 1;
        let record = self.touch(key);
        assert!(!matches!(record.presence, Presence::Stored(_)), "an image is removed before it is replaced");
        record.statistics.last_use = record.touched;
        record.presence = Presence::Stored(stored);
    }

    /// The image of `key` is not on disk any more, or must not be used if it is. Tells how large it was.
    pub(crate) fn note_gone(&mut self, key: &ImageKey, reason: GoneReason, now_unix_ms: u64) -> u64 {
        self.counters.count_gone(&reason);
        let record = self.touch(key);
        let before = std::mem::replace(&mut record.presence, Presence::Absent(Some(reason.clone())));
        let bytes = match before {
            Presence::Stored(stored) => {
                self.stored_bytes -= stored.bytes;
                self.stored_images -= 1;
                stored.bytes
            }
            Presence::Absent(_) | Presence::Building => 0,
        };
        if self.gone.len() == GONE_MAX {
            self.gone.pop_front();
        }
        self.gone.push_back(Gone { key: *key, at_unix_ms: now_unix_ms, bytes, reason });
        self.forget();
        bytes
    }

    /// The build of `key` has ended without an image.
    pub(crate) fn note_not_built(&mut self, key: &ImageKey) -> &mut Trouble {
        let record = self.touch(key);
        if matches!(record.presence, Presence::Building) {
            record.presence = Presence::Absent(None);
        }
        &mut record.trouble
    }

    /// Images that nobody uses now.
    pub(crate) fn candidates(&self) -> Vec<Candidate> {
        let candidate = |(key, record): (&ImageKey, &Record)| match &record.presence {
            Presence::Stored(stored) if !stored.is_in_use() => Some(Candidate {
                key: *key,
                bytes: stored.bytes,
                value: record.statistics.value_ms_per_byte,
                last_use: record.statistics.last_use,
            }),
            Presence::Stored(_) | Presence::Building | Presence::Absent(_) => None,
        };
        self.records.iter().filter_map(candidate).collect()
    }

    /// Keeps the memory of absent keys bounded: those without trouble go first, the least recently asked for first.
    pub(crate) fn forget(&mut self) {
        // The first test is cheap; stored and building ones are bounded on their own.
        if self.records.len() <= ABSENT_MAX {
            return;
        }
        let absent = |record: &Record| matches!(record.presence, Presence::Absent(_));
        let mut old: Vec<_> = self
            .records
            .iter()
            .filter(|(_, record)| absent(record))
            .map(|(key, record)| (!record.trouble.is_none(), record.touched, *key))
            .collect();
        let surplus = old.len().saturating_sub(ABSENT_MAX);
        if surplus > 0 {
            // An eighth more, so that this is not done at every miss.
            old.sort_unstable();
            for (_, _, key) in &old[..surplus + ABSENT_MAX / 8] {
                self.records.remove(key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use forerun_types::{ComponentDigest, ProfileDigest};

    use super::*;

    fn key(number: u32) -> ImageKey {
        ImageKey {
            component: ComponentDigest::of(&number.to_le_bytes()),
            profile: ProfileDigest::of(b""),
            engine: EngineFingerprint::of(b""),
        }
    }

    #[test]
    fn memory_of_absent_keys_is_bounded_and_trouble_is_kept() {
        let mut state = State::default();
        state.note_not_built(&key(0)).note_failure(0, "trap");
        state.note_stored(&key(1), Stored::new(10, None));
        for number in 2..5000 {
            let miss = state.find(&key(number), 0).err().unwrap();
            assert_eq!(miss, Miss::NeverBuilt);
            state.note_miss(&key(number), &miss);
            assert!(state.records.len() <= ABSENT_MAX + 2);
        }
        assert!(matches!(state.find(&key(0), 0), Err(Miss::BackingOff { failures: 1, .. })));
        assert!(matches!(state.find(&key(1), 0), Ok(Found::OnDisk(_))));
    }

    #[test]
    fn the_list_of_what_went_is_bounded() {
        let mut state = State::default();
        for number in 0..GONE_MAX as u32 + 10 {
            state.note_stored(&key(number), Stored::new(7, None));
            assert_eq!(state.note_gone(&key(number), GoneReason::Vanished, 5), 7);
        }
        assert_eq!((state.gone.len(), state.stored_bytes, state.stored_images), (GONE_MAX, 0, 0));
        assert_eq!(state.gone.front().unwrap().key, key(10));
        assert_eq!(state.find(&key(10), 0).err(), Some(Miss::Vanished));
    }

    #[test]
    fn the_same_image_for_another_engine_is_named() {
        let mut state = State::default();
        let other = ImageKey { engine: EngineFingerprint::of(b"other"), ..key(1) };
        assert_eq!(state.find(&other, 0).err(), Some(Miss::NeverBuilt));
        state.note_stored(&key(1), Stored::new(10, None));
        assert_eq!(state.find(&other, 0).err(), Some(Miss::Flawed(Flaw::ForeignEngine)));
        state.note_gone(&key(1), GoneReason::Vanished, 0);
        assert_eq!(state.find(&other, 0).err(), Some(Miss::NeverBuilt));
    }
}
