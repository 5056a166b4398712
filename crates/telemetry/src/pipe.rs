//! The pipe from the request path to everything that learns or reports: bounded, lock-free, lossy, counted.
//!
//! Any number of senders, one receiver. A full pipe drops the event and counts it; a sender never waits.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_queue::ArrayQueue;

use crate::event::InvocationEvent;

/// Where the request path puts events.
#[derive(Clone)]
pub struct EventSender(Arc<Shared>);

/// Where one reader takes them out.
pub struct EventReceiver(Arc<Shared>);

struct Shared {
    queue: ArrayQueue<InvocationEvent>,
    dropped: AtomicU64,
}

/// A pipe that holds at most `capacity` events.
pub fn event_pipe(capacity: usize) -> (EventSender, EventReceiver) {
    let shared = Arc::new(Shared { queue: ArrayQueue::new(capacity), dropped: AtomicU64::new(0) });
    (EventSender(Arc::clone(&shared)), EventReceiver(shared))
}

impl EventSender {
    /// Hands over `event`, or counts it as dropped if the pipe is full.
    pub fn record(&self, event: InvocationEvent) {
        if self.0.queue.push(event).is_err() {
            self.0.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl EventReceiver {
    /// The oldest event, if there is one.
    pub fn try_next(&mut self) -> Option<InvocationEvent> {
        self.0.queue.pop()
    }

    /// Events dropped since the start because the pipe was full.
    pub fn dropped_total(&self) -> u64 {
        self.0.dropped.load(Ordering::Relaxed)
    }
}
