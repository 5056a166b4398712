//! Logs, metrics, invocation events and their export.
//!
//! ```text
//! request path ──record──► pipe ──► writer thread ──► metrics ──► /metrics
//!                (lossy, counted)                ├──► recent invocations
//!                                                ├──► OTLP ──► collector
//!                                                └──► detached sink ──► history (in the store)
//!              ──record──► pipe of arrivals ──► whoever predicts
//! guests ──────────write─► queue ─► log thread ────► logs/<function>.log, followers
//! ```
//!
//! The request path only ever calls [`EventSender::record`] and
//! [`GuestLog::write`](forerun_driver::GuestLog::write), which never block. What is lost is counted and shown.

pub mod arrivals;
pub mod detached;
pub mod event;
pub mod guest_logs;
pub mod logging;
pub mod metrics;
pub mod otlp;
pub mod pipe;
pub mod priority;
pub mod recent;
pub mod writer;

pub use arrivals::{Announced, ArrivalTally};
pub use detached::{Detached, DetachedCounts};
pub use event::{Arrival, CallingInvocation, InvocationEvent, Phases, RequestClass};
pub use guest_logs::{Followed, GuestLogSettings, GuestLogs, LogFollower};
pub use logging::{LogFormat, LoggingError, set_up_logging};
pub use metrics::{Live, Metrics, metric_names};
pub use otlp::{Otlp, OtlpCounts, OtlpError, OtlpSettings};
pub use pipe::{EVENT_PIPE_CAPACITY, EventReceiver, EventSender, event_pipe};
pub use priority::stand_back;
pub use recent::{RecentInvocations, Visited};
pub use writer::{EventSink, EventWriter};
