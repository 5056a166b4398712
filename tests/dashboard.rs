//! The dashboard as a browser has it: files that need no token, data that does, and the page with a real node behind it.
//!
//! Without a Chromium (`CHROMIUM` names one that is elsewhere) the page itself is passed over, and the test says so.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test fails by panicking")]

mod support;

use std::process::Stdio;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;
use support::client::{Response, connect};
use support::node::{TOKEN, data_folder};
use support::{App, Command, Node, eventually, eventually_within, hello, repository};

fn shop() -> Node {
    Command::up(&repository("examples/shop")).argument("--no-watch").start()
}

fn open(node: &Node, path: &str) -> Response {
    connect(node.admin).send("GET", path, &[], b"")
}

#[test]
fn its_files_need_no_token_and_forbid_everything_foreign() {
    let mut node = Command::up(App::misbehaving("").path()).argument("--no-watch").start();
    let page = format!("dashboard on http://{}/", node.admin);
    node.process.wait_for(&page);
    for (path, content_type) in [
        ("/", "text/html; charset=utf-8"),
        ("/dashboard/app.js", "text/javascript; charset=utf-8"),
        ("/dashboard/code.js", "text/javascript; charset=utf-8"),
        ("/dashboard/style.css", "text/css; charset=utf-8"),
        ("/dashboard/icon.svg", "image/svg+xml"),
        ("/dashboard/uplot.js", "text/javascript; charset=utf-8"),
        ("/dashboard/uplot.css", "text/css; charset=utf-8"),
        ("/dashboard/uplot-licence.txt", "text/plain; charset=utf-8"),
    ] {
        let file = open(&node, path);
        assert_eq!((file.status, file.header("content-type")), (200, content_type), "{path}");
        let policy = file.header("content-security-policy");
        assert!(policy.contains("default-src 'none'") && policy.contains("script-src 'self';"), "{path}: {policy}");
        assert!(!policy.contains("unsafe") && !policy.contains('*'), "{path}: {policy}");
        assert_eq!(file.header("x-content-type-options"), "nosniff", "{path}");
        assert!(!file.body.is_empty(), "{path}");
    }
    assert_eq!(open(&node, "/dashboard/nothing.js").status, 404);
}

#[test]
fn its_figures_need_the_token_and_come_each_second() {
    let node = Command::up(App::misbehaving("").path()).argument("--no-watch").start();
    assert_eq!(open(&node, "/v1/live").status, 401);
    let mut client = connect(node.admin);
    let authorization = format!("Bearer {TOKEN}");
    client.begin("GET", "/v1/live", &[("authorization", &authorization)], b"");
    let head = client.head().unwrap();
    let is_feed = |(name, value): &(String, String)| name == "content-type" && value == "text/event-stream";
    assert!(head.status == 200 && head.headers.iter().any(is_feed), "{head:?}");
    node.text("/count");
    let mut body = head.body();
    let mut text = String::new();
    let line = eventually("a line that counts the request", || {
        text.push_str(&String::from_utf8(client.piece(&mut body).unwrap().unwrap()).unwrap());
        lines(&text).into_iter().find(|line| line["invocations"] == 1)
    });
    let path = line["paths"].as_object().unwrap().values().next().unwrap();
    assert_eq!((&path["count"], &line["errors"], &line["missed"]), (&1.into(), &0.into(), &0.into()), "{line}");
    assert!(path["p50_us"].as_u64() > Some(0) && path["p50_us"] == path["p99_us"], "{line}");
    assert!(line["memory_bytes"].as_u64() > Some(1 << 20) && line["unix_ms"].as_u64().is_some(), "{line}");
}

fn lines(text: &str) -> Vec<Value> {
    let whole = text.rsplit_once("\n\n").map_or("", |(whole, _)| whole);
    whole.split("\n\n").filter_map(|event| serde_json::from_str(event.strip_prefix("data: ")?).ok()).collect()
}

