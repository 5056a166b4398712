//! Connections that misbehave, HTTP/2, TLS, disconnects, full queues and shutdown, through a real listener.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use forerun_gateway::{BindError, CertificateFiles, Gateway, GatewaySettings, Refusal};
use forerun_telemetry::event_pipe;
use forerun_types::{FunctionLimits, FunctionSpec, Outcome};
use http::{Request, Version};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::ServerName;
use support::functions::{self, Door, hello};
use support::{entry, settings, spec, start, start_one, status, until};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

/// Reads until the server closes.
async fn rest(mut stream: TcpStream) -> String {
    let mut all = Vec::new();
    let _ = stream.read_to_end(&mut all).await;
    String::from_utf8_lossy(&all).into_owned()
}

fn impatient() -> GatewaySettings {
    let brief = Duration::from_millis(80);
    GatewaySettings { header_read_timeout: brief, idle_timeout: brief, ..settings() }
}

#[tokio::test]
async fn a_slow_head_is_closed_and_counted() {
    let patient = Duration::from_secs(600);
    let running =
        start(GatewaySettings { idle_timeout: patient, ..impatient() }, vec![entry(spec("only", &["/..."]), hello())])
            .await;
    // Before the protocol is known, in the first head, and in the second.
    for bytes in ["G", "GET / HTTP/1.1\r\nhost:", "GET / HTTP/1.1\r\nhost: a\r\n\r\nGET /"] {
        let before = running.gateway.counters().closed_slow_head_total;
        let mut stream = running.connect().await;
        let (now, later) = bytes.split_at(bytes.rfind("GET /").unwrap_or(0));
        if !now.is_empty() {
            stream.write_all(now.as_bytes()).await.unwrap();
            let mut hello = [0; 512];
            assert!(stream.read(&mut hello).await.unwrap() > 0);
        }
        stream.write_all(later.as_bytes()).await.unwrap();
        assert_eq!(rest(stream).await, "");
        assert_eq!(running.gateway.counters().closed_slow_head_total, before + 1, "{bytes}");
    }
}

#[tokio::test]
async fn an_idle_connection_is_closed_and_a_busy_one_is_not() {
    let door = Arc::new(Door::default());
    let running = start(impatient(), vec![entry(spec("only", &["/..."]), door.program())]).await;
    let mut busy = running.connect().await;
    busy.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    until(|| door.entered() == 1).await;
    let idle = running.connect().await;
    assert_eq!(rest(idle).await, "");
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(running.gateway.counters().in_flight, 1);
    door.let_one_pass();
    assert!(rest(busy).await.contains("passed"));
    assert_eq!(running.gateway.counters().closed_idle_total, 2);
}

