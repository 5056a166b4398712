//! Code paths on a real node: a few requests are served by the instrumented twin, answers stay the same, and what ran is
//! shown by class of request, kept over a restart, and printed by the command line.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test fails by panicking")]

mod support;

use std::path::Path;

use serde_json::{Value, json};
use support::node::data_folder;
use support::{Command, Ended, Node, eventually, hello, repository};

fn start(data: &Path) -> Node {
    // All the time there is, and no component is too small: this is about what is learnt, not about what it costs.
    let node = Command::serve(data).argument("--sample-share").argument("1");
    node.argument("--split-min-kib").argument("0").start()
}

fn map(node: &Node) -> Value {
    let view = node.admin_json("/v1/functions/hello/paths");
    assert_eq!(view["sampling_enabled"], true);
    view["map"].clone()
}

/// The class of that name, once it has samples.
fn class(map: &Value, name: &str) -> Option<Value> {
    map["classes"].as_array()?.iter().find(|class| class["class"] == name).cloned()
}

/// Calls until a request of each kind was sampled; every answer is the function's own.
fn call_until_sampled(node: &Node) -> Value {
    eventually("samples of both classes", || {
        assert_eq!(node.text("/"), "hello\n");
        assert_eq!(node.text("/other/thing"), "hello\n");
        let map = map(node);
        let enough = |name: &str| class(&map, name)?["samples"].as_u64().filter(|samples| *samples >= 3);
        enough("GET /").and(enough("GET /other/..."))?;
        Some(map)
    })
}

fn command(node: &Node, arguments: &[&str]) -> Ended {
    let ended = Command::new(arguments).argument("--node").argument(format!("http://{}", node.admin)).run();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    ended
}

#[test]
fn which_code_runs_is_learnt_shown_and_kept() {
    let (_folder, data) = data_folder();
    let node = start(&data);
    let specification = json!({ "name": "hello", "routes": ["/", "/other/..."] });
    assert_eq!(node.deploy(&specification, &hello()).status, 200);
    let learnt = call_until_sampled(&node);

    let home = class(&learnt, "GET /").unwrap();
    let (ran, all) = (home["ran"].as_u64().unwrap(), learnt["functions"].as_u64().unwrap());
    assert!(ran >= 3 && ran < all, "{ran} of {all} ran");
    let first = &home["paths"][0];
    assert!(first["probability"].as_f64().unwrap() > 0.8, "{first}");
    let error = first["error"].as_f64().unwrap();
    assert!(error > 0.0 && error < 0.5, "{first}");
    let never = home["never_seen_share"].as_f64().unwrap();
    assert!(never > 0.0 && never < 1.0, "{never}");
    assert!(learnt["sampling"]["samples"].as_u64().unwrap() >= 6);

    // The slow loop has the same samples, and says what the next request will run.
    let expected = eventually("what the next request runs", || {
        let expected = node.admin_json("/v1/functions/hello/prediction")["code_paths"].clone();
        expected["samples"].as_u64().filter(|samples| *samples >= 6).map(|_| expected["stays_within"].clone())
    });
    let (within, of) = (expected["functions"].as_u64().unwrap(), expected["of_functions"].as_u64().unwrap());
    assert!(within >= 3 && within < of && expected["probability"].as_f64().unwrap() > 0.3, "{expected}");
    let profile = command(&node, &["profile", "hello"]);
    assert!(profile.stdout.contains("next request") && profile.stdout.contains("stays within"), "{profile:?}");

    let shown = command(&node, &["paths", "hello"]);
    assert!(shown.stdout.contains("GET /other/..."), "{shown:?}");
    assert!(shown.stderr.contains("by library") && shown.stderr.contains("by module"), "{shown:?}");
    let written: Value = serde_json::from_str(&command(&node, &["paths", "hello", "--json"]).stdout).unwrap();
    let all = &written["map"]["all"];
    let is_used = |part: &&Value| part["ran"].as_u64() > Some(0);
    let used = |parts: &str| all[parts].as_array().unwrap().iter().filter(is_used).count();
    // The program, and the standard library in it.
    assert!(used("libraries") >= 2 && used("modules") >= 1, "{all}");
    let memory = &written["map"]["classes"][0]["memory"];
    let bytes = |name: &str| memory[name].as_u64().or_else(|| Some(memory[name].as_f64()? as u64)).unwrap_or(0);
    let (resident, dirty) = (bytes("resident_bytes_mean"), bytes("dirty_bytes_mean"));
    assert!(dirty >= 4_096 && resident >= dirty && resident < 64 << 20, "{memory}");
    let folded = command(&node, &["paths", "hello", "--folded"]);
    let is_folded =
        |line: &str| line.split(';').count() == 3 && line.rsplit(' ').next().unwrap().parse::<u64>().is_ok();
    assert!(folded.stdout.lines().count() >= 6 && folded.stdout.lines().all(is_folded), "{folded:?}");
    node.stop();

    let node = start(&data);
    let kept = map(&node);
    let samples = |map: &Value| class(map, "GET /").unwrap()["samples"].as_u64().unwrap();
    assert!(samples(&kept) >= samples(&learnt), "{kept}");
}

