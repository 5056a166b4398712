//! One request at a time through a real listener: heads, bodies, identity, errors.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::io::{Read, Write};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use forerun_driver::{afterwards, full_body};
use forerun_types::{FunctionLimits, Outcome, TraceContext};
use http::Response;
use support::functions::{self, failing, fed, hello};
use support::{body, entry, header, settings, spec, start, start_one, status, until};

#[tokio::test]
async fn a_hello_has_length_id_timing_and_an_event() {
    let mut running = start_one(hello()).await;
    let answer = running.get("/x?secret=1", &[]).await;
    assert_eq!((status(&answer), body(&answer)), (200, "hello"), "{answer}");
    assert_eq!(header(&answer, "content-length"), Some("5"));
    let timing = header(&answer, "server-timing").unwrap();
    assert!(timing.starts_with("path;desc=\"generic-no-image\", route;dur=0."), "{timing}");
    let event = running.event().await;
    assert_eq!(header(&answer, "x-request-id"), Some(event.id.to_string().as_str()));
    assert_eq!((event.outcome, event.status, event.bytes_out), (Outcome::Ok, 200, 5));
    assert_eq!((event.class.method, &*event.class.route), ("GET", "/..."));
    assert_eq!((event.memory_bytes_peak, event.busy_us, event.cpu_us), (1 << 20, 100, Some(80)));
    // Clients are told apart by their address unless somebody says otherwise.
    assert!(event.session.is_some());
    let phases = event.phases;
    let order = [phases.routed_us, phases.admitted_us, phases.deployed_us, phases.total_us];
    assert!(order.is_sorted(), "{phases:?}");
}

#[tokio::test]
async fn every_refusal_is_a_problem_with_an_id() {
    let running = start(settings(), vec![entry(spec("only", &["/here"]), hello())]).await;
    let answer = running.get("/elsewhere", &[]).await;
    assert_eq!(status(&answer), 404);
    assert_eq!(header(&answer, "content-type"), Some("application/problem+json"));
    assert!(body(&answer).contains("\"reason\":\"no_route\""), "{answer}");
    assert!(body(&answer).contains(header(&answer, "x-request-id").unwrap()), "{answer}");
    let refused = running.gateway.counters().refused_total.into_iter().find(|(_, count)| *count > 0).unwrap();
    assert_eq!((refused.0.label(), refused.1), ("no_route", 1));
}

#[tokio::test]
async fn failures_of_guests_have_a_name_and_no_inside() {
    for (outcome, code, reason) in [
        (Outcome::Trap, 500, "trap"),
        (Outcome::OutOfMemory, 500, "out_of_memory"),
        (Outcome::NoResponse, 500, "no_response"),
        (Outcome::GuestError, 500, "bad_response"),
        (Outcome::Timeout, 504, "timeout"),
        (Outcome::NoVm, 503, "no_vm"),
    ] {
        let mut running = start_one(failing(outcome)).await;
        let answer = running.get("/", &[]).await;
        assert_eq!(status(&answer), code, "{answer}");
        assert!(body(&answer).contains(&format!("\"reason\":\"{reason}\"")), "{answer}");
        assert!(!answer.contains("secret"), "{answer}");
        let event = running.event().await;
        assert_eq!((event.outcome, event.status), (outcome, code));
    }
}

#[tokio::test]
async fn the_trace_of_the_client_goes_on_in_the_guest() {
    let mut running = start_one(functions::echo()).await;
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let answer = running.get("/", &[&format!("traceparent: {parent}"), "tracestate: a=b"]).await;
    let event = running.event().await;
    let line = body(&answer).lines().find_map(|line| line.strip_prefix("traceparent=")).unwrap();
    let inside: TraceContext = line.parse().unwrap();
    let outside: TraceContext = parent.parse().unwrap();
    assert_eq!(inside, event.trace);
    assert_eq!(inside.trace_id, outside.trace_id);
    assert_eq!(event.parent_span, Some(outside.span_id));
    assert!(answer.contains("tracestate=a=b"), "{answer}");

    let answer = running.get("/", &["traceparent: 00-junk", "tracestate: a=b"]).await;
    let event = running.event().await;
    assert_eq!(event.parent_span, None);
    assert!(answer.contains(&format!("traceparent={}", event.trace)), "{answer}");
    assert!(!answer.contains("tracestate"), "{answer}");
}

