//! Metrics that are made from invocation events.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use forerun_types::{FunctionName, Outcome, ServePath};
use parking_lot::Mutex;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use super::declared::{BUSY, DURATION, GUEST_MEMORY, INVOCATIONS, PHASE, REQUEST_BYTES, RESPONSE_BYTES};
use super::register;
use crate::event::{InvocationEvent, Phases};

/// Functions with series of their own; a function has about 40 series. All others share one label.
pub(super) const FUNCTION_LABELS_MAX: usize = 1_000;
/// No function can have this name.
const OTHER: &str = "_other";
/// From a fast answer of a ready VM to the default time-out.
const SECONDS_BUCKETS: [f64; 16] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0];

type Seconds = Counter<f64, AtomicU64>;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FunctionLabel {
    function: Arc<str>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct InvocationLabels {
    function: Arc<str>,
    serve_path: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PhaseLabels {
    phase: &'static str,
    serve_path: &'static str,
}

pub(super) struct InvocationMetrics {
    invocations: Family<InvocationLabels, Counter>,
    duration: Family<FunctionLabel, Histogram>,
    phase: Family<PhaseLabels, Histogram>,
    request_bytes: Family<FunctionLabel, Counter>,
    response_bytes: Family<FunctionLabel, Counter>,
    busy: Family<FunctionLabel, Seconds>,
    memory: Family<FunctionLabel, Histogram>,
    found: Mutex<Found>,
}

/// Series that were found before, so that an event costs one look-up among functions and one among serve paths.
#[derive(Default)]
struct Found {
    functions: HashMap<FunctionName, FunctionMetrics>,
    phases: HashMap<ServePath, [Option<Histogram>; PHASES.len()]>,
}

/// What a request goes through, in order.
const PHASES: [&str; 5] = ["route", "queue", "deploy", "execute", "stream"];

/// The series of one function.
struct FunctionMetrics {
    label: FunctionLabel,
    invocations: HashMap<(ServePath, Outcome), Counter>,
    duration: Histogram,
    request_bytes: Counter,
    response_bytes: Counter,
    busy: Seconds,
    memory: Histogram,
}

impl InvocationMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let seconds = || Histogram::new(SECONDS_BUCKETS);
        // 64 KiB, one page, to 4 GiB, all there is.
        let memory = || Histogram::new(exponential_buckets(65_536.0, 4.0, 9));
        let metrics = Self {
            invocations: Family::default(),
            duration: Family::new_with_constructor(seconds),
            phase: Family::new_with_constructor(seconds),
            request_bytes: Family::default(),
            response_bytes: Family::default(),
            busy: Family::default(),
            memory: Family::new_with_constructor(memory),
            found: Mutex::default(),
        };
        register(registry, &INVOCATIONS, metrics.invocations.clone());
        register(registry, &DURATION, metrics.duration.clone());
        register(registry, &PHASE, metrics.phase.clone());
        register(registry, &REQUEST_BYTES, metrics.request_bytes.clone());
        register(registry, &RESPONSE_BYTES, metrics.response_bytes.clone());
        register(registry, &BUSY, metrics.busy.clone());
        register(registry, &GUEST_MEMORY, metrics.memory.clone());
        metrics
    }

    pub(super) fn take(&self, events: &[InvocationEvent]) {
        let Found { functions, phases } = &mut *self.found.lock();
        for event in events {
            match functions.get_mut(&event.function) {
                Some(function) => self.count(function, event),
                None => {
                    let own_label = functions.len() < FUNCTION_LABELS_MAX;
                    let label = if own_label { event.function.as_str() } else { OTHER };
                    let function = functions.entry(event.function.clone()).or_insert_with(|| self.function(label));
                    self.count(function, event);
                }
            }
            self.observe_phases(phases.entry(event.serve_path).or_default(), event);
        }
    }

    pub(super) fn forget(&self, function: &FunctionName) {
        let Some(FunctionMetrics { label, invocations, .. }) = self.found.lock().functions.remove(function) else {
            return;
        };
        if &*label.function == OTHER {
            return;
        }
        for (serve_path, outcome) in invocations.into_keys() {
            self.invocations.remove(&invocation_labels(&label, serve_path, outcome));
        }
        self.duration.remove(&label);
        self.request_bytes.remove(&label);
        self.response_bytes.remove(&label);
        self.busy.remove(&label);
        self.memory.remove(&label);
    }

    fn function(&self, label: &str) -> FunctionMetrics {
        let label = FunctionLabel { function: label.into() };
        FunctionMetrics {
            invocations: HashMap::new(),
            duration: self.duration.get_or_create_owned(&label),
            request_bytes: self.request_bytes.get_or_create_owned(&label),
            response_bytes: self.response_bytes.get_or_create_owned(&label),
            busy: self.busy.get_or_create_owned(&label),
            memory: self.memory.get_or_create_owned(&label),
            label,
        }
    }

    fn count(&self, function: &mut FunctionMetrics, event: &InvocationEvent) {
        let FunctionMetrics { label, invocations, .. } = function;
        let series = invocations.entry((event.serve_path, event.outcome)).or_insert_with(|| {
            self.invocations.get_or_create_owned(&invocation_labels(label, event.serve_path, event.outcome))
        });
        series.inc();
        function.duration.observe(seconds(event.phases.total_us));
        function.request_bytes.inc_by(event.bytes_in);
        function.response_bytes.inc_by(event.bytes_out);
        function.busy.inc_by(seconds(event.busy_us));
        // An invocation that never got a VM says nothing about memory.
        if event.memory_bytes_peak > 0 {
            function.memory.observe(event.memory_bytes_peak as f64);
        }
    }

    fn observe_phases(&self, found: &mut [Option<Histogram>; PHASES.len()], event: &InvocationEvent) {
        let serve_path = event.serve_path.label();
        for (number, duration_us) in phases(&event.phases) {
            let labels = || PhaseLabels { phase: PHASES[number], serve_path };
            let series = found[number].get_or_insert_with(|| self.phase.get_or_create_owned(&labels()));
            series.observe(seconds(duration_us));
        }
    }
}

fn invocation_labels(function: &FunctionLabel, serve_path: ServePath, outcome: Outcome) -> InvocationLabels {
    let function = Arc::clone(&function.function);
    InvocationLabels { function, serve_path: serve_path.label(), outcome: outcome.label() }
}

/// The number of each phase that was reached, with its own duration. A phase that was not reached ended at zero.
fn phases(phases: &Phases) -> impl Iterator<Item = (usize, u64)> {
    let Phases { routed_us, admitted_us, deployed_us, first_byte_us, total_us } = *phases;
    let ends = [routed_us, admitted_us, deployed_us, first_byte_us, total_us];
    let mut start_us = 0;
    ends.into_iter().enumerate().filter(|(_, end_us)| *end_us > 0).map(move |(phase, end_us)| {
        let duration_us = end_us.saturating_sub(start_us);
        start_us = end_us;
        (phase, duration_us)
    })
}

fn seconds(microseconds: u64) -> f64 {
    microseconds as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_are_differences_of_what_was_reached() {
        let whole = Phases { routed_us: 1, admitted_us: 3, deployed_us: 7, first_byte_us: 15, total_us: 31 };
        let durations: Vec<_> = phases(&whole).collect();
        assert_eq!(durations, [(0, 1), (1, 2), (2, 4), (3, 8), (4, 16)]);
        let rejected = Phases { routed_us: 1, total_us: 5, ..Phases::default() };
        assert_eq!(phases(&rejected).collect::<Vec<_>>(), [(0, 1), (4, 4)]);
    }
}
