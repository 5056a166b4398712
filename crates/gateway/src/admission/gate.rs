//! A counting semaphore with a bounded FIFO queue, whose uncontended path is a few atomics.
//!
//! Invariants: `in_use` never grows beyond `limit` (it may be above it after the limit was lowered);
//! a slot is never free while somebody waits. The second one rests on an order that both sides keep:
//! who waits first announces itself in `waiting`, then looks for a free slot; who leaves first frees
//! the slot, then looks at `waiting`. Both pairs are sequentially consistent, so one of them sees the other.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;

pub(crate) struct Gate {
    in_use: AtomicUsize,
    limit: AtomicUsize,
    queue_max: AtomicUsize,
    waiting: AtomicUsize,
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    next_ticket: u64,
    /// Who waits, in order. A waiter whose ticket is gone has been given a slot.
    waiters: BTreeMap<u64, Waker>,
}

/// One of the places behind a gate; dropping it lets the next in.
pub(crate) struct Slot {
    gate: Arc<Gate>,
}

/// There is no room to wait.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct QueueFull;

/// Waits for a slot. Dropping it frees its place in the queue.
pub(crate) struct Enter {
    gate: Arc<Gate>,
    state: EnterState,
}

enum EnterState {
    New,
    Queued(u64),
    Done,
}

impl Gate {
    pub(crate) fn new(limit: usize, queue_max: usize) -> Arc<Self> {
        Arc::new(Self {
            in_use: AtomicUsize::new(0),
            limit: AtomicUsize::new(limit),
            queue_max: AtomicUsize::new(queue_max),
            waiting: AtomicUsize::new(0),
            queue: Mutex::new(Queue::default()),
        })
    }

    pub(crate) fn set_limits(&self, limit: usize, queue_max: usize) {
        self.queue_max.store(queue_max, Ordering::SeqCst);
        self.limit.store(limit, Ordering::SeqCst);
        self.let_in();
    }

    pub(crate) fn in_use(&self) -> usize {
        self.in_use.load(Ordering::Relaxed)
    }

    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// A slot if one is free and nobody waits for it.
    pub(crate) fn try_enter(self: &Arc<Self>) -> Option<Slot> {
        (self.waiting.load(Ordering::SeqCst) == 0 && self.take()).then(|| Slot { gate: Arc::clone(self) })
    }

    /// A slot, after those who came earlier have had theirs.
    pub(crate) fn enter(self: &Arc<Self>) -> Enter {
        Enter { gate: Arc::clone(self), state: EnterState::New }
    }

    fn take(&self) -> bool {
        let limit = self.limit.load(Ordering::SeqCst);
        let one_more = |in_use: usize| (in_use < limit).then_some(in_use + 1);
        self.in_use.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_more).is_ok()
    }

    fn leave(&self) {
        self.in_use.fetch_sub(1, Ordering::SeqCst);
        if self.waiting.load(Ordering::SeqCst) > 0 {
            self.let_in();
        }
    }

    /// Gives free slots to those who wait, the first first. Wakes without holding the lock.
    fn let_in(&self) {
        while let Some(waker) = self.let_one_in(&mut self.queue.lock()) {
            waker.wake();
        }
    }

    fn let_one_in(&self, queue: &mut Queue) -> Option<Waker> {
        let first = queue.waiters.first_entry()?;
        if !self.take() {
            return None;
        }
        let waker = first.remove();
        self.waiting.store(queue.waiters.len(), Ordering::SeqCst);
        Some(waker)
    }

    fn join_queue(&self, waker: &Waker) -> Result<u64, QueueFull> {
        let mut queue = self.queue.lock();
        // Nobody waits although a slot is free: a queue of zero length must not refuse then.
        let room = queue.waiters.len() < self.queue_max.load(Ordering::SeqCst);
        let free = queue.waiters.is_empty() && self.in_use.load(Ordering::SeqCst) < self.limit.load(Ordering::SeqCst);
        if !room && !free {
            return Err(QueueFull);
        }
        let ticket = queue.next_ticket;
        queue.next_ticket += 1;
        queue.waiters.insert(ticket, waker.clone());
        self.waiting.store(queue.waiters.len(), Ordering::SeqCst);
        Ok(ticket)
    }

    /// Whether the waiter with `ticket` has been given a slot; if not, `waker` is told when it is.
    fn has_slot(&self, ticket: u64, waker: &Waker) -> bool {
        match self.queue.lock().waiters.get_mut(&ticket) {
            None => true,
            Some(own) => {
                own.clone_from(waker);
                false
            }
        }
    }

    fn leave_queue(&self, ticket: u64) {
        let mut queue = self.queue.lock();
        let was_waiting = queue.waiters.remove(&ticket).is_some();
        self.waiting.store(queue.waiters.len(), Ordering::SeqCst);
        drop(queue);
        if !was_waiting {
            self.leave();
        }
    }
}

impl Future for Enter {
    type Output = Result<Slot, QueueFull>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let ticket = match self.state {
            EnterState::New => match self.gate.join_queue(context.waker()) {
                Ok(ticket) => {
                    self.state = EnterState::Queued(ticket);
                    self.gate.let_in();
                    ticket
                }
                Err(QueueFull) => {
                    self.state = EnterState::Done;
                    return Poll::Ready(Err(QueueFull));
                }
            },
            EnterState::Queued(ticket) => ticket,
            EnterState::Done => return Poll::Pending,
        };
        if !self.gate.has_slot(ticket, context.waker()) {
            return Poll::Pending;
        }
        self.state = EnterState::Done;
        Poll::Ready(Ok(Slot { gate: Arc::clone(&self.gate) }))
    }
}

