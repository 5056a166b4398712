//! How much output may wait for the disk: bounded in all, and for each function, without a lock.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicUsize, Ordering};

use forerun_types::FunctionName;

/// What a piece counts for beyond its own bytes, so that tiny ones cannot take more than the bytes allow.
pub(super) const PIECE_BYTES: usize = 512;
/// Functions are spread over so many shares by their names; one that floods its share leaves room for the others.
const SHARES: usize = 64;
/// Part of the queue that one share may use.
const SHARE_DIVISOR: usize = 4;
/// How much of the queue is taken, in all and by each share.
pub(super) struct Room {
    taken_bytes: AtomicUsize,
    shares: [AtomicUsize; SHARES],
    bytes_max: usize,
}

impl Room {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { taken_bytes: AtomicUsize::new(0), shares: [const { AtomicUsize::new(0) }; SHARES], bytes_max }
    }

    /// Takes room for a piece of `function`, or says that there is none.
    pub(super) fn take(&self, function: &FunctionName, length: usize) -> bool {
        let bytes = length.saturating_add(PIECE_BYTES);
        let share_before = self.share(function).fetch_add(bytes, Ordering::Relaxed);
        let before = self.taken_bytes.fetch_add(bytes, Ordering::Relaxed);
        let fits = before.saturating_add(bytes) <= self.bytes_max
            && share_before.saturating_add(bytes) <= self.bytes_max / SHARE_DIVISOR;
        if !fits {
            self.give_back(function, length);
        }
        fits
    }

    pub(super) fn give_back(&self, function: &FunctionName, length: usize) {
        let bytes = length.saturating_add(PIECE_BYTES);
        self.share(function).fetch_sub(bytes, Ordering::Relaxed);
        self.taken_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    fn share(&self, function: &FunctionName) -> &AtomicUsize {
        let mut hasher = DefaultHasher::new();
        function.hash(&mut hasher);
        // The remainder is below the number of shares.
        &self.shares[(hasher.finish() % SHARES as u64) as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_function_cannot_take_the_room_of_others() {
        let room = Room::new(100 * PIECE_BYTES);
        let (loud, quiet): (FunctionName, FunctionName) = ("loud".parse().unwrap(), "quiet".parse().unwrap());
        assert!(!std::ptr::eq(room.share(&loud), room.share(&quiet)), "the names fall into different shares");
        let taken = (0..1000).filter(|_| room.take(&loud, 0)).count();
        assert_eq!(taken, 100 / SHARE_DIVISOR);
        assert!(room.take(&quiet, 0));
        (0..taken).for_each(|_| room.give_back(&loud, 0));
        room.give_back(&quiet, 0);
        assert_eq!(room.taken_bytes.load(Ordering::Relaxed), 0);
    }
}
