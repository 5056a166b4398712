//! Guests that do what a server of other people's code must survive: each ends with a named reason, and the node goes on.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test fails by panicking")]

mod support;

use serde_json::Value;
use support::{App, Command, Node};

const LIMITS: &str = r#"
[function.guest.limits]
memory_bytes = "16 MiB"
timeout_ms = 1000
response_body_bytes_max = "1 MiB"
"#;

#[test]
fn every_misdeed_has_its_reason_and_the_node_goes_on() {
    let node = Command::up(App::misbehaving(LIMITS).path()).argument("--no-watch").start();
    for (path, status, reason) in [
        ("/trap", 500, "trap"),
        ("/recurse", 500, "trap"),
        ("/exit", 500, "trap"),
        ("/loop", 504, "timeout"),
        ("/slow?ms=60000", 504, "timeout"),
        ("/eat", 500, "out_of_memory"),
        ("/never", 500, "no_response"),
    ] {
        let answer = node.get(path);
        assert_eq!((answer.status, answer.reason().as_str()), (status, reason), "{path}");
        assert!(!answer.text().contains("wasm"), "nothing of the inside is told: {}", answer.text());
        check_recorded(&node, answer.header("x-request-id"), reason, status);
        assert_eq!(node.text("/count"), "1\n", "after {path}");
    }
    check_cut(&node, "/endless", 1 << 20);
    check_cut(&node, "/trap-after-headers", 100);
    // Half a body, then a pause beyond the time-out.
    check_cut(&node, "/stall?ms=60000", 100);
    node.wait_in_flight("guest", 0);
    assert_eq!(node.text("/count"), "1\n");
    let log = node.admin("GET", "/v1/functions/guest/logs", b"").text();
    assert!(log.contains("asked to trap"), "the panic message is in the function's log: {log}");
}

fn check_recorded(node: &Node, id: &str, outcome: &str, status: u16) {
    let invocation = node.invocation(id);
    assert_eq!(invocation["outcome"], outcome, "{invocation}");
    assert_eq!(invocation["status"], status, "{invocation}");
}

/// The answer begins, is broken off in a way that the client notices, and is no longer than `bytes_max`.
fn check_cut(node: &Node, path: &str, bytes_max: usize) {
    let mut client = node.client();
    client.begin("GET", path, &[], b"");
    let head = client.head().unwrap_or_else(|error| panic!("{path}: {error}"));
    assert_eq!(head.status, 200, "{path}");
    let mut body = head.body();
    let mut bytes = 0;
    let broken = loop {
        match client.piece(&mut body) {
            Ok(Some(piece)) => bytes += piece.len(),
            Ok(None) => break false,
            Err(error) => break error.kind() != std::io::ErrorKind::WouldBlock,
        }
    };
    assert!(broken, "{path}: {bytes} bytes look like a whole answer");
    assert!(bytes > 0 && bytes <= bytes_max, "{path}: {bytes} bytes");
    assert_eq!(node.text("/count"), "1\n", "after {path}");
}

#[test]
fn a_crowd_of_misdeeds_leaves_room_for_others() {
    let node = Command::up(App::misbehaving(LIMITS).path()).argument("--no-watch").start();
    std::thread::scope(|scope| {
        for path in ["/loop", "/eat", "/endless", "/recurse", "/trap", "/never"].repeat(4) {
            let mut client = node.client();
            scope.spawn(move || {
                client.begin("GET", path, &[], b"");
                let _ = client.answer();
            });
        }
        for _ in 0..20 {
            assert_eq!(node.text("/count"), "1\n");
        }
    });
    node.wait_in_flight("guest", 0);
    let status = node.admin_json("/v1/status");
    assert_eq!((&status["in_flight"], &status["queued"]), (&Value::from(0), &Value::from(0)), "{status}");
}
