//! Components of whole language runtimes: Python and JavaScript, each with two kinds of request and a stream.
//!
//! They are built from their sources (`examples/python/build.sh`, `examples/js/build.sh`) and not kept in the
//! repository. Without them this says so and checks nothing, unless `FORERUN_REQUIRE_BUILT_EXAMPLES=1`.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    missing_docs,
    reason = "a test fails by panicking, or says why not"
)]

mod support;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::node::data_folder;
use support::{Command, Node, eventually, eventually_within, repository};

/// A language runtime of 13 or 20 MB is compiled in 10 s on two idle cores; these may not be.
const COMPILATION: Duration = Duration::from_secs(240);

/// A node with the example, if its component is there.
fn example(name: &str) -> Option<Node> {
    example_with(name, &[])
}

fn example_with(name: &str, options: &[&str]) -> Option<Node> {
    let component = repository(&format!("examples/{name}/dist/app.wasm"));
    if component.is_file() {
        let command = Command::up(&repository(&format!("examples/{name}"))).argument("--no-watch");
        let command = options.iter().fold(command, |command, option| command.argument(option));
        return Some(command.start_within(COMPILATION));
    }
    let missing = format!("SKIPPED {name}: {} is missing; run examples/{name}/build.sh", component.display());
    let required = std::env::var_os("FORERUN_REQUIRE_BUILT_EXAMPLES").is_some_and(|value| value == "1");
    assert!(!required, "{missing}");
    println!("{missing}");
    None
}

/// The body comes in pieces while the guest pauses 200 ms between them, at least three times.
fn streamed(node: &Node, path: &str) -> String {
    let mut client = node.client();
    client.begin("GET", path, &[], b"");
    let head = client.head().unwrap();
    assert_eq!(head.status, 200, "{path}");
    let mut body = head.body();
    let mut text = client.piece(&mut body).unwrap().unwrap();
    let began = Instant::now();
    while let Some(piece) = client.piece(&mut body).unwrap() {
        text.extend(piece);
    }
    assert!(began.elapsed() > Duration::from_millis(500), "{path}: all of it came at once");
    String::from_utf8(text).unwrap()
}

/// One after the other: each compilation takes all cores.
#[test]
fn language_runtimes_answer_and_stream() {
    python_answers_both_kinds_of_request_and_streams();
    a_small_part_of_python_serves_the_kind_of_request_that_comes();
    python_is_put_back_to_where_its_first_request_left_it();
    javascript_answers_both_kinds_of_request_and_streams();
}

/// What was done to the component of the only function before it was compiled.
fn pass(node: &Node, name: &str) -> Value {
    let images = node.admin_json("/v1/images")["images"].clone();
    let passes = images.as_array().unwrap().iter().flat_map(|image| image["passes"].as_array().unwrap());
    let found = passes.into_iter().find(|pass| pass["pass"] == name);
    found.unwrap().clone()
}

fn python_answers_both_kinds_of_request_and_streams() {
    let Some(node) = example("python") else { return };
    // The language and its libraries are 14 core modules; what stays apart is the table of the host's functions.
    let prelinked = pass(&node, "prelink");
    assert_eq!(prelinked["applied"], true, "{prelinked}");
    assert!(prelinked["detail"].as_str().unwrap().starts_with("core modules 14 to 2, "), "{prelinked}");
    let interrupted = pass(&node, "interrupt");
    assert_eq!(interrupted["applied"], true, "{interrupted}");
    let report = node.get("/report?currency=EUR");
    assert_eq!(report.status, 200, "{report:?}");
    assert!(report.json().is_object());
    let analysed = node.client().send("POST", "/analyse", &[], "Write to ada@example.org on 2026-01-31.".as_bytes());
    assert_eq!(analysed.status, 200, "{analysed:?}");
    assert!(analysed.text().contains("ada@example.org") && analysed.text().contains("2026-01-31"), "{analysed:?}");
    let rows = streamed(&node, "/report/stream?since=2026-03-25&pause_ms=200");
    assert!(rows.lines().count() > 3 && rows.lines().all(|row| row.contains(',')), "{rows}");
    // Raised and caught as exceptions of the language.
    assert_eq!(node.get("/report?currency=no-such-currency").status, 400);
    assert_eq!(node.get("/no-such-path").status, 404);
    // Some requests are samples, and better code takes over meanwhile, whose VMs are counted anew.
    let vms = vms_once(&node, |vms| {
        assert_eq!(node.get("/report?currency=EUR").status, 200);
        vms["rolled_back"].as_u64() > Some(2)
    });
    assert_eq!((&vms["policy"], &vms["refusal"]), (&json!("rollback"), &Value::Null), "{vms:#}");
}

