//! The commands that talk to a node, as typed in another terminal.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test fails by panicking")]

mod support;

use std::path::Path;

use serde_json::{Value, json};
use support::node::data_folder;
use support::{App, Command, Ended, Node, eventually, hello, misbehave, repository};

/// A command to `node`, found by its data folder; `FORERUN_TOKEN` has its token.
fn forerun(node: &Node, arguments: &[&str]) -> Command {
    Command::new(arguments).argument("--node").argument(format!("http://{}", node.admin))
}

fn well(node: &Node, arguments: &[&str]) -> Ended {
    let ended = forerun(node, arguments).run();
    assert_eq!(ended.code, Some(0), "{arguments:?}: {ended:?}");
    ended
}

fn json_of(ended: &Ended) -> Value {
    serde_json::from_str(&ended.stdout).unwrap_or_else(|error| panic!("{error}: {ended:?}"))
}

fn check_refused(ended: &Ended, code: i32, texts: &[&str]) {
    assert_eq!(ended.code, Some(code), "{ended:?}");
    for text in texts {
        assert!(ended.stderr.contains(text), "no `{text}` in {}", ended.stderr);
    }
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn a_function_is_deployed_listed_rolled_back_and_removed() {
    let (_folder, data) = data_folder();
    let node = Command::serve(&data).start();
    let empty = well(&node, &["functions"]);
    assert!(empty.stdout.is_empty() && empty.stderr.contains("forerun deploy"), "{empty:?}");
    assert_eq!(json_of(&well(&node, &["functions", "--json"])), json!([]));

    let (first, second) = (hello(), misbehave());
    let deploy = ["deploy", path(&first), "--name", "f", "--route", "/..."];
    let deployed = well(&node, &deploy);
    assert!(deployed.stdout.contains("wasi:http/proxy@0.2") && deployed.stdout.contains("new"), "{deployed:?}");
    assert_eq!(node.text("/count"), "hello\n");
    assert!(well(&node, &deploy).stdout.contains("unchanged"));
    let again = ["deploy", path(&second), "--name", "f", "--route", "/...", "--env", "COLOUR=blue", "--json"];
    assert_eq!(json_of(&well(&node, &again))[0]["revision"], 2);
    assert_eq!(node.text("/count"), "1\n");

    let functions = json_of(&well(&node, &["functions", "--json"]));
    assert_eq!((&functions[0]["spec"]["name"], &functions[0]["revision"]), (&json!("f"), &json!(2)));
    let table = well(&node, &["functions"]).stdout;
    assert!(
        table.lines().any(|line| line.starts_with('f') && line.contains("ready") && line.contains("/...")),
        "{table}"
    );
    assert_eq!(json_of(&well(&node, &["revisions", "f", "--json"])).as_array().unwrap().len(), 2);

    well(&node, &["rollback", "f"]);
    assert_eq!(node.text("/count"), "hello\n");
    well(&node, &["rollback", "f", "--to", "2"]);
    assert_eq!(node.text("/count"), "1\n");
    check_refused(&forerun(&node, &["rollback", "f", "--to", "9"]).run(), 1, &["no revision 9", "error:", "hint:"]);

    // Nobody is there to ask.
    let unasked = forerun(&node, &["remove", "f"]).run();
    assert!(unasked.code != Some(0) && unasked.stderr.contains("--yes"), "{unasked:?}");
    assert_eq!(node.text("/count"), "1\n");
    well(&node, &["remove", "f", "--yes"]);
    assert_eq!(node.get("/count").status, 404);
    check_refused(&forerun(&node, &["remove", "f", "--yes"]).run(), 1, &["no function named `f`"]);
}

#[test]
fn a_manifest_is_deployed_to_a_running_node() {
    let (_folder, data) = data_folder();
    let node = Command::serve(&data).start();
    let app = App::misbehaving("environment = { COLOUR = \"blue\" }");
    well(&node, &["deploy", path(app.path())]);
    assert_eq!(node.get("/env").json()["environment"]["COLOUR"], "blue");
    app.manifest(&support::app::misbehaving("rotues = []"));
    check_refused(&forerun(&node, &["deploy", path(app.path())]).run(), 1, &["did you mean `routes`", "forerun.toml:"]);
    let text = app.file("app.wasm", b"no wasm");
    let refused = forerun(&node, &["deploy", path(&text)]).run();
    check_refused(&refused, 1, &["not a WebAssembly file"]);
    assert_eq!(node.admin_json("/v1/functions").as_array().unwrap().len(), 1);
}

#[test]
fn a_function_is_invoked_and_its_log_read() {
    let node = Command::up(App::misbehaving("").path()).argument("--no-watch").start();
    assert_eq!(well(&node, &["invoke", "guest", "/count"]).stdout, "1\n");
    assert_eq!(well(&node, &["invoke", "guest", "/echo", "-d", "hello"]).stdout, "hello");
    let seen = well(&node, &["invoke", "guest", "/headers", "-H", "x-mine: 7", "-X", "PUT"]).stdout;
    assert!(seen.contains("[\"x-mine\",\"7\"]") && seen.contains("Put"), "{seen}");
    let failed = forerun(&node, &["invoke", "guest", "/trap"]).run();
    assert!(failed.code == Some(22) && failed.stdout.contains("\"trap\""), "{failed:?}");
    check_refused(&forerun(&node, &["invoke", "nobody"]).run(), 1, &["no function named `nobody`"]);

    assert_eq!(node.text("/log?lines=2"), "logged\n");
    eventually("the log", || well(&node, &["logs", "guest"]).stdout.contains("stderr line 2").then_some(()));
    let last = well(&node, &["logs", "guest", "-n", "1"]).stdout;
    assert_eq!(last.lines().count(), 1, "{last}");
    let following = forerun(&node, &["logs", "guest", "-f", "-n", "1"]).begin();
    eventually("the last line", || following.stdout().contains(last.trim()).then_some(()));
    node.text("/log?lines=9");
    eventually("the live lines", || following.stdout().contains("stderr line 9").then_some(()));
}

#[test]
fn without_a_node_or_its_token_it_says_what_to_do() {
    let nowhere = Command::new(&["functions", "--node", "http://127.0.0.1:1"]).run();
    check_refused(&nowhere, 1, &["127.0.0.1:1", "error:", "hint:"]);
    let node = Command::up(App::misbehaving("").path()).argument("--no-watch").start();
    let wrong = forerun(&node, &["functions", "--token", "some-other-token-of-a-node"]).run();
    check_refused(&wrong, 1, &["token", "hint:"]);
    let as_json = forerun(&node, &["rollback", "nobody", "--json"]).run();
    assert_eq!(as_json.code, Some(1));
    let error: Value = serde_json::from_str(&as_json.stderr).unwrap_or_else(|error| panic!("{error}: {as_json:?}"));
    assert!(error.to_string().contains("nobody"), "{error}");
}

#[test]
fn the_node_of_a_data_folder_is_found_without_naming_it() {
    let (_folder, data) = data_folder();
    // Without a token of the operator's the node makes one, readable by its owner only.
    let node = Command::serve(&data).without_token().start();
    let listed = || Command::new(&["functions", "--json", "--data"]).without_token().argument(&data).run();
    let ended = listed();
    assert_eq!((ended.code, ended.stdout.trim()), (Some(0), "[]"), "{ended:?}");
    let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(data.join("admin.token")).unwrap());
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(node.stop().code, Some(0));
    check_refused(&listed(), 1, &["no node runs with the data folder", "hint"]);
}

