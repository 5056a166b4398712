//! Every metric there is: name, labels, help. A test holds what is exposed, and dashboards, to this list.
//!
//! Names are `forerun_<what>_<unit>`, with `_total` for counters. Labels take few values: functions are
//! bounded, the rest are closed lists.

/// What kind of metric one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only goes up, from zero at the start of the node.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Observations in buckets.
    Histogram,
    /// Always 1; what it says is in its labels.
    Info,
}

/// One metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Declaration {
    /// Name as it is queried, but for the suffixes of a histogram.
    pub name: &'static str,
    /// Its kind.
    pub kind: Kind,
    /// Its labels.
    pub labels: &'static [&'static str],
    /// One sentence, without a full stop.
    pub help: &'static str,
}

impl Declaration {
    const fn new(kind: Kind, name: &'static str, labels: &'static [&'static str], help: &'static str) -> Self {
        Self { name, kind, labels, help }
    }

    /// The name without the suffix that the format adds to samples.
    pub(super) fn family(&self) -> &'static str {
        let suffix = match self.kind {
            Kind::Counter => "_total",
            Kind::Info => "_info",
            Kind::Gauge | Kind::Histogram => "",
        };
        self.name.strip_suffix(suffix).unwrap_or(self.name)
    }

    /// The names of its samples.
    pub(super) fn names(&self) -> Vec<String> {
        match self.kind {
            Kind::Counter | Kind::Gauge | Kind::Info => vec![self.name.to_owned()],
            Kind::Histogram => ["bucket", "sum", "count"].map(|part| format!("{}_{part}", self.name)).into(),
        }
    }
}

pub(super) const BUILD: Declaration =
    Declaration::new(Kind::Info, "forerun_build_info", &["version"], "Version of the running node");
pub(super) const INVOCATIONS: Declaration = Declaration::new(
    Kind::Counter,
    "forerun_invocations_total",
    &["function", "serve_path", "outcome"],
    "Invocations that have ended, by how they were served and how they ended",
);
pub(super) const DURATION: Declaration = Declaration::new(
    Kind::Histogram,
    "forerun_invocation_duration_seconds",
    &["function"],
    "Time from the head of the request to the end of the response",
);
pub(super) const PHASE: Declaration = Declaration::new(
    Kind::Histogram,
    "forerun_invocation_phase_seconds",
    &["phase", "serve_path"],
    "Time spent in each phase: route, queue, deploy, execute (to the head of the response), stream",
);
pub(super) const REQUEST_BYTES: Declaration =
    Declaration::new(Kind::Counter, "forerun_request_body_bytes_total", &["function"], "Bytes of request bodies");
pub(super) const RESPONSE_BYTES: Declaration =
    Declaration::new(Kind::Counter, "forerun_response_body_bytes_total", &["function"], "Bytes of response bodies");
pub(super) const BUSY: Declaration = Declaration::new(
    Kind::Counter,
    "forerun_guest_busy_seconds_total",
    &["function"],
    "Time guests held a thread, an upper bound of their CPU time",
);
pub(super) const GUEST_MEMORY: Declaration = Declaration::new(
    Kind::Histogram,
    "forerun_guest_memory_peak_bytes",
    &["function"],
    "Most linear memory the VM of an invocation had",
);
pub(super) const IN_FLIGHT: Declaration =
    Declaration::new(Kind::Gauge, "forerun_invocations_in_flight", &["function"], "Invocations at work");
pub(super) const QUEUED: Declaration =
    Declaration::new(Kind::Gauge, "forerun_invocations_queued", &["function"], "Requests that wait for a VM");
pub(super) const CONNECTIONS: Declaration =
    Declaration::new(Kind::Gauge, "forerun_connections_open", &[], "Open connections of clients");
pub(super) const FUNCTIONS: Declaration =
    Declaration::new(Kind::Gauge, "forerun_functions_served", &[], "Functions that are served");
