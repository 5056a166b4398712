//! What all requests share: settings, the published routes, the node's gate, counters and the event pipe.
//!
//! State only; the order in which a request uses it is in `serve`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use arc_swap::ArcSwap;
use forerun_telemetry::{Announced, EventSender};

use crate::admission::Gate;
use crate::connection::Connections;
use crate::counters::{Counters, GatewayCounters, count_of};
use crate::problem::Refusal;
use crate::routes::RouteTable;
use crate::sessions::Sessions;
use crate::settings::GatewaySettings;

pub(crate) struct Core {
    pub(crate) settings: GatewaySettings,
    pub(crate) routes: ArcSwap<RouteTable>,
    pub(crate) node_gate: Arc<Gate>,
    pub(crate) connections: Connections,
    pub(crate) counters: Counters,
    pub(crate) events: EventSender,
    /// Where those who predict hear of requests as they come; nobody may want to.
    pub(crate) arrivals: Option<EventSender<Announced>>,
    /// Whether they want to, at the moment.
    announce: AtomicBool,
    pub(crate) sessions: Sessions,
    pub(crate) draining: AtomicBool,
    /// Deadlines that are compared on every poll are milliseconds since this moment.
    start: Instant,
}

impl Core {
    pub(crate) fn new(
        settings: GatewaySettings,
        events: EventSender,
        arrivals: Option<EventSender<Announced>>,
    ) -> Self {
        Self {
            node_gate: Gate::new(settings.concurrency_max, settings.queue_max),
            connections: Connections::new(settings.connections_max),
            routes: ArcSwap::from_pointee(RouteTable::default()),
            counters: Counters::default(),
            events,
            arrivals,
            announce: AtomicBool::new(true),
            sessions: Sessions::new(settings.session.clone()),
            draining: AtomicBool::new(false),
            start: Instant::now(),
            settings,
        }
    }

    pub(crate) fn announces(&self) -> bool {
        self.announce.load(Ordering::Relaxed)
    }

    pub(crate) fn set_announce(&self, announce: bool) {
        self.announce.store(announce, Ordering::Relaxed);
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    pub(crate) fn millis(&self, moment: Instant) -> u64 {
        u64::try_from(moment.saturating_duration_since(self.start).as_millis()).unwrap_or(u64::MAX)
    }

    pub(crate) fn moment(&self, millis: u64) -> Instant {
        self.start + std::time::Duration::from_millis(millis)
    }

    pub(crate) fn count(&self, counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn snapshot(&self) -> GatewayCounters {
        let counters = &self.counters;
        GatewayCounters {
            in_flight: self.node_gate.in_use(),
            queued_node: self.node_gate.waiting(),
            connections: self.connections.len(),
            connections_total: count_of(&counters.connections),
            connections_full_total: count_of(&counters.connections_full),
            accept_errors_total: count_of(&counters.accept_errors),
            handshake_failures_total: count_of(&counters.handshake_failures),
            closed_idle_total: count_of(&counters.closed_idle),
            closed_slow_head_total: count_of(&counters.closed_slow_head),
            closed_slow_reader_total: count_of(&counters.closed_slow_reader),
            requests_total: count_of(&counters.requests),
            refused_total: Refusal::ALL.map(|refusal| (refusal, count_of(&counters.refused[refusal as usize]))),
        }
    }
}
