//! The history on a real node: what a `kill -9` under load costs, and what is never written anywhere.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test fails by panicking")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use serde_json::{Value, json};
use support::client::Client;
use support::node::data_folder;
use support::{Command, Node, eventually, hello};

/// Clients that call one after another, without a pause: more than the history's thread keeps up with.
const CLIENTS: usize = 4;
/// Requests that were answered when the node is killed.
const ANSWERED: usize = 4_000;
/// Events that are taken over at once (HISTORY.md): what was on its way into the journal.
const BATCH: usize = 512;
/// Events that came meanwhile, and those of requests under way.
const ON_THE_WAY: usize = 256;

fn export(node: &Node, more: &[&str]) -> Vec<Value> {
    let command = Command::new(&["export", "--json"]).argument("--node").argument(format!("http://{}", node.admin));
    let ended = more.iter().fold(command, Command::argument).run();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    ended.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Calls from many sides until so many requests are answered, then kills the node amid the next ones. The ids of all
/// that were answered, in that order.
fn answered_until_killed(node: Node) -> Vec<String> {
    let answered = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                let mut client = node.client();
                let request = b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n";
                // The node's end breaks it off.
                while let Ok(response) = client.raw(request).and_then(|()| client.answer()) {
                    assert_eq!(response.status, 200);
                    answered.lock().unwrap().push(response.header("x-request-id").to_owned());
                }
            });
        }
        eventually("requests enough", || (answered.lock().unwrap().len() >= ANSWERED).then_some(()));
        node.process.signal("KILL");
    });
    node.process.kill();
    answered.into_inner().unwrap()
}

#[test]
fn kill_9_under_load_loses_at_most_the_last_batch() {
    let (_folder, data) = data_folder();
    let node = Command::serve(&data).start();
    assert_eq!(node.deploy(&json!({ "name": "hello", "routes": ["/..."] }), &hello()).status, 200);
    let mut node = node;
    let mut kept_before: BTreeSet<String> = BTreeSet::new();
    for round in 0..2 {
        let answered = answered_until_killed(node);
        node = Command::serve(&data).start();
        let rows = export(&node, &[]);
        let ids: BTreeSet<String> = rows.iter().map(|row| row["invocation_id"].as_str().unwrap().to_owned()).collect();
        assert_eq!(ids.len(), rows.len(), "no invocation is there twice");
        assert!(ids.is_superset(&kept_before), "round {round}: what was kept before is kept");
        let lost: Vec<usize> = (0..answered.len()).filter(|place| !ids.contains(&answered[*place])).collect();
        let first_lost = lost.first().copied().unwrap_or(answered.len());
        let at_most = BATCH + ON_THE_WAY;
        println!("round {round}: {} of {} lost", lost.len(), answered.len());
        assert!(
            lost.len() <= at_most && first_lost + at_most >= answered.len(),
            "round {round}: {} of {} lost, the first of them was number {first_lost}",
            lost.len(),
            answered.len()
        );
        // An invocation and its share of the sums are written together or not at all.
        let summed: u64 = export(&node, &["--loads"]).iter().map(|load| load["calls"].as_u64().unwrap()).sum();
        assert_eq!(summed, rows.len() as u64, "round {round}");
        kept_before = ids;
    }
}

/// Every one is in no other text.
const SECRETS: [&str; 11] = [
    "bearer-1f7c",
    "token-2a9e",
    "agent-3bd0",
    "cookie-4c11",
    "cookie-5d22",
    "query-6e33",
    "body-7f44",
    "host-8a55",
    "referer-9b66",
    "path-ac77",
    "state-bd88",
];
/// An address that nobody else here has.
const CLIENT: &str = "127.0.77.9";

/// A connection that comes from `CLIENT`.
fn connect_as_client(gateway: SocketAddr) -> Client<TcpStream> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
    let stream = runtime.block_on(async {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(format!("{CLIENT}:0").parse().unwrap()).unwrap();
        socket.connect(gateway).await.unwrap().into_std().unwrap()
    });
    stream.set_nonblocking(false).unwrap();
    stream.set_read_timeout(Some(support::PATIENCE)).unwrap();
    Client::new(stream)
}

