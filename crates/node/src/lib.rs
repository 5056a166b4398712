//! The composition root: everything a node is made of, wired in the order in which a request meets it.
//!
//! [`Node::build`] wires, [`Node::run`] serves until it is told to stop. `functions` is the one place
//! where what is deployed changes: store, driver and gateway are kept in step there. `admin` is the
//! HTTP API over it, `dashboard` the page over that. `workshop` has machine code made by `worker`, in a process
//! of its own. `learning` is the slow loop: it learns from requests and has VMs made ready ahead of them. `paths` learns
//! which code of a function runs, and `splitting` has images made of just that. `verify` says whether a specialized program answers as the whole one does. Nothing here
//! is on the path of a request.

mod admin;
mod ahead;
mod background;
mod build;
mod dashboard;
mod figures;
mod functions;
mod learning;
mod loading;
mod paths;
mod pending;
mod run;
mod settings;
mod splitting;
pub mod verify;
mod vms;
mod worker;
mod workshop;

pub use build::{Node, NodeError};
pub use forerun_store::make_data_directory as make_data_folder;
pub use functions::{Change, DeployFailure, FunctionState, FunctionView, Functions, Source, Wanted};
pub use learning::rehearsal::{RecordedCall, Rehearsal, Rehearsed, Rule};
pub use settings::{LearningSettings, NodeSettings};
pub use vms::{RefusalView, VmsView};
pub use worker::work;

/// Whether this machine offers what rolling used VMs back needs.
///
/// # Errors
/// What is missing, as a clause.
pub fn rollback_support() -> Result<(), String> {
    forerun_runtime::WasmDriver::rollback_support()
}
