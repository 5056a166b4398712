//! Who may start now: one gate per function and one for the node, each a concurrency limit with a bounded FIFO queue.
//!
//! ```text
//!                 full                          full
//!        ┌──► 429 function_queue_full    ┌──► 503 node_queue_full
//! arrive ┴─► function's gate ────────────┴─► node's gate ─────► permit ──► released at the invocation's end
//!             └── too long: 503 queue_timeout ──┘
//! ```
//! Leaving while waiting (the client is gone) frees the place. A caller keeps its permit while it waits
//! for a function it called, so a cycle of calls at the limit ends by the queue's time-out, not never.

mod gate;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use forerun_driver::to_the_end_of_the_queue;
use forerun_types::FunctionLimits;

pub(crate) use gate::{Gate, QueueFull, Slot};

use crate::problem::Refusal;

/// The gate of one function; it outlives revisions, so that a redeploy does not double the concurrency.
pub struct Admission {
    gate: Arc<Gate>,
    queue_timeout_ms: AtomicU64,
}

/// The right to run one invocation; dropping it lets the next one in.
pub(crate) struct Permit {
    _function: Slot,
    _node: Slot,
}

impl Admission {
    /// A gate with the limits of `limits`.
    pub fn new(limits: &FunctionLimits) -> Self {
        Self {
            gate: Gate::new(limits.concurrency_max as usize, limits.queue_max as usize),
            queue_timeout_ms: AtomicU64::new(limits.queue_timeout_ms),
        }
    }

    /// Takes over changed limits; invocations under way are not touched.
    pub fn set_limits(&self, limits: &FunctionLimits) {
        self.queue_timeout_ms.store(limits.queue_timeout_ms, Ordering::Relaxed);
        self.gate.set_limits(limits.concurrency_max as usize, limits.queue_max as usize);
    }

    /// Invocations under way.
    pub fn in_flight(&self) -> usize {
        self.gate.in_use()
    }

    /// Requests that wait.
    pub fn queued(&self) -> usize {
        self.gate.waiting()
    }

    /// A permit if one is free at both gates and nobody waits. Atomics only.
    pub(crate) fn try_admit(&self, node: &Arc<Gate>) -> Option<Permit> {
        Some(Permit { _function: self.gate.try_enter()?, _node: node.try_enter()? })
    }

    /// A permit, after waiting for one.
    pub(crate) async fn admit(&self, node: &Arc<Gate>) -> Result<Permit, Refusal> {
        let limit = Duration::from_millis(self.queue_timeout_ms.load(Ordering::Relaxed));
        let admitted =
            tokio::time::timeout(limit, self.wait(node)).await.map_err(|_elapsed| Refusal::QueueTimeout)??;
        // Who is woken by a request that ends runs next. So would the one behind it, and guests that have let others run would wait
        // for as long as there is a queue (at twice of what two processors can do, 12 s instead of 5 at the 99th percentile).
        to_the_end_of_the_queue().await;
        Ok(admitted)
    }

    async fn wait(&self, node: &Arc<Gate>) -> Result<Permit, Refusal> {
        let function = self.gate.enter().await.map_err(|QueueFull| Refusal::FunctionQueueFull)?;
        let node = node.enter().await.map_err(|QueueFull| Refusal::NodeQueueFull)?;
        Ok(Permit { _function: function, _node: node })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admission(concurrency_max: u32, queue_max: u32, queue_timeout_ms: u64) -> Admission {
        let limits = FunctionLimits { concurrency_max, queue_max, queue_timeout_ms, ..FunctionLimits::default() };
        Admission::new(&limits)
    }

    #[tokio::test(start_paused = true)]
    async fn refuses_by_the_gate_that_is_full() {
        let node = Gate::new(2, 0);
        let one = admission(1, 0, 1000);
        let held = one.admit(&node).await.unwrap();
        assert_eq!(one.admit(&node).await.err(), Some(Refusal::FunctionQueueFull));
        let other = admission(5, 5, 1000);
        let _also = other.try_admit(&node).unwrap();
        assert!(other.try_admit(&node).is_none());
        assert_eq!(other.admit(&node).await.err(), Some(Refusal::NodeQueueFull));
        assert_eq!(other.in_flight(), 1, "the function's slot is given back when the node is full");
        drop(held);
        assert!(one.try_admit(&node).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn waits_no_longer_than_allowed() {
        let node = Gate::new(10, 10);
        let one = admission(1, 1, 1000);
        let _held = one.try_admit(&node).unwrap();
        assert_eq!(one.admit(&node).await.err(), Some(Refusal::QueueTimeout));
        assert_eq!((one.in_flight(), one.queued()), (1, 0));
    }
}
