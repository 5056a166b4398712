//! What is known of VMs that were made with as much room in their memory: of others, nothing of it holds.

use std::ops::Deref;
use std::sync::Arc;

use parking_lot::Mutex;

/// What is known of the VMs that are made now; it begins anew when VMs get other room.
#[derive(Default)]
pub(super) struct ByRoom<T>(Mutex<Arc<Known<T>>>);

/// What is known of VMs with as much room.
#[derive(Default)]
pub(super) struct Known<T> {
    pub(super) room_bytes: u32,
    known: T,
}

impl<T: Default> ByRoom<T> {
    /// What is known of VMs with so much room.
    pub(super) fn of(&self, room_bytes: u32) -> Arc<Known<T>> {
        let mut known = self.0.lock();
        if known.room_bytes != room_bytes {
            *known = Arc::new(Known { room_bytes, known: T::default() });
        }
        Arc::clone(&known)
    }
}

impl<T> Deref for Known<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.known
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[test]
    fn it_begins_anew_with_other_room_and_not_before() {
        let by_room = ByRoom::<AtomicU32>::default();
        by_room.of(0).store(7, Ordering::Relaxed);
        let seen = [0, 4096, 4096, 0].map(|room_bytes| by_room.of(room_bytes).fetch_add(1, Ordering::Relaxed));
        assert_eq!(seen, [7, 0, 1, 0]);
    }
}
