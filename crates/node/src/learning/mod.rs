//! The slow loop: what the node learns from its requests, and what it makes ready because of it.
//!
//! ```text
//! arrivals ─► expectations (predict: next call, when; threshold) ─► what is due now ─► slow_loop ─► VMs held ready
//!                 ▲            ▲                                        ▲                  (Program::hold_ready)
//!               costs       pressure                                 verdict
//!      (measured per function)  (prices)              (ready against control: keep or give up)
//! ```
//!
//! It runs on a thread of its own and touches the request path in two places: it reads arrivals and events from
//! bounded pipes, and it asks programs to hold VMs ready. Late, wrong or dead, it changes how fast a request is served
//! and never what is answered. What it has learnt is kept on disk (`memory`) and believed after a check.

mod costs;
mod expectations;
mod memory;
mod pressure;
mod slow_loop;
mod standing;
mod verdict;

pub(crate) use costs::{CostSink, Costs};
pub(crate) use slow_loop::{Learning, LearningParts};
