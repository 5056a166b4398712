//! Traces and metrics for an OpenTelemetry collector, by OTLP over HTTP with protobuf.
//!
//! ```text
//! events ──► detached thread ──► spans ──► exporter ──┐
//!                          └──► instruments ─► reader ┴──► HTTP client ──► collector
//! ```
//!
//! Off unless an endpoint is given. A collector that is away costs spans, which are counted, and nothing
//! else: requests never wait for it. The `OTEL_*` variables are read as the OpenTelemetry SDK does.

mod callees;
mod client;
mod instruments;
mod spans;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use opentelemetry::{Key, KeyValue};
use opentelemetry_otlp::{ExporterBuildError, MetricExporter, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::{PeriodicReader, SdkMeterProvider};
use opentelemetry_sdk::trace::{SpanData, SpanExporter as _};
use tokio::runtime::{Builder, Runtime};

use crate::detached::{Detached, DetachedCounts};
use crate::event::InvocationEvent;
use crate::priority::stand_back;
use crate::writer::EventSink;
use callees::Callees;
use client::CollectorClient;
use instruments::Instruments;

/// How to export.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtlpSettings {
    /// Address of the collector, such as `http://localhost:4318`. Empty: as the environment says, else off.
    pub endpoint: String,
    /// Version of this node, as `service.version`.
    pub version: String,
    /// Time between two exports of metrics. Default 60 s, as the SDK has it.
    pub metrics_interval_ms: u64,
}

impl Default for OtlpSettings {
    fn default() -> Self {
        Self { endpoint: String::new(), version: String::new(), metrics_interval_ms: 60_000 }
    }
}

/// Whether invocations are exported.
pub enum Otlp {
    /// No endpoint is set, or `OTEL_SDK_DISABLED` is.
    Off,
    /// They are.
    On {
        /// Takes the events; give it to the writer thread.
        sink: Detached,
        /// What became of them.
        counts: OtlpCounts,
    },
}

/// Why there is no export although an endpoint is set.
#[derive(Debug, thiserror::Error)]
pub enum OtlpError {
    /// The endpoint or another setting is not usable.
    #[error("OpenTelemetry export: {detail}")]
    BadSettings {
        /// What is wrong.
        detail: String,
    },
    /// The system gives no threads.
    #[error("OpenTelemetry export cannot start: {detail}")]
    NoThread {
        /// What the system said.
        detail: String,
    },
}

/// What became of what was to be exported.
#[derive(Clone)]
pub struct OtlpCounts {
    queue: DetachedCounts,
    shared: Arc<Counts>,
}

#[derive(Default)]
pub(crate) struct Counts {
    lost_spans: AtomicU64,
    trace_failures: AtomicU64,
    metric_failures: AtomicU64,
}

impl OtlpCounts {
    /// Events whose span reached no collector, since the start.
    pub fn dropped_total(&self) -> u64 {
        self.queue.dropped_total() + self.shared.lost_spans.load(Ordering::Relaxed)
    }

    /// Requests with traces that the collector did not take, since the start.
    pub fn trace_failures_total(&self) -> u64 {
        self.shared.trace_failures.load(Ordering::Relaxed)
    }

    /// Requests with metrics that the collector did not take, since the start.
    pub fn metric_failures_total(&self) -> u64 {
        self.shared.metric_failures.load(Ordering::Relaxed)
    }
}

/// Events that may wait for the collector; about 8 MB.
const QUEUE_EVENTS_MAX: usize = 16_384;
/// Spans of one request: the SDK's own number.
const BATCH_SPANS_MAX: usize = 512;
/// A span is not held back longer than this while others come.
const BATCH_AGE_MAX: Duration = Duration::from_secs(1);
/// One request to the collector, the answer included.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

const ENDPOINT_VARIABLES: [&str; 3] =
    ["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT"];

impl Otlp {
    /// Starts the export if it is switched on.
    ///
    /// # Errors
    /// See [`OtlpError`]. That a collector does not answer is none: it may come later.
    pub fn start(settings: &OtlpSettings) -> Result<Self, OtlpError> {
        let variable = |name: &str| std::env::var(name).unwrap_or_default();
        let disabled = variable("OTEL_SDK_DISABLED").eq_ignore_ascii_case("true");
        let anywhere =
            !settings.endpoint.is_empty() || ENDPOINT_VARIABLES.iter().any(|name| !variable(name).is_empty());
        if disabled || !anywhere {
            return Ok(Self::Off);
        }
        let shared = Arc::new(Counts::default());
        let exporter = Exporter::new(settings, Arc::clone(&shared))?;
        let sink = Detached::start("forerun-otlp", QUEUE_EVENTS_MAX, Box::new(exporter), stand_back)
            .map_err(|error| OtlpError::NoThread { detail: error.to_string() })?;
        let counts = OtlpCounts { queue: sink.counts(), shared };
        Ok(Self::On { sink, counts })
    }
}

