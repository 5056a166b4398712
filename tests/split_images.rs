//! Layer 2 on a real node: what requests run is learnt, an image of just that is made, tried beside the whole component
//! and serves; answers stay the same on every path, and an image that misses too much is given up.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test fails by panicking")]

mod support;

use std::path::Path;

use serde_json::{Value, json};
use support::node::data_folder;
use support::{Command, Node, eventually_within, misbehave};

/// Building takes worker processes of a debug build.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(120);

fn start(data: &Path) -> Node {
    // All the time there is for sampling, and no component is too small: this is about what is done, not when it pays.
    let node = Command::serve(data).argument("--sample-share").argument("1");
    node.argument("--split-min-kib").argument("0").start()
}

fn deploy(node: &Node) {
    let specification =
        json!({ "name": "guest", "routes": ["/status", "/env", "/headers", "/count", "/echo", "/trap"] });
    assert_eq!(node.deploy(&specification, &misbehave()).status, 200);
}

fn specialization(node: &Node) -> Value {
    node.admin_json("/v1/functions/guest/profile")["specialization"].clone()
}

/// Calls the path that is learnt until the image is in `state`.
fn call_until(node: &Node, state: &str) -> Value {
    eventually_within(state, PATIENCE, || {
        (0..5).for_each(|_| assert_eq!(node.get("/status?code=201").status, 201));
        let specialization = specialization(node);
        (specialization["image_name"] == state).then_some(specialization)
    })
}

#[test]
fn an_image_of_just_what_requests_run_serves_and_answers_as_the_whole() {
    let (_folder, data) = data_folder();
    let node = start(&data);
    deploy(&node);
    let before: Vec<_> = ["/env", "/count", "/status?code=404"].map(|path| node.get(path)).into();
    // No profile yet, and that is said.
    let early =
        Command::new(&["profile", "guest", "--json", "--node"]).argument(format!("http://{}", node.admin)).run();
    assert!(early.code == Some(1) && early.stderr.contains("no profile of `guest` yet"), "{early:?}");

    let serving = call_until(&node, "serving");
    let image = &serving["image"];
    let (kept, all) = (image["functions_kept"].as_u64().unwrap(), image["functions"].as_u64().unwrap());
    assert!(kept > 3 && kept < all, "{kept} of {all} functions kept");
    assert!(image["hot_permille"].as_u64().unwrap() < 900, "{image}");
    assert!(image["compared"].as_u64().unwrap() >= 1, "{image}");
    // The code of what was not expected comes behind the rest.
    for kind in ["t1-primary", "t1-groups", "t1-cold-code"] {
        eventually_within(kind, PATIENCE, || {
            let kinds = node.admin_json("/v1/images");
            kinds["images"].as_array().unwrap().iter().any(|image| image["kind"] == kind).then_some(())
        });
    }

    // What nobody expected is loaded, and answers are what they were.
    for (path, expected) in ["/env", "/count", "/status?code=404"].iter().zip(&before) {
        let answer = node.get(path);
        assert_eq!((answer.status, answer.text()), (expected.status, expected.text()), "{path}");
    }
    let echo = node.client().send("POST", "/echo", &[], b"some text");
    assert_eq!((echo.status, echo.text()), (200, "some text".to_owned()));
    // A trap is a trap, and the next request is served.
    assert_eq!(node.get("/trap").status, 500);
    assert_eq!(node.get("/status?code=202").status, 202);

    let shown = Command::new(&["profile", "guest", "--node"]).argument(format!("http://{}", node.admin)).run();
    assert!(shown.stdout.contains("serves:") && shown.stdout.contains("confidence"), "{shown:?}");
    let images = Command::new(&["images", "guest", "--node"]).argument(format!("http://{}", node.admin)).run();
    assert!(images.stdout.contains("misses in 1,000 requests"), "{images:?}");

    // The profile is what `forerun split` reads, and by it the same parts are made without the node.
    let profile =
        Command::new(&["profile", "guest", "--json", "--node"]).argument(format!("http://{}", node.admin)).run();
    let file = data.join("profile.json");
    std::fs::write(&file, &profile.stdout).unwrap();
    let (profile, parts) = (file.to_str().unwrap(), data.join("parts"));
    let split =
        Command::new(&["split", misbehave().to_str().unwrap(), "--profile", profile, "-o"]).argument(&parts).run();
    assert_eq!(split.code, Some(0), "{split:?}");
    assert!(parts.join("primary.wasm").is_file() && parts.join("index.json").is_file());
}

