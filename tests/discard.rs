//! Prepared VMs that are bad, on a real node: each failure is made up for, they are given up by name, and every answer
//! is right all the while.
//!
//! Nothing in the product knows of it: the guests tell the age of their VM by its clock, and go wrong in old ones, which
//! are those that were made ready or put back some time before.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test fails by panicking")]

mod support;

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use support::node::data_folder;
use support::{Command, Node, eventually, misbehave, repository};

/// A VM of this age is bad. New ones are entered within a few milliseconds.
const OLD_MS: u64 = 200;
/// Between two requests, so that VMs that wait for the second one are old.
const PAUSE: Duration = Duration::from_millis(300);
/// The same without a rhythm: who can tell when the next one comes makes its VM late, and it is young.
const PAUSES_MS: [u64; 7] = [300, 1_100, 500, 900, 300, 700, 1_300];
/// Requests until bad VMs must have been given up; the test proper of `verdict` needs eight failures.
const REQUESTS_MAX: usize = 20;

fn serve(data: &Path) -> Node {
    // Without optimisation learning takes twenty times as long.
    Command::serve(data).argument("--learning-cores").argument("1").start()
}

/// The guests choose what to do by the path, so functions are told apart by the host.
fn deploy(node: &Node, name: &str, component: &Path, reuse: &Value, version: &str) {
    let routes = [format!("{name}.test/...")];
    let specification = json!({ "name": name, "app": "test", "routes": routes, "reuse": reuse,
        "environment": { "VERSION": version } });
    let deployed = node.deploy(&specification, component);
    assert_eq!(deployed.status, 200, "{deployed:?}");
}

/// How a request was served, and its id.
fn ask(node: &Node, name: &str, path: &str, answer: &str) -> (String, String) {
    let response = node.client().send("GET", path, &[("host", &format!("{name}.test"))], b"");
    assert_eq!((response.status, response.text().trim()), (200, answer), "{path}: {response:?}");
    let path = response.header("server-timing").split('"').nth(1).unwrap().to_owned();
    (path, response.header("x-request-id").to_owned())
}

fn arm(node: &Node, function: &str, arm: &str) -> Value {
    node.admin_json("/v1/learning")["functions"][function]["arms"][arm].clone()
}

fn command(node: &Node, arguments: &[&str]) -> String {
    let ended = Command::new(arguments).argument("--node").argument(format!("http://{}", node.admin)).run();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    format!("{}{}", ended.stdout, ended.stderr)
}

#[test]
fn vms_that_were_put_back_and_fail_are_given_up_by_name() {
    let (_folder, data) = data_folder();
    let node = serve(&data);
    let steady = repository("tests/guests/components/steady.wasm");
    deploy(&node, "aged", &steady, &json!({ "policy": "rollback" }), "one");
    eventually("VMs to be put back", || {
        let (path, _) = ask(&node, "aged", "/aged?ms=60000", "young enough");
        (path == "rolled-back").then_some(())
    });
    let mut retried = Vec::new();
    let given_up = (0..REQUESTS_MAX).find_map(|_| {
        std::thread::sleep(PAUSE);
        let (path, id) = ask(&node, "aged", &format!("/aged?ms={OLD_MS}"), "young enough");
        if path == "generic-retried-rolled-back" {
            retried.push(id);
        }
        (path == "generic-quarantined").then_some(())
    });
    assert!(given_up.is_some() && retried.len() >= 8, "{retried:?} {:#}", arm(&node, "aged", "rolled_back"));

    let shown = arm(&node, "aged", "rolled_back");
    assert_eq!((&shown["verdict"], &shown["given_up"]["times"]), (&json!("worse"), &json!(1)), "{shown:#}");
    assert_eq!(shown["given_up"]["fault"]["kind"], "fails", "{shown:#}");
    let explained = command(&node, &["explain", &retried[0]]);
    assert!(explained.contains("generic-retried-rolled-back: standard initialization, second attempt"), "{explained}");
    assert!(explained.contains("given up  rolled-back VMs until "), "{explained}");
    let learning = command(&node, &["learning"]);
    assert!(learning.contains("aged: no rolled-back VMs until ") && learning.contains("fails: "), "{learning}");
    // Events reach the metrics a moment after the answer.
    eventually("both ways of serving in the metrics", || {
        let metrics = support::client::connect(node.admin).get("/metrics").text();
        let is_counted = |path| metrics.contains(&format!("serve_path=\"{path}\",outcome=\"ok\""));
        ["generic-retried-rolled-back", "generic-quarantined"].into_iter().all(is_counted).then_some(())
    });

    // It is kept, and a new revision is not blamed for the one before.
    node.stop();
    let node = serve(&data);
    eventually("what was given up to be given up after a restart", || {
        let (path, _) = ask(&node, "aged", "/aged?ms=60000", "young enough");
        (path == "generic-quarantined").then_some(())
    });
    deploy(&node, "aged", &steady, &json!({ "policy": "rollback" }), "two");
    eventually("VMs of the new revision to be put back", || {
        let (path, _) = ask(&node, "aged", "/aged?ms=60000", "young enough");
        (path == "rolled-back").then_some(())
    });
}

#[test]
fn vms_made_ready_that_fail_are_given_up_by_name() {
    let (_folder, data) = data_folder();
    let node = serve(&data);
    for name in ["first", "second"] {
        deploy(&node, name, &misbehave(), &json!({ "policy": "fresh" }), "one");
    }
    // Two steps in one order, again and again: a VM is ready for each before it comes, and old by then.
    let mut paths = Vec::new();
    let given_up = (0..60).find_map(|_| {
        for name in ["first", "second"] {
            std::thread::sleep(Duration::from_millis(PAUSES_MS[paths.len() % PAUSES_MS.len()]));
            paths.push(fickle(&node, name));
        }
        ["first", "second"].into_iter().find(|name| !arm(&node, name, "ready")["given_up"].is_null())
    });
    let retried = paths.iter().filter(|path| *path == "generic-retried-ready").count();
    let name = given_up.unwrap_or_else(|| panic!("{paths:?} {:#}", node.admin_json("/v1/learning")));
    let shown = arm(&node, name, "ready");
    assert!(retried >= 8 && shown["given_up"]["fault"]["kind"] == "fails", "{retried} {shown:#}");
    eventually("no VM to be held ready", || {
        let held = node.admin_json(&format!("/v1/functions/{name}/prediction"))["held_ready"]["vms"].as_u64();
        (held == Some(0)).then_some(())
    });
    std::thread::sleep(PAUSE);
    assert_eq!(fickle(&node, name), "generic-quarantined");
}

/// A request that goes wrong in an old VM; the answer is right. How it was served.
fn fickle(node: &Node, name: &str) -> String {
    ask(node, name, &format!("/fickle?old_ms={OLD_MS}"), "fine").0
}