/// What is learnt of the paths of one kind of request is enough for that kind: nothing is missed. The other kind is
/// answered all the same.
fn a_small_part_of_python_serves_the_kind_of_request_that_comes() {
    let Some(node) = example_with("python", &["--sample-share", "1"]) else { return };
    let report = || node.get("/report?currency=EUR");
    let expected = report().text();
    let image = || node.admin_json("/v1/functions/python/profile")["specialization"]["image"].clone();
    let made = image_made("python", image, || assert_eq!(report().text(), expected));
    let analyse = || {
        let analysed = node.client().send("POST", "/analyse", &[], b"Write to ada@example.org on 2026-01-31.");
        assert!(analysed.status == 200 && analysed.text().contains("ada@example.org"), "{analysed:?}");
    };
    assert_eq!(made["state"], "serving", "{made}");
    what_requests_run_serves(&made, image, || assert_eq!(report().text(), expected), analyse);
    classes_of_requests_have_maps_of_their_own(&node, "python", || {
        assert_eq!(report().text(), expected);
        analyse();
    });
}

/// What became of the image of what requests run, once that is settled. It looks at flags, as the whole component does.
fn image_made(function: &str, image: impl Fn() -> Value, request: impl Fn()) -> Value {
    let made = eventually_within("what becomes of an image of what requests run", COMPILATION, || {
        request();
        let image = image();
        (image["state"] == "serving" || image["state"] == "slower").then_some(image)
    });
    println!("{function}: an image of what requests run: {made}");
    made
}

fn what_requests_run_serves(made: &Value, image: impl Fn() -> Value, report: impl Fn(), analyse: impl Fn()) {
    // A twentieth of the code in this kind of request; pinned and tiny functions are kept, too.
    assert!(made["hot_permille"].as_u64().unwrap() < 250, "{made}");
    assert!(made["code_bytes"].as_u64() < made["whole_code_bytes"].as_u64(), "{made}");
    (0..50).for_each(|_| report());
    let served = image();
    assert_eq!((&served["state"], &served["misses"]), (&json!("serving"), &json!(0)), "{served}");
    assert!(served["requests"].as_u64() >= Some(30), "{served}");
    // The first of a new kind are samples; those after them call what was not expected.
    eventually("requests of the other kind to load what they need", || {
        analyse();
        (image()["misses"].as_u64() > Some(0)).then_some(())
    });
}

/// Two classes of requests run different code, and each a small part of all there is.
fn classes_of_requests_have_maps_of_their_own(node: &Node, function: &str, of_both: impl Fn()) {
    let map = eventually_within("samples of two classes", COMPILATION, || {
        of_both();
        let map = node.admin_json(&format!("/v1/functions/{function}/paths"))["map"].clone();
        let enough = map["classes"].as_array()?.iter().filter(|class| class["samples"].as_u64() >= Some(6)).count();
        (enough >= 2).then_some(map)
    });
    let functions = map["functions"].as_u64().unwrap();
    let usual = |class: &Value| -> BTreeSet<String> {
        let paths = class["paths"].as_array().unwrap().iter();
        paths.filter(|path| path["probability"].as_f64() > Some(0.5)).map(|path| path["hash"].to_string()).collect()
    };
    let (first, second) = (usual(&map["classes"][0]), usual(&map["classes"][1]));
    let (common, all) = (first.intersection(&second).count(), first.union(&second).count());
    println!(
        "{function}: {functions} functions; a request of {} runs {}, one of {} {}, both {common}; a VM touches {}",
        map["classes"][0]["class"],
        first.len(),
        map["classes"][1]["class"],
        second.len(),
        map["memory"]
    );
    // The study saw 6 % of a JavaScript component run in a request.
    for one in [&first, &second] {
        assert!(one.len() > 100 && one.len() as u64 * 5 < functions, "{} of {functions}", one.len());
    }
    assert!(common * 20 < all * 19, "{common} of {all} functions are run by both");
    let modules = map["all"]["modules"].as_array().unwrap();
    let used: Vec<&Value> = modules.iter().filter(|module| module["ran"].as_u64() > Some(0)).collect();
    // They are told apart though the component has them in one by now; the JavaScript engine is one module to begin with.
    let used_min = if function == "python" { 4 } else { 1 };
    assert!(used.len() >= used_min, "{modules:?}");
}

