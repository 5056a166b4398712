//! The loop on a real node: what is called again and again in one order is ready before it is called, every answer
//! says so, and what was learnt is there again after a restart.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test fails by panicking")]

mod support;

use std::time::Duration;

use serde_json::{Value, json};
use support::node::data_folder;
use support::{Command, Ended, Node, hello};

/// Steps of a session, always in this order.
const STEPS: [&str; 3] = ["look", "fill", "pay"];
/// Between two steps: longer than the loop needs to look, shorter than a test may last.
const THINK: Duration = Duration::from_millis(120);
/// Sessions until the order must have been learnt.
const SESSIONS_MAX: usize = 60;

fn deploy_steps(node: &Node) {
    for name in STEPS {
        let specification = json!({ "name": name, "app": "shop", "routes": [format!("/{name}")] });
        assert_eq!(node.deploy(&specification, &hello()).status, 200);
    }
}

/// One session; the serve path of each step and its id.
fn session(node: &Node) -> Vec<(String, String)> {
    let step = |name: &&str| {
        std::thread::sleep(THINK);
        let response = node.get(&format!("/{name}"));
        assert_eq!((response.status, response.text().trim()), (200, "hello"), "{response:?}");
        let timing = response.header("server-timing");
        let path = timing.split('"').nth(1).unwrap().to_owned();
        (path, response.header("x-request-id").to_owned())
    };
    STEPS.iter().map(step).collect()
}

/// Goes through sessions until a whole one was served by VMs made ready.
fn sessions_until_ready(node: &Node) -> Vec<(String, String)> {
    for _ in 0..SESSIONS_MAX {
        let served = session(node);
        if served.iter().all(|(path, _)| path == "ready") {
            return served;
        }
    }
    panic!("no session was ready in {SESSIONS_MAX}: {:#}", node.admin_json("/v1/learning"));
}

fn command(node: &Node, arguments: &[&str]) -> Ended {
    let ended = Command::new(arguments).argument("--node").argument(format!("http://{}", node.admin)).run();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    ended
}

#[test]
fn what_comes_in_one_order_is_ready_before_it_comes() {
    let (_folder, data) = data_folder();
    let node = Command::serve(&data).start();
    deploy_steps(&node);
    let first = session(&node);
    assert!(first.iter().all(|(path, _)| path.starts_with("generic-")), "{first:?}");
    let served = sessions_until_ready(&node);

    let explained = command(&node, &["explain", &served[1].1]);
    assert!(explained.stdout.contains("path      ready"), "{explained:?}");
    assert!(explained.stdout.contains("expected  yes") && explained.stdout.contains("after "), "{explained:?}");
    let predicted = command(&node, &["predict", "look"]);
    // The session ended with `pay`, so the next call of the application is the first of another one.
    assert!(predicted.stdout.contains("look"), "{predicted:?}");
    let learning = node.admin_json("/v1/learning");
    assert!(learning["functions"]["fill"]["served_ready_total"].as_u64() > Some(0), "{learning:#}");

    // Ended in order, it has kept what it knows; killed later, it still has it.
    node.stop();
    let node = Command::serve(&data).start();
    let prediction = node.admin_json("/v1/functions/look/prediction");
    assert!(prediction["prediction"]["calls"].as_u64() > Some(0), "{prediction:#}");
    sessions_until_ready(&node);
}

#[test]
fn without_learning_nothing_is_made_ready() {
    let (_folder, data) = data_folder();
    let node = Command::serve(&data).argument("--no-learning").start();
    deploy_steps(&node);
    for _ in 0..5 {
        let served = session(&node);
        assert!(served.iter().all(|(path, _)| path == "generic-no-image"), "{served:?}");
        let explanation = node.admin_json(&format!("/v1/invocations/{}/explain", served[0].1));
        assert_eq!(explanation["learning_enabled"], Value::Bool(false));
    }
    assert_eq!(node.admin_json("/v1/learning"), json!({ "enabled": false }));
}

#[test]
fn what_was_learnt_and_is_damaged_is_set_aside() {
    let (_folder, data) = data_folder();
    std::fs::create_dir_all(&data).unwrap();
    for garbage in [b"".as_slice(), b"\xff\xff\xff\xff\xff\xff\xff\xff", b"\x02\0\0\0\0\0\0\0{}FRPREDCT"] {
        std::fs::write(data.join("learning.bin"), garbage).unwrap();
        let node = Command::serve(&data).start();
        assert_eq!(node.admin_json("/v1/learning")["enabled"], true);
        node.stop();
        assert!(data.join("learning.unusable").exists());
        std::fs::remove_file(data.join("learning.unusable")).unwrap();
    }
}
