//! The request path: listen, route, admit, invoke, answer.
//!
//! ```text
//! listener ─► connection ─► serve ─┬─► routes      which function
//!                                  ├─► admission   whether now
//!                                  ├─► Program     the driver's
//!                                  └─► record ──► event pipe
//! outbound ──► serve (functions of this node) or the network (allowed hosts)
//! ```
//! The gateway knows hyper and the driver contract. It does not know what a VM is made of, learns
//! nothing, predicts nothing, reads no configuration and writes no file.

mod admission;
mod connection;
mod core;
mod counters;
mod gateway;
mod ids;
mod listener;
mod outbound;
mod problem;
mod record;
mod routes;
mod serve;
mod sessions;
mod settings;
#[cfg(test)]
mod testing;
mod tls;

pub use admission::Admission;
pub use counters::GatewayCounters;
pub use gateway::{BoundAddress, DrainReport, Gateway, UnknownFunction};
pub use listener::BindError;
pub use outbound::{DEPTH_MAX, OutboundSetupError};
pub use problem::Refusal;
pub use routes::{FunctionEntry, RouteConflict, RouteTable};
pub use settings::{CertificateFiles, GatewaySettings, OutboundSettings};
pub use tls::CertificateError;