#[test]
fn a_browser_shows_functions_and_requests() {
    let Some(chromium) = chromium() else {
        return;
    };
    let shop = shop();
    let mut ids = Vec::new();
    for path in ["/", "/catalog", "/catalog", "/"] {
        ids.push(shop.get(path).header("x-request-id").to_owned());
    }
    for id in &ids {
        shop.invocation(id);
    }
    let links = ["catalog", "cart", "checkout"].map(|name| format!("href=\"#/functions/{name}\""));
    let functions = browse(&chromium, &shop, "/functions", &[&links[0], &links[1], &links[2], "aria-current=\"page\""]);
    assert!(!functions.contains(TOKEN), "{functions}");
    let links: Vec<_> = ids.iter().map(|id| format!("#/requests/{id}")).collect();
    browse(&chromium, &shop, "/requests", &links.iter().map(String::as_str).collect::<Vec<_>>());
    let facts = ["Served", "Why", "Was it expected?", "GET /catalog", "Trace", &ids[1]];
    browse(&chromium, &shop, &format!("/requests/{}", ids[1]), &facts);
    let facts = ["Ledger", "Waiting saved", "Which functions call which", "storefront calls catalog", "Verdict"];
    browse(&chromium, &shop, "/learning", &facts);
    browse(&chromium, &shop, "/logs/catalog", &["Log of catalog", "href=\"#/logs/cart\""]);
    browse(&chromium, &shop, "/", &["Requests a second, by serve path", "In flight"]);
}

#[test]
fn a_browser_shows_which_code_runs_and_the_image_of_it() {
    let Some(chromium) = chromium() else {
        return;
    };
    let (_folder, data) = data_folder();
    let command = Command::serve(&data).argument("--sample-share").argument("1");
    let node = command.argument("--split-min-kib").argument("0").start();
    let specification = serde_json::json!({ "name": "hello", "routes": ["/..."] });
    assert_eq!(node.deploy(&specification, &hello()).status, 200);
    eventually_within("an image of what runs", Duration::from_secs(60), || {
        (0..5).for_each(|_| assert_eq!(node.text("/"), "hello\n"));
        let profile = node.admin_json("/v1/functions/hello/profile");
        (profile["specialization"]["image_name"] == "serving").then_some(())
    });
    let facts = ["Code that runs", "class=\"treemap\"", "never ran", "serves:", "What comes next in its application"];
    browse(&chromium, &node, "/functions/hello", &facts);
    browse(&chromium, &node, "/images", &["t1-primary", "misses in 1,000 requests"]);
}

/// A browser that is there and starts.
fn chromium() -> Option<String> {
    let program = std::env::var("CHROMIUM").unwrap_or_else(|_| "chromium".to_owned());
    let mut version = std::process::Command::new(&program);
    version.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
    if version.status().is_ok_and(|status| status.success()) {
        return Some(program);
    }
    #[allow(clippy::print_stderr, reason = "who reads the tests' output must learn what was not tested")]
    let () = eprintln!("passed over: no Chromium is installed, so the page was not looked at");
    None
}

/// One browser at a time: each takes all processors of a small machine.
static BROWSING: Mutex<()> = Mutex::new(());
/// How often a browser is given its time again whose page was not complete when it was over.
const ATTEMPTS: usize = 4;

/// The page as the browser has it, a few seconds after it was opened, with all of `facts` in it.
fn browse(chromium: &str, node: &Node, page: &str, facts: &[&str]) -> String {
    let _alone = BROWSING.lock().unwrap_or_else(PoisonError::into_inner);
    let mut last = String::new();
    for _ in 0..ATTEMPTS {
        last = browse_once(chromium, node, page);
        if facts.iter().all(|fact| last.contains(fact)) {
            return last;
        }
    }
    let missing: Vec<_> = facts.iter().filter(|fact| !last.contains(**fact)).collect();
    panic!("{page} does not say {missing:?}: {last}");
}

fn browse_once(chromium: &str, node: &Node, page: &str) -> String {
    let profile = tempfile::tempdir().unwrap();
    let output = std::process::Command::new(chromium)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"])
        .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
        .args(["--disable-dev-shm-usage", "--virtual-time-budget=3000", "--timeout=20000", "--dump-dom"])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .arg(format!("http://{}/#token={TOKEN}&page={page}", node.admin))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