/// Requests whose every part has a secret in it: answered, refused, and of a route that nobody has.
fn send_secrets(node: &Node, session: &str) {
    let [bearer, token, agent, cookie, other, query, body, host, referer, path, state] = SECRETS;
    let cookies = format!("sid={session}{cookie}; theme={other}");
    let trace = format!("vendor={state}");
    let headers = [
        ("host", host),
        ("authorization", bearer),
        ("x-token", token),
        ("user-agent", agent),
        ("cookie", cookies.as_str()),
        ("referer", referer),
        ("tracestate", trace.as_str()),
    ];
    for (route, status) in [("hello", 200), ("nowhere", 404)] {
        let target = format!("/{route}/{path}?key={query}");
        for method in ["GET", "POST"] {
            let response = connect_as_client(node.gateway).send(method, &target, &headers, body.as_bytes());
            assert_eq!(response.status, status, "{response:?}");
        }
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

fn has(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

/// The sessions that the history has, each with its requests.
fn sessions(node: &Node, rows: usize) -> BTreeMap<String, usize> {
    let exported = eventually("the history of all requests", || {
        let exported = export(node, &[]);
        (exported.len() >= rows).then_some(exported)
    });
    let mut sessions = BTreeMap::new();
    for row in exported {
        *sessions.entry(row["session"].as_str().unwrap_or("none").to_owned()).or_insert(0) += 1;
    }
    sessions
}

#[test]
fn nothing_that_clients_send_is_written_anywhere() {
    let (_folder, data) = data_folder();
    let start = || {
        // Everything that learns is on, as far as it goes.
        let node = Command::serve(&data).argument("--session").argument("cookie:sid");
        node.argument("--sample-share").argument("1").argument("--split-min-kib").argument("0").start()
    };
    let node = start();
    let specification = json!({ "name": "hello", "routes": ["/hello/..."] });
    assert_eq!(node.deploy(&specification, &hello()).status, 200);
    let mut rounds = 0;
    eventually("requests that were sampled", || {
        send_secrets(&node, "");
        rounds += 1;
        let paths = node.admin_json("/v1/functions/hello/paths");
        paths["map"]["classes"].as_array().filter(|classes| classes.len() == 2).map(|_| ())
    });
    send_secrets(&node, "another-");
    // Two of each four requests reach the function.
    let first = sessions(&node, 2 * rounds + 2);
    assert_eq!(first.values().copied().collect::<BTreeSet<_>>(), BTreeSet::from([2, 2 * rounds]), "{first:?}");
    let is_hash = |session: &String| session.len() == 16 && session.bytes().all(|byte| byte.is_ascii_hexdigit());
    assert!(first.keys().all(is_hash), "{first:?}");
    assert!(has(node.admin("GET", "/v1/invocations?count=50", b"").text().as_bytes(), first.keys().next().unwrap()));
    let said = node.stop().stderr;

    // The same cookie under another key: the hash cannot be made again from what is on disk.
    let node = start();
    send_secrets(&node, "");
    let both = sessions(&node, 2 * rounds + 4);
    assert_eq!(both.len(), 3, "{both:?}");
    let said = format!("{said}{}", node.stop().stderr);

    let all = files(&data);
    let contents: Vec<(&PathBuf, Vec<u8>)> = all.iter().map(|path| (path, std::fs::read(path).unwrap())).collect();
    let found = |text: &str| {
        let with = contents.iter().filter(|(_, bytes)| has(bytes, text)).map(|(path, _)| path.display().to_string());
        with.collect::<Vec<String>>()
    };
    // The search finds what there is to find.
    assert!(found("/hello/...").iter().any(|path| path.contains("history.db")), "{all:?}");
    assert!(found("GET /hello/...").iter().any(|path| path.ends_with("paths.json")), "{all:?}");
    for secret in SECRETS.into_iter().chain([CLIENT]) {
        assert_eq!(found(secret), [""; 0], "{secret}");
        assert!(!said.contains(secret), "{secret} is in the node's log");
    }
}
