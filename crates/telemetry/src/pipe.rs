//! The pipe from the request path to everything that learns or reports: bounded, lock-free, lossy, counted.
//!
//! Any number of senders, one receiver. A full pipe drops the event and counts it; a sender never waits. A receiver may
//! sleep until something comes: only a sender that finds it asleep pays for waking it, so a busy pipe wakes nobody.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use std::sync::{Arc, OnceLock};
use std::thread::Thread;
use std::time::Duration;

use crossbeam_queue::ArrayQueue;

use crate::event::InvocationEvent;

/// Enough for 50 ms, the longest pause of the reader, at 300,000 events/s; about 6 MB, taken once.
pub const EVENT_PIPE_CAPACITY: usize = 16_384;

/// Where the request path puts events.
pub struct EventSender<E = InvocationEvent>(Arc<Shared<E>>);

/// Where one reader takes them out.
pub struct EventReceiver<E = InvocationEvent>(Arc<Shared<E>>);

struct Shared<E> {
    queue: ArrayQueue<E>,
    dropped: AtomicU64,
    /// The receiver's thread, once it has slept.
    reader: OnceLock<Thread>,
    asleep: AtomicBool,
}

/// A pipe that holds at most `capacity` events.
pub fn event_pipe<E>(capacity: usize) -> (EventSender<E>, EventReceiver<E>) {
    let shared = Arc::new(Shared {
        queue: ArrayQueue::new(capacity),
        dropped: AtomicU64::new(0),
        reader: OnceLock::new(),
        asleep: AtomicBool::new(false),
    });
    (EventSender(Arc::clone(&shared)), EventReceiver(shared))
}

impl<E> Clone for EventSender<E> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<E> EventSender<E> {
    /// Hands over `event`, or counts it as dropped if the pipe is full.
    pub fn record(&self, event: E) {
        if self.0.queue.push(event).is_err() {
            self.0.dropped.fetch_add(1, Ordering::Relaxed);
        }
        // Pairs with the fence in `wait`: either this sees that the receiver sleeps, or the receiver sees the event.
        fence(Ordering::SeqCst);
        if self.0.asleep.load(Ordering::Relaxed)
            && self.0.asleep.swap(false, Ordering::Relaxed)
            && let Some(reader) = self.0.reader.get()
        {
            reader.unpark();
        }
    }

    /// Events dropped since the start because the pipe was full.
    pub fn dropped_total(&self) -> u64 {
        self.0.dropped.load(Ordering::Relaxed)
    }
}

impl<E> EventReceiver<E> {
    /// Sleeps until an event is there or `patience` is over; may wake for nothing. Always to be called by the same
    /// thread: the first that calls it is the one that is woken.
    pub fn wait(&mut self, patience: Duration) {
        self.0.reader.get_or_init(std::thread::current);
        self.0.asleep.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        if self.0.queue.is_empty() {
            std::thread::park_timeout(patience);
        }
        self.0.asleep.store(false, Ordering::Relaxed);
    }

    /// Share of the places that are taken: 0 empty, 1 full.
    pub fn fullness(&self) -> f32 {
        self.0.queue.len() as f32 / self.0.queue.capacity() as f32
    }

    /// The oldest event, if there is one.
    pub fn try_next(&mut self) -> Option<E> {
        self.0.queue.pop()
    }

    /// Takes out the oldest events, at most `max`, behind those already in `batch`; how many there were.
    pub fn drain(&mut self, batch: &mut Vec<E>, max: usize) -> usize {
        let before = batch.len();
        batch.extend(std::iter::from_fn(|| self.0.queue.pop()).take(max));
        batch.len() - before
    }

    /// Events dropped since the start because the pipe was full.
    pub fn dropped_total(&self) -> u64 {
        self.0.dropped.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::tests::event;

    #[test]
    fn a_full_pipe_drops_and_counts() {
        let (sender, mut receiver) = event_pipe(2);
        (0..5).for_each(|number| sender.record(event(number)));
        assert_eq!((sender.dropped_total(), receiver.dropped_total()), (3, 3));
        let mut batch = Vec::new();
        assert_eq!(receiver.drain(&mut batch, 1), 1);
        assert_eq!(receiver.drain(&mut batch, 10), 1);
        let ids: Vec<_> = batch.iter().map(|event| event.id.as_u128()).collect();
        assert_eq!(ids, [0, 1]);
        assert!(receiver.try_next().is_none());
    }

    #[test]
    fn a_sleeper_is_woken_by_what_comes_and_not_by_the_clock() {
        let (sender, mut receiver) = event_pipe(4);
        let receiver = std::thread::spawn(move || {
            let mut came = receiver.try_next();
            while came.is_none() {
                // Longer than any test may take: only the sender can end it in time.
                receiver.wait(Duration::from_secs(3_600));
                came = receiver.try_next();
            }
            came.map(|event: InvocationEvent| event.id.as_u128())
        });
        std::thread::sleep(Duration::from_millis(20));
        sender.record(event(7));
        assert_eq!(receiver.join().unwrap(), Some(7));
    }

    #[test]
    fn many_senders_lose_nothing_that_is_not_counted() {
        let (sender, mut receiver) = event_pipe(64);
        let mut received = 0;
        std::thread::scope(|scope| {
            let senders: Vec<_> = (0..4)
                .map(|_| scope.spawn(|| (0..1000).for_each(|number| sender.clone().record(event(number)))))
                .collect();
            while senders.iter().any(|sender| !sender.is_finished()) {
                received += u64::from(receiver.try_next().is_some());
            }
        });
        while receiver.try_next().is_some() {
            received += 1;
        }
        assert_eq!(received + receiver.dropped_total(), 4000);
    }
}
