//! What the cache counts. Declared once; the node turns a snapshot into metrics.

use std::collections::BTreeMap;

use crate::miss::{GoneReason, Miss};

/// What has happened since the cache was opened, and how it stands.
#[derive(Clone, PartialEq, Debug)]
pub struct ImageCounters {
    /// `get` gave out an image.
    pub hits: u64,
    /// Files read and found authentic; one load serves all leases that overlap.
    pub loads: u64,
    /// Time those loads took together.
    pub load_us_total: u64,
    /// `get` gave none, by [`Miss::label`]. All labels are there.
    pub misses: BTreeMap<&'static str, u64>,
    /// Images that went, by [`GoneReason::label`]. All labels are there.
    pub gone: BTreeMap<&'static str, u64>,
    /// Images published.
    pub published: u64,
    /// Images built but not published: too large, no room, disk full.
    pub publish_failed: u64,
    /// Builds that failed or were given up.
    pub builds_failed: u64,
    /// Times the index could not be used at start: damaged or of another release. Statistics and quarantine are lost.
    pub index_lost: u64,
    /// Times the index could not be written; it is written again with the next change.
    pub index_save_failed: u64,
    /// Files that should have been removed but could not be; they take room until the next start tries again.
    pub remove_failed: u64,
    /// Image files found at start that the system could not read; they were left as they are.
    pub unreadable: u64,
    /// Images on disk now.
    pub stored_images: u64,
    /// Their size, in bytes.
    pub stored_bytes: u64,
    /// Bytes of images in memory now.
    pub loaded_bytes: u64,
    /// Leases given out and not returned.
    pub leases: u64,
}

impl Default for ImageCounters {
    fn default() -> Self {
        Self {
            hits: 0,
            loads: 0,
            load_us_total: 0,
            misses: Miss::LABELS.into_iter().map(|label| (label, 0)).collect(),
            gone: GoneReason::LABELS.into_iter().map(|label| (label, 0)).collect(),
            published: 0,
            publish_failed: 0,
            builds_failed: 0,
            index_lost: 0,
            index_save_failed: 0,
            remove_failed: 0,
            unreadable: 0,
            stored_images: 0,
            stored_bytes: 0,
            loaded_bytes: 0,
            leases: 0,
        }
    }
}

impl ImageCounters {
    pub(crate) fn count_miss(&mut self, miss: &Miss) {
        *self.misses.entry(miss.label()).or_default() += 1;
    }

    pub(crate) fn count_gone(&mut self, reason: &GoneReason) {
        *self.gone.entry(reason.label()).or_default() += 1;
    }
}
