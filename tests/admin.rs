//! The admin API as operators and their tools use it: who may, what it counts, what it shows, how it describes itself.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeMap;

use serde_json::{Value, json};
use support::app::misbehaving;
use support::client::connect;
use support::{App, Command, Node, eventually, repository};

fn node() -> Node {
    Command::up(App::misbehaving("").path()).argument("--no-watch").start()
}

#[test]
fn only_who_shows_the_token_is_served() {
    let node = node();
    let ask = |path: &str, headers: &[(&str, &str)]| connect(node.admin).send("GET", path, headers, b"");
    for path in ["/health", "/metrics", "/v1/openapi.json"] {
        assert_eq!(ask(path, &[]).status, 200, "{path}");
    }
    let longer = format!("Bearer {}x", support::node::TOKEN);
    let wrong = [("authorization", "Bearer wrong"), ("authorization", &longer), ("authorization", "Basic x")];
    for path in ["/v1/status", "/v1/functions", "/v1/functions/guest", "/v1/invocations", "/v1/functions/guest/logs"] {
        for headers in [&[][..], &wrong[..1], &wrong[1..2], &wrong[2..]] {
            let refused = ask(path, headers);
            assert_eq!((refused.status, refused.reason().as_str()), (401, "unauthorized"), "{path} {headers:?}");
        }
    }
    for (method, path) in
        [("DELETE", "/v1/functions/guest"), ("POST", "/v1/deployments"), ("POST", "/v1/functions/guest/invoke/count")]
    {
        let refused = connect(node.admin).send(method, path, &[], b"{}");
        assert_eq!(refused.status, 401, "{method} {path}");
    }
    assert_eq!(node.text("/count"), "1\n");
    let unknown = node.admin("GET", "/v2/functions", b"");
    assert_eq!((unknown.status, unknown.reason().as_str()), (404, "unknown_path"));
}

#[test]
fn the_api_describes_itself() {
    let node = node();
    let description = node.admin_json("/v1/openapi.json");
    assert!(description["openapi"].as_str().unwrap().starts_with("3."), "{description}");
    // What needs no parameter, and has an end, answers as described.
    for (path, operations) in description["paths"].as_object().unwrap() {
        if operations.get("get").is_some() && !path.contains('{') && path != "/v1/live" {
            assert_eq!(node.admin("GET", path, b"").status, 200, "{path}");
        }
    }
}

#[test]
fn a_component_is_what_its_digest_says() {
    let node = node();
    let digest = support::node::digest_of(b"something");
    let refused = node.admin("PUT", &format!("/v1/components/{digest}"), b"something else");
    assert_eq!((refused.status, refused.reason().as_str()), (422, "digest_mismatch"));
    let nonsense = node.admin("PUT", "/v1/components/sha256:123", b"x");
    assert_eq!((nonsense.status, nonsense.reason().as_str()), (400, "bad_request"));
    let none = node.deploy_stored(&json!({ "name": "f" }), &digest);
    assert!(none.status >= 400, "nothing of the refused component was kept: {none:?}");
    assert_eq!(node.admin("GET", "/v1/functions/f", b"").status, 404);
}

#[test]
fn a_component_that_was_not_uploaded_is_named() {
    let missing = node().deploy_stored(&json!({ "name": "f" }), &support::node::digest_of(b"nowhere"));
    assert_eq!((missing.status, missing.reason().as_str()), (409, "component_missing"));
}

#[test]
fn requests_are_counted() {
    let node = node();
    for _ in 0..3 {
        node.text("/count");
    }
    assert_eq!(node.get("/trap").status, 500);
    assert_eq!(node.client().send("POST", "/echo", &[], b"hello").text(), "hello");
    let counted = eventually("five invocations counted", || {
        let figures = metrics(&node);
        let total: f64 = figures.iter().filter(|(name, _)| is_invocation(name)).map(|(_, value)| value).sum();
        (total >= 5.0).then_some(figures)
    });
    let outcome = |label: &str| {
        let of = format!("outcome=\"{label}\"");
        counted
            .iter()
            .filter(|(name, _)| is_invocation(name) && name.contains(&of))
            .map(|(_, value)| value)
            .sum::<f64>()
    };
    assert_eq!((outcome("ok"), outcome("trap")), (4.0, 1.0), "{counted:#?}");
    let figure = |name: &str| counted.iter().find(|(own, _)| own.starts_with(name)).map(|(_, value)| *value);
    assert_eq!(figure("forerun_functions_served"), Some(1.0));
    assert_eq!(figure("forerun_request_body_bytes_total{function=\"guest\"}"), Some(5.0));
    assert!(figure("forerun_process_resident_memory_bytes") > Some(1e6));
    let status = node.admin_json("/v1/status");
    assert_eq!(status["requests_total"], 5, "{status}");
}

fn is_invocation(name: &str) -> bool {
    name.starts_with("forerun_invocations_total") && name.contains("function=\"guest\"")
}

