//! All open connections: their number is bounded, and each can be told to finish or be cut.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use super::state::{ConnectionState, Order};

pub(crate) struct Connections {
    places: Arc<Semaphore>,
    open: Mutex<Open>,
    /// Told when the last connection closes.
    all_closed: Notify,
}

#[derive(Default)]
struct Open {
    next: u64,
    states: HashMap<u64, Arc<ConnectionState>>,
}

/// A place for one connection, before and after it is there.
pub(crate) struct Place {
    core: Arc<crate::core::Core>,
    number: u64,
    _permit: OwnedSemaphorePermit,
}

impl Connections {
    pub(crate) fn new(connections_max: usize) -> Self {
        Self {
            places: Arc::new(Semaphore::new(connections_max.min(Semaphore::MAX_PERMITS))),
            open: Mutex::default(),
            all_closed: Notify::new(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.open.lock().states.len()
    }

    /// A place if there is one right now.
    pub(crate) fn try_place(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.places).try_acquire_owned().ok()
    }

    /// A place, as soon as there is one. The semaphore is never closed.
    pub(crate) async fn place(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.places).acquire_owned().await.ok()
    }

    /// Gives `order` to all open connections, and says how many there are and how many requests they have under way.
    pub(crate) fn command(&self, order: Order) -> (usize, usize) {
        let open = self.open.lock();
        for state in open.states.values() {
            state.command(order);
        }
        (open.states.len(), open.states.values().map(|state| state.requests_under_way() as usize).sum())
    }

    /// Waits until no connection is open.
    pub(crate) async fn closed(&self) {
        loop {
            let told = self.all_closed.notified();
            if self.len() == 0 {
                return;
            }
            told.await;
        }
    }
}

impl Place {
    /// Puts a connection in its place.
    pub(crate) fn take(
        core: &Arc<crate::core::Core>,
        permit: OwnedSemaphorePermit,
        state: Arc<ConnectionState>,
    ) -> Self {
        let mut open = core.connections.open.lock();
        let number = open.next;
        open.next += 1;
        open.states.insert(number, state);
        Self { core: Arc::clone(core), number, _permit: permit }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let connections = &self.core.connections;
        let mut open = connections.open.lock();
        open.states.remove(&self.number);
        if open.states.is_empty() {
            connections.all_closed.notify_waiters();
        }
    }
}