#[tokio::test]
async fn huge_heads_are_refused() {
    let running = start_one(hello()).await;
    let soft = running.get("/", &[&format!("x-big: {}", "y".repeat(70_000))]).await;
    assert!(status(&soft) == 431 && soft.contains("headers_too_large"), "{}", &soft[..300.min(soft.len())]);
    let hard = running.get("/", &[&format!("x-big: {}", "y".repeat(400_000))]).await;
    assert!(matches!(status(&hard), 431 | 0), "{hard}");
    let lines: Vec<String> = (0..200).map(|index| format!("x-{index}: 1")).collect();
    let many = running.get("/", &lines.iter().map(String::as_str).collect::<Vec<_>>()).await;
    assert_eq!(status(&many), 431);
    assert_eq!(status(&running.get("/", &[]).await), 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_thousand_idle_connections_do_not_disturb() {
    let running = start_one(hello()).await;
    let mut idle = Vec::new();
    for _ in 0..400 {
        idle.push(running.connect().await);
    }
    // The usual limit of open files is 1,024, and both ends are here; more only where it is allowed.
    while idle.len() < 2000 {
        match TcpStream::connect(running.address()).await {
            Ok(stream) => idle.push(stream),
            Err(_) => break,
        }
        if running.gateway.counters().accept_errors_total > 0 {
            idle.truncate(300);
            break;
        }
    }
    for _ in 0..20 {
        assert_eq!(status(&running.get("/", &[]).await), 200);
    }
    assert!(running.gateway.counters().connections >= 300);
    drop(idle);
    until(|| running.gateway.counters().connections == 0).await;
}

#[tokio::test]
async fn no_more_connections_than_allowed_are_open() {
    let running =
        start(GatewaySettings { connections_max: 2, ..settings() }, vec![entry(spec("only", &["/..."]), hello())])
            .await;
    let (one, two) = (running.connect().await, running.connect().await);
    until(|| running.gateway.counters().connections == 2).await;
    let third = running.get("/", &[]);
    tokio::pin!(third);
    assert!(tokio::time::timeout(Duration::from_millis(50), &mut third).await.is_err(), "it waits");
    drop((one, two));
    assert_eq!(status(&third.await), 200);
    assert!(running.gateway.counters().connections_full_total >= 1);
}

type Http2Client = http2::SendRequest<Empty<Bytes>>;

async fn http2_client<S: AsyncRead + AsyncWrite + Send + Unpin + 'static>(stream: S) -> Http2Client {
    let (client, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    client
}

async fn http2_get(mut client: Http2Client, uri: &str) -> (u16, Bytes) {
    let request = Request::get(uri).body(Empty::new()).unwrap();
    let response = client.send_request(request).await.unwrap();
    assert_eq!(response.version(), Version::HTTP_2);
    (response.status().as_u16(), response.into_body().collect().await.unwrap().to_bytes())
}

#[tokio::test]
async fn http2_streams_run_side_by_side() {
    let door = Arc::new(Door::default());
    let entries = vec![entry(spec("door", &["/door"]), door.program()), entry(spec("hello", &["/hello"]), hello())];
    let mut running = start(settings(), entries).await;
    let client = http2_client(running.connect().await).await;
    let waiting = tokio::spawn(http2_get(client.clone(), "http://a/door"));
    until(|| door.entered() == 1).await;
    assert_eq!(http2_get(client.clone(), "http://a/hello").await, (200, Bytes::from("hello")));
    assert_eq!(http2_get(client.clone(), "http://a/none").await.0, 404);
    door.let_one_pass();
    assert_eq!(waiting.await.unwrap(), (200, Bytes::from("passed")));
    assert_eq!(running.event().await.outcome, Outcome::Ok);
}

#[tokio::test]
async fn an_http2_stream_that_is_reset_stops_its_guest() {
    let door = Arc::new(Door::default());
    let mut running = start_one(door.program()).await;
    let client = http2_client(running.connect().await).await;
    let waiting = tokio::spawn(http2_get(client.clone(), "http://a/"));
    until(|| door.entered() == 1).await;
    waiting.abort();
    until(|| door.stopped() == 1).await;
    assert_eq!(running.event().await.outcome, Outcome::ClientGone);
}

#[tokio::test]
async fn an_http2_client_that_takes_nothing_is_reset_in_time() {
    let mut brief = spec("only", &["/..."]);
    brief.limits.timeout_ms = 50;
    let mut running = start(settings(), vec![entry(brief, functions::endless())]).await;
    let mut client = http2_client(running.connect().await).await;
    let request = Request::get("http://a/").body(Empty::new()).unwrap();
    let response = client.send_request(request).await.unwrap();
    // The body is held and never read: flow control stops the server.
    assert_eq!(running.event().await.status, 200);
    assert_eq!(running.gateway.counters().in_flight, 0);
    drop(response);
}

#[tokio::test]
async fn an_http1_client_that_takes_nothing_is_closed_in_time() {
    let mut brief = spec("only", &["/..."]);
    brief.limits.timeout_ms = 50;
    let mut running = start(settings(), vec![entry(brief, functions::endless())]).await;
    let mut stream = running.connect().await;
    stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    assert_eq!(running.event().await.status, 200);
    until(|| running.gateway.counters().closed_slow_reader_total == 1).await;
}

#[tokio::test]
async fn tls_offers_both_protocols_and_bad_certificates_are_named() {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let folder = std::env::temp_dir().join(format!("forerun-gateway-tls-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let files = CertificateFiles { chain: folder.join("chain.pem"), key: folder.join("key.pem") };
    std::fs::write(&files.chain, made.cert.pem()).unwrap();
    std::fs::write(&files.key, made.signing_key.serialize_pem()).unwrap();
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let secure =
        GatewaySettings { listen: vec![], listen_tls: vec![any], certificate: Some(files.clone()), ..impatient() };
    let running = start(secure.clone(), vec![entry(spec("only", &["/..."]), hello())]).await;
    assert!(running.bound[0].tls);
    let mut roots = rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    for protocol in ["h2", "http/1.1"] {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder =
            rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let mut config = builder.with_root_certificates(roots.clone()).with_no_client_auth();
        config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        let mut stream =
            connector.connect(ServerName::try_from("localhost").unwrap(), running.connect().await).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(protocol.as_bytes()));
        if protocol == "h2" {
            assert_eq!(http2_get(http2_client(stream).await, "https://localhost/").await.0, 200);
        } else {
            stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await.unwrap();
            let mut answer = String::new();
            let _ = stream.read_to_string(&mut answer).await;
            assert!(answer.ends_with("hello"), "{answer}");
        }
    }
    // A client that says nothing at all in the handshake.
    assert_eq!(rest(running.connect().await).await, "");
    assert_eq!(running.gateway.counters().handshake_failures_total, 1);

    std::fs::write(&files.key, "no key").unwrap();
    let bind = |settings| Gateway::new(settings, event_pipe(1).0, None).unwrap().bind();
    assert!(matches!(bind(secure.clone()), Err(BindError::Certificate(_))));
    assert!(matches!(bind(GatewaySettings { certificate: None, ..secure }), Err(BindError::Certificate(_))));
    std::fs::remove_dir_all(&folder).unwrap();
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let running = start_one(hello()).await;
    let again = GatewaySettings { listen: vec![running.address()], ..settings() };
    let error = Gateway::new(again, event_pipe(1).0, None).unwrap().bind().unwrap_err();
    assert_eq!(error, BindError::InUse { address: running.address() });
}

#[tokio::test]
async fn a_client_that_leaves_stops_its_guest() {
    let door = Arc::new(Door::default());
    let mut running = start_one(door.program()).await;
    let mut stream = running.connect().await;
    stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    until(|| door.entered() == 1).await;
    drop(stream);
    until(|| door.stopped() == 1).await;
    let event = running.event().await;
    assert_eq!((event.outcome, event.status), (Outcome::ClientGone, 499));
    assert_eq!(running.gateway.counters().in_flight, 0);
}

fn narrow(concurrency_max: u32, queue_max: u32, queue_timeout_ms: u64) -> FunctionSpec {
    let mut spec = spec("only", &["/..."]);
    spec.limits = FunctionLimits { concurrency_max, queue_max, queue_timeout_ms, ..FunctionLimits::default() };
    spec
}

#[tokio::test]
async fn full_queues_refuse_and_waiting_has_an_end() {
    let door = Arc::new(Door::default());
    let function = entry(narrow(1, 1, 300), door.program());
    let mut running = start(settings(), vec![Arc::clone(&function)]).await;
    let (gateway, address) = (running.gateway.clone(), running.address());
    let inside = tokio::spawn(async move {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await.unwrap();
        rest(stream).await
    });
    until(|| door.entered() == 1).await;
    // One waits and leaves: its place is free again.
    let mut leaving = running.connect().await;
    leaving.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    until(|| function.admission.queued() == 1).await;
    drop(leaving);
    until(|| function.admission.queued() == 0).await;
    let mut waiting = running.connect().await;
    waiting.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await.unwrap();
    until(|| function.admission.queued() == 1).await;
    let full = running.get("/", &[]).await;
    assert!(status(&full) == 429 && full.contains("function_queue_full") && full.contains("retry-after: 1"), "{full}");
    let late = rest(waiting).await;
    assert!(status(&late) == 503 && late.contains("queue_timeout") && late.contains("retry-after: 1"), "{late}");
    door.let_one_pass();
    assert!(inside.await.unwrap().contains("passed"));
    let refused = gateway.counters().refused_total;
    let count = |refusal: Refusal| refused.iter().find(|(own, _)| *own == refusal).unwrap().1;
    assert_eq!((count(Refusal::FunctionQueueFull), count(Refusal::QueueTimeout)), (1, 1));
    let mut outcomes = Vec::new();
    for _ in 0..4 {
        outcomes.push(running.event().await.outcome.label());
    }
    outcomes.sort_unstable();
    assert_eq!(outcomes, ["client_gone", "ok", "rejected", "rejected"]);
}

#[tokio::test]
async fn a_permit_is_held_until_the_guest_has_ended() {
    let (program, feeder) = functions::fed(http::Response::builder);
    let function = entry(narrow(1, 0, 0), program);
    let running = start(settings(), vec![Arc::clone(&function)]).await;
    feeder.send("first".into()).unwrap();
    let mut stream = running.connect().await;
    stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut head = [0; 16];
    stream.read_exact(&mut head).await.unwrap();
    assert_eq!(function.admission.in_flight(), 1);
    assert_eq!(status(&running.get("/", &[]).await), 429);
    drop(feeder);
    rest(stream).await;
    until(|| function.admission.in_flight() == 0).await;
}

#[tokio::test]
async fn draining_finishes_what_runs_and_refuses_what_comes() {
    let door = Arc::new(Door::default());
    let running = start_one(door.program()).await;
    let idle = running.connect().await;
    let mut busy = running.connect().await;
    busy.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    until(|| door.entered() == 1).await;
    until(|| running.gateway.counters().connections == 2).await;
    let gateway = running.gateway.clone();
    let drain = tokio::spawn(async move { gateway.drain(Duration::from_secs(20)).await });
    assert_eq!(rest(idle).await, "");
    assert!(TcpStream::connect(running.address()).await.is_err(), "nobody listens any more");
    door.let_one_pass();
    let answer = rest(busy).await;
    assert!(answer.contains("passed") && answer.contains("connection: close"), "{answer}");
    let report = drain.await.unwrap();
    assert_eq!((report.connections_cut, report.requests_cut), (0, 0));
}

#[tokio::test]
async fn what_outlasts_the_drain_is_cut_and_reported() {
    let door = Arc::new(Door::default());
    let running = start_one(door.program()).await;
    let client = http2_client(running.connect().await).await;
    let waiting = tokio::spawn({
        let mut client = client.clone();
        async move { client.send_request(Request::get("http://a/").body(Empty::new()).unwrap()).await.is_err() }
    });
    let mut busy = running.connect().await;
    busy.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    until(|| door.entered() == 2).await;
    let report = running.gateway.drain(Duration::from_millis(50)).await;
    assert_eq!((report.connections_cut, report.requests_cut), (2, 2));
    until(|| door.stopped() == 2).await;
    assert!(waiting.await.unwrap());
    assert_eq!(rest(busy).await, "");
}
