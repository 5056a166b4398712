//! The wasm driver with real components: good ones of both versions of `wasi:http`, and one that misbehaves on request.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::time::Duration;

use bytes::Bytes;
use common::{end_of, get, load, load_image, misbehave, repository, spec};
use forerun_driver::{BodyError, GuestStream, LoadError};
use forerun_runtime::{Tier, compile};
use forerun_types::{Outcome, ReusePolicy};
use http::Request;
use http_body_util::BodyExt;
use http_body_util::channel::Channel;

#[tokio::test]
async fn both_versions_of_wasi_http_say_hello() {
    for (component, world) in [("hello", "wasi:http/proxy@0.2"), ("hello-p3", "wasi:http/service@0.3")] {
        let source = std::fs::read(repository(&format!("examples/hello/components/{component}.wasm"))).unwrap();
        let guest = load(&source, &spec()).unwrap();
        assert_eq!(guest.program.facts().world, world);
        for _ in 0..3 {
            let (status, body, end) = guest.call(get("/")).await;
            assert_eq!((status, end.outcome), (200, Outcome::Ok), "{component}: {end:?}");
            assert!(String::from_utf8_lossy(&body.unwrap()).to_lowercase().contains("hello"), "{component}");
            assert!(end.memory_bytes_peak > 0);
        }
    }
}

#[tokio::test]
async fn what_is_no_component_is_refused_by_name() {
    let hello = std::fs::read(repository("examples/hello/components/hello.wasm")).unwrap();
    let refused = |source: &[u8]| load(source, &spec()).err().expect("refused");
    assert_eq!(refused(b"not wasm at all"), LoadError::NotWasm);
    for cut in [5, 9, 1000, hello.len() / 2, hello.len() - 1] {
        assert!(
            matches!(refused(&hello[..cut]), LoadError::Malformed { .. }),
            "cut at {cut}: {}",
            refused(&hello[..cut])
        );
    }
    let wat = |name: &str| wat::parse_file(repository(&format!("tests/guests/{name}.wat"))).unwrap();
    assert_eq!(refused(&wat("core-module")), LoadError::CoreModule);
    assert!(matches!(refused(&wat("wrong-world")), LoadError::WrongWorld { .. }));
    let missing = refused(&wat("missing-import"));
    assert!(matches!(&missing, LoadError::UnknownImport { import, .. } if import.contains(':')), "{missing}");
    let mut tiny = spec();
    tiny.limits.memory_bytes = 64 << 10;
    let over = load(&hello, &tiny).err().expect("refused");
    assert!(matches!(over, LoadError::OverLimits { .. }), "{over}");
}

#[tokio::test]
async fn every_way_to_fail_has_its_outcome() {
    let mut small = spec();
    small.limits.memory_bytes = 16 << 20;
    let mut guest = misbehave(&small);
    guest.timeout = Duration::from_millis(300);
    for (path, outcome) in [
        ("/trap", Outcome::Trap),
        ("/recurse", Outcome::Trap),
        ("/exit", Outcome::Trap),
        ("/loop", Outcome::Timeout),
        ("/eat", Outcome::OutOfMemory),
        ("/never", Outcome::NoResponse),
    ] {
        let (reply, ended) = guest.begin(get(path)).await;
        assert_eq!(reply.err().map(|error| error.outcome), Some(outcome), "{path}");
        let end = end_of(ended).await;
        assert_eq!(end.outcome, outcome, "{path}");
        assert!(!end.detail.is_empty(), "{path}");
    }
    assert_eq!(guest.text("/count").await.trim(), "1", "the next request is served as if nothing had happened");
}

#[tokio::test]
async fn a_trap_after_the_head_breaks_the_body() {
    let guest = misbehave(&spec());
    let (status, body, end) = guest.call(get("/trap-after-headers")).await;
    assert_eq!(status, 200);
    assert!(matches!(body, Err(BodyError::Guest { .. })), "{body:?}");
    assert_eq!(end.outcome, Outcome::Trap);
}

