//! How often the VMs of a revision were put back, and how often and why not.

use std::sync::atomic::{AtomicU64, Ordering};

use forerun_types::VmDiscard;

/// Counted since the revision was loaded.
#[derive(Default)]
pub(in super::super) struct Counters {
    rolled_back: AtomicU64,
    restored_bytes: AtomicU64,
    warm_copies: AtomicU64,
    discarded: [AtomicU64; VmDiscard::ALL.len()],
}

impl Counters {
    pub(super) fn rolled_back(&self, restored_bytes: u64) {
        self.rolled_back.fetch_add(1, Ordering::Relaxed);
        self.restored_bytes.fetch_add(restored_bytes, Ordering::Relaxed);
    }

    /// Counts a VM into which the warm state was copied; says how many there were before.
    pub(super) fn copied(&self) -> u64 {
        self.warm_copies.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn discarded(&self, why: VmDiscard) {
        self.discarded[why as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(in super::super) fn warm_copies(&self) -> u64 {
        self.warm_copies.load(Ordering::Relaxed)
    }

    pub(in super::super) fn rollbacks(&self) -> u64 {
        self.rolled_back.load(Ordering::Relaxed)
    }

    pub(in super::super) fn restored_bytes(&self) -> u64 {
        self.restored_bytes.load(Ordering::Relaxed)
    }

    /// Reasons that occurred, with how often.
    pub(in super::super) fn discards(&self) -> Vec<(VmDiscard, u64)> {
        let counts = VmDiscard::ALL.into_iter().map(|why| (why, self.discarded[why as usize].load(Ordering::Relaxed)));
        counts.filter(|(_, count)| *count > 0).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_its_own_counter() {
        let counters = Counters::default();
        for (index, why) in VmDiscard::ALL.into_iter().enumerate() {
            assert_eq!(why as usize, index, "the order of the list is that of the variants");
            counters.discarded(why);
        }
        counters.discarded(VmDiscard::MemoryGrew);
        assert_eq!(counters.discards().len(), VmDiscard::ALL.len());
        assert!(counters.discards().contains(&(VmDiscard::MemoryGrew, 2)));
    }
}