#[test]
fn an_image_that_misses_too_much_is_given_up_by_name() {
    let (_folder, data) = data_folder();
    let node = start(&data);
    deploy(&node);
    call_until(&node, "serving");
    // Requests turn to something else altogether.
    let given_up = eventually_within("the image is given up", PATIENCE, || {
        (0..20).for_each(|_| assert_eq!(node.get("/headers").status, 200));
        let specialization = specialization(&node);
        (specialization["image_name"] == "too_many_misses").then_some(specialization)
    });
    assert!(given_up["image"]["counts"]["misses"].as_u64().unwrap() > 0, "{given_up}");
    assert!(given_up["image_line"].as_str().unwrap().starts_with("given up: "), "{given_up}");
    // It stays given up, by that name, while nothing new is learnt; the node looks every two seconds.
    std::thread::sleep(std::time::Duration::from_secs(3));
    assert_eq!(specialization(&node)["image_name"], "too_many_misses");
    assert_eq!(node.get("/headers").status, 200);
    assert_eq!(node.get("/status?code=203").status, 203);
}

#[test]
fn the_operators_switch_brings_the_whole_component_back() {
    let (_folder, data) = data_folder();
    let node = start(&data);
    deploy(&node);
    call_until(&node, "serving");
    let switched = node.admin("PUT", "/v1/learning", br#"{"mode":"observe"}"#);
    assert_eq!(switched.status, 200);
    call_until(&node, "switched_off");
    assert_eq!(node.get("/status?code=204").status, 204);
    // And back: the image is there still, and did no harm.
    assert_eq!(node.admin("PUT", "/v1/learning", br#"{"mode":"full"}"#).status, 200);
    call_until(&node, "serving");
}

/// Requests run other code in a VM that is warm than in a new one, so samples are taken in warm ones, and an image of what
/// they ran keeps its VMs warm.
#[test]
fn warmed_up_vms_stay_so_with_an_image_of_what_they_run() {
    let (_folder, data) = data_folder();
    let node = start(&data);
    let specification = json!({
        "name": "guest",
        "routes": ["/learnt", "/count"],
        "reuse": { "policy": "warm" },
        "warm_up": [{ "path": "/learn" }],
    });
    let component = support::repository("tests/guests/components/steady.wasm");
    assert_eq!(node.deploy(&specification, &component).status, 200);
    let vms = |node: &Node| node.admin_json("/v1/functions")[0]["vms"].clone();
    eventually_within("a state that has passed its test", PATIENCE, || {
        node.get("/count");
        (vms(&node)["policy"] == "warm").then_some(())
    });
    let (mut client, mut sampled) = (node.client(), 0);
    let serving = eventually_within("serving", PATIENCE, || {
        // A sample costs many times what such a request does, so that few are taken.
        for _ in 0..100 {
            let answer = client.get("/learnt");
            if answer.header("server-timing").contains("generic-sampled") {
                sampled += 1;
                assert_eq!(answer.text(), "yes", "sampled in a VM that is as others are");
            }
        }
        let specialization = specialization(&node);
        (specialization["image_name"] == "serving").then_some(specialization)
    });
    assert!(sampled >= 16, "{sampled} samples");
    let kept = serving["image"]["functions_kept"].as_u64();
    assert!(kept < serving["image"]["functions"].as_u64(), "{serving}");
    eventually_within("warm VMs of the image", PATIENCE, || {
        assert_eq!(node.get("/count").text(), "1");
        let vms = vms(&node);
        assert_eq!(vms["not_warm"], Value::Null, "{vms}");
        (vms["policy"] == "warm" && vms["rolled_back"].as_u64() > Some(20)).then_some(())
    });
    // Not one of the control group's, which a new VM serves.
    let learnt = eventually_within("a request in a warm VM", PATIENCE, || {
        let answer = node.get("/learnt");
        answer.header("server-timing").contains("\"rolled-back\"").then(|| answer.text().to_owned())
    });
    assert_eq!(learnt, "yes");
}

/// A state that has not passed its test is not found by sampled requests either.
#[test]
fn sampled_requests_find_no_warm_up_that_others_do_not() {
    let (_folder, data) = data_folder();
    let node = start(&data);
    let specification = json!({
        "name": "guest",
        "routes": ["/count"],
        "reuse": { "policy": "warm" },
        "warm_up": [{ "path": "/count" }],
    });
    let component = support::repository("tests/guests/components/steady.wasm");
    assert_eq!(node.deploy(&specification, &component).status, 200);
    let mut sampled = 0;
    eventually_within("sampled requests", PATIENCE, || {
        let answer = node.get("/count");
        assert_eq!(answer.text(), "1", "{answer:?}");
        sampled += u32::from(answer.header("server-timing").contains("generic-sampled"));
        (sampled >= 8).then_some(())
    });
    assert_ne!(node.admin_json("/v1/functions")[0]["vms"]["not_warm"], Value::Null);
}
