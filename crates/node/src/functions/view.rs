//! What is shown of a function.

use forerun_types::{ComponentDigest, FunctionSpec, RevisionNumber};

use super::Running;
use crate::vms::VmsView;

/// Whether a function can serve.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(tag = "state", content = "reason", rename_all = "snake_case")]
pub enum FunctionState {
    /// It is being compiled after a restart; requests wait.
    Loading,
    /// It serves.
    Ready,
    /// It cannot be loaded on this node; why.
    Failed(String),
}

/// One function, for lists.
#[derive(Clone, Debug, serde::Serialize)]
pub struct FunctionView {
    /// Everything the user asked for.
    pub spec: FunctionSpec,
    /// The active revision.
    pub revision: RevisionNumber,
    /// Its component.
    pub digest: ComponentDigest,
    /// Whether it can serve.
    #[serde(flatten)]
    pub state: FunctionState,
    /// The world it implements; empty while loading.
    pub world: String,
    /// Size of its machine code and data, in bytes.
    pub code_bytes: u64,
    /// Time the compiler needed, in milliseconds.
    pub compile_ms: u64,
    /// Invocations under way.
    pub in_flight: usize,
    /// Requests that wait.
    pub queued: usize,
    /// VMs that are ready for its next requests.
    pub ready: u32,
    /// What becomes of its VMs when they have served.
    pub vms: VmsView,
}

pub(super) fn view(running: &Running) -> FunctionView {
    let facts = running.entry.program.facts();
    FunctionView {
        spec: (*running.entry.spec).clone(),
        revision: running.entry.revision,
        digest: running.digest,
        state: running.state.clone(),
        world: facts.world.clone(),
        code_bytes: facts.code_bytes,
        compile_ms: facts.compile_ms,
        in_flight: running.entry.admission.in_flight(),
        queued: running.entry.admission.queued(),
        ready: running.entry.program.held_ready().vms,
        vms: running.entry.program.isolation().into(),
    }
}
