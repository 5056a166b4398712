//! Calls that functions make: to each other inside the process, and to other hosts over real sockets.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use forerun_driver::{
    Body, BodyError, Caller, Chain, Outbound, OutboundError, OutboundTimeouts, Program, empty_body, full_body,
};
use forerun_gateway::{DEPTH_MAX, FunctionEntry, GatewaySettings, OutboundSettings, RouteTable};
use forerun_types::{InvocationId, Outcome, SpanId, TraceContext};
use http::{Request, Response};
use http_body_util::BodyExt;
use support::functions::{self, hello, program};
use support::{Running, entry, settings, spec, start, status};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

const EXAMPLE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn caller(function: &str, depth: u32) -> Caller {
    let trace: TraceContext = EXAMPLE.parse().unwrap();
    Caller {
        function: function.parse().unwrap(),
        invocation: InvocationId::from_random(1),
        trace,
        chain: Chain { depth, ..Chain::begins(InvocationId::from_random(1), None) },
    }
}

async fn call(running: &Running, uri: &str) -> Result<Response<Body>, OutboundError> {
    call_with(running, uri, OutboundTimeouts::default()).await
}

async fn call_with(running: &Running, uri: &str, timeouts: OutboundTimeouts) -> Result<Response<Body>, OutboundError> {
    let request = Request::get(uri).body(empty_body()).unwrap();
    running.gateway.outbound().send(caller("caller", 0), request, timeouts).await
}

async fn text(response: Response<Body>) -> Result<String, BodyError> {
    Ok(String::from_utf8(response.into_body().collect().await?.to_bytes().to_vec()).unwrap())
}

fn caller_allowed(hosts: &[&str]) -> Arc<FunctionEntry> {
    let mut spec = spec("caller", &[]);
    spec.allowed_outbound_hosts = hosts.iter().map(|host| host.parse().unwrap()).collect();
    entry(spec, hello())
}

#[tokio::test]
async fn functions_reach_each_other_by_name_and_by_own_address() {
    let entries = vec![caller_allowed(&[]), entry(spec("echo", &["/echo/..."]), functions::echo())];
    let mut running = start(GatewaySettings { own_hosts: vec!["shop.example".into()], ..settings() }, entries).await;
    let port = running.address().port();
    for (uri, route) in [
        ("http://echo.forerun.internal/a/b?c".to_owned(), "internal"),
        ("https://Echo.spin.internal/x".to_owned(), "internal"),
        (format!("http://localhost:{port}/echo/x"), "/echo/..."),
        ("https://shop.example/echo/x".to_owned(), "/echo/..."),
    ] {
        let answer = call(&running, &uri).await.unwrap();
        assert_eq!(answer.status(), 200, "{uri}");
        let answer = text(answer).await.unwrap();
        let event = running.event().await;
        assert_eq!(&*event.class.route, route, "{uri}");
        assert_eq!(event.caller.unwrap().as_str(), "caller");
        assert_eq!(event.parent_span, Some(SpanId::from_random(0x00f0_67aa_0ba9_02b7)));
        assert!(event.trace.to_string().starts_with(&EXAMPLE[..35]));
        assert!(answer.contains(&format!("traceparent={}", event.trace)), "{answer}");
    }
    assert_eq!(running.gateway.counters().connections_total, 0, "no call left the process");
    let nobody = call(&running, "http://nobody.forerun.internal/").await.err();
    assert_eq!(nobody, Some(OutboundError::UnknownFunction { name: "nobody".into() }));
    assert_eq!(call(&running, &format!("http://localhost:{port}/none")).await.unwrap().status(), 404);
}