#[tokio::test]
async fn hop_by_hop_headers_stay_with_the_connection() {
    let running = start_one(functions::echo()).await;
    let lines = ["keep-alive: 5", "te: trailers", "x-mine: 1", "connection: close, x-named", "x-named: 2"];
    let answer = running.get("/", &lines).await;
    assert!(answer.contains("x-mine=1"), "{answer}");
    for gone in ["keep-alive=", "te=", "connection=", "x-named="] {
        assert!(!answer.contains(gone), "{gone} in {answer}");
    }
}

#[tokio::test]
async fn bodies_too_long_are_refused_or_cut() {
    let mut small = spec("only", &["/..."]);
    small.limits = FunctionLimits { request_body_bytes_max: 10, ..FunctionLimits::default() };
    let mut running = start(settings(), vec![entry(small, functions::echo())]).await;
    let announced = running.raw("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 11\r\n\r\n").await;
    assert_eq!(status(&announced), 413, "{announced}");
    assert!(announced.contains("\"reason\":\"request_too_large\""), "{announced}");
    assert_eq!(running.event().await.outcome, Outcome::Rejected);
    let chunked = "POST / HTTP/1.1\r\nhost: a\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n";
    let streamed = running.raw(&format!("{chunked}6\r\nabcdef\r\n6\r\nabcdef\r\n0\r\n\r\n")).await;
    assert!(streamed.contains("body failed: the body is longer than the allowed 10 bytes"), "{streamed}");
    let fits = running.raw(&format!("{chunked}6\r\nabcdef\r\n4\r\n1234\r\n0\r\n\r\n")).await;
    assert!(fits.contains("\nabcdef1234"), "{fits}");
    running.event().await;
    let event = running.event().await;
    assert_eq!((event.bytes_in, event.class.size_bucket), (10, 4));
}

#[tokio::test]
async fn an_endless_answer_is_cut_at_its_limit() {
    let mut small = spec("only", &["/..."]);
    small.limits.response_body_bytes_max = 1 << 20;
    let mut running = start(settings(), vec![entry(small, functions::endless())]).await;
    let answer = running.get("/", &[]).await;
    assert_eq!(status(&answer), 200);
    assert!(!answer.ends_with("0\r\n\r\n"), "a cut answer must not look complete");
    assert!(answer.len() <= (1 << 20) + (1 << 16));
    assert_eq!(running.event().await.outcome, Outcome::ResponseTooLarge);
}

#[tokio::test]
async fn time_runs_out_before_and_within_the_answer() {
    let mut brief = spec("only", &["/..."]);
    brief.limits.timeout_ms = 50;
    let mut running = start(settings(), vec![entry(brief.clone(), functions::slow(Duration::from_secs(60)))]).await;
    let answer = running.get("/", &[]).await;
    assert_eq!(status(&answer), 504, "{answer}");
    let event = running.event().await;
    assert_eq!((event.outcome, event.status), (Outcome::Timeout, 504));

    let mut running = start(settings(), vec![entry(brief, functions::stalling())]).await;
    let answer = running.get("/", &[]).await;
    assert_eq!(status(&answer), 200);
    assert!(body(&answer).contains("begin") && !answer.ends_with("0\r\n\r\n"), "{answer}");
    let event = running.event().await;
    assert_eq!((event.outcome, event.status), (Outcome::Timeout, 200));
}

#[tokio::test]
async fn a_guest_may_work_on_after_its_announced_length() {
    let (program, feeder) = fed(|| Response::builder().header("content-length", "5"));
    let mut running = start_one(program).await;
    feeder.send("hello".into()).unwrap();
    let answer = running.get("/", &[]).await;
    assert_eq!(body(&answer), "hello");
    assert_eq!(running.gateway.counters().in_flight, 1, "the guest is still at work");
    drop(feeder);
    assert_eq!(running.event().await.outcome, Outcome::Ok);
    assert_eq!(running.gateway.counters().in_flight, 0);
}

