//! Metrics whose values are asked for when they are scraped.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use super::declared::{
    CONNECTIONS, Declaration, EVENTS_DROPPED, EXPORT_FAILURES, FUNCTIONS, GIVEN_UP, HISTORY_BYTES, IN_FLIGHT, Kind,
    LOG_BYTES_DROPPED, NOT_ROLLED_BACK, PASS_REFUSALS, QUEUED, REFUSALS, SPLIT_STATES, UNGUARDED, VM_DISCARDS,
    VM_RESTORED_BYTES, VM_ROLLBACKS, VM_WARM_COPIES,
};

/// A metric whose values somebody provides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Live {
    /// `forerun_invocations_in_flight{function}`
    InFlight,
    /// `forerun_invocations_queued{function}`
    Queued,
    /// `forerun_connections_open`
    Connections,
    /// `forerun_functions_served`
    Functions,
    /// `forerun_vm_rollbacks_total{function}`
    VmRollbacks,
    /// `forerun_vm_restored_bytes_total{function}`
    VmRestoredBytes,
    /// `forerun_vm_warm_copies_total{function}`
    VmWarmCopies,
    /// `forerun_vm_discards_total{function,reason}`
    VmDiscards,
    /// `forerun_requests_refused_total{reason}`
    Refusals,
    /// `forerun_functions_not_rolled_back{reason}`
    NotRolledBack,
    /// `forerun_pass_refusals_total{pass,reason}`
    PassRefusals,
    /// `forerun_worker_guards_missing_total{guard}`
    Unguarded,
    /// `forerun_functions_given_up{prepared}`
    GivenUp,
    /// `forerun_functions_split{state}`
    SplitStates,
    /// `forerun_events_dropped_total{at}`
    EventsDropped,
    /// `forerun_log_dropped_bytes_total`
    LogBytesDropped,
    /// `forerun_export_failures_total{signal}`
    ExportFailures,
    /// `forerun_history_size_bytes`
    HistoryBytes,
}

impl Live {
    /// All of them.
    pub const ALL: [Self; 18] = [
        Self::InFlight,
        Self::Queued,
        Self::Connections,
        Self::Functions,
        Self::VmRollbacks,
        Self::VmRestoredBytes,
        Self::VmWarmCopies,
        Self::VmDiscards,
        Self::Refusals,
        Self::NotRolledBack,
        Self::PassRefusals,
        Self::Unguarded,
        Self::GivenUp,
        Self::SplitStates,
        Self::EventsDropped,
        Self::LogBytesDropped,
        Self::ExportFailures,
        Self::HistoryBytes,
    ];

    /// Names of its labels, in the order in which providers give their values.
    pub fn labels(self) -> &'static [&'static str] {
        self.declaration().labels
    }

    fn declaration(self) -> &'static Declaration {
        match self {
            Self::InFlight => &IN_FLIGHT,
            Self::Queued => &QUEUED,
            Self::Connections => &CONNECTIONS,
            Self::Functions => &FUNCTIONS,
            Self::VmRollbacks => &VM_ROLLBACKS,
            Self::VmRestoredBytes => &VM_RESTORED_BYTES,
            Self::VmWarmCopies => &VM_WARM_COPIES,
            Self::VmDiscards => &VM_DISCARDS,
            Self::Refusals => &REFUSALS,
            Self::NotRolledBack => &NOT_ROLLED_BACK,
            Self::PassRefusals => &PASS_REFUSALS,
            Self::Unguarded => &UNGUARDED,
            Self::GivenUp => &GIVEN_UP,
            Self::SplitStates => &SPLIT_STATES,
            Self::EventsDropped => &EVENTS_DROPPED,
            Self::LogBytesDropped => &LOG_BYTES_DROPPED,
            Self::ExportFailures => &EXPORT_FAILURES,
            Self::HistoryBytes => &HISTORY_BYTES,
        }
    }
}

/// The values of a metric's labels, in the order of its declaration.
pub type LabelValues = Vec<Arc<str>>;

pub(super) type Provider = Box<dyn Fn() -> Vec<(LabelValues, f64)> + Send + Sync>;

/// Label values a provider may come with; more are left out, so that a mistake cannot fill the scraper.
const LABELS_MAX: usize = 10_000;

#[derive(Clone, Default)]
pub(super) struct LiveCollector(Arc<Mutex<BTreeMap<Live, Vec<Provider>>>>);

impl LiveCollector {
    pub(super) fn add(&self, metric: Live, provider: Provider) {
        self.0.lock().entry(metric).or_default().push(provider);
    }
}

impl Collector for LiveCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for (metric, providers) in &*self.0.lock() {
            let mut values: BTreeMap<LabelValues, f64> = BTreeMap::new();
            for (labels, value) in providers.iter().flat_map(|provider| provider()).take(LABELS_MAX) {
                *values.entry(labels).or_default() += value;
            }
            encode(&mut encoder, metric.declaration(), values)?;
        }
        Ok(())
    }
}

impl fmt::Debug for LiveCollector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LiveCollector")
    }
}

/// Encodes one metric with one value for each combination of its labels' values.
pub(super) fn encode(
    encoder: &mut DescriptorEncoder<'_>,
    declaration: &Declaration,
    values: impl IntoIterator<Item = (LabelValues, f64)>,
) -> fmt::Result {
    let (gauge, kind) = match declaration.kind {
        Kind::Gauge => (true, MetricType::Gauge),
        Kind::Counter => (false, MetricType::Counter),
        // A histogram or an info has no single value.
        Kind::Histogram | Kind::Info => return Err(fmt::Error),
    };
    // The registry ends its own help texts with a full stop.
    let help = format!("{}.", declaration.help);
    let mut metric = encoder.encode_descriptor(declaration.family(), &help, None, kind)?;
    for (values, value) in values {
        let labels = declaration.labels.iter().zip(values).map(|(key, value)| (*key, value.to_string()));
        let labels: Vec<_> = labels.collect();
        let series = if labels.is_empty() { None } else { Some(metric.encode_family(&labels)?) };
        match (series, gauge) {
            (Some(series), true) => ConstGauge::new(value).encode(series)?,
            (Some(series), false) => ConstCounter::new(value).encode(series)?,
            (None, true) => metric.encode_gauge(&value)?,
            (None, false) => metric.encode_counter::<NoLabelSet, _, f64>(&value, None)?,
        }
    }
    Ok(())
}
