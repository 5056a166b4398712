//! Who may build an image: one at a time for each key, and not while a failure is fresh.

use std::fmt;
use std::sync::Arc;

use forerun_types::ImageKey;

use crate::cache::{ImageCache, Inner};
use crate::record::Presence;
use crate::trouble::{Trouble, Wait};

/// Builds under way at the same time, a bound against a planner gone wild. Each takes a process and a core.
pub const BUILDS_MAX: usize = 64;

/// The answer to the wish to build an image.
#[derive(Debug)]
pub enum Claim {
    /// Build it, then [`ImageCache::publish`] or [`ImageCache::fail`].
    Yours(BuildTicket),
    /// It is there already.
    Present,
    /// Somebody else builds it.
    UnderWay,
    /// [`BUILDS_MAX`] others are being built.
    TooManyUnderWay,
    /// A build failed a short time ago.
    BackingOff {
        /// When the next may begin, in Unix time.
        until_unix_ms: u64,
        /// Failures in a row.
        failures: u32,
    },
    /// Builds failed repeatedly, or the image was discarded for cause.
    Quarantined {
        /// When the next may begin, in Unix time.
        until_unix_ms: u64,
        /// Failures in a row and discards for cause, together.
        failures: u32,
    },
    /// This node cannot run code of that engine.
    ForeignEngine,
}

/// The right to build and publish one image. Dropped, it counts as a build that failed.
pub struct BuildTicket {
    pub(crate) cache: Arc<Inner>,
    key: ImageKey,
    /// Whether it is still to be said how the build ended.
    open: bool,
}

/// What [`ImageCache::forgive`] found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Forgiven {
    /// The key may be built at once.
    Pardoned {
        /// Failures and discards that are forgotten.
        failures: u32,
    },
    /// There was nothing to forgive.
    NothingHeld,
}

impl ImageCache {
    /// Asks for the right to build the image of `key`.
    pub fn claim(&self, key: &ImageKey) -> Claim {
        if !self.inner.can_run(key) {
            return Claim::ForeignEngine;
        }
        let now_unix_ms = self.inner.clock.unix_ms();
        let mut state = self.inner.state.lock();
        let builds = state.records.values().filter(|record| matches!(record.presence, Presence::Building)).count();
        let record = state.touch(key);
        match record.presence {
            Presence::Stored(_) => return Claim::Present,
            Presence::Building => return Claim::UnderWay,
            Presence::Absent(_) => {}
        }
        let failures = record.trouble.count();
        match record.trouble.at(now_unix_ms) {
            Wait::BackingOff { until_unix_ms } => return Claim::BackingOff { until_unix_ms, failures },
            Wait::Quarantined { until_unix_ms } => return Claim::Quarantined { until_unix_ms, failures },
            Wait::Over => {}
        }
        if builds >= BUILDS_MAX {
            return Claim::TooManyUnderWay;
        }
        record.presence = Presence::Building;
        drop(state);
        Claim::Yours(BuildTicket { cache: Arc::clone(&self.inner), key: *key, open: true })
    }

    /// Says that a build failed, and why. Builds of this key wait from now on.
    pub fn fail(&self, ticket: BuildTicket, detail: &str) {
        ticket.close_failed(detail);
    }

    /// Lets a key be built again at once; for an operator who has removed the cause.
    pub fn forgive(&self, key: &ImageKey) -> Forgiven {
        let forgiven = match self.inner.state.lock().records.get_mut(key) {
            Some(record) if !record.trouble.is_none() => std::mem::take(&mut record.trouble),
            Some(_) | None => return Forgiven::NothingHeld,
        };
        self.inner.save();
        Forgiven::Pardoned { failures: forgiven.count() }
    }
}

impl BuildTicket {
    /// What is to be built.
    pub fn key(&self) -> &ImageKey {
        &self.key
    }

    /// The build ended well and the image is stored; the caller has noted that.
    pub(crate) fn close(mut self) {
        self.open = false;
    }

    /// The build ended without an image.
    pub(crate) fn close_failed(mut self, detail: &str) {
        self.end(|trouble, now_unix_ms| trouble.note_failure(now_unix_ms, detail));
    }

    /// The build ended well but there is no room for the image.
    pub(crate) fn close_no_room(mut self, detail: &str) {
        self.end(|trouble, now_unix_ms| trouble.note_no_room(now_unix_ms, detail));
    }

    fn end(&mut self, note: impl FnOnce(&mut Trouble, u64)) {
        self.open = false;
        let now_unix_ms = self.cache.clock.unix_ms();
        {
            let mut state = self.cache.state.lock();
            state.counters.builds_failed += 1;
            note(state.note_not_built(&self.key), now_unix_ms);
            state.forget();
        }
        self.cache.save();
    }
}

impl Drop for BuildTicket {
    fn drop(&mut self) {
        if self.open {
            self.end(|trouble, now_unix_ms| trouble.note_failure(now_unix_ms, "the build was given up"));
        }
    }
}

impl fmt::Debug for BuildTicket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BuildTicket({})", self.key)
    }
}