#[tokio::test]
async fn bodies_stream_in_both_directions() {
    let guest = misbehave(&spec());
    let (mut sender, body) = Channel::<Bytes, BodyError>::new(1);
    let request = Request::post("/echo").header("host", "example.test").body(body.boxed_unsync()).unwrap();
    let (reply, ended) = guest.begin(request).await;
    let mut echoed = reply.unwrap().response.into_body();
    for round in 0..5 {
        let piece = Bytes::from(format!("piece {round}"));
        sender.send_data(piece.clone()).await.unwrap();
        // The piece comes back before the next is sent: nothing waits for the end of the request.
        let frame = echoed.frame().await.unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), piece);
    }
    drop(sender);
    assert!(echoed.frame().await.is_none());
    drop(echoed);
    assert_eq!(end_of(ended).await.outcome, Outcome::Ok);
}

#[tokio::test]
async fn a_large_body_arrives_whole() {
    let guest = misbehave(&spec());
    let (status, body, end) = guest.call(get("/big?bytes=5000000")).await;
    assert_eq!((status, body.unwrap().len(), end.outcome), (200, 5_000_000, Outcome::Ok));
}

#[tokio::test]
async fn a_request_body_that_breaks_off_reaches_the_guest_as_an_error() {
    let guest = misbehave(&spec());
    let (sender, body) = Channel::<Bytes, BodyError>::new(1);
    sender.abort(BodyError::PeerGone);
    let request = Request::post("/echo").header("host", "example.test").body(body.boxed_unsync()).unwrap();
    let (reply, ended) = guest.begin(request).await;
    drop(reply);
    assert!(end_of(ended).await.outcome != Outcome::Timeout);
}

#[tokio::test]
async fn leaving_stops_the_guest() {
    let guest = misbehave(&spec());
    let (reply, ended) = guest.begin(get("/endless")).await;
    let mut body = reply.unwrap().response.into_body();
    assert!(body.frame().await.unwrap().is_ok());
    drop(body);
    assert_eq!(end_of(ended).await.outcome, Outcome::ClientGone);
}

#[tokio::test]
async fn leaving_before_the_head_stops_the_guest() {
    let guest = misbehave(&spec());
    let waiting = guest.begin(get("/slow?ms=60000"));
    assert!(tokio::time::timeout(Duration::from_millis(100), waiting).await.is_err());
    // All 64 VM slots would be taken if stopped guests kept theirs.
    for _ in 0..70 {
        let waiting = guest.begin(get("/slow?ms=60000"));
        assert!(tokio::time::timeout(Duration::from_millis(5), waiting).await.is_err());
    }
    assert_eq!(guest.text("/count").await.trim(), "1");
}

#[tokio::test]
async fn a_busy_guest_lets_others_run() {
    let guest = misbehave(&spec());
    guest.lets_others_run(400).await;
}

#[tokio::test]
async fn a_fresh_vm_for_each_request_and_one_for_several_when_asked() {
    let fresh = misbehave(&spec());
    for _ in 0..3 {
        assert_eq!(fresh.text("/count").await.trim(), "1");
    }
    let mut reusing = spec();
    reusing.reuse = ReusePolicy::Reuse { requests_max: 3, idle_ms: 60_000 };
    let reused = misbehave(&reusing);
    let mut counts = Vec::new();
    for _ in 0..4 {
        counts.push(reused.text("/count").await.trim().to_owned());
        tokio::task::yield_now().await;
    }
    assert_eq!(counts, ["1", "2", "3", "1"]);
    let (_, _, end) = reused.call(get("/trap")).await;
    assert_eq!(end.outcome, Outcome::Trap);
    assert_eq!(reused.text("/count").await.trim(), "1", "a VM that trapped is not reused");
}

#[tokio::test]
async fn idle_vms_are_retired() {
    let mut reusing = spec();
    reusing.reuse = ReusePolicy::Reuse { requests_max: 100, idle_ms: 1 };
    let reused = misbehave(&reusing);
    assert_eq!(reused.text("/count").await.trim(), "1");
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!(reused.text("/count").await.trim(), "1");
}