/// The sink behind the detached thread.
struct Exporter {
    /// Drives the HTTP connections; its own, so that a busy node's runtime and this one cannot hold each other up.
    runtime: Option<Runtime>,
    spans: SpanExporter,
    meters: SdkMeterProvider,
    instruments: Instruments,
    callees: Callees,
    batch: Vec<SpanData>,
    batch_begun: Instant,
    counts: Arc<Counts>,
}

impl Exporter {
    fn new(settings: &OtlpSettings, counts: Arc<Counts>) -> Result<Self, OtlpError> {
        let runtime = Builder::new_multi_thread().worker_threads(1).thread_name("forerun-otlp-io").enable_all().build();
        let runtime = runtime.map_err(|error| OtlpError::NoThread { detail: error.to_string() })?;
        let client = CollectorClient::new(runtime.handle().clone(), REQUEST_TIMEOUT, Arc::clone(&counts));
        let resource = resource(&settings.version);
        let mut spans = SpanExporter::builder().with_http().with_http_client(client.clone());
        let mut metrics = MetricExporter::builder().with_http().with_http_client(client);
        if !settings.endpoint.is_empty() {
            let base = settings.endpoint.trim_end_matches('/');
            spans = spans.with_endpoint(format!("{base}/v1/traces"));
            metrics = metrics.with_endpoint(format!("{base}/v1/metrics"));
        }
        let mut spans = spans.with_timeout(REQUEST_TIMEOUT).build().map_err(|error| bad_settings(&error))?;
        spans.set_resource(&resource);
        let metrics = metrics.with_timeout(REQUEST_TIMEOUT).build().map_err(|error| bad_settings(&error))?;
        let interval = Duration::from_millis(settings.metrics_interval_ms);
        let reader = PeriodicReader::builder(metrics).with_interval(interval).build();
        let meters = SdkMeterProvider::builder().with_resource(resource).with_reader(reader).build();
        let instruments = Instruments::new(&meters);
        let (batch, batch_begun) = (Vec::with_capacity(BATCH_SPANS_MAX), Instant::now());
        let callees = Callees::default();
        Ok(Self { runtime: Some(runtime), spans, meters, instruments, callees, batch, batch_begun, counts })
    }

    fn export(&mut self) {
        let Some(runtime) = self.runtime.as_ref().filter(|_| !self.batch.is_empty()) else { return };
        let mut batch = std::mem::replace(&mut self.batch, Vec::with_capacity(BATCH_SPANS_MAX));
        for span in &mut batch {
            span.links = self.callees.take(&span.span_context);
        }
        let count = batch.len() as u64;
        // Why it failed has been logged by the client, once until it works again.
        if runtime.block_on(self.spans.export(batch)).is_err() {
            self.counts.lost_spans.fetch_add(count, Ordering::Relaxed);
        }
    }
}

impl EventSink for Exporter {
    fn take(&mut self, events: &[InvocationEvent]) {
        for event in events {
            self.instruments.record(event);
            // Whoever began the trace decided whether it is recorded.
            if !event.trace.sampled {
                continue;
            }
            if self.batch.is_empty() {
                self.batch_begun = Instant::now();
            }
            self.callees.remember(event);
            self.batch.push(spans::span(event));
            if self.batch.len() >= BATCH_SPANS_MAX {
                self.export();
            }
        }
        if self.batch_begun.elapsed() >= BATCH_AGE_MAX {
            self.export();
        }
    }

    fn flush(&mut self) {
        self.export();
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        self.export();
        // The last figures go out here; a collector that is away has been reported already.
        let _ = self.meters.shutdown_with_timeout(REQUEST_TIMEOUT);
        if let Some(runtime) = self.runtime.take() {
            // Without waiting: a runtime must not be waited for by a thread that may belong to another.
            runtime.shutdown_background();
        }
    }
}

fn bad_settings(error: &ExporterBuildError) -> OtlpError {
    OtlpError::BadSettings { detail: error.to_string() }
}

/// Who sends: `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES` win over our own words.
fn resource(version: &str) -> Resource {
    let detected = Resource::builder().build();
    let named =
        detected.get(&Key::new("service.name")).is_some_and(|name| !name.as_str().starts_with("unknown_service"));
    let builder = Resource::builder().with_attribute(KeyValue::new("service.version", version.to_owned()));
    if named { builder.build() } else { builder.with_service_name("forerun").build() }
}

#[cfg(test)]
mod receiver;
#[cfg(test)]
mod tests;