#[tokio::test]
async fn functions_of_another_application_are_called_where_the_manifest_names_them() {
    let other = |name: &str, routes: &[&str]| {
        let mut spec = spec(name, routes);
        spec.app = "bank".to_owned();
        entry(spec, functions::echo())
    };
    let own = || GatewaySettings { own_hosts: vec!["bank.example".into()], ..settings() };
    let start_with = async |allowed: &[&str]| {
        start(own(), vec![caller_allowed(allowed), other("vault", &["/vault/..."]), other("till", &[])]).await
    };
    let ways = |running: &Running| {
        let port = running.address().port();
        [
            "http://vault.forerun.internal/x".to_owned(),
            "http://VAULT.forerun.internal./x".to_owned(),
            "http://vault.spin.internal/x".to_owned(),
            format!("http://localhost:{port}/vault/x"),
            format!("http://127.0.0.1:{port}/vault/x"),
            "https://bank.example/vault/x".to_owned(),
        ]
    };
    for allowed in
        [&[][..], &["*://*:*"], &["http://*.forerun.internal", "https://*.example"], &["http://till.forerun.internal"]]
    {
        let running = start_with(allowed).await;
        for uri in ways(&running) {
            let refused = call(&running, &uri).await.err();
            assert!(matches!(refused, Some(OutboundError::Denied { .. })), "{allowed:?} {uri}: {refused:?}");
        }
        // Somebody else's route is not tried by the host of a header either.
        let request =
            Request::get("https://bank.example/vault/x").header("host", "elsewhere").body(empty_body()).unwrap();
        let refused = running.gateway.outbound().send(caller("caller", 0), request, OutboundTimeouts::default()).await;
        assert!(matches!(refused, Err(OutboundError::Denied { .. })));
    }
    let running = start_with(&["http://vault.forerun.internal", "https://bank.example"]).await;
    for uri in ["http://vault.forerun.internal/x", "https://bank.example/vault/x"] {
        assert_eq!(call(&running, uri).await.unwrap().status(), 200, "{uri}");
    }
    assert!(matches!(call(&running, "http://till.forerun.internal/").await, Err(OutboundError::Denied { .. })));
    // Who is not published any more belongs to no application.
    running.gateway.publish(RouteTable::build([other("till", &[])]).unwrap());
    assert!(matches!(call(&running, "http://till.forerun.internal/").await, Err(OutboundError::Denied { .. })));
}

#[tokio::test]
async fn a_failing_callee_answers_with_its_status() {
    let entries = vec![caller_allowed(&[]), entry(spec("bad", &[]), functions::failing(Outcome::Trap))];
    let running = start(settings(), entries).await;
    let answer = call(&running, "http://bad.forerun.internal/").await.unwrap();
    assert_eq!(answer.status(), 500);
    assert!(text(answer).await.unwrap().contains("\"reason\":\"trap\""));
}

/// A function that calls itself by name, passing on what it gets.
fn recursive(outbound: Arc<dyn Outbound>) -> Arc<dyn Program> {
    program(move |call| {
        let outbound = Arc::clone(&outbound);
        async move {
            let request = Request::get("http://again.forerun.internal/").body(empty_body()).unwrap();
            let caller = Caller {
                function: "again".parse().unwrap(),
                invocation: call.invocation.id,
                trace: call.invocation.trace,
                chain: call.invocation.chain,
            };
            let response = match outbound.send(caller, request, OutboundTimeouts::default()).await {
                Ok(response) => response,
                Err(error) => Response::new(full_body(error.to_string())),
            };
            (call.invocation, Ok(response))
        }
    })
}

#[tokio::test]
async fn a_function_that_calls_itself_ends() {
    let running = start(settings(), vec![]).await;
    let mut spec = spec("again", &["/..."]);
    let endless = entry(spec.clone(), recursive(running.gateway.outbound()));
    running.gateway.publish(RouteTable::build([endless]).unwrap());
    let answer = running.get("/", &[]).await;
    assert!(answer.contains(&format!("more than {DEPTH_MAX} deep")), "{answer}");

    spec.limits.concurrency_max = 1;
    spec.limits.queue_timeout_ms = 50;
    let narrow = entry(spec, recursive(running.gateway.outbound()));
    running.gateway.publish(RouteTable::build([narrow]).unwrap());
    let answer = running.get("/", &[]).await;
    assert!(status(&answer) == 503 && answer.contains("queue_timeout"), "{answer}");
}

