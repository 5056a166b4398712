//! What a node acknowledged is there again, however it ended; and it ends in order when it is asked to.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test fails by panicking")]

mod support;

use std::net::TcpStream;

use serde_json::{Value, json};
use support::node::data_folder;
use support::{App, Command, Node, eventually, hello, misbehave, repository};

fn deployed(node: &Node, specification: &Value, component: &std::path::Path) -> u64 {
    let response = node.deploy(specification, component);
    assert_eq!(response.status, 200, "{response:?}");
    response.json()[0]["revision"].as_u64().unwrap()
}

#[test]
fn an_acknowledged_deployment_survives_kill_9() {
    let (_folder, data) = data_folder();
    let specification = json!({ "name": "hello", "routes": ["/..."] });
    for round in 1..=4_u64 {
        let node = Command::serve(&data).start();
        if round > 1 {
            // Asked at once: a request that comes before the function is compiled waits for it.
            assert_eq!(node.get("/").status, if round % 2 == 0 { 200 } else { 404 }, "round {round}");
            assert_eq!(node.function("hello")["revision"], round - 1);
        }
        let component = if round % 2 == 1 { hello() } else { misbehave() };
        assert_eq!(deployed(&node, &specification, &component), round);
        node.process.kill();
    }
}

#[test]
fn a_whole_application_answers_right_after_the_restart() {
    let (_folder, data) = data_folder();
    let up = Command::new(&["up", "--no-watch", "--data"]).argument(&data);
    let node = up.argument(repository("examples/shop")).on_free_ports().start();
    node.process.kill();
    let node = Command::serve(&data).start();
    // The page needs three functions, the checkout six; none may be compiled yet.
    std::thread::scope(|scope| {
        let page = scope.spawn(|| node.get("/"));
        let order = node.client().send("POST", "/checkout", &[("cookie", "cart=lamp.2")], b"");
        assert_eq!(order.status, 201, "{order:?}");
        let page = page.join().unwrap();
        assert!(page.status == 200 && page.text().contains("Desk lamp"), "{page:?}");
    });
    let functions = node.admin_json("/v1/functions");
    assert_eq!(functions.as_array().unwrap().len(), 7);
}

#[test]
fn rollback_and_removal_hold_after_a_restart() {
    let (_folder, data) = data_folder();
    let node = Command::serve(&data).start();
    let specification = |name: &str, routes: Value| json!({ "name": name, "routes": routes });
    deployed(&node, &specification("f", json!(["/f"])), &hello());
    deployed(&node, &specification("f", json!(["/count"])), &misbehave());
    deployed(&node, &specification("gone", json!(["/gone"])), &hello());
    assert_eq!((node.get("/f").status, node.text("/count")), (404, "1\n".to_owned()));

    let back = node.admin("POST", "/v1/functions/f/rollback", b"{}");
    assert_eq!((back.status, &back.json()["revision"]), (200, &json!(1)), "{back:?}");
    assert_eq!((node.text("/f").as_str(), node.get("/count").status), ("hello\n", 404));
    let too_far = node.admin("POST", "/v1/functions/f/rollback", b"{}");
    assert_eq!((too_far.status, too_far.reason().as_str()), (409, "no_such_revision"));
    assert_eq!(node.admin("DELETE", "/v1/functions/gone", b"").status, 204);
    assert_eq!(node.get("/gone").status, 404);
    assert_eq!(node.admin("DELETE", "/v1/functions/gone", b"").status, 404);
    node.process.kill();

    let node = Command::serve(&data).start();
    assert_eq!((node.text("/f").as_str(), node.get("/count").status), ("hello\n", 404));
    assert_eq!(node.get("/gone").status, 404);
    let revisions = node.admin_json("/v1/functions/f/revisions");
    let active = |revision: &Value| (revision["revision"].clone(), revision["active"].clone());
    let revisions: Vec<_> = revisions.as_array().unwrap().iter().map(active).collect();
    assert_eq!(revisions, [(json!(2), json!(false)), (json!(1), json!(true))]);
    let forward = node.admin("POST", "/v1/functions/f/rollback", br#"{"to":2}"#);
    assert_eq!(forward.status, 200, "{forward:?}");
    assert_eq!(node.text("/count"), "1\n");
}

#[test]
fn a_removed_function_takes_nothing_else_along_and_may_come_back() {
    let (_folder, data) = data_folder();
    let node = Command::serve(&data).start();
    let f = json!({ "name": "f", "routes": ["/f"] });
    deployed(&node, &f, &hello());
    deployed(&node, &json!({ "name": "g", "routes": ["/g"] }), &hello());
    assert_eq!(node.admin("DELETE", "/v1/functions/f", b"").status, 204);
    // The component they share is still there.
    assert_eq!(node.text("/g"), "hello\n");
    deployed(&node, &f, &hello());
    assert_eq!(node.text("/f"), "hello\n");
}

#[test]
fn a_termination_lets_requests_finish_and_takes_no_new_ones() {
    let node = Command::up(App::misbehaving("").path()).argument("--no-watch").start();
    let mut slow = node.client();
    slow.begin("GET", "/slow?ms=3000", &[], b"");
    let mut streaming = node.client();
    streaming.begin("GET", "/stall?ms=3000", &[], b"");
    node.wait_in_flight("guest", 2);
    let mut idle = node.client();
    assert_eq!(idle.get("/count").status, 200);
    node.process.signal("TERM");
    eventually("new connections refused", || TcpStream::connect(node.gateway).is_err().then_some(()));
    assert!(idle.is_closed(), "an idle connection is closed");
    assert_eq!(slow.answer().unwrap().text(), "slept 3000 ms\n");
    assert_eq!(streaming.answer().unwrap().text(), "first half\nsecond half\n");
    let ended = node.process.end();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stderr.contains("stopped"), "{}", ended.stderr);
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let node = Command::up(App::misbehaving("").path()).argument("--no-watch").start();
    let mut slow = node.client();
    slow.begin("GET", "/slow?ms=29000", &[], b"");
    node.wait_in_flight("guest", 1);
    node.process.signal("INT");
    eventually("the drain", || TcpStream::connect(node.gateway).is_err().then_some(()));
    let asked = std::time::Instant::now();
    node.process.signal("TERM");
    assert_eq!(node.process.end().code, Some(130));
    assert!(asked.elapsed().as_secs() < 15, "it waited for the request");
    assert!(slow.answer().is_err());
}
