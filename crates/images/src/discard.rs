//! Taking an image out of use on request.

use forerun_types::ImageKey;

use crate::cache::ImageCache;
use crate::miss::{DiscardReason, GoneReason};
use crate::record::Presence;
use crate::trouble;

/// What [`ImageCache::discard`] found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Discarded {
    /// The file is gone. Leases given out go on until they are returned.
    Removed {
        /// Its size.
        bytes: u64,
    },
    /// There was no such image.
    NotThere,
    /// It is being built; it will be there when the build ends.
    Building,
}

impl ImageCache {
    /// Removes the image of `key`; it is given out no more. If it was for cause, the key is quarantined, longer each time.
    pub fn discard(&self, key: &ImageKey, reason: DiscardReason) -> Discarded {
        let reason = bounded(reason);
        let now_unix_ms = self.inner.clock.unix_ms();
        let bytes = {
            let mut state = self.inner.state.lock();
            let Some(record) = state.records.get_mut(key) else { return Discarded::NotThere };
            match record.presence {
                Presence::Stored(_) => {}
                Presence::Building => return Discarded::Building,
                Presence::Absent(_) => return Discarded::NotThere,
            }
            match &reason {
                DiscardReason::Worse { .. } | DiscardReason::Misbehaved { .. } => {
                    record.trouble.note_discard(now_unix_ms, &reason.to_string());
                }
                DiscardReason::Superseded | DiscardReason::Operator => {}
            }
            self.inner.remove(&mut state, key);
            state.note_gone(key, GoneReason::Discarded(reason), now_unix_ms)
        };
        self.inner.save();
        Discarded::Removed { bytes }
    }
}

/// The same reason with a text of bounded length: it is kept.
fn bounded(reason: DiscardReason) -> DiscardReason {
    match reason {
        DiscardReason::Worse { figure } => DiscardReason::Worse { figure: trouble::bounded(&figure) },
        DiscardReason::Misbehaved { detail } => DiscardReason::Misbehaved { detail: trouble::bounded(&detail) },
        DiscardReason::Superseded => DiscardReason::Superseded,
        DiscardReason::Operator => DiscardReason::Operator,
    }
}