/// A server that answers every connection with `answer` and tells what it was sent.
async fn server(answer: &'static str) -> (u16, tokio::sync::mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (tell, told) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let tell = tell.clone();
            tokio::spawn(async move {
                let mut bytes = vec![0; 4096];
                let length = stream.read(&mut bytes).await.unwrap_or(0);
                let _ = tell.send(String::from_utf8_lossy(&bytes[..length]).into_owned());
                let _ = stream.write_all(answer.as_bytes()).await;
                std::future::pending::<()>().await;
            });
        }
    });
    (port, told)
}

#[tokio::test]
async fn other_hosts_only_as_the_manifest_says() {
    let (port, mut told) = server("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
    let literal = format!("http://127.0.0.1:{port}");
    let running = start(settings(), vec![caller_allowed(&[&literal])]).await;
    let mut request = Request::get(format!("{literal}/path")).body(empty_body()).unwrap();
    request.headers_mut().insert("host", "spoofed.example".parse().unwrap());
    request.headers_mut().insert("te", "trailers".parse().unwrap());
    let sent = running.gateway.outbound().send(caller("caller", 0), request, OutboundTimeouts::default()).await;
    assert_eq!(text(sent.unwrap()).await.unwrap(), "ok");
    let seen = told.recv().await.unwrap();
    assert!(seen.starts_with("GET /path HTTP/1.1\r\n") && seen.contains(&format!("traceparent: {EXAMPLE}")), "{seen}");
    assert!(seen.contains(&format!("host: 127.0.0.1:{port}")) && !seen.contains("te:"), "{seen}");

    let other = call(&running, &format!("http://localhost:{port}/")).await;
    assert_eq!(other.err(), Some(OutboundError::Denied { destination: format!("http://localhost:{port}") }));
    assert!(matches!(call(&running, "ftp://a/").await, Err(OutboundError::BadUri { .. })));
    let request = Request::get(&literal).body(empty_body()).unwrap();
    let stranger = running.gateway.outbound().send(caller("stranger", 0), request, OutboundTimeouts::default()).await;
    assert!(matches!(stranger, Err(OutboundError::Denied { .. })));
}

#[tokio::test]
async fn a_wildcard_does_not_open_the_surroundings() {
    let (port, _told) = server("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
    let literal = format!("http://127.0.0.1:{port}");
    let mut friend = spec("friend", &[]);
    friend.allowed_outbound_hosts = vec![literal.parse().unwrap()];
    let running = start(settings(), vec![caller_allowed(&["*://*:*"]), entry(friend, hello())]).await;
    // A connection that another function may have must not be lent out.
    let request = Request::get(&literal).body(empty_body()).unwrap();
    let allowed = running.gateway.outbound().send(caller("friend", 0), request, OutboundTimeouts::default()).await;
    assert_eq!(text(allowed.unwrap()).await.unwrap(), "ok");
    for host in ["127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "169.254.169.254", "2130706433"] {
        let refused = call(&running, &format!("http://{host}:{port}/")).await;
        assert!(matches!(refused, Err(OutboundError::ForbiddenAddress { .. } | OutboundError::Dns { .. })), "{host}");
    }
}

#[tokio::test]
async fn a_host_named_literally_may_be_private() {
    let (port, _told) = server("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
    let named = format!("http://localhost:{port}");
    let running = start(settings(), vec![caller_allowed(&[&named])]).await;
    assert_eq!(text(call(&running, &named).await.unwrap()).await.unwrap(), "ok");
}

#[tokio::test]
async fn what_goes_wrong_has_a_name() {
    let (silent, _) = server("").await;
    let (junk, _) = server("this is not http\r\n\r\n").await;
    let (stalls, _) = server("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nbegin").await;
    let (large, _) = server("HTTP/1.1 200 OK\r\ncontent-length: 30\r\n\r\n012345678901234567890123456789").await;
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let outbound = OutboundSettings { response_body_bytes_max: 20, ..OutboundSettings::default() };
    let allowed = ["http://127.0.0.1:*", "https://127.0.0.1:*", "http://nowhere.invalid"];
    let running = start(GatewaySettings { outbound, ..settings() }, vec![caller_allowed(&allowed)]).await;
    let brief = Some(Duration::from_millis(50));
    let brief = OutboundTimeouts { connect: None, first_byte: brief, between_bytes: brief };
    let at = |port: u16| format!("http://127.0.0.1:{port}/");
    assert!(matches!(call_with(&running, &at(silent), brief).await, Err(OutboundError::ResponseTimeout)));
    assert!(matches!(call(&running, &at(junk)).await, Err(OutboundError::Protocol { .. })));
    assert!(matches!(call(&running, &at(closed)).await, Err(OutboundError::Connect { .. })));
    assert!(matches!(call(&running, "http://nowhere.invalid/").await, Err(OutboundError::Dns { .. })));
    let tls = call(&running, &at(junk).replace("http:", "https:")).await;
    assert!(matches!(tls, Err(OutboundError::Tls { .. })));
    let stalled = text(call_with(&running, &at(stalls), brief).await.unwrap()).await;
    assert_eq!(stalled, Err(BodyError::Timeout));
    assert_eq!(text(call(&running, &at(large)).await.unwrap()).await, Err(BodyError::TooLarge { max_bytes: 20 }));
}

#[tokio::test]
async fn a_request_body_streams_out() {
    let (port, mut told) = server("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    let literal = format!("http://127.0.0.1:{port}");
    let running = start(settings(), vec![caller_allowed(&[&literal])]).await;
    let request = Request::post(&literal).body(full_body(Bytes::from("sent"))).unwrap();
    let answer = running.gateway.outbound().send(caller("caller", 0), request, OutboundTimeouts::default()).await;
    assert_eq!(answer.unwrap().status(), 200);
    let seen = told.recv().await.unwrap();
    assert!(seen.contains("content-length: 4") && seen.ends_with("sent"), "{seen}");
}

#[tokio::test]
async fn the_operator_calls_by_name() {
    let mut running = start(settings(), vec![entry(spec("inner", &[]), hello())]).await;
    let name = "inner".parse().unwrap();
    let answer = running.gateway.invoke(&name, Request::get("/").body(empty_body()).unwrap()).await.unwrap();
    assert_eq!(text(answer).await.unwrap(), "hello");
    assert_eq!(&*running.event().await.class.route, "internal");
    let none = "none".parse().unwrap();
    assert!(running.gateway.invoke(&none, Request::new(empty_body())).await.is_err());
}

#[tokio::test]
async fn a_new_revision_takes_over_between_requests() {
    let (program, feeder) = functions::fed(Response::builder);
    let old = entry(spec("only", &["/..."]), program);
    let mut running = start(settings(), vec![Arc::clone(&old)]).await;
    let mut stream = running.connect().await;
    feeder.send("old ".into()).unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut first = [0; 8];
    stream.read_exact(&mut first).await.unwrap();
    let admission = Arc::clone(&old.admission);
    let new = FunctionEntry::new(Arc::clone(&old.spec), forerun_types::RevisionNumber(2), hello(), admission);
    running.gateway.publish(RouteTable::build([Arc::new(new)]).unwrap());
    assert!(running.get("/", &[]).await.ends_with("hello"));
    assert_eq!(running.event().await.revision.0, 2);
    assert_eq!(old.admission.in_flight(), 1, "both revisions count together");
    feeder.send("end".into()).unwrap();
    drop(feeder);
    let mut rest = String::new();
    stream.read_to_string(&mut rest).await.unwrap();
    assert!(rest.contains("old") && rest.contains("end"), "{rest}");
    assert_eq!(running.event().await.revision.0, 1);
}
