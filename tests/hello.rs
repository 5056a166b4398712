//! The smallest functions, of both versions of `wasi:http`, over every protocol that the gateway speaks.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test fails by panicking")]

mod support;

use std::sync::Arc;

use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper_util::rt::{TokioExecutor, TokioIo};
use support::client::dial;
use support::{Client, Command, PATIENCE, repository};

const FUNCTIONS: [&str; 2] = ["/hello", "/hello-p3"];

#[test]
fn both_versions_answer_over_http_1_and_http_2() {
    let node = Command::up(&repository("examples/hello")).start();
    // All on one connection, which stays open.
    let mut client = node.client();
    for path in FUNCTIONS {
        let answer = client.get(path);
        assert_eq!((answer.status, answer.text().as_str()), (200, "hello\n"), "{path}");
    }
    let unknown = client.get("/nobody");
    assert_eq!((unknown.status, unknown.reason().as_str()), (404, "no_route"));
    assert_eq!(node.admin_json("/v1/functions/hello")["world"], "wasi:http/proxy@0.2");
    assert_eq!(node.admin_json("/v1/functions/hello-p3")["world"], "wasi:http/service@0.3");

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let over_http_2 = async { tokio::time::timeout(PATIENCE, over_http_2(node.gateway)).await };
    runtime.block_on(over_http_2).unwrap();
    // The connection ends with its runtime.
    drop(runtime);
    assert_eq!(node.stop().code, Some(0));
}

#[test]
fn an_idle_http_2_client_that_is_gone_does_not_hold_up_the_end() {
    let node = Command::up(&repository("examples/hello")).start();
    // The runtime stays and runs nothing: a client that is connected and silent.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(PATIENCE, over_http_2(node.gateway)).await }).unwrap();
    let asked = std::time::Instant::now();
    assert_eq!(node.stop().code, Some(0));
    assert!(asked.elapsed().as_secs() < 15, "it waited for a client without a request");
}

/// Prior knowledge, both requests at once.
async fn over_http_2(address: std::net::SocketAddr) {
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let answer = |path: &str| {
        let uri = format!("http://{address}{path}");
        let request = hyper::Request::get(uri).body(Empty::<Bytes>::new()).unwrap();
        let mut sender = sender.clone();
        async move {
            let response = sender.send_request(request).await.unwrap();
            assert_eq!((response.status().as_u16(), response.version()), (200, hyper::Version::HTTP_2));
            assert!(response.headers().contains_key("x-request-id"));
            assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "hello\n");
        }
    };
    tokio::join!(answer(FUNCTIONS[0]), answer(FUNCTIONS[1]));
}

#[test]
fn with_a_certificate_it_speaks_tls_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let issued = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (certificate, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    std::fs::write(&certificate, issued.cert.pem()).unwrap();
    std::fs::write(&key, issued.signing_key.serialize_pem()).unwrap();
    let command = Command::up(&repository("examples/hello")).argument("--tls-cert").argument(&certificate);
    let node = command.argument("--tls-key").argument(&key).start();
    assert!(node.process.stderr().contains("serving on https://"));

    let mut roots = rustls::RootCertStore::empty();
    roots.add(issued.cert.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = Arc::new(config.with_root_certificates(roots).with_no_client_auth());
    let session = rustls::ClientConnection::new(config, "localhost".try_into().unwrap()).unwrap();
    let mut client = Client::new(rustls::StreamOwned::new(session, dial(node.gateway)));
    for path in FUNCTIONS {
        assert_eq!(client.get(path).text(), "hello\n", "{path}");
    }
    // Plain HTTP on the same port is refused, not answered.
    let mut plain = node.client();
    plain.begin("GET", FUNCTIONS[0], &[], b"");
    assert!(plain.head().is_err());
}