#[tokio::test]
async fn head_and_no_content_end_well() {
    let mut running = start_one(hello()).await;
    let answer = running.raw("HEAD / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
    assert_eq!((header(&answer, "content-length"), body(&answer)), (Some("5"), ""), "{answer}");
    assert_eq!(running.event().await.outcome, Outcome::Ok);
    let (program, feeder) = fed(|| Response::builder().status(204));
    let mut running = start_one(program).await;
    assert_eq!(status(&running.get("/", &[]).await), 204);
    drop(feeder);
    assert_eq!(running.event().await.outcome, Outcome::Ok);
}

#[tokio::test]
async fn expect_continue_upgrade_and_connect() {
    let running = start_one(functions::echo()).await;
    let expecting =
        "POST / HTTP/1.1\r\nhost: a\r\nconnection: close\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\nhi";
    let answer = running.raw(expecting).await;
    assert!(answer.starts_with("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200"), "{answer}");
    assert!(answer.ends_with("\nhi") && !answer.contains("expect="), "{answer}");
    let upgrade = running.get("/", &["connection: upgrade", "upgrade: websocket"]).await;
    assert!(status(&upgrade) == 501 && upgrade.contains("upgrade_refused"), "{upgrade}");
    let connect = running.raw("CONNECT a:443 HTTP/1.1\r\nhost: a:443\r\n\r\n").await;
    assert!(status(&connect) == 501 && connect.contains("connect_refused"), "{connect}");
    let no_host = running.raw("GET / HTTP/1.1\r\nconnection: close\r\n\r\n").await;
    assert!(status(&no_host) == 400 && no_host.contains("bad_host"), "{no_host}");
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let running = start_one(functions::echo()).await;
    let one = |path: &str, more: &str| format!("GET {path} HTTP/1.1\r\nhost: a\r\n{more}\r\n");
    let answer = running.raw(&[one("/1", ""), one("/2", ""), one("/3", "connection: close\r\n")].concat()).await;
    let places: Vec<_> = ["GET /1\n", "GET /2\n", "GET /3\n"].map(|line| answer.find(line).unwrap()).into();
    assert!(places.is_sorted(), "{answer}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_program_leaves_is_done_once_the_response_is_written_and_before_the_next_request() {
    let done = Arc::new(AtomicU32::new(0));
    let (answer_read, is_read) = std::sync::mpsc::channel::<()>();
    let (is_read, counted) = (Arc::new(Mutex::new(is_read)), Arc::clone(&done));
    let program = functions::program(move |call| {
        let before = counted.load(Ordering::SeqCst);
        let (is_read, counted) = (Arc::clone(&is_read), Arc::clone(&counted));
        let work = Box::pin(async move {
            // Blocks, so that nothing else can happen meanwhile on this connection.
            is_read.lock().unwrap().recv_timeout(Duration::from_secs(20)).unwrap();
            counted.fetch_add(1, Ordering::SeqCst);
        });
        let left = afterwards::leave(work).is_ok();
        async move { (call.invocation, Ok(Response::new(full_body(format!("{left} {before}"))))) }
    });
    let running = start_one(program).await;
    let address = running.address();
    // Beside the runtime: while one of its threads blocks, no other may be looking for what has arrived.
    let client = tokio::task::spawn_blocking(move || {
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        for number in 0..3 {
            stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
            let (mut answer, expected) = (String::new(), format!("\r\n\r\ntrue {number}"));
            while !answer.ends_with(&expected) {
                let mut bytes = [0; 1024];
                let read = stream.read(&mut bytes).unwrap();
                assert!(read > 0, "{answer}");
                answer.push_str(std::str::from_utf8(&bytes[..read]).unwrap());
            }
            answer_read.send(()).unwrap();
        }
    });
    client.await.unwrap();
    until(|| done.load(Ordering::SeqCst) == 3).await;
}
