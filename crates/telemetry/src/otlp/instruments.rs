//! Metrics for the collector, by the semantic conventions for functions (`faas.*`), with the function's name added:
//! a node is one process with many functions.

use forerun_types::Outcome;
use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Histogram, MeterProvider};
use opentelemetry_sdk::metrics::SdkMeterProvider;

use super::spans::{error_type, is_cold_start};
use crate::event::InvocationEvent;

/// From a fast answer of a ready VM to the default time-out, in seconds.
const SECONDS: [f64; 16] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0];
/// One page to all there is.
const BYTES: [f64; 9] = [
    65_536.0,
    262_144.0,
    1_048_576.0,
    4_194_304.0,
    16_777_216.0,
    67_108_864.0,
    268_435_456.0,
    1_073_741_824.0,
    4_294_967_296.0,
];

pub(super) struct Instruments {
    invocations: Counter<u64>,
    cold_starts: Counter<u64>,
    errors: Counter<u64>,
    timeouts: Counter<u64>,
    invoke_seconds: Histogram<f64>,
    init_seconds: Histogram<f64>,
    cpu_seconds: Histogram<f64>,
    memory_bytes: Histogram<u64>,
    net_bytes: Histogram<u64>,
}

impl Instruments {
    pub(super) fn new(meters: &SdkMeterProvider) -> Self {
        let meter = meters.meter("forerun");
        let counter = |name, unit| meter.u64_counter(name).with_unit(unit).build();
        let seconds = |name| meter.f64_histogram(name).with_unit("s").with_boundaries(SECONDS.into()).build();
        let bytes = |name| meter.u64_histogram(name).with_unit("By").with_boundaries(BYTES.into()).build();
        Self {
            invocations: counter("faas.invocations", "{invocation}"),
            cold_starts: counter("faas.coldstarts", "{coldstart}"),
            errors: counter("faas.errors", "{error}"),
            timeouts: counter("faas.timeouts", "{timeout}"),
            invoke_seconds: seconds("faas.invoke_duration"),
            init_seconds: seconds("faas.init_duration"),
            cpu_seconds: seconds("faas.cpu_usage"),
            memory_bytes: bytes("faas.mem_usage"),
            net_bytes: bytes("faas.net_io"),
        }
    }

    pub(super) fn record(&self, event: &InvocationEvent) {
        let labels = [KeyValue::new("faas.name", event.function.to_string()), KeyValue::new("faas.trigger", "http")];
        let seconds = |microseconds: u64| microseconds as f64 / 1e6;
        self.invocations.add(1, &labels);
        self.errors.add(u64::from(error_type(event).is_some()), &labels);
        self.timeouts.add(u64::from(event.outcome == Outcome::Timeout), &labels);
        self.invoke_seconds.record(seconds(event.phases.total_us), &labels);
        self.net_bytes.record(event.bytes_in.saturating_add(event.bytes_out), &labels);
        // What follows needs a VM to have been there.
        if event.phases.deployed_us == 0 {
            return;
        }
        if is_cold_start(event.serve_path) {
            self.cold_starts.add(1, &labels);
            let deploy_us = event.phases.deployed_us.saturating_sub(event.phases.admitted_us);
            self.init_seconds.record(seconds(deploy_us), &labels);
        }
        if let Some(cpu_us) = event.cpu_us {
            self.cpu_seconds.record(seconds(cpu_us), &labels);
        }
        self.memory_bytes.record(event.memory_bytes_peak, &labels);
    }
}
