//! The export against a real HTTP receiver that decodes what it gets.

use std::net::TcpListener;
use std::sync::mpsc;

use forerun_types::{Outcome, SpanId};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::metrics::v1::Metric;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;

use super::receiver::{Received, collector, spans, text};
use super::*;
use crate::event::tests::event;

fn start(endpoint: &str) -> (Detached, OtlpCounts) {
    let settings = OtlpSettings { endpoint: endpoint.to_owned(), version: "1.2.3".into(), ..Default::default() };
    match Otlp::start(&settings).unwrap() {
        Otlp::On { sink, counts } => (sink, counts),
        Otlp::Off => panic!("an endpoint is set"),
    }
}

/// All spans and metrics that arrive before the exporter has gone.
fn received(receiver: &mpsc::Receiver<Received>) -> (Vec<ExportTraceServiceRequest>, Vec<Metric>) {
    let (mut traces, mut metrics) = (Vec::new(), Vec::new());
    while let Ok(request) = receiver.try_recv() {
        match request.path.as_str() {
            "/v1/traces" => traces.push(ExportTraceServiceRequest::decode(&*request.body).unwrap()),
            "/v1/metrics" => {
                let decoded = ExportMetricsServiceRequest::decode(&*request.body).unwrap();
                let scopes = decoded.resource_metrics.into_iter().flat_map(|resource| resource.scope_metrics);
                metrics.extend(scopes.flat_map(|scope| scope.metrics));
            }
            path => panic!("{path}"),
        }
    }
    (traces, metrics)
}

#[test]
fn off_without_an_endpoint() {
    assert!(matches!(Otlp::start(&OtlpSettings::default()), Ok(Otlp::Off)));
}

#[test]
fn a_bad_endpoint_is_refused_by_name() {
    let settings = OtlpSettings { endpoint: "http://[bad".into(), ..Default::default() };
    let error = Otlp::start(&settings).err().unwrap().to_string();
    assert!(error.contains("endpoint"), "{error}");
}

#[test]
fn a_call_from_function_to_function_arrives_as_two_spans_of_one_trace() {
    let (endpoint, receiver) = collector("200 OK");
    let (mut sink, counts) = start(&endpoint);
    let mut outer = event(1);
    outer.parent_span = Some(SpanId::from_random(77));
    let mut inner = event(2);
    inner.function = "catalog".parse().unwrap();
    inner.caller = Some(outer.function.clone());
    inner.class.route = "internal".into();
    inner.trace = outer.trace.child(SpanId::from_random(99));
    inner.parent_span = Some(outer.trace.span_id);
    inner.outcome = Outcome::Trap;
    inner.status = 500;
    let mut unsampled = event(3);
    unsampled.trace.sampled = false;
    sink.take(&[inner.clone(), outer.clone(), unsampled]);
    drop(sink);
    let (traces, metrics) = received(&receiver);
    let resource = traces[0].resource_spans[0].resource.clone().unwrap();
    assert_eq!(text(&resource.attributes, "service.name").as_deref(), Some("forerun"));
    assert_eq!(text(&resource.attributes, "service.version").as_deref(), Some("1.2.3"));
    let spans = spans(&traces);
    let [callee, caller] = spans.as_slice() else { panic!("two spans, not {}", spans.len()) };
    assert_eq!((&callee.trace_id, &callee.parent_span_id), (&caller.trace_id, &caller.span_id));
    let [link] = caller.links.as_slice() else { panic!("one link, not {}", caller.links.len()) };
    assert_eq!((&link.trace_id, &link.span_id), (&callee.trace_id, &callee.span_id));
    assert_eq!(text(&link.attributes, "faas.invoked_name").as_deref(), Some("catalog"));
    assert!(callee.links.is_empty());
    assert_eq!(caller.parent_span_id, SpanId::from_random(77).to_bytes());
    assert_eq!((caller.name.as_str(), callee.name.as_str()), ("GET /cart/...", "GET catalog"));
    assert_eq!(caller.kind, opentelemetry_proto::tonic::trace::v1::span::SpanKind::Server as i32);
    assert_eq!(caller.start_time_unix_nano, outer.started_unix_us * 1000);
    assert_eq!(caller.end_time_unix_nano - caller.start_time_unix_nano, 2_000_000);
    let check =
        |span: &Span, key, expected: &str| assert_eq!(text(&span.attributes, key).as_deref(), Some(expected), "{key}");
    check(caller, "faas.name", "cart");
    check(caller, "faas.version", "3");
    check(caller, "faas.trigger", "http");
    check(caller, "faas.invocation_id", &outer.id.to_string());
    check(caller, "faas.coldstart", "true");
    check(caller, "http.request.method", "GET");
    check(caller, "http.route", "/cart/...");
    check(caller, "http.response.status_code", "200");
    check(callee, "error.type", "trap");
    check(callee, "forerun.caller", "cart");
    assert_eq!(text(&caller.attributes, "error.type"), None);
    assert_eq!(callee.status.clone().unwrap().message, "trap");
    let events: Vec<_> = caller.events.iter().map(|event| event.name.as_str()).collect();
    assert_eq!(events, ["admitted", "deployed", "first byte"]);
    let mut names: Vec<_> = metrics.iter().map(|metric| metric.name.as_str()).collect();
    names.sort_unstable();
    let expected = [
        "faas.coldstarts",
        "faas.cpu_usage",
        "faas.errors",
        "faas.init_duration",
        "faas.invocations",
        "faas.invoke_duration",
        "faas.mem_usage",
        "faas.net_io",
        "faas.timeouts",
    ];
    assert_eq!(names, expected);
    assert_eq!((counts.dropped_total(), counts.trace_failures_total()), (0, 0));
}

#[test]
fn a_call_whose_event_comes_after_its_callers_is_linked_all_the_same() {
    let (endpoint, receiver) = collector("200 OK");
    let (mut sink, _counts) = start(&endpoint);
    let caller = event(1);
    let mut callee = event(2);
    callee.caller = Some(caller.function.clone());
    callee.trace = caller.trace.child(SpanId::from_random(99));
    callee.parent_span = Some(caller.trace.span_id);
    sink.take(&[caller]);
    sink.take(&[callee.clone()]);
    drop(sink);
    let (traces, _) = received(&receiver);
    let spans = spans(&traces);
    assert_eq!(spans.len(), 2);
    let [link] = spans[0].links.as_slice() else { panic!("one link, not {}", spans[0].links.len()) };
    assert_eq!(link.span_id, callee.trace.span_id.to_bytes());
}

#[test]
fn many_events_are_sent_in_batches_and_none_twice() {
    let (endpoint, receiver) = collector("200 OK");
    let (mut sink, _counts) = start(&endpoint);
    let events: Vec<_> = (0..1200).map(event).collect();
    sink.take(&events);
    drop(sink);
    let (traces, _) = received(&receiver);
    assert_eq!(traces.len(), 3);
    let mut ids: Vec<_> = spans(&traces).into_iter().map(|span| span.span_id).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 1200);
}

#[test]
fn refusals_and_absence_are_counted() {
    let (refusing, _receiver) = collector("400 Bad Request");
    let closed = format!("http://{}", TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap());
    for endpoint in [refusing, closed] {
        let (mut sink, counts) = start(&endpoint);
        sink.take(&[event(1), event(2)]);
        drop(sink);
        assert_eq!(counts.dropped_total(), 2, "{endpoint}");
        assert!(counts.trace_failures_total() > 0 && counts.metric_failures_total() > 0, "{endpoint}");
    }
}