/// Every sample of the exposition, with its labels; fails on a line that is none.
fn metrics(node: &Node) -> BTreeMap<String, f64> {
    let response = connect(node.admin).get("/metrics");
    assert!(response.header("content-type").starts_with("application/openmetrics-text"), "{response:?}");
    let text = response.text();
    assert!(text.ends_with("# EOF\n"), "{text}");
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    let one = |line: &str| {
        let (name, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line}"));
        let value = value.parse().unwrap_or_else(|_| panic!("{line}"));
        (name.to_owned(), value)
    };
    samples.map(one).collect()
}

#[test]
fn what_a_function_writes_is_shown_and_followed() {
    let node = node();
    let answer = node.get("/log?lines=2");
    let log = eventually("four lines of the log", || {
        let log = node.admin("GET", "/v1/functions/guest/logs", b"").text();
        (log.lines().count() >= 4).then_some(log)
    });
    let of_request: Vec<&str> = log.lines().filter(|line| line.contains(&answer.header("x-request-id")[..8])).collect();
    assert_eq!(of_request.len(), 4, "{log}");
    for words in ["stdout line 1", "stdout line 2", "stderr line 1", "stderr line 2"] {
        assert!(of_request.iter().any(|line| line.ends_with(words)), "{words} in {log}");
    }
    let last = node.admin("GET", "/v1/functions/guest/logs?lines=1", b"").text();
    assert_eq!(last.lines().count(), 1, "{last}");

    let mut following = connect(node.admin);
    let authorization = format!("Bearer {}", support::node::TOKEN);
    following.begin("GET", "/v1/functions/guest/logs?follow=true&lines=1", &[("authorization", &authorization)], b"");
    let head = following.head().unwrap();
    let mut body = head.body();
    assert_eq!(following.piece(&mut body).unwrap().unwrap(), last.as_bytes());
    node.text("/log?lines=1");
    let mut live = String::new();
    while live.matches('\n').count() < 2 {
        live += &String::from_utf8(following.piece(&mut body).unwrap().unwrap()).unwrap();
    }
    assert!(live.contains("stdout line 1") && live.contains("stderr line 1"), "{live}");
    assert_eq!(node.admin("GET", "/v1/functions/nobody/logs", b"").status, 404);
}

#[test]
fn a_function_is_invoked_by_name() {
    let node = node();
    let answer = node.admin("POST", "/v1/functions/guest/invoke/echo", b"hello");
    assert_eq!((answer.status, answer.text().as_str()), (200, "hello"));
    let seen = node.admin("GET", "/v1/functions/guest/invoke/headers?a=b%20c", b"");
    assert_eq!(seen.json()["target"], "/headers?a=b%20c", "{seen:?}");
    assert!(!seen.text().contains(support::node::TOKEN), "the guest does not see the token: {seen:?}");
    let invocation = node.invocation(seen.header("x-request-id"));
    assert_eq!((&invocation["function"], &invocation["caller"]), (&json!("guest"), &Value::Null));
    let trapped = node.admin("GET", "/v1/functions/guest/invoke/trap", b"");
    assert_eq!((trapped.status, trapped.reason().as_str()), (500, "trap"));
    assert_eq!(node.admin("GET", "/v1/functions/nobody/invoke/", b"").status, 404);
}

/// Who is not served, not rolled back, not changed by a pass: each has a name in the metrics.
#[test]
fn what_is_refused_is_counted_by_name() {
    let app = App::misbehaving("");
    app.manifest(&format!(
        "{}\n[function.tasks]\nsource = \"tasks.wasm\"\n",
        misbehaving("").replace("/...", "/guest/...")
    ));
    app.component("tasks.wasm", &repository("examples/hello/components/hello-p3.wasm"));
    let node = Command::up(app.path()).argument("--no-watch").start();
    assert_eq!(node.get("/nobody").status, 404);
    let metrics = || node.admin("GET", "/metrics", b"").text();
    let said = metrics();
    let value = |sample: &str| {
        let line = said.lines().find(|line| line.starts_with(sample)).unwrap_or_else(|| panic!("{sample} in {said}"));
        line.rsplit(' ').next().and_then(|value| value.parse::<f64>().ok()).unwrap()
    };
    assert_eq!(value("forerun_requests_refused_total{reason=\"no_route\"}"), 1.0);
    assert_eq!(value("forerun_requests_refused_total{reason=\"function_queue_full\"}"), 0.0);
    assert_eq!(value("forerun_functions_not_rolled_back{reason=\"tasks\"}"), 1.0);
    assert_eq!(value("forerun_functions_given_up{prepared=\"ready\"}"), 0.0);
    assert!(value("forerun_pass_refusals_total{pass=") >= 1.0);
    eventually("the splitter's look", || {
        metrics().contains("forerun_functions_split{state=\"too_small\"} 2").then_some(())
    });
}