/// Two functions that have their runtime in common, and not what they do.
#[test]
fn a_first_version_begins_with_what_another_function_of_its_runtime_has_taught() {
    let (_folder, data) = data_folder();
    let node = start(&data);
    let map_of = |name: &str| node.admin_json(&format!("/v1/functions/{name}/paths"))["map"].clone();
    assert_eq!(node.deploy(&json!({ "name": "hello", "routes": ["/hello"] }), &hello()).status, 200);
    eventually("samples of the first function", || {
        assert_eq!(node.text("/hello"), "hello\n");
        map_of("hello")["classes"][0]["samples"].as_u64().filter(|samples| *samples >= 6)
    });
    let catalog = repository("examples/shop/components/catalog.wasm");
    let specification = json!({ "name": "catalog", "routes": ["/catalog/..."], "config": { "currency": "EUR" } });
    assert_eq!(node.deploy(&specification, &catalog).status, 200);
    // The first request has the twin made, and is none of its samples.
    assert_eq!(node.get("/catalog/").status, 200);
    let begun = eventually("the twin of the second function", || Some(map_of("catalog")).filter(|map| !map.is_null()));
    assert_eq!((&begun["inherited"]["from"], &begun["classes"]), (&json!(["hello"]), &json!([])), "{begun}");
    // The first runs seven, some of which are its own.
    assert!(begun["inherited"]["functions"].as_u64() >= Some(3), "{begun}");
    let first = &begun["all"]["paths"][0];
    assert!(first["probability"].as_f64() > Some(0.5) && first["runs"].as_f64() == Some(0.0), "{first}");
    assert_eq!(begun["all"]["ran"], 0);
    let shown = command(&node, &["paths", "catalog"]);
    assert!(shown.stderr.contains("expected by what hello run"), "{shown:?}");

    // Its own samples confirm what was right.
    let expected: Vec<&Value> = begun["all"]["paths"].as_array().unwrap().iter().collect();
    let sampled = eventually("samples of the second function", || {
        assert_eq!(node.get("/catalog/").status, 200);
        let map = map_of("catalog");
        (map["classes"][0]["samples"].as_u64() >= Some(6)).then_some(map)
    });
    let ran = |path: &&&Value| {
        let paths = sampled["all"]["paths"].as_array().unwrap();
        paths.iter().any(|own| own["hash"] == path["hash"] && own["runs"].as_f64() > Some(0.0))
    };
    let confirmed = expected.iter().filter(ran).count();
    assert!(confirmed * 2 > expected.len(), "{confirmed} of {} were expected rightly", expected.len());
}

#[test]
fn a_sampled_answer_says_so() {
    let (_folder, data) = data_folder();
    let node = start(&data);
    assert_eq!(node.deploy(&json!({ "name": "hello", "routes": ["/..."] }), &hello()).status, 200);
    eventually("a sampled request", || {
        let response = node.get("/");
        assert_eq!((response.status, response.text().as_str()), (200, "hello\n"));
        response.header("server-timing").contains("generic-sampled").then_some(())
    });
}

#[test]
fn small_functions_are_left_alone_and_so_is_everything_if_asked() {
    for (options, sampling) in [(vec![], true), (vec!["--sample-share", "0"], false)] {
        let (_folder, data) = data_folder();
        let node = options.iter().fold(Command::serve(&data), |command, option| command.argument(option)).start();
        assert_eq!(node.deploy(&json!({ "name": "hello", "routes": ["/..."] }), &hello()).status, 200);
        for _ in 0..20 {
            let answer = node.get("/");
            assert!(!answer.header("server-timing").contains("sampled"), "{answer:?}");
        }
        let view = node.admin_json("/v1/functions/hello/paths");
        assert_eq!((&view["sampling_enabled"], &view["map"]), (&json!(sampling), &Value::Null));
    }
}
