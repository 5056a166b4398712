//! What a node answers, as far as it is shown to people.
//!
//! Only the fields that are shown, and unknown ones are passed over, so that a newer node can still be talked to.
//! Programs get the node's own JSON with `--json`.

use serde::Deserialize;

/// A problem document.
#[derive(Debug, Deserialize)]
pub(super) struct Problem {
    /// For people.
    pub(super) detail: String,
    /// For programs.
    pub(super) reason: String,
}

/// The node itself.
#[derive(Debug, Deserialize)]
pub(super) struct Status {
    /// Of the binary.
    pub(super) version: String,
    /// Since its start.
    pub(super) uptime_ms: u64,
    /// For requests, as URLs.
    pub(super) addresses: Vec<String>,
}

/// A function.
#[derive(Debug, Deserialize)]
pub(super) struct Function {
    /// What was asked for.
    pub(super) spec: Spec,
    /// The active revision.
    pub(super) revision: u32,
    /// `loading`, `ready` or `failed`.
    pub(super) state: String,
    /// Why it failed.
    #[serde(default)]
    pub(super) reason: String,
    /// What it implements.
    #[serde(default)]
    pub(super) world: String,
    /// Machine code and data.
    #[serde(default)]
    pub(super) code_bytes: u64,
    /// Invocations under way.
    #[serde(default)]
    pub(super) in_flight: u64,
    /// What becomes of its VMs when they have served.
    #[serde(default)]
    pub(super) vms: Vms,
}

/// What becomes of a function's VMs when they have served.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Vms {
    /// `fresh`, `rollback`, `warm` or `reuse`; empty while loading.
    #[serde(default)]
    pub(super) policy: String,
    /// Why they are not rolled back though that was asked for.
    #[serde(default)]
    pub(super) refusal: Option<Refusal>,
    /// Why they are not put back to the warm state though that was asked for.
    #[serde(default)]
    pub(super) not_warm: Option<Refusal>,
    /// Why new VMs are warmed up one by one though a copy of the warm state would do.
    #[serde(default)]
    pub(super) no_copy: Option<Refusal>,
}

/// Why VMs are not rolled back.
#[derive(Debug, Deserialize)]
pub(super) struct Refusal {
    /// A line for people.
    pub(super) detail: String,
}

/// What was asked for.
#[derive(Debug, Deserialize)]
pub(super) struct Spec {
    /// The function's name.
    pub(super) name: String,
    /// Its application; may be empty.
    #[serde(default)]
    pub(super) app: String,
    /// Where it answers.
    #[serde(default)]
    pub(super) routes: Vec<String>,
}

/// What came of a deployment or a rollback.
#[derive(Debug, Deserialize)]
pub(super) struct Change {
    /// The function.
    pub(super) name: String,
    /// What serves now.
    pub(super) revision: u32,
    /// Whether it did before.
    pub(super) changed: bool,
    /// What it implements; empty if unchanged.
    #[serde(default)]
    pub(super) world: String,
    /// Of the compiler; 0 if unchanged.
    #[serde(default)]
    pub(super) compile_ms: u64,
}

/// A revision.
#[derive(Debug, Deserialize)]
pub(super) struct Revision {
    /// Its number.
    pub(super) revision: u32,
    /// Whether it serves.
    pub(super) active: bool,
    /// Of its component.
    pub(super) digest: String,
    /// When it was made.
    pub(super) created_unix_ms: u64,
    /// What was asked for.
    pub(super) spec: Spec,
}

/// The machine code that is kept, and what went.
#[derive(Debug, Deserialize)]
pub(super) struct Images {
    /// What is there, being made or in trouble.
    pub(super) images: Vec<Image>,
    /// Images of just the code that requests run, by function; an older node has none.
    #[serde(default)]
    pub(super) split: Vec<SplitImage>,
    /// How VMs are run, by function; an older node says nothing of it.
    #[serde(default)]
    pub(super) vms: Vec<VmParameters>,
    /// What went, the latest last.
    pub(super) gone: Vec<GoneImage>,
}

/// What has become of a function's image of just the code that its requests run.
#[derive(Debug, Deserialize)]
pub(super) struct SplitImage {
    /// The function.
    pub(super) functions: Vec<String>,
    /// `learning`, `serving`, ...
    pub(super) state: String,
    /// More of it.
    pub(super) line: String,
}

/// How VMs of a function's images are run.
#[derive(Debug, Deserialize)]
pub(super) struct VmParameters {
    /// The function.
    pub(super) functions: Vec<String>,
    /// What becomes of them when they have served.
    pub(super) policy: String,
    /// Memory one may have.
    pub(super) memory_bytes_max: u64,
    /// Room in its memory that requests need not have it grow for.
    pub(super) room_bytes: u64,
    /// Memory that one made ready has for itself.
    pub(super) resident_bytes: u64,
    /// Time for one request.
    pub(super) time_ms_max: u64,
    /// Processors it runs on; none for any.
    pub(super) cpus: Vec<u16>,
    /// How many are ready.
    pub(super) ready: u64,
    /// Groups of code that was left out of an image that one may load.
    pub(super) cold_groups_max: u64,
}

/// One piece of machine code.
#[derive(Debug, Deserialize)]
pub(super) struct Image {
    /// What it was made from.
    pub(super) component: String,
    /// Whose active revision that is.
    #[serde(default)]
    pub(super) functions: Vec<String>,
    /// How it was made; none while there is no file.
    #[serde(default)]
    pub(super) kind: Option<String>,
    /// What its component went through before.
    #[serde(default)]
    pub(super) passes: Vec<ImagePass>,
    /// `stored`, `loaded`, `building`, ...
    pub(super) state: String,
    /// Of its file.
    pub(super) bytes: u64,
    /// Time that making it took.
    #[serde(default)]
    pub(super) build_ms: Option<u64>,
    /// Since its build began.
    #[serde(default)]
    pub(super) age_ms: u64,
    /// Times it was given out.
    #[serde(default)]
    pub(super) hits: u64,
    /// Looks for any image since then.
    #[serde(default)]
    pub(super) uses_since: Option<u64>,
    /// Programs that run from it.
    #[serde(default)]
    pub(super) in_use: u64,
    /// Milliseconds it saves, a byte.
    #[serde(default)]
    pub(super) value_ms_per_byte: f64,
    /// Why it is not here, or what the last failure was.
    #[serde(default)]
    pub(super) why: Option<String>,
}

/// What came of one pass over a component.
#[derive(Debug, Deserialize)]
pub(super) struct ImagePass {
    /// Its name.
    pub(super) pass: String,
    /// Whether it changed the component.
    pub(super) applied: bool,
    /// What it did, or why it did not.
    #[serde(default)]
    pub(super) detail: String,
}

/// One that went.
#[derive(Debug, Deserialize)]
pub(super) struct GoneImage {
    /// What it was.
    pub(super) key: GoneKey,
    /// Whose active revision its component is.
    #[serde(default)]
    pub(super) functions: Vec<String>,
    /// When.
    pub(super) at_unix_ms: u64,
    /// Of its file.
    pub(super) bytes: u64,
    /// Why, for people.
    #[serde(default)]
    pub(super) why: String,
}

/// What an image was made of, as far as it is shown.
#[derive(Debug, Deserialize)]
pub(super) struct GoneKey {
    /// What it was made from.
    pub(super) component: String,
}

impl Spec {
    /// Its routes for a table.
    pub(super) fn routes(&self) -> String {
        if self.routes.is_empty() { "(internal)".to_owned() } else { self.routes.join(" ") }
    }
}
