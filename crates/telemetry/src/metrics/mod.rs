//! Metrics in the OpenMetrics text format that Prometheus scrapes.
//!
//! What there is to see is declared in `declared`; values come from invocation events, off the request
//! path, or are asked for at each scrape ([`Live`]). Nothing here is kept across restarts.

mod declared;
mod functions;
mod live;
mod process;

use std::sync::Arc;

use prometheus_client::encoding::text;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Metric, Registry};

pub use declared::{DECLARATIONS, Declaration, Kind, metric_names};
pub use live::{LabelValues, Live};

use crate::event::InvocationEvent;
use crate::writer::EventSink;
use declared::BUILD;
use forerun_types::FunctionName;
use functions::InvocationMetrics;
use live::{LiveCollector, Provider};

/// `Content-Type` of [`Metrics::encode`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// All metrics of one node. Shared by the writer thread and the admin API.
pub struct Metrics {
    registry: Registry,
    invocations: InvocationMetrics,
    live: LiveCollector,
}

impl Metrics {
    /// Metrics of a node of that version.
    pub fn new(version: &str) -> Arc<Self> {
        let mut registry = Registry::default();
        let build = Info::new(vec![("version", version.to_owned())]);
        register(&mut registry, &BUILD, build);
        let invocations = InvocationMetrics::register(&mut registry);
        let live = LiveCollector::default();
        registry.register_collector(Box::new(live.clone()));
        registry.register_collector(Box::new(process::ProcessCollector));
        Arc::new(Self { registry, invocations, live })
    }

    /// Says where the values of `metric` come from: `provider` is called at each scrape and returns a value for each
    /// combination of the labels' values, which come in the order of the declaration. It must not block. Providers of
    /// one metric add up.
    pub fn provide(&self, metric: Live, provider: impl Fn() -> Vec<(LabelValues, f64)> + Send + Sync + 'static) {
        let provider: Provider = Box::new(provider);
        self.live.add(metric, provider);
    }

    /// [`Metrics::provide`] for a metric with one label.
    pub fn provide_each(&self, metric: Live, provider: impl Fn() -> Vec<(Arc<str>, f64)> + Send + Sync + 'static) {
        self.provide(metric, move || provider().into_iter().map(|(label, value)| (vec![label], value)).collect());
    }

    /// [`Metrics::provide`] for a single value: with `label`, which is not looked at if the metric has none.
    pub fn provide_one(&self, metric: Live, label: &str, provider: impl Fn() -> f64 + Send + Sync + 'static) {
        let label: Arc<str> = label.into();
        self.provide(metric, move || vec![(vec![Arc::clone(&label)], provider())]);
    }

    /// Everything, as Prometheus reads it.
    pub fn encode(&self) -> String {
        let mut text = String::new();
        text::encode(&mut text, &self.registry).expect("writing to a string does not fail");
        text
    }

    /// Drops the series of a function that was removed.
    pub fn forget(&self, function: &FunctionName) {
        self.invocations.forget(function);
    }
}

impl EventSink for Arc<Metrics> {
    fn take(&mut self, events: &[InvocationEvent]) {
        self.invocations.take(events);
    }

    fn flush(&mut self) {}
}