/// What the interpreter does at its first request is done once, and nothing of a request but the warm-up's is ever there.
fn python_is_put_back_to_where_its_first_request_left_it() {
    let component = repository("examples/python/dist/app.wasm");
    if !component.is_file() {
        return;
    }
    let (_folder, data) = data_folder();
    let node = Command::serve(&data).start();
    let specification = json!({
        "name": "python",
        "routes": ["/..."],
        "reuse": { "policy": "warm" },
        "warm_up": [
            { "path": "/report?currency=EUR" },
            { "path": "/relay/next", "answer_to_calls": { "body": "{\"functions\": 1}" } },
            { "path": "/no-such-path" },
        ],
        "limits": { "memory_bytes": 256 << 20 },
    });
    assert_eq!(node.deploy(&specification, &component).status, 200);
    let ask = |path: &str| {
        let answer = node.get(path);
        (answer.status, answer.text())
    };
    let paths = ["/report?currency=EUR", "/report?since=2026-03-01", "/no-such-path", "/report?currency=none"];
    let expected = paths.map(ask);
    let vms = vms_once(&node, |vms| {
        assert_eq!(paths.map(ask), expected);
        vms["policy"] == "warm" && vms["rolled_back"].as_u64() > Some(40)
    });
    assert_eq!((&vms["refusal"], &vms["not_warm"]), (&Value::Null, &Value::Null), "{vms:#}");
    // Seeded on the way to the warm state, and anew for each request: the component's own `renew` does that.
    let drawn: BTreeSet<String> = (0..20).map(|_| ask("/draw").1).collect();
    assert_eq!(drawn.len(), 20, "random numbers came again: {drawn:?}");
    // A counter of the module: a VM that was used as it is would have gone on counting.
    let visits: BTreeSet<String> = (0..20).map(|_| ask("/visits?from=ada").1).collect();
    assert_eq!(visits.len(), 1, "{visits:?}");
    assert!(visits.iter().all(|answer| answer.contains("\"visits\": 1")), "{visits:?}");
    let analysed = node.client().send("POST", "/analyse", &[], b"Write to ada@example.org on 2026-01-31.");
    assert!(analysed.status == 200 && analysed.text().contains("ada@example.org"), "{analysed:?}");
}

/// What became of the only function's VMs, once that is so.
fn vms_once(node: &Node, is_so: impl Fn(&Value) -> bool) -> Value {
    eventually("the VMs of the function to be as expected", || {
        let vms = node.admin_json("/v1/functions")[0]["vms"].clone();
        is_so(&vms).then_some(vms)
    })
}

fn javascript_answers_both_kinds_of_request_and_streams() {
    let Some(node) = example("js") else { return };
    let found = node.get("/search?q=lmap&limit=2");
    assert_eq!(found.status, 200, "{found:?}");
    assert!(found.text().contains("amp"), "{found:?}");
    let orders = json!([{ "product": "lamp", "price": 49.9, "pieces": 2, "day": "2026-01-31" }]).to_string();
    let summed = node.client().send("POST", "/orders", &[], orders.as_bytes());
    assert_eq!((summed.status, &summed.json()["orders"]), (200, &json!(1)), "{summed:?}");
    assert!(summed.text().contains("99.80"), "{summed:?}");
    let wrong = node.client().send("POST", "/orders", &[], json!({ "not": "a list" }).to_string().as_bytes());
    assert_eq!(wrong.status, 400, "{wrong:?}");
    let events = streamed(&node, "/events?count=5&pause_ms=200");
    assert_eq!(events.matches("data:").count(), 5, "{events}");
    let interrupted = pass(&node, "interrupt");
    assert_eq!(interrupted["applied"], true, "{interrupted}");
    javascript_is_served_by_vms_that_were_put_back(&node);
}

/// Its runtime gives back what it holds of the host when it collects garbage, which it does not do within a request. What
/// its handles lead to is let go when its VM is put back, and the answers stay what they were. (A VM that is kept as it is
/// does not answer a second time.)
fn javascript_is_served_by_vms_that_were_put_back(node: &Node) {
    let orders = json!([{ "product": "lamp", "price": 49.9, "pieces": 2, "day": "2026-01-31" }]).to_string();
    let search = || node.get("/search?q=lmap&limit=2");
    let sum = || node.client().send("POST", "/orders", &[], orders.as_bytes());
    let expected = (search().text(), sum().text());
    // Better code may take over meanwhile, whose VMs are counted anew.
    let vms = vms_once(node, |vms| {
        (0..20).for_each(|_| assert_eq!((search().text(), sum().text()), expected));
        vms["rolled_back"].as_u64() > Some(200)
    });
    assert_eq!((&vms["policy"], &vms["refusal"]), (&json!("rollback"), &Value::Null), "{vms:#}");
    assert_eq!(vms["discarded"]["handles-left"].as_u64().unwrap_or(0), 0, "{vms:#}");
}
