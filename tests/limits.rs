//! What a manifest says of a function holds: concurrency, isolation, stores, and whom it may call.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test fails by panicking")]

mod support;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use support::node::data_folder;
use support::{App, Command};

#[test]
fn beyond_the_limits_clients_are_told_to_come_back() {
    let app = App::misbehaving("[function.guest.limits]\nconcurrency_max = 1\nqueue_max = 0\n");
    let node = Command::up(app.path()).argument("--no-watch").start();
    let mut first = node.client();
    first.begin("GET", "/slow?ms=3000", &[], b"");
    node.wait_in_flight("guest", 1);
    let refused = node.get("/count");
    assert_eq!((refused.status, refused.reason().as_str()), (429, "function_queue_full"));
    assert_eq!(refused.header("retry-after"), "1");
    assert_eq!(first.answer().unwrap().text(), "slept 3000 ms\n");
    node.wait_in_flight("guest", 0);
    assert_eq!(node.text("/count"), "1\n");
}

#[test]
fn whoever_waits_too_long_is_told_so_and_others_get_their_turn() {
    let app = App::misbehaving("[function.guest.limits]\nconcurrency_max = 1\nqueue_max = 2\nqueue_timeout_ms = 500\n");
    let node = Command::up(app.path()).argument("--no-watch").start();
    let mut first = node.client();
    first.begin("GET", "/slow?ms=5000", &[], b"");
    node.wait_in_flight("guest", 1);
    let late = node.get("/count");
    assert_eq!((late.status, late.reason().as_str()), (503, "queue_timeout"));
    assert!(late.has("retry-after"));
    drop(first);
    node.wait_in_flight("guest", 0);
    assert_eq!(node.text("/count"), "1\n");
}

#[test]
fn a_client_that_leaves_takes_its_guest_along() {
    let node = Command::up(App::misbehaving("").path()).argument("--no-watch").start();
    for path in ["/slow?ms=25000", "/loop", "/endless", "/stall?ms=25000"] {
        let mut client = node.client();
        client.begin("GET", path, &[], b"");
        node.wait_in_flight("guest", 1);
        let left = std::time::Instant::now();
        drop(client);
        node.wait_in_flight("guest", 0);
        assert!(left.elapsed().as_secs() < 20, "{path} went on to its own end");
    }
}

#[test]
fn each_request_has_a_vm_of_its_own_unless_the_manifest_says_otherwise() {
    let fresh = Command::up(App::misbehaving("").path()).argument("--no-watch").start();
    let mut client = fresh.client();
    for _ in 0..5 {
        assert_eq!(client.get("/count").text(), "1\n");
    }
    let app = App::misbehaving("reuse = { requests_max = 3, idle_ms = \"60 s\" }");
    let reused = Command::up(app.path()).argument("--no-watch").start();
    let mut client = reused.client();
    let counts: Vec<u32> = (0..12).map(|_| client.get("/count").text().trim().parse().unwrap()).collect();
    // A request may come before the VM of the one before is free again; then it gets another one.
    assert_eq!(counts.iter().max(), Some(&3), "{counts:?}");
    assert!(counts.iter().filter(|count| **count == 1).count() >= 4, "{counts:?}");
}

#[test]
fn stores_and_variables_are_those_of_the_manifest() {
    let more = "key_value_stores = [\"default\"]\nenvironment = { COLOUR = \"blue\" }\nconfig = { shade = \"dark\" }\n";
    let app = App::misbehaving(more);
    let (_folder, data) = data_folder();
    let up = || Command::new(&["up", "--no-watch", "--data"]).argument(&data).argument(app.path()).on_free_ports();
    let node = up().start();
    assert_eq!(node.get("/kv").json()["after"], 1);
    assert_eq!(node.get("/kv").json()["after"], 2);
    assert_eq!(node.get("/kv?store=secret").status, 500, "a store that is not listed");
    let variables = node.get("/env").json();
    assert_eq!((&variables["environment"]["COLOUR"], &variables["config"]["shade"]), (&"blue".into(), &"dark".into()));
    assert!(!variables.to_string().contains(support::node::TOKEN), "nothing of the node's own environment");
    node.process.kill();
    assert_eq!(up().start().get("/kv").json()["after"], 3, "a counted value survives kill -9");
}

/// A server that counts its visitors and tells each of them `outside`.
fn outside() -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let visitors = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&visitors);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            counted.fetch_add(1, Ordering::Relaxed);
            let mut head = [0; 4096];
            let _ = stream.read(&mut head);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 8\r\nconnection: close\r\n\r\noutside\n");
        }
    });
    (address, visitors)
}

#[test]
fn only_the_hosts_of_the_manifest_are_called() {
    let (allowed, allowed_visitors) = outside();
    let (other, other_visitors) = outside();
    let named = App::misbehaving(&format!("allowed_outbound_hosts = [\"http://{allowed}\"]"));
    let node = Command::up(named.path()).argument("--no-watch").start();
    assert_eq!(node.text(&format!("/outbound?url=http://{allowed}/")), "status 200\noutside\n");
    check_denied(&node, &format!("http://{other}/"));
    check_denied(&node, "http://169.254.169.254/latest/meta-data/");
    check_denied(&node, &format!("http://{}/", node.admin));
    assert_eq!((allowed_visitors.load(Ordering::Relaxed), other_visitors.load(Ordering::Relaxed)), (1, 0));

    // "Any host" means any on the internet, not the node's own surroundings.
    let any = App::misbehaving("allowed_outbound_hosts = [\"http://*:*\"]");
    let node = Command::up(any.path()).argument("--no-watch").start();
    check_denied(&node, "http://169.254.169.254/latest/meta-data/");
    check_denied(&node, &format!("http://{other}/"));
    check_denied(&node, &format!("http://localhost:{}/", other.port()));
    check_denied(&node, &format!("http://{}/v1/functions", node.admin));
    assert_eq!(other_visitors.load(Ordering::Relaxed), 0);
}

fn check_denied(node: &support::Node, url: &str) {
    let answer = node.get(&format!("/outbound?url={url}"));
    assert_eq!(answer.status, 502, "{url}: {answer:?}");
    let text = answer.text();
    assert!(text.contains("HttpRequestDenied") || text.contains("DestinationIpProhibited"), "{url}: {text}");
}

#[test]
fn functions_that_call_themselves_end() {
    let node = Command::up(App::misbehaving("").path()).argument("--no-watch").start();
    let nested = |depth: usize| format!("{}/count", "/outbound?url=http://guest.forerun.internal".repeat(depth));
    let shallow = node.text(&nested(3));
    assert!(shallow.ends_with("status 200\n1\n"), "{shallow}");
    let deep = node.get(&nested(30)).text();
    assert!(deep.contains("LoopDetected"), "{deep}");
    // By way of the node's own address as well.
    let own = format!("/outbound?url=http://{}", node.gateway);
    let deep = node.get(&format!("{}/count", own.repeat(30))).text();
    assert!(deep.contains("LoopDetected"), "{deep}");
    node.wait_in_flight("guest", 0);
}
