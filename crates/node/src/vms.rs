//! What becomes of a function's VMs when they have served, as the admin API shows it.

use std::collections::BTreeMap;

use forerun_driver::IsolationReport;
use serde::Serialize;

/// What becomes of a function's VMs when they have served.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct VmsView {
    /// `fresh`, `rollback` or `reuse`; empty while the function is being loaded.
    pub policy: &'static str,
    /// Why they are not rolled back though the policy asks for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refusal: Option<RefusalView>,
    /// Room made in the memory of new VMs, so that requests need not have it grow, in bytes.
    pub room_bytes: u32,
    /// Why that is no more though it would be of use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub no_room: Option<RefusalView>,
    /// VMs that wait for another request.
    pub idle: u32,
    /// Memory they hold, in bytes.
    pub idle_bytes: u64,
    /// VMs put back.
    pub rolled_back: u64,
    /// Memory restored for that, in bytes.
    pub restored_bytes: u64,
    /// VMs thrown away instead, by reason.
    pub discarded: BTreeMap<&'static str, u64>,
}

/// Why something is not done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RefusalView {
    /// Stable label.
    pub reason: &'static str,
    /// A line for people.
    pub detail: String,
}

impl From<IsolationReport> for VmsView {
    fn from(report: IsolationReport) -> Self {
        Self {
            policy: report.policy,
            refusal: report.refusal.map(|why| RefusalView { reason: why.label(), detail: why.to_string() }),
            room_bytes: report.room_bytes,
            no_room: report.no_room.map(|why| RefusalView { reason: why.label(), detail: why.to_string() }),
            idle: report.idle_vms,
            idle_bytes: report.idle_bytes,
            rolled_back: report.rolled_back,
            restored_bytes: report.restored_bytes,
            discarded: report.discarded.into_iter().map(|(why, count)| (why.label(), count)).collect(),
        }
    }
}