#[tokio::test]
async fn output_goes_to_the_log_with_the_invocation() {
    let guest = misbehave(&spec());
    guest.text("/log?lines=2").await;
    let log = guest.recorded.log.lock().unwrap();
    let text = |wanted: GuestStream| -> String {
        log.iter().filter(|(_, stream, _)| *stream == wanted).map(|(_, _, text)| text.as_str()).collect()
    };
    assert!(text(GuestStream::Stdout).lines().count() >= 2, "{log:?}");
    assert!(text(GuestStream::Stderr).lines().count() >= 1, "{log:?}");
    assert!(log.iter().all(|(id, _, _)| id.as_u128() == 7));
}

#[tokio::test]
async fn environment_configuration_and_randomness_are_the_functions_own() {
    let mut with = spec();
    with.environment.insert("COLOUR".into(), "blue".into());
    with.config.insert("currency".into(), "EUR".into());
    let guest = misbehave(&with);
    let text = guest.text("/env").await;
    assert!(text.contains("COLOUR") && text.contains("blue") && text.contains("EUR"), "{text}");
    assert!(!text.contains("CARGO") && !text.contains("HOME"), "nothing of the server's own environment: {text}");
    assert_ne!(guest.text("/random").await, guest.text("/random").await);
}

#[tokio::test]
async fn key_values_outlive_the_vm_and_stay_within_the_manifest() {
    let mut with = spec();
    with.key_value_stores = vec!["default".into()];
    let guest = misbehave(&with);
    assert!(guest.text("/kv").await.contains("\"after\":1"));
    assert!(guest.text("/kv").await.contains("\"after\":2"));
    let (status, _, _) = guest.call(get("/kv?store=other")).await;
    assert_eq!(status, 500, "a store that the manifest does not list");
}

#[tokio::test]
async fn outbound_calls_carry_the_callers_trace() {
    let guest = misbehave(&spec());
    let text = guest.text("/outbound?url=http://other.forerun.internal/x").await;
    assert!(text.contains("answer of http://other.forerun.internal/x"), "{text}");
    {
        let calls = guest.recorded.calls.lock().unwrap();
        assert_eq!(calls[0].0.trace.span_id.to_string(), "00f067aa0ba902b7");
        assert_eq!(calls[0].0.function.as_str(), "guest");
    }
    let (_, body, _) = guest.call(get("/outbound?url=http://denied.test/")).await;
    assert!(String::from_utf8_lossy(&body.unwrap()).contains("HttpRequestDenied"));
}

#[tokio::test]
async fn machine_code_made_elsewhere_answers_the_same() {
    let source = std::fs::read(repository("tests/guests/components/misbehave.wasm")).unwrap();
    let whole = misbehave(&spec());
    for tier in [Tier::Quick, Tier::Full] {
        let code = compile(&source, tier, false).unwrap();
        assert_eq!(code, compile(&source, tier, true).unwrap(), "the same bytes, on one core or several");
        let guest = load_image(&source, &code, &spec()).unwrap();
        assert_eq!(guest.program.facts().compile_ms, 0);
        for path in ["/count", "/headers", "/env", "/big?bytes=100000"] {
            assert_eq!(guest.text(path).await, whole.text(path).await, "{path}");
        }
        let (_, _, end) = guest.call(get("/trap")).await;
        assert_eq!(end.outcome, Outcome::Trap);
    }
}

#[tokio::test]
async fn machine_code_that_is_not_ours_is_refused() {
    let source = std::fs::read(repository("examples/hello/components/hello.wasm")).unwrap();
    let refused = |code: &[u8]| load_image(&source, code, &spec()).err().expect("refused");
    assert!(matches!(refused(b""), LoadError::ForeignImage { .. }));
    assert!(matches!(refused(b"\x7fELF and nothing else"), LoadError::ForeignImage { .. }));
    // Machine code of a core module is none of a component.
    let core = wat::parse_str("(module)").unwrap();
    assert_eq!(compile(&core, Tier::Full, false), Err(LoadError::CoreModule));
    assert!(matches!(compile(&source[..5000], Tier::Full, false), Err(LoadError::Malformed { .. })));
}
