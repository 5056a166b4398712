//! Components that are changed before they are compiled: what was done is said, and a component that does not load is
//! tried as it was deployed.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test fails by panicking")]

mod support;

use std::fs;

use serde_json::{Value, json};
use support::node::data_folder;
use support::{Command, Node, hello};

/// A function of two core modules whose memory is larger than a function may have unless it asks for more.
fn large() -> Vec<u8> {
    let component = r#"(component
        (import "wasi:http/types@0.2.0" (instance $types
            (export "incoming-request" (type (sub resource)))
            (export "response-outparam" (type (sub resource)))))
        (alias export $types "incoming-request" (type $request))
        (alias export $types "response-outparam" (type $out))
        (core module $memory (memory (export "memory") 4000))
        (core module $main
            (import "memory" "memory" (memory 1))
            (func (export "handle") (param i32 i32) (unreachable)))
        (core instance $memory (instantiate $memory))
        (core instance $main (instantiate $main (with "memory" (instance $memory))))
        (func $handle (param "request" (own $request)) (param "response-out" (own $out))
            (canon lift (core func $main "handle")))
        (instance $handler (export "handle" (func $handle)))
        (export "wasi:http/incoming-handler@0.2.0" (instance $handler)))"#;
    wat::parse_str(component).unwrap()
}

fn images(node: &Node) -> Vec<Value> {
    node.admin_json("/v1/images")["images"].as_array().unwrap().clone()
}

#[test]
fn what_was_done_to_a_component_is_said() {
    let (_folder, data) = data_folder();
    let node = Command::serve(&data).start();
    let response = node.deploy(&json!({ "name": "hello", "routes": ["/..."] }), &hello());
    assert_eq!(response.status, 200, "{response:?}");
    assert_eq!(node.text("/"), "hello\n");
    let image = images(&node).into_iter().find(|image| image["state"] == "loaded").unwrap();
    let [linked, stated, interrupted] = image["passes"].as_array().unwrap().clone().try_into().unwrap();
    assert_eq!((&interrupted["pass"], &interrupted["applied"]), (&json!("interrupt"), &json!(false)));
    assert!(interrupted["detail"].as_str().unwrap().contains("epochs"), "a small component: {interrupted}");
    for (pass, name, says) in [(linked, "prelink", "core modules "), (stated, "state", "4 globals ")] {
        assert_eq!((&pass["pass"], &pass["applied"]), (&json!(name), &json!(true)), "{pass}");
        assert!(pass["detail"].as_str().unwrap().starts_with(says), "{pass}");
    }
    assert!(node.process.stderr().contains("the component was changed before it was compiled"));
}

/// What does not load when it is merged has a chance as it was deployed; where that does not load either, the function
/// is refused for its own reason, and the merged code serves as soon as that is gone.
#[test]
fn a_function_over_its_limits_is_not_the_fault_of_a_pass() {
    let (folder, data) = data_folder();
    let node = Command::serve(&data).start();
    let component = folder.path().join("large.wasm");
    fs::write(&component, large()).unwrap();
    let response = node.deploy(&json!({ "name": "large", "routes": ["/..."] }), &component);
    assert_eq!(response.status, 422, "{response:?}");
    assert!(response.text().contains("memory"), "{}", response.text());
    let stored = |applied: bool| {
        let was_applied = |image: &Value| image["passes"][0]["applied"].as_bool().unwrap_or(false);
        images(&node).into_iter().find(|image| image["bytes"] != 0 && was_applied(image) == applied)
    };
    assert!(stored(true).is_some() && stored(false).is_some(), "{:?}", images(&node));

    let specification = json!({ "name": "large", "routes": ["/..."], "limits": { "memory_bytes": 512 << 20 } });
    let response = node.deploy(&specification, &component);
    assert_eq!(response.status, 200, "{}", response.text());
    assert_eq!(stored(true).unwrap()["in_use"], 1);
    assert!(node.get("/").status >= 500, "it traps, as it should");
}
