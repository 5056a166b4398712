//! Who may run a worker now: a bounded number at once, a bounded number waiting, first come first served.

use std::collections::VecDeque;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

/// How often a waiting job looks whether it was cancelled.
const CANCEL_CHECK: Duration = Duration::from_millis(50);

/// The turns of one supervisor.
#[derive(Debug)]
pub(super) struct Turns {
    at_once_max: usize,
    waiting_max: usize,
    queue: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    running: usize,
    waiting: VecDeque<u64>,
    next_ticket: u64,
}

/// A place in the queue. It must be waited with; only `Turns::wait` takes it back.
#[derive(Debug)]
pub(super) struct Ticket(u64);

/// Held while a worker runs.
#[derive(Debug)]
pub(super) struct Turn<'a>(&'a Turns);

impl Turns {
    pub(super) fn new(at_once_max: usize, waiting_max: usize) -> Self {
        Self { at_once_max, waiting_max, queue: Mutex::default(), changed: Condvar::new() }
    }

    /// A place at the end of the queue; `None` if it is full. Whoever can run at once does not count as waiting.
    pub(super) fn register(&self) -> Option<Ticket> {
        let mut queue = self.queue.lock();
        let free = self.at_once_max.saturating_sub(queue.running);
        if queue.waiting.len() >= self.waiting_max.saturating_add(free) {
            return None;
        }
        let ticket = queue.next_ticket;
        queue.next_ticket += 1;
        queue.waiting.push_back(ticket);
        Some(Ticket(ticket))
    }

    /// Waits for the turn of `ticket`; `None` if it was cancelled first.
    #[expect(clippy::needless_pass_by_value, reason = "a ticket is used up")]
    pub(super) fn wait(&self, ticket: Ticket, is_cancelled: impl Fn() -> bool) -> Option<Turn<'_>> {
        let mut queue = self.queue.lock();
        loop {
            if is_cancelled() {
                queue.waiting.retain(|waiting| *waiting != ticket.0);
                self.changed.notify_all();
                return None;
            }
            if queue.waiting.front() == Some(&ticket.0) && queue.running < self.at_once_max {
                queue.waiting.pop_front();
                queue.running += 1;
                self.changed.notify_all();
                return Some(Turn(self));
            }
            self.changed.wait_for(&mut queue, CANCEL_CHECK);
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.queue.lock().running -= 1;
        self.0.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_queue_is_bounded_and_in_order() {
        let turns = Turns::new(1, 1);
        let first = turns.register().unwrap();
        let second = turns.register().unwrap();
        assert!(turns.register().is_none(), "one may run and one may wait");
        let turn = turns.wait(first, || false).unwrap();
        assert!(turns.register().is_none(), "one runs and one waits");
        drop(turn);
        let turn = turns.wait(second, || false).unwrap();
        assert!(turns.register().is_some());
        drop(turn);
    }

    #[test]
    fn a_cancelled_ticket_leaves_the_queue() {
        let turns = Turns::new(1, 1);
        let (first, second) = (turns.register().unwrap(), turns.register().unwrap());
        assert!(turns.wait(first, || true).is_none());
        assert!(turns.wait(second, || false).is_some());
    }
}
