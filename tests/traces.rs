//! What a collector of traces gets from the program: a request that goes through six functions, as spans that find each other.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test fails by panicking")]

#[path = "../crates/telemetry/src/otlp/receiver.rs"]
#[allow(dead_code, reason = "the exporter's own tests use all of it")]
mod receiver;
mod support;

use std::collections::BTreeMap;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use receiver::{collector, spans, text};
use support::{Command, eventually, repository};

const TRACE: [u8; 16] = *b"\x4b\xf9\x2f\x35\x77\xb3\x4d\xa6\xa3\xce\x92\x9d\x0e\x0e\x47\x36";
const PARENT: [u8; 8] = *b"\x00\xf0\x67\xaa\x0b\xa9\x02\xb7";
/// Of a checkout: itself, the four functions it calls, and the catalog, which the cart asks.
const INVOCATIONS: usize = 6;

#[test]
fn a_request_through_six_functions_arrives_as_linked_spans_of_the_clients_trace() {
    let (endpoint, receiver) = collector("200 OK");
    let shop = Command::up(&repository("examples/shop"));
    let shop = shop.argument("--no-watch").argument("--otlp-endpoint").argument(&endpoint).start();
    let cart = shop.client().send("POST", "/cart/lamp", &[], b"");
    let cookie = cart.header("set-cookie").split(';').next().unwrap();
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let order = shop.client().send("POST", "/checkout", &[("cookie", cookie), ("traceparent", trace)], b"");
    assert_eq!(order.status, 201, "{order:?}");

    let mut of_trace: Vec<Span> = Vec::new();
    eventually("all spans of the trace", || {
        let arrived: Vec<_> = receiver.try_iter().filter(|request| request.path == "/v1/traces").collect();
        let decoded: Vec<_> =
            arrived.iter().map(|request| ExportTraceServiceRequest::decode(&*request.body).unwrap()).collect();
        of_trace.extend(spans(&decoded).into_iter().filter(|span| span.trace_id == TRACE));
        (of_trace.len() >= INVOCATIONS).then_some(())
    });
    check(&of_trace, order.header("x-request-id"));
}

fn check(spans: &[Span], request_id: &str) {
    assert_eq!(spans.len(), INVOCATIONS);
    let by_id: BTreeMap<&[u8], &Span> = spans.iter().map(|span| (&*span.span_id, span)).collect();
    let of = |span: &Span, key| text(&span.attributes, key).unwrap_or_default();
    let root = spans.iter().find(|span| span.parent_span_id == PARENT).unwrap();
    assert_eq!((of(root, "faas.name"), of(root, "faas.invocation_id")), ("checkout".into(), request_id.into()));

    let mut linked = 0;
    for span in spans {
        assert!(["true", "false"].contains(&&*of(span, "faas.coldstart")), "{span:?}");
        assert!(span.parent_span_id == PARENT || by_id.contains_key(&*span.parent_span_id), "{span:?}");
        for link in &span.links {
            let callee = by_id[&*link.span_id];
            assert_eq!(callee.parent_span_id, span.span_id, "a link leads to what was called");
            assert_eq!(text(&link.attributes, "faas.invoked_name"), Some(of(callee, "faas.name")));
            assert_eq!(of(callee, "forerun.caller"), of(span, "faas.name"));
            linked += 1;
        }
    }
    assert_eq!(linked, INVOCATIONS - 1, "each call but the first has a link to it");
}
