//! What an operator can get wrong before or while a node starts, and what cannot be deployed to one that runs: each
//! with an error that says what to do, and nothing lost.

#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs, reason = "a test fails by panicking")]

mod support;

use std::fs;
use std::net::TcpListener;
use std::path::Path;

use serde_json::json;
use support::node::data_folder;
use support::{App, Command, Ended, Node, eventually, hello, misbehave, repository};

/// The process ended with `code` and said all of `texts`.
fn check_refused(ended: &Ended, code: i32, texts: &[&str]) {
    assert_eq!(ended.code, Some(code), "{ended:?}");
    for text in texts {
        assert!(ended.stderr.contains(text), "no `{text}` in\n{}", ended.stderr);
    }
    assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
    assert_eq!(ended.stdout, "", "stdout is for data");
}

fn wat(name: &str) -> Vec<u8> {
    wat::parse_file(repository(&format!("tests/guests/{name}.wat"))).unwrap()
}

/// Sources that are no functions, with what is said about each.
fn bad_components() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let whole = fs::read(hello()).unwrap();
    vec![
        ("empty", Vec::new(), "not a WebAssembly file"),
        ("text", b"#!/bin/sh\n".to_vec(), "not a WebAssembly file"),
        ("cut", whole[..whole.len() / 2].to_vec(), "malformed or cut off"),
        ("module", wat("core-module"), "a core WebAssembly module, not a component"),
        ("adder", wat("wrong-world"), "exports no wasi:http handler"),
        ("weather", wat("missing-import"), "example:weather/forecast"),
    ]
}

#[test]
fn up_says_what_is_wrong_with_a_component() {
    let up = |name: &str, bytes: &[u8]| {
        let app = App::new(&format!("[function.{name}]\nsource = \"app.wasm\"\nroutes = [\"/\"]\n"));
        app.file("app.wasm", bytes);
        Command::up(app.path()).run()
    };
    for (name, bytes, said) in bad_components().into_iter().filter(|(_, bytes, _)| !bytes.is_empty()) {
        check_refused(&up(name, &bytes), 1, &["error:", &format!("`{name}`"), said, "hint:"]);
    }
    // This is seen while the manifest is read.
    check_refused(&up("empty", b""), 1, &["app.wasm` is empty", "forerun.toml:7"]);
}

#[test]
fn a_running_node_refuses_bad_components_and_goes_on() {
    let (_folder, data) = data_folder();
    let node = Command::serve(&data).start();
    let good = json!({ "name": "hello", "routes": ["/hello"] });
    assert_eq!(node.deploy(&good, &hello()).status, 200);
    for (name, bytes, said) in bad_components() {
        let digest = node.upload(&bytes);
        for specification in [json!({ "name": name, "routes": ["/new"] }), good.clone()] {
            let refused = node.deploy_stored(&specification, &digest);
            assert_eq!((refused.status, refused.reason().as_str()), (422, "bad_component"), "{name}");
            assert!(refused.text().contains(said), "no `{said}` in {}", refused.text());
        }
    }
    let refuse = |specification: serde_json::Value, status: u16, reason: &str| {
        let refused = node.deploy(&specification, &misbehave());
        assert_eq!((refused.status, refused.reason().as_str()), (status, reason), "{specification}");
    };
    refuse(json!({ "name": "thief", "routes": ["/hello"] }), 409, "route_taken");
    refuse(json!({ "name": "big", "limits": { "memory_bytes": 1 } }), 422, "bad_specification");
    refuse(json!({ "name": "No Name" }), 400, "bad_request");
    refuse(json!({ "name": "unknown", "rotues": ["/x"] }), 400, "bad_request");
    let missing = node.deploy_stored(&json!({ "name": "gone" }), &support::node::digest_of(b"nowhere"));
    assert!(missing.status >= 400 && missing.status != 500, "{missing:?}");

    assert_eq!(node.text("/hello"), "hello\n");
    let names: Vec<_> =
        node.admin_json("/v1/functions").as_array().unwrap().iter().map(|f| f["spec"]["name"].clone()).collect();
    assert_eq!(names, ["hello"]);
    assert_eq!(node.function("hello")["revision"], 1);
}

#[test]
fn manifest_mistakes_point_at_the_line() {
    let app = App::new("[function.hello]\nsource = \"app.wasm\"\nrotues = [\"/\"]\n");
    app.component("app.wasm", &hello());
    check_refused(&Command::up(app.path()).run(), 1, &["rotues", "forerun.toml:8", "did you mean `routes`"]);

    let two = "[function.a]\nsource = \"app.wasm\"\nroutes = [\"/x\"]\n[function.b]\nsource = \"app.wasm\"\nroutes = [\"/x\"]\n";
    app.manifest(two);
    check_refused(&Command::up(app.path()).run(), 1, &["/x", "forerun.toml:11", "`a`"]);

    app.manifest("[function.hello]\nsource = \"nowhere.wasm\"\n");
    check_refused(&Command::up(app.path()).run(), 1, &["nowhere.wasm", "forerun.toml:7"]);

    let nowhere = app.path().join("no-such-folder");
    check_refused(&Command::up(&nowhere).run(), 1, &["no-such-folder"]);
}

