//! A large component that is deployed again is compiled where it differs, and serves as if it had been compiled whole.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test fails by panicking")]

mod support;

use std::fs;

use serde_json::json;
use support::app::misbehaving;
use support::node::data_folder;
use support::{App, Command, Node, eventually, misbehave};

/// The misbehaving guest, made as large as components are that take long to compile, by a section that nobody reads.
fn large(content: u8) -> Vec<u8> {
    const CONTENT_BYTES: usize = 3 << 20;
    let mut component = fs::read(misbehave()).unwrap();
    let name = b"\x07padding";
    let mut size = Vec::new();
    let mut rest = name.len() + CONTENT_BYTES;
    while rest >= 0x80 {
        size.push((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    size.push(rest as u8);
    component.push(0);
    component.extend_from_slice(&size);
    component.extend_from_slice(name);
    component.extend(std::iter::repeat_n(content, CONTENT_BYTES));
    component
}

fn said(node: &Node) -> bool {
    node.process.stderr().contains("compiled where it differs from the one before")
}

#[test]
fn a_redeployed_component_is_compiled_where_it_differs() {
    let app = App::new(&misbehaving(""));
    app.file("misbehave.wasm", &large(1));
    let node = Command::up(app.path()).start();
    let before = node.text("/env");
    // First in a hurry; then what is kept for the next deployment is left by the code that stays.
    eventually("optimised code", || node.process.stderr().contains("optimised code serves now").then_some(()));
    assert!(!said(&node));
    app.file("misbehave.wasm", &large(2));
    eventually("the new revision", || (node.function("guest")["revision"] == 2).then_some(()));
    assert!(said(&node), "{}", node.process.stderr());
    assert_eq!(node.text("/env"), before);
    // And the one after that goes by what this one left.
    app.file("misbehave.wasm", &large(3));
    eventually("a third revision", || (node.function("guest")["revision"] == 3).then_some(()));
    assert_eq!(node.process.stderr().matches("compiled where it differs").count(), 2);
    assert_eq!(node.text("/env"), before);
}

#[test]
fn what_was_kept_and_is_damaged_costs_time_only() {
    let app = App::new(&misbehaving(""));
    app.file("misbehave.wasm", &large(1));
    let node = Command::new(&["up"]).argument(app.path()).on_free_ports().start();
    eventually("optimised code", || node.process.stderr().contains("optimised code serves now").then_some(()));
    let images = app.path().join(".forerun/images");
    for entry in walk(&images) {
        let mut bytes = fs::read(&entry).unwrap();
        let middle = bytes.len() / 2;
        if let Some(byte) = bytes.get_mut(middle) {
            *byte ^= 1;
        }
        fs::write(&entry, bytes).unwrap();
    }
    app.file("misbehave.wasm", &large(2));
    eventually("the new revision", || (node.function("guest")["revision"] == 2).then_some(()));
    assert!(!said(&node), "{}", node.process.stderr());
    assert_eq!(node.get("/env").status, 200);
}

/// What a component leaves is of use to the deployments of its function alone, and so is what is made with it: another
/// function that has the same component gets code of that component only.
#[test]
fn what_one_function_leaves_reaches_no_other() {
    let (_folder, data) = data_folder();
    let node = Command::serve(&data).start();
    let folder = tempfile::tempdir().unwrap();
    let deploy = |name: &str, app: &str, content: u8| {
        let component = folder.path().join("large.wasm");
        fs::write(&component, large(content)).unwrap();
        let deployed = node.deploy(&json!({ "name": name, "app": app }), &component);
        assert_eq!(deployed.status, 200, "{deployed:?}");
        deployed.json()[0]["compile_ms"].as_u64().unwrap()
    };
    deploy("first", "one", 1);
    eventually("optimised code", || node.process.stderr().contains("optimised code serves now").then_some(()));
    deploy("first", "one", 2);
    assert!(said(&node), "{}", node.process.stderr());
    // The same component, for another function, and for one of that name in another application.
    assert!(deploy("second", "one", 2) > 0, "compiled, and as a whole");
    deploy("second", "one", 1);
    assert!(deploy("first", "two", 3) > 0);
    assert_eq!(node.process.stderr().matches("compiled where it differs").count(), 1, "{}", node.process.stderr());
    // After a restart it is there for its own.
    node.stop();
    let node = Command::serve(&data).start();
    assert!(!node.process.stderr().contains("the component was changed"), "nothing is compiled");
    assert_eq!(node.function("second")["state"], "ready");
}

/// All files below a folder.
fn walk(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}
