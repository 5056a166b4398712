//! Clients that send too much, too slowly, or nothing at all.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test fails by panicking")]

mod support;

use std::net::TcpStream;
use std::time::{Duration, Instant};

use rustix::process::{Resource, getrlimit, setrlimit};
use support::client::{Client, connect, dial};
use support::{App, Command, PATIENCE, eventually};

const SMALL: &str = "[function.guest.limits]\nrequest_body_bytes_max = \"64 KiB\"\n";

#[test]
fn too_much_is_refused_by_name() {
    let node = Command::up(App::misbehaving(SMALL).path()).argument("--no-watch").start();
    let send = |headers: &[(&str, &str)], body: &[u8]| node.client().send("POST", "/echo", headers, body);

    let large = "v".repeat(70 << 10);
    let refused = send(&[("x-large", &large)], b"");
    assert_eq!((refused.status, refused.reason().as_str()), (431, "headers_too_large"));
    let names: Vec<String> = (0..200).map(|index| format!("x-many-{index}")).collect();
    let many: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "v")).collect();
    assert_eq!(send(&many, b"").status, 431);
    check_answered_before_the_end(node.client(), 431);

    let body = vec![b'x'; (64 << 10) + 1];
    let refused = send(&[], &body);
    assert_eq!((refused.status, refused.reason().as_str()), (413, "request_too_large"));
    assert_eq!(send(&[], &body[1..]).body.len(), 64 << 10, "exactly the limit is accepted");
    check_a_long_body_without_a_length(node.client());

    for (request, status) in [
        ("GET / HTTP/1.1\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n", 400),
        ("CONNECT a:443 HTTP/1.1\r\nhost: a:443\r\n\r\n", 501),
        ("GET / HTTP/1.1\r\nhost: a\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n", 501),
        ("nonsense\r\n\r\n", 400),
        ("POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: -1\r\n\r\n", 400),
        ("POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello", 400),
    ] {
        let mut client = node.client();
        client.raw(request.as_bytes()).unwrap();
        assert_eq!(client.head().unwrap().status, status, "{request:?}");
    }
    assert_eq!(node.text("/count"), "1\n");
}

/// A head of a megabyte, of which the server need not read more than it wants.
fn check_answered_before_the_end(mut client: Client<TcpStream>, status: u16) {
    client.raw(b"GET / HTTP/1.1\r\nhost: a\r\n").unwrap();
    let line = format!("x-endless: {}\r\n", "v".repeat(1000));
    // The server may close before the last line is written.
    let sent = (0..1000).take_while(|_| client.raw(line.as_bytes()).is_ok()).count();
    match client.head() {
        Ok(head) => assert_eq!(head.status, status, "after {sent} lines"),
        // What was still on its way makes the system reset the connection.
        Err(error) => assert!(error.kind() != std::io::ErrorKind::WouldBlock, "no answer after {sent} lines"),
    }
}

/// Whoever does not say how much comes is stopped when it is too much.
fn check_a_long_body_without_a_length(mut client: Client<TcpStream>) {
    client.raw(b"POST /echo HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n").unwrap();
    let piece = [b"1000\r\n".to_vec(), vec![b'x'; 0x1000], b"\r\n".to_vec()].concat();
    let whole = (0..64).all(|_| client.raw(&piece).is_ok()) && client.raw(b"0\r\n\r\n").is_ok();
    let answer = client.answer();
    assert!(!(whole && answer.as_ref().is_ok_and(|answer| answer.status == 200)), "256 KiB went through: {answer:?}");
}

#[test]
fn a_slow_client_is_cut_off_and_disturbs_nobody() {
    let node = Command::up(App::misbehaving("").path()).argument("--no-watch").start();
    let mut slow: Vec<_> = (0..50).map(|_| node.client().patience(Duration::from_millis(1))).collect();
    slow.iter_mut().for_each(|client| client.raw(b"GET /count HTTP/1.1\r\nhost: a\r\n").unwrap());
    let until = Instant::now() + PATIENCE;
    while !slow.is_empty() {
        assert!(Instant::now() < until, "{} slow clients are still connected", slow.len());
        slow.retain_mut(|client| client.raw(b"x: y\r\n").is_ok() && !client.is_closed());
        assert_eq!(node.text("/count"), "1\n");
        std::thread::sleep(Duration::from_millis(300));
    }
}

/// As many descriptors as the process may have; for this test and, by inheritance, for nothing else.
fn raise_descriptor_limit(wanted: u64) {
    let mut limit = getrlimit(Resource::Nofile);
    let maximum = limit.maximum.unwrap_or(u64::MAX);
    assert!(maximum >= wanted, "this system allows {maximum} descriptors: `ulimit -Hn`");
    limit.current = Some(limit.current.unwrap_or(u64::MAX).max(wanted));
    setrlimit(Resource::Nofile, limit).unwrap();
}

#[test]
fn two_thousand_idle_connections_leave_room_for_others() {
    const CONNECTIONS: usize = 2000;
    let app = App::misbehaving("");
    // The usual limit of a login shell; a server has to raise it by itself.
    let shell = ["-c", "ulimit -Sn 1024; exec \"$@\"", "sh", env!("CARGO_BIN_EXE_forerun"), "up", "--ephemeral"];
    let node = Command::through("sh", &shell).argument(app.path()).on_free_ports().start();
    raise_descriptor_limit(4096);
    let mut idle: Vec<TcpStream> = (0..CONNECTIONS).map(|_| dial(node.gateway)).collect();
    eventually("all connections accepted", || {
        (node.admin_json("/v1/status")["connections"].as_u64() >= Some(CONNECTIONS as u64)).then_some(())
    });
    assert_eq!(node.text("/count"), "1\n");
    for stream in idle.drain(..).step_by(100) {
        assert_eq!(Client::new(stream).get("/count").text(), "1\n");
    }
    eventually("all connections closed", || {
        (node.admin_json("/v1/status")["connections"].as_u64() < Some(10)).then_some(())
    });
    assert_eq!(connect(node.gateway).get("/count").status, 200);
}
