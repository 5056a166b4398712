//! Requests that an instrumented component serves: what ran, what memory was touched, and how much CPU time it took.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use common::{Guest, end_of, get, load, misbehave, repository, spec};
use forerun_driver::{Body, Chain, EndHook, Invocation, InvocationEnd, Sampled};
use forerun_specialize::passes::coverage::{CoverageMap, add_coverage};
use forerun_types::{GenericReason, InvocationId, Outcome, ServePath, TraceContext};
use http::Request;
use http_body_util::BodyExt;

/// The component of tests/guests that does as its path says, instrumented.
fn twin() -> (Guest, CoverageMap) {
    let source = std::fs::read(repository("tests/guests/components/misbehave.wasm")).unwrap();
    let covered = add_coverage(&source).unwrap();
    (load(&covered.component, &spec()).unwrap(), covered.map)
}

/// An invocation with an id that says whether it is one of those whose CPU time is measured.
fn invocation(is_measured: bool) -> (Invocation, mpsc::Receiver<InvocationEnd>) {
    let (sender, ended) = mpsc::channel();
    let invocation = Invocation {
        id: InvocationId::from_random(u128::from(!is_measured) << 32),
        trace: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".parse::<TraceContext>().unwrap(),
        chain: Chain::begins(InvocationId::from_random(u128::from(!is_measured) << 32), None),
        https: false,
        deadline: Instant::now() + Duration::from_secs(20),
        end: EndHook::new(move |end| sender.send(end).unwrap()),
    };
    (invocation, ended)
}

async fn sample(guest: &Guest, request: Request<Body>) -> (Sampled, InvocationEnd) {
    let (invocation, ended) = invocation(false);
    let (sender, sampled) = mpsc::channel();
    let hook = Box::new(move |noted| sender.send(noted).unwrap());
    let reply = Arc::clone(&guest.program).invoke_sampled(invocation, request, false, hook).await.unwrap();
    assert_eq!(
        (reply.response.status(), reply.serve_path),
        (200.try_into().unwrap(), ServePath::Generic(GenericReason::Sampled))
    );
    reply.response.into_body().collect().await.unwrap();
    let end = end_of(ended).await;
    let sampled = tokio::task::spawn_blocking(move || sampled.recv_timeout(Duration::from_secs(20)).unwrap());
    (sampled.await.unwrap(), end)
}

#[tokio::test]
async fn a_sample_says_what_ran_and_what_memory_was_touched() {
    let (guest, map) = twin();
    let ran = |sampled: &Sampled| sampled.marks.iter().filter(|mark| **mark == 1).count();
    let (small, end) = sample(&guest, get("/count")).await;
    // The guest takes it in and answers with it.
    let mut request = get("/headers");
    request.headers_mut().insert("x-large", "x".repeat(90_000).parse().unwrap());
    let (large, _) = sample(&guest, request).await;
    for sampled in [&small, &large] {
        assert_eq!(sampled.marks.len(), map.functions.len());
        assert!((10..map.functions.len()).contains(&ran(sampled)), "{} of {}", ran(sampled), map.functions.len());
    }
    assert_ne!(small.marks, large.marks);
    // A sample is measured whatever its id.
    let cpu = end.cpu.unwrap();
    assert!(end.outcome == Outcome::Ok && cpu > Duration::ZERO && cpu <= end.busy, "{end:?}");

    let (small, large) = (small.touched.unwrap(), large.touched.unwrap());
    assert!(small.dirty_bytes >= 4_096 && small.dirty_bytes <= small.resident_bytes, "{small:?}");
    assert!(small.resident_bytes <= end.memory_bytes_peak, "{small:?} {end:?}");
    // The same VM's memory but for what the larger answer is made of.
    assert!(large.dirty_bytes >= small.dirty_bytes + (64 << 10), "{small:?} {large:?}");
    // Each is of a VM of its own.
    assert_eq!(sample(&guest, get("/count")).await.0.touched, Some(small));
}

#[tokio::test]
async fn cpu_time_is_measured_for_some_and_no_more_than_the_time_a_thread_was_held() {
    let guest = misbehave(&spec());
    for is_measured in [true, false] {
        let (invocation, ended) = invocation(is_measured);
        let reply = Arc::clone(&guest.program).invoke(invocation, get("/burn?ms=20")).await.unwrap();
        reply.response.into_body().collect().await.unwrap();
        let end = end_of(ended).await;
        let is_plausible = |cpu: Duration| cpu > Duration::ZERO && cpu <= end.busy;
        assert_eq!(end.cpu.map(is_plausible), is_measured.then_some(true), "{end:?}");
    }
}