#[test]
fn the_machine_code_of_a_function_is_listed_with_whose_it_is() {
    let (_folder, data) = data_folder();
    let node = Command::serve(&data).start();
    assert!(well(&node, &["images"]).stderr.contains("no images yet"));
    well(&node, &["deploy", path(&hello()), "--name", "f", "--route", "/..."]);
    well(&node, &["deploy", path(&hello()), "--name", "g"]);
    let table = well(&node, &["images"]).stdout;
    let is_it = |line: &str| ["t2-full", "loaded", "in use"].iter().all(|text| line.contains(text));
    assert!(table.lines().any(|line| line.starts_with("f g ") && is_it(line)), "{table}");
    let listed = json_of(&well(&node, &["images", "g", "--json"]));
    assert_eq!(listed["images"][0]["functions"], json!(["f", "g"]));
    well(&node, &["deploy", path(&misbehave()), "--name", "g"]);
    let listed = json_of(&well(&node, &["images", "f", "--json"]));
    assert_eq!(listed["images"][0]["functions"], json!(["f"]));
    check_refused(&forerun(&node, &["images", "nobody"]).run(), 1, &["no function named `nobody`"]);
}

#[test]
fn the_history_is_written_out_and_replayed_and_the_node_is_watched() {
    let (folder, data) = data_folder();
    let node = Command::serve(&data).start();
    assert_eq!(node.deploy(&json!({ "name": "hello", "routes": ["/..."] }), &hello()).status, 200);
    (0..5).for_each(|_| assert_eq!(node.get("/").status, 200));
    // The history is written a second later.
    let exported = eventually("five rows", || {
        let exported = well(&node, &["export"]).stdout;
        (exported.lines().count() == 6).then_some(exported)
    });
    assert!(exported.starts_with("id,started_unix_us,invocation_id"), "{exported}");
    let lines = well(&node, &["export", "--json", "--function", "hello", "--since-min", "5"]).stdout;
    let rows: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((rows.len(), &rows[0]["function"]), (5, &json!("hello")));
    assert!(well(&node, &["export", "--function", "nobody"]).stdout.lines().count() <= 1);

    for (name, text) in [("calls.csv", &exported), ("calls.jsonl", &lines)] {
        let file = folder.path().join(name);
        std::fs::write(&file, text).unwrap();
        let replayed = Command::new(&["replay", path(&file)]).run();
        assert_eq!(replayed.code, Some(0), "{name}: {replayed:?}");
    }

    let frame = well(&node, &["top", "--frames", "1"]).stdout;
    assert!(frame.contains("requests a second") && frame.contains("hello"), "{frame}");
}

#[test]
fn visitors_go_through_the_shop_and_it_is_said_how_they_are_served() {
    let up = Command::up(&repository("examples/shop")).argument("--no-watch").argument("--demo");
    let mut shop = up.start();
    let said = shop.process.wait_for("demo   10 s");
    let line = said.lines().find(|line| line.starts_with("demo   10 s")).unwrap();
    assert!(line.contains("requests") && !line.contains("failed"), "{line}");

    let (_folder, data) = data_folder();
    let hello = Command::new(&["up", path(&repository("examples/hello")), "--demo", "--data", path(&data)]).run();
    assert_eq!(hello.code, Some(1), "{hello:?}");
    assert!(hello.stderr.contains("demo.toml"), "{hello:?}");
}
