//! Live figures of the request path, for metrics. Relaxed atomics: each is right, together they are a blink apart.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::problem::Refusal;

/// The figures at one moment; those ending in `_total` only ever grow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayCounters {
    /// Invocations under way.
    pub in_flight: usize,
    /// Requests that wait for a place on the node. Those that wait for a function are at its `Admission`.
    pub queued_node: usize,
    /// Open connections.
    pub connections: usize,
    /// Connections accepted.
    pub connections_total: u64,
    /// Times the accept loop stopped because `connections_max` were open.
    pub connections_full_total: u64,
    /// Failed accepts: out of file descriptors, mostly.
    pub accept_errors_total: u64,
    /// TLS handshakes that failed or took too long.
    pub handshake_failures_total: u64,
    /// Connections closed because they were idle.
    pub closed_idle_total: u64,
    /// Connections closed because a request's head did not arrive in time.
    pub closed_slow_head_total: u64,
    /// Connections closed because a client did not take its answer in time.
    pub closed_slow_reader_total: u64,
    /// Requests read, internal calls included.
    pub requests_total: u64,
    /// Answers the gateway gave itself, by reason.
    pub refused_total: [(Refusal, u64); Refusal::ALL.len()],
}

#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) connections: AtomicU64,
    pub(crate) connections_full: AtomicU64,
    pub(crate) accept_errors: AtomicU64,
    pub(crate) handshake_failures: AtomicU64,
    pub(crate) closed_idle: AtomicU64,
    pub(crate) closed_slow_head: AtomicU64,
    pub(crate) closed_slow_reader: AtomicU64,
    pub(crate) requests: AtomicU64,
    pub(crate) refused: [AtomicU64; Refusal::ALL.len()],
}

pub(crate) fn count_of(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}
