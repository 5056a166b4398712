//! A queue of future checks in time order, for idle times that cross a segment of the grid.
//!
//! Due times are rounded up to an eighth of the waiting time's power of two, so that a million idle functions share a
//! few buckets and one check costs no tree operation of its own. Entries in one bucket leave in the order they came.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Checks waiting for their time.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct CheckQueue {
    buckets: BTreeMap<u64, Vec<u32>>,
}

impl CheckQueue {
    /// Adds a check of `index` at `due_us` or a little later; `wait_us` is the time from now until then.
    pub fn push(&mut self, due_us: u64, wait_us: u64, index: u32) {
        let grain_us = (wait_us.max(8).next_power_of_two() / 8).max(1);
        let rounded_us = due_us.div_ceil(grain_us).saturating_mul(grain_us);
        self.buckets.entry(rounded_us).or_default().push(index);
    }

    /// Takes the checks of the earliest bucket that is due at `now_us`.
    pub fn pop_due(&mut self, now_us: u64) -> Vec<u32> {
        match self.buckets.first_entry() {
            Some(bucket) if *bucket.key() <= now_us => bucket.remove(),
            Some(_) | None => Vec::new(),
        }
    }

    /// Whether the entries are one for each history that says it waits; for restored state. `queued` says that of the
    /// histories, of which there are `len`.
    pub fn is_sound(&self, queued: impl Fn(usize) -> Option<bool>, len: usize) -> bool {
        let mut found = vec![false; len];
        let new = |index: &u32| {
            queued(*index as usize) == Some(true) && !std::mem::replace(&mut found[*index as usize], true)
        };
        self.buckets.values().all(|bucket| !bucket.is_empty())
            && self.buckets.values().flatten().all(new)
            && (0..len).all(|index| queued(index) != Some(true) || found[index])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn nothing_leaves_early_or_is_lost(waits in prop::collection::vec(0u64..1u64 << 44, 1..60)) {
            let mut queue = CheckQueue::default();
            for (index, wait_us) in waits.iter().enumerate() {
                queue.push(*wait_us, *wait_us, index as u32);
            }
            let mut seen = 0;
            let mut now_us = 0;
            while now_us < 1 << 46 {
                loop {
                    let due = queue.pop_due(now_us);
                    if due.is_empty() {
                        break;
                    }
                    seen += due.len();
                    for index in due {
                        let wait_us = waits[index as usize];
                        prop_assert!(wait_us <= now_us);
                    }
                }
                now_us = now_us * 2 + 1;
            }
            prop_assert_eq!(seen, waits.len());
        }
    }
}