#[test]
fn a_command_line_without_sense_is_no_command() {
    check_refused(&Command::new(&["serve", "--listen", "nonsense"]).run(), 2, &["nonsense"]);
    check_refused(&Command::new(&["serve", "--no-such-option"]).run(), 2, &["--no-such-option"]);
    check_refused(&Command::new(&["serve", "--log", "a=b=c"]).run(), 2, &["--log"]);
    let same = ["serve", "--listen", "127.0.0.1:4711", "--admin", "127.0.0.1:4711"];
    check_refused(&Command::new(&same).run(), 2, &["--listen and --admin"]);
}

#[test]
fn an_address_in_use_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for (option, other) in [("--listen", "--admin"), ("--admin", "--listen")] {
        let arguments = ["serve", "--data", "data", option, &address, other, "127.0.0.1:0"];
        check_refused(&Command::new(&arguments).run(), 1, &[&address, "in use", "hint:", option]);
    }
}

#[test]
fn a_data_folder_has_one_node() {
    let (_folder, data) = data_folder();
    let node = Command::serve(&data).start();
    assert_eq!(node.deploy(&json!({ "name": "hello", "routes": ["/"] }), &hello()).status, 200);
    let second = Command::serve(&data).run();
    check_refused(&second, 1, &["in use by another node", "hint:"]);
    assert_eq!(node.text("/"), "hello\n");
    assert!(data.join("node.json").is_file(), "the second node has not taken the first one's announcement away");
}

#[test]
fn data_of_a_newer_release_is_left_alone() {
    let (_folder, data) = data_folder();
    let node = Command::serve(&data).start();
    assert_eq!(node.deploy(&json!({ "name": "hello", "routes": ["/"] }), &hello()).status, 200);
    assert_eq!(node.stop().code, Some(0));
    let database = data.join("registry.db");
    let before = set_format(&database, 9999);
    let bytes = fs::read(&database).unwrap();
    check_refused(&Command::serve(&data).run(), 1, &["written by a newer release (format 9999", "hint:"]);
    assert_eq!(fs::read(&database).unwrap(), bytes, "nothing was written");
    set_format(&database, before);
    assert_eq!(Command::serve(&data).start().text("/"), "hello\n");
}

/// The user version of an SQLite file: four bytes at 60, big-endian (<https://sqlite.org/fileformat.html>).
fn set_format(database: &Path, format: u32) -> u32 {
    let mut bytes = fs::read(database).unwrap();
    let field = &mut bytes[60..64];
    let before = u32::from_be_bytes((&*field).try_into().unwrap());
    field.copy_from_slice(&format.to_be_bytes());
    fs::write(database, bytes).unwrap();
    before
}

/// Exit code of the shell below when this system allows no mount.
const NO_MOUNT: i32 = 77;
const ON_A_SMALL_DISK: &str = r#"mount -t tmpfs -o size=6m tmpfs "$1" || exit 77; shift; exec "$@""#;

#[test]
fn a_full_disk_is_named_and_serving_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let disk = folder.path().to_str().unwrap();
    let shell = ["--mount", "sh", "-c", ON_A_SMALL_DISK, "sh", disk];
    let serve = [env!("CARGO_BIN_EXE_forerun"), "serve", "--data", &format!("{disk}/data")];
    let mut process = Command::through("unshare", &[&shell[..], &serve[..]].concat()).on_free_ports().begin();
    let started = eventually("a node or an end", || {
        (process.has_ended() || process.stderr().contains("admin API on")).then(|| process.stderr())
    });
    if !started.contains("admin API on") {
        println!("SKIPPED: a small disk needs a mount namespace: {started} (exit {NO_MOUNT} or 1)");
        return;
    }
    let node = Node::of(process);
    let hello_spec = json!({ "name": "hello", "routes": ["/"] });
    assert_eq!(node.deploy(&hello_spec, &hello()).status, 200);
    let refused = (0_u32..40).find_map(|turn| {
        let filler: Vec<u8> = turn.to_le_bytes().repeat(64 << 10);
        let digest = support::node::digest_of(&filler);
        let response = node.admin("PUT", &format!("/v1/components/{digest}"), &filler);
        (response.status != 200).then_some(response)
    });
    let refused = refused.expect("10 MB do not fit on 6");
    assert_eq!((refused.status, refused.reason().as_str()), (507, "storage"), "{refused:?}");
    assert!(refused.text().contains("disk is full"), "{}", refused.text());
    for _ in 0..20 {
        assert_eq!(node.text("/"), "hello\n");
    }
    assert_eq!(node.function("hello")["revision"], 1);
    let ended = node.stop();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
}
