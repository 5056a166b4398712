//! Logs, metrics, invocation events and their export.
//!
//! The request path only ever calls [`EventSender::record`], which never blocks.

pub mod event;
pub mod pipe;

pub use event::{InvocationEvent, Phases, RequestClass};
pub use pipe::{EventReceiver, EventSender, event_pipe};