/// Registers `metric` under its declaration; the library adds `_total` and `_info` itself.
fn register(registry: &mut Registry, declaration: &Declaration, metric: impl Metric) {
    registry.register(declaration.family(), declaration.help, metric);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use forerun_types::Outcome;

    use super::*;
    use crate::event::tests::event;

    fn sample(text: &str, start: &str) -> Option<f64> {
        let line = text.lines().find(|line| line.starts_with(start))?;
        line.rsplit(' ').next()?.parse().ok()
    }

    fn filled() -> Arc<Metrics> {
        let metrics = Metrics::new("1.2.3");
        let mut failed = event(2);
        failed.outcome = Outcome::Trap;
        Arc::clone(&metrics).take(&[event(1), failed, event(3)]);
        for live in Live::ALL {
            metrics.provide(live, move || vec![(live.labels().iter().map(|_| "cart".into()).collect(), 2.0)]);
        }
        metrics
    }

    #[test]
    fn counts_what_happened() {
        let text = filled().encode();
        let value = |start| sample(&text, start);
        let labels = |outcome| {
            format!(
                "forerun_invocations_total{{function=\"cart\",serve_path=\"generic-no-image\",outcome=\"{outcome}\"}}"
            )
        };
        assert_eq!(sample(&text, &labels("ok")), Some(2.0));
        assert_eq!(sample(&text, &labels("trap")), Some(1.0));
        assert_eq!(value("forerun_invocation_duration_seconds_sum{function=\"cart\"}"), Some(0.006));
        assert_eq!(value("forerun_invocation_duration_seconds_bucket{le=\"0.0025\",function=\"cart\"}"), Some(3.0));
        assert_eq!(value("forerun_invocation_phase_seconds_count{phase=\"queue\""), Some(3.0));
        assert_eq!(value("forerun_request_body_bytes_total{function=\"cart\"}"), Some(21.0));
        assert_eq!(value("forerun_response_body_bytes_total{function=\"cart\"}"), Some(33.0));
        assert_eq!(value("forerun_invocations_in_flight{function=\"cart\"}"), Some(2.0));
        assert_eq!(value("forerun_vm_discards_total{function=\"cart\",reason=\"cart\"}"), Some(2.0));
        assert_eq!(value("forerun_build_info{version=\"1.2.3\"}"), Some(1.0));
        assert!(value("forerun_process_resident_memory_bytes").unwrap() > 1e6);
        assert!(value("forerun_process_cpu_seconds_total").unwrap() > 0.0);
        assert!(text.ends_with("# EOF\n"));
    }

    #[test]
    fn what_is_exposed_is_what_is_declared() {
        let text = filled().encode();
        let exposed: BTreeSet<String> = text
            .lines()
            .filter(|line| !line.starts_with('#'))
            .map(|line| line.split(['{', ' ']).next().unwrap_or_default().to_owned())
            .collect();
        assert_eq!(exposed, metric_names().into_iter().collect());
        for declaration in DECLARATIONS {
            let family = declaration.family();
            assert!(text.contains(&format!("# HELP {family} {}.", declaration.help)), "{family}");
        }
    }

    #[test]
    fn samples_carry_the_declared_labels_and_no_others() {
        let text = filled().encode();
        for declaration in DECLARATIONS {
            let names = declaration.names();
            let sample_of = |line: &&str| names.iter().any(|name| line.split(['{', ' ']).next() == Some(name));
            let line = text.lines().find(sample_of).expect("every metric has a sample");
            let labels = line.split_once('{').map_or("", |(_, rest)| rest.split_once('}').expect("labels end").0);
            let keys: BTreeSet<_> = labels.split(',').filter_map(|label| Some(label.split_once('=')?.0)).collect();
            let declared: BTreeSet<_> = declaration.labels.iter().copied().collect();
            assert_eq!(&keys - &BTreeSet::from(["le"]), declared, "{}", declaration.name);
        }
    }

    #[test]
    fn a_removed_function_leaves_no_series() {
        let metrics = filled();
        metrics.forget(&"cart".parse().unwrap());
        let text = metrics.encode();
        assert!(!text.contains("forerun_invocations_total{"));
        assert!(!text.contains("forerun_invocation_duration_seconds_sum{function=\"cart\"}"));
        // And comes back when it is called again.
        Arc::clone(&metrics).take(&[event(1)]);
        assert_eq!(sample(&metrics.encode(), "forerun_invocations_total{"), Some(1.0));
    }

    #[test]
    fn the_number_of_series_is_bounded() {
        let metrics = Metrics::new("1");
        let events: Vec<_> = (0..functions::FUNCTION_LABELS_MAX + 10)
            .map(|number| {
                let mut event = event(1);
                event.function = format!("f{number}").parse().unwrap();
                event
            })
            .collect();
        Arc::clone(&metrics).take(&events);
        let text = metrics.encode();
        let series = text.lines().filter(|line| line.starts_with("forerun_invocations_total{")).count();
        assert_eq!(series, functions::FUNCTION_LABELS_MAX + 1);
        let other = "forerun_invocations_total{function=\"_other\"";
        assert_eq!(sample(&text, other), Some(10.0));
    }
}
