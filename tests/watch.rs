//! `up` keeps a node like its manifest: a change is served without a lost request, a mistake changes nothing.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test fails by panicking")]

mod support;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use support::{App, Command, Node, eventually, hello, misbehave};

fn function(name: &str, more: &str) -> String {
    format!("[function.{name}]\nsource = \"{name}.wasm\"\nroutes = [\"/{name}/...\", \"/count\"]\n{more}\n")
}

/// Makes a change, again each second until it is `taken_up`: see `a_change_during_a_deployment_is_not_lost`.
fn change(what: &str, make: impl Fn(), mut taken_up: impl FnMut() -> bool) {
    let mut made = None;
    eventually(what, || {
        if made.is_none_or(|made: Instant| made.elapsed() > Duration::from_secs(1)) {
            make();
            made = Some(Instant::now());
        }
        taken_up().then_some(())
    });
}

fn is_revision(node: &Node, name: &str, revision: u64) -> bool {
    node.function(name)["revision"] == revision
}

/// Asks without a pause while `change` happens; every answer must be one of the two versions'.
fn while_asking(node: &Node, change: impl FnOnce()) -> usize {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let asking: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let mut asked = 0;
                    let mut client = node.client();
                    while !done.load(Ordering::Relaxed) {
                        let text = client.get("/count").text();
                        assert!(text == "hello\n" || text == "1\n", "{text}");
                        assert!(["hello\n", "1\n"].contains(&node.text("/count").as_str()));
                        asked += 2;
                    }
                    asked
                })
            })
            .collect();
        change();
        done.store(true, Ordering::Relaxed);
        asking.into_iter().map(|asking| asking.join().unwrap()).sum()
    })
}

#[test]
fn a_new_component_is_served_without_a_lost_request() {
    let app = App::new(&function("f", ""));
    app.component("f.wasm", &hello());
    let node = Command::up(app.path()).start();
    assert_eq!(node.text("/count"), "hello\n");
    let asked = while_asking(&node, || {
        for (revision, component) in [(2, misbehave()), (3, hello()), (4, misbehave())] {
            let make = || app.component("f.wasm", &component);
            change("a new component", make, || is_revision(&node, "f", revision));
        }
    });
    assert!(asked > 10, "{asked} requests show nothing");
    assert_eq!(node.text("/count"), "1\n");
}

#[test]
fn a_mistake_is_said_and_changes_nothing_until_it_is_mended() {
    let app = App::new(&function("f", ""));
    app.component("f.wasm", &hello());
    let mut node = Command::up(app.path()).start();
    app.manifest(&function("f", "rotues = []"));
    let said = node.process.wait_for("what was running goes on");
    assert!(said.contains("did you mean `routes`"), "{said}");
    assert_eq!(node.text("/count"), "hello\n");

    let mended = function("f", "environment = { A = \"b\" }");
    change("a mended manifest", || app.manifest(&mended), || is_revision(&node, "f", 2));
    let torn = || drop(app.file("f.wasm", b"\0asm\x0d\0\x01\0and then nothing"));
    change("a torn component", torn, || node.process.stderr().contains("malformed or cut off"));
    assert_eq!((node.text("/count").as_str(), &node.function("f")["revision"]), ("hello\n", &2.into()));
    change("a good component", || app.component("f.wasm", &misbehave()), || is_revision(&node, "f", 3));
    assert_eq!(node.text("/count"), "1\n");
    assert_eq!(node.stop().code, Some(0));
}

#[test]
fn functions_come_and_go_with_the_manifest() {
    let both = format!("{}\n[function.g]\nsource = \"f.wasm\"\nroutes = [\"/g\"]\n", function("f", ""));
    let app = App::new(&both);
    app.component("f.wasm", &hello());
    let node = Command::up(app.path()).start();
    assert_eq!((node.text("/g").as_str(), node.text("/count").as_str()), ("hello\n", "hello\n"));
    change("a function less", || app.manifest(&function("f", "")), || node.get("/g").status == 404);
    assert_eq!(node.admin("GET", "/v1/functions/g", b"").status, 404);
    assert_eq!((node.text("/count").as_str(), &node.function("f")["revision"]), ("hello\n", &1.into()));
    change("a function more", || app.manifest(&both), || node.get("/g").status == 200);
}

#[test]
fn changed_limits_hold_for_the_function_that_runs() {
    let app = App::misbehaving("");
    let node = Command::up(app.path()).start();
    let limited = support::app::misbehaving("[function.guest.limits]\nconcurrency_max = 1\nqueue_max = 0");
    change("new limits", || app.manifest(&limited), || is_revision(&node, "guest", 2));
    let mut slow = node.client();
    slow.begin("GET", "/slow?ms=25000", &[], b"");
    node.wait_in_flight("guest", 1);
    assert_eq!(node.get("/count").status, 429);
}

#[test]
fn a_change_during_a_deployment_is_not_lost() {
    let app = App::new(&function("f", ""));
    app.component("f.wasm", &hello());
    let node = Command::up(app.path()).start();
    // A change is taken up when it has been quiet for 300 ms; the next one comes around the moments after that.
    for pause_ms in [300, 340, 380, 420, 500, 600] {
        app.file("f.wasm", &never_seen(&misbehave(), pause_ms));
        std::thread::sleep(Duration::from_millis(pause_ms.into()));
        app.component("f.wasm", &hello());
        // What was served before both changes is not to be taken for the second one.
        std::thread::sleep(Duration::from_millis(1500));
        eventually("the second change", || (node.text("/count") == "hello\n").then_some(()));
    }
}

/// The same component with a custom section of its own, so that it has to be compiled.
fn never_seen(component: &std::path::Path, number: u16) -> Vec<u8> {
    let mut bytes = std::fs::read(component).unwrap();
    // Id 0, four bytes: a name of one letter, and the content.
    bytes.extend([0, 4, 1, b'n']);
    bytes.extend(number.to_le_bytes());
    bytes
}
