//! Machine code kept on disk: made in a worker process, there again after a restart, and believed only when it is ours.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test fails by panicking")]

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use support::node::data_folder;
use support::{Command, Node, eventually, hello};

fn deployed(node: &Node) {
    let response = node.deploy(&json!({ "name": "hello", "routes": ["/..."] }), &hello());
    assert_eq!(response.status, 200, "{response:?}");
}

fn images(node: &Node) -> Vec<Value> {
    node.admin_json("/v1/images")["images"].as_array().unwrap().clone()
}

/// The fully optimised code of the only component.
fn whole(node: &Node) -> Value {
    images(node).into_iter().find(|image| image["kind"] == "t2-full").unwrap()
}

fn files(data: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(data.join("images")).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.extension().is_some_and(|extension| extension == "image")).collect()
}

#[test]
fn what_a_worker_made_serves_again_after_a_restart() {
    let (_folder, data) = data_folder();
    let node = Command::serve(&data).start();
    deployed(&node);
    let made = whole(&node);
    assert_eq!(made["in_use"], 1, "{made:?}");
    assert!(made["build_ms"].as_u64().unwrap() > 0, "a process made it");
    node.process.kill();

    let node = Command::serve(&data).start();
    assert_eq!(node.text("/"), "hello\n");
    assert_eq!(node.function("hello")["compile_ms"], 0, "nothing was compiled");
    let kept = whole(&node);
    assert_eq!((&kept["state"], &kept["hits"]), (&json!("loaded"), &json!(1)), "{kept:?}");
}

#[test]
fn a_file_that_was_changed_is_refused_removed_and_made_again() {
    let (_folder, data) = data_folder();
    let node = Command::serve(&data).start();
    deployed(&node);
    node.process.kill();
    for damage in [|bytes: &mut Vec<u8>| bytes[4000] ^= 1, |bytes: &mut Vec<u8>| bytes.truncate(9000)] {
        let [file] = files(&data).try_into().unwrap();
        let mut bytes = fs::read(&file).unwrap();
        damage(&mut bytes);
        fs::write(&file, bytes).unwrap();

        let node = Command::serve(&data).start();
        assert_eq!(node.text("/"), "hello\n");
        let gone = node.admin_json("/v1/images")["gone"].to_string();
        assert!(gone.contains("tampered") || gone.contains("torn"), "{gone}");
        eventually("the image is made again", || {
            images(&node).iter().any(|image| image["kind"] == "t2-full").then_some(())
        });
        node.process.kill();
    }
}

#[test]
fn a_cache_that_disappears_costs_no_answer() {
    let (_folder, data) = data_folder();
    let node = Command::serve(&data).start();
    deployed(&node);
    fs::remove_dir_all(data.join("images")).unwrap();
    assert_eq!(node.text("/"), "hello\n");
    let other = node.deploy(&json!({ "name": "other", "routes": ["/other"] }), &hello());
    assert_eq!(other.status, 200, "{other:?}");
    assert_eq!(node.text("/other"), "hello\n");
}

/// Of several functions of one component, only the first to ask used to get its optimised code; the others kept what was
/// made in a hurry until the node was started again.
#[test]
fn functions_of_one_component_all_get_its_optimised_code() {
    let (_folder, data) = data_folder();
    let node = Command::serve(&data).start();
    let mut component = fs::read(hello()).unwrap();
    // A custom section that nobody reads makes it large enough to be compiled in a hurry first: 3 MiB and the length of
    // its name, which is 0.
    let size = (3 << 20) + 1_u32;
    component.push(0);
    component.extend([size as u8 | 0x80, (size >> 7) as u8 | 0x80, (size >> 14) as u8 | 0x80, (size >> 21) as u8]);
    component.resize(component.len() + size as usize, 0);
    let digest = node.upload(&component);
    let names = ["one", "two", "three"];
    let functions =
        names.map(|name| json!({ "spec": { "name": name, "routes": [format!("/{name}")] }, "component": digest }));
    let response = node.admin("POST", "/v1/deployments", json!({ "functions": functions }).to_string().as_bytes());
    assert_eq!(response.status, 200, "{response:?}");
    assert!(images(&node).iter().any(|image| image["kind"] == "t0-quick"), "{:?}", images(&node));
    eventually("all of them to run optimised code", || {
        let whole = images(&node).into_iter().find(|image| image["kind"] == "t2-full")?;
        (whole["in_use"] == names.len()).then_some(())
    });
    assert_eq!(node.text("/three"), "hello\n");
}