pub(super) const VM_ROLLBACKS: Declaration = Declaration::new(
    Kind::Counter,
    "forerun_vm_rollbacks_total",
    &["function"],
    "VMs put back to the state they were made in after a request, instead of being thrown away",
);
pub(super) const VM_RESTORED_BYTES: Declaration = Declaration::new(
    Kind::Counter,
    "forerun_vm_restored_bytes_total",
    &["function"],
    "Bytes of memory that were copied back to put VMs back",
);
pub(super) const VM_WARM_COPIES: Declaration = Declaration::new(
    Kind::Counter,
    "forerun_vm_warm_copies_total",
    &["function"],
    "New VMs into which the state after the warm-up requests was copied, instead of answering those",
);
pub(super) const VM_DISCARDS: Declaration = Declaration::new(
    Kind::Counter,
    "forerun_vm_discards_total",
    &["function", "reason"],
    "VMs of functions with rollback that were thrown away, by why they were not put back or not kept",
);
pub(super) const REFUSALS: Declaration = Declaration::new(
    Kind::Counter,
    "forerun_requests_refused_total",
    &["reason"],
    "Requests that the node answered itself, by why no function did: no route, no place, no time, a guest that failed",
);
pub(super) const NOT_ROLLED_BACK: Declaration = Declaration::new(
    Kind::Gauge,
    "forerun_functions_not_rolled_back",
    &["reason"],
    "Functions whose VMs are not put back though their policy asks for it, by why",
);
pub(super) const PASS_REFUSALS: Declaration = Declaration::new(
    Kind::Counter,
    "forerun_pass_refusals_total",
    &["pass", "reason"],
    "Components that a pass of the specializer left as they were, by the pass and why; at most 64 pairs, then `other`",
);
pub(super) const UNGUARDED: Declaration = Declaration::new(
    Kind::Counter,
    "forerun_worker_guards_missing_total",
    &["guard"],
    "Workers that did without a part of their sandbox, by that part",
);
pub(super) const GIVEN_UP: Declaration = Declaration::new(
    Kind::Gauge,
    "forerun_functions_given_up",
    &["prepared"],
    "Functions whose prepared VMs served worse than new ones and are left alone, by how they are prepared",
);
pub(super) const SPLIT_STATES: Declaration = Declaration::new(
    Kind::Gauge,
    "forerun_functions_split",
    &["state"],
    "Functions by what has become of an image of just the code that their requests run",
);
pub(super) const EVENTS_DROPPED: Declaration = Declaration::new(
    Kind::Counter,
    "forerun_events_dropped_total",
    &["at"],
    "Invocation events lost because a queue was full: at the pipe, or on the way to one of its readers",
);
pub(super) const LOG_BYTES_DROPPED: Declaration = Declaration::new(
    Kind::Counter,
    "forerun_log_dropped_bytes_total",
    &[],
    "Bytes written by guests that did not reach their log",
);
pub(super) const EXPORT_FAILURES: Declaration = Declaration::new(
    Kind::Counter,
    "forerun_export_failures_total",
    &["signal"],
    "Exports that the OpenTelemetry collector did not take",
);
pub(super) const HISTORY_BYTES: Declaration =
    Declaration::new(Kind::Gauge, "forerun_history_size_bytes", &[], "Size of the invocation history on disk");
pub(super) const PROCESS_MEMORY: Declaration = Declaration::new(
    Kind::Gauge,
    "forerun_process_resident_memory_bytes",
    &[],
    "Memory of the node's process that is resident, guests included",
);
pub(super) const PROCESS_CPU: Declaration = Declaration::new(
    Kind::Counter,
    "forerun_process_cpu_seconds_total",
    &[],
    "CPU time of the node's process, guests included",
);

/// All metrics.
pub const DECLARATIONS: &[Declaration] = &[
    BUILD,
    INVOCATIONS,
    DURATION,
    PHASE,
    REQUEST_BYTES,
    RESPONSE_BYTES,
    BUSY,
    GUEST_MEMORY,
    IN_FLIGHT,
    QUEUED,
    CONNECTIONS,
    FUNCTIONS,
    VM_ROLLBACKS,
    VM_RESTORED_BYTES,
    VM_WARM_COPIES,
    VM_DISCARDS,
    REFUSALS,
    NOT_ROLLED_BACK,
    PASS_REFUSALS,
    UNGUARDED,
    GIVEN_UP,
    SPLIT_STATES,
    EVENTS_DROPPED,
    LOG_BYTES_DROPPED,
    EXPORT_FAILURES,
    HISTORY_BYTES,
    PROCESS_MEMORY,
    PROCESS_CPU,
];

/// Every name that can be queried.
pub fn metric_names() -> Vec<String> {
    DECLARATIONS.iter().flat_map(Declaration::names).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every word of the dashboard that looks like one of our metrics.
    #[test]
    fn the_dashboard_asks_for_metrics_that_exist() {
        let dashboard = include_str!("../../../../operations/grafana.json");
        serde_json::from_str::<serde_json::Value>(dashboard).unwrap();
        let names = metric_names();
        let words = dashboard.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let asked: Vec<_> = words.filter(|word| word.starts_with("forerun_")).collect();
        assert!(asked.len() > 10, "{asked:?}");
        for name in asked {
            assert!(names.iter().any(|known| known == name), "{name}");
        }
    }
}