impl Drop for Enter {
    fn drop(&mut self) {
        match self.state {
            EnterState::Queued(ticket) => self.gate.leave_queue(ticket),
            EnterState::New | EnterState::Done => {}
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.gate.leave();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use futures::task::noop_waker;
    use proptest::prelude::*;

    use super::*;

    /// Polls once; a future that has not been polled is not in the queue yet.
    fn poll(enter: &mut Enter) -> Poll<Result<Slot, QueueFull>> {
        Pin::new(enter).poll(&mut Context::from_waker(&noop_waker()))
    }

    #[derive(Clone, Debug)]
    enum Step {
        Arrive,
        Leave(usize),
        GiveUp(usize),
        SetLimits(usize, usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => Just(Step::Arrive),
            3 => any::<usize>().prop_map(Step::Leave),
            2 => any::<usize>().prop_map(Step::GiveUp),
            1 => (0..4usize, 0..4usize).prop_map(|(limit, queue)| Step::SetLimits(limit, queue)),
        ]
    }

    /// The same in the plainest form: a set of those inside, a line of those waiting.
    #[derive(Default)]
    struct Model {
        limit: usize,
        queue_max: usize,
        inside: Vec<u32>,
        line: VecDeque<u32>,
    }

    impl Model {
        fn arrive(&mut self, who: u32) -> bool {
            let free = self.line.is_empty() && self.inside.len() < self.limit;
            if !free && self.line.len() >= self.queue_max {
                return false;
            }
            self.line.push_back(who);
            self.advance();
            true
        }

        fn advance(&mut self) {
            while self.inside.len() < self.limit {
                let Some(first) = self.line.pop_front() else { return };
                self.inside.push(first);
            }
        }
    }

    proptest! {
        #[test]
        fn behaves_as_the_plain_model(steps in prop::collection::vec(step(), 0..60)) {
            let gate = Gate::new(2, 2);
            let mut model = Model { limit: 2, queue_max: 2, ..Model::default() };
            let mut inside: Vec<(u32, Slot)> = Vec::new();
            let mut line: Vec<(u32, Enter)> = Vec::new();
            for (who, step) in (0u32..).zip(steps) {
                match step {
                    Step::Arrive => {
                        let mut enter = gate.enter();
                        let expected = model.arrive(who);
                        match poll(&mut enter) {
                            Poll::Ready(Ok(slot)) => inside.push((who, slot)),
                            Poll::Ready(Err(QueueFull)) => prop_assert!(!expected),
                            Poll::Pending => line.push((who, enter)),
                        }
                    }
                    Step::Leave(index) if !inside.is_empty() => {
                        let (who, _slot) = inside.swap_remove(index % inside.len());
                        model.inside.retain(|other| *other != who);
                        model.advance();
                    }
                    Step::GiveUp(index) if !line.is_empty() => {
                        let (who, _enter) = line.remove(index % line.len());
                        model.line.retain(|other| *other != who);
                    }
                    Step::SetLimits(limit, queue_max) => {
                        gate.set_limits(limit, queue_max);
                        (model.limit, model.queue_max) = (limit, queue_max);
                        model.advance();
                    }
                    Step::Leave(_) | Step::GiveUp(_) => {}
                }
                let mut still = Vec::new();
                for (who, mut enter) in line {
                    match poll(&mut enter) {
                        Poll::Ready(slot) => inside.push((who, slot.unwrap())),
                        Poll::Pending => still.push((who, enter)),
                    }
                }
                line = still;
                let mut got: Vec<u32> = inside.iter().map(|(who, _)| *who).collect();
                got.sort_unstable();
                model.inside.sort_unstable();
                prop_assert_eq!(&got, &model.inside);
                prop_assert_eq!(line.iter().map(|(who, _)| *who).collect::<VecDeque<_>>(), model.line.clone());
                prop_assert_eq!((gate.in_use(), gate.waiting()), (inside.len(), line.len()));
            }
        }
    }

    #[test]
    fn a_slot_given_to_someone_who_left_goes_on_to_the_next() {
        let gate = Gate::new(1, 2);
        let held = gate.try_enter().unwrap();
        let (mut first, mut second) = (gate.enter(), gate.enter());
        assert!(poll(&mut first).is_pending() && poll(&mut second).is_pending());
        drop(held);
        drop(first);
        assert!(matches!(poll(&mut second), Poll::Ready(Ok(_))));
    }

    #[test]
    fn many_threads_never_exceed_the_limit_and_all_get_in() {
        let gate = Gate::new(3, 1000);
        let served = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        let slot =
                            gate.try_enter().unwrap_or_else(|| futures::executor::block_on(gate.enter()).unwrap());
                        assert!(gate.in_use() <= 3);
                        served.fetch_add(1, Ordering::Relaxed);
                        drop(slot);
                    }
                });
            }
        });
        assert_eq!(served.load(Ordering::Relaxed), 1600);
        assert_eq!((gate.in_use(), gate.waiting()), (0, 0));
    }
}
