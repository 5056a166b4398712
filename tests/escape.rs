//! A guest that reaches for what it must not have: files, sockets, names, other functions' data, the node's own ports
//! and what surrounds the node. Each attempt must fail, and by the right name: a refusal that is only a lost packet
//! would be luck.
//!
//! What a guest does with its own VM (traps, endless loops, memory) is in `hostile_guests`.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    missing_docs,
    reason = "a test fails by panicking, or says why not"
)]

mod support;

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::json;
use support::{App, Command, Node, eventually, misbehave, repository};

/// The node's manifest: one guest that reaches for the system, one that calls other hosts.
fn app(more_of_caller: &str) -> App {
    let functions = format!(
        "[function.escape]\nsource = \"escape.wasm\"\nroutes = [\"/...\"]\n\n\
         [function.caller]\nsource = \"misbehave.wasm\"\nroutes = [\"/caller/...\", \"/outbound\", \"/kv\"]\n{more_of_caller}\n"
    );
    let app = App::new(&functions);
    app.component("escape.wasm", &repository("tests/guests/components/escape.wasm"));
    app.component("misbehave.wasm", &misbehave());
    app
}

fn node(more_of_caller: &str) -> Node {
    Command::up(app(more_of_caller).path()).argument("--no-watch").start()
}

/// The attempt fails, and the guest is told so by one of `names`.
fn check_refused(node: &Node, path: &str, names: &[&str]) {
    let answer = node.get(path);
    assert_eq!(answer.status, 403, "{path}: {answer:?}");
    let text = answer.text();
    assert!(names.iter().any(|name| text.contains(name)), "{path}: {text}");
}

#[test]
fn there_are_no_files() {
    let node = node("");
    assert_eq!(node.text("/folders"), "0\n");
    let outside = tempfile::tempdir().unwrap();
    let (secret, new) = (outside.path().join("secret"), outside.path().join("new"));
    fs::write(&secret, "secret").unwrap();
    // The standard library finds no folder to look in, and so does not even ask the host.
    let no_folder = ["pre-opened file descriptor"];
    for path in ["/etc/passwd", "/proc/self/environ", "/proc/self/cwd/Cargo.toml", "../../../../etc/passwd", "."] {
        check_refused(&node, &format!("/read?path={path}"), &no_folder);
        check_refused(&node, &format!("/list?path={path}"), &no_folder);
    }
    check_refused(&node, &format!("/read?path={}", secret.display()), &no_folder);
    check_refused(&node, &format!("/write?path={}", new.display()), &no_folder);
    assert!(!new.exists());
}

#[test]
fn there_are_no_sockets_and_no_names() {
    let node = node("allowed_outbound_hosts = [\"*://*:*\"]");
    let (address, visitors) = outside("200 OK", "");
    let datagrams = UdpSocket::bind("127.0.0.1:0").unwrap();
    datagrams.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let denied = ["PermissionDenied"];
    for to in [address, node.gateway, node.admin] {
        check_refused(&node, &format!("/tcp?to={to}"), &denied);
    }
    check_refused(&node, "/tcp?to=169.254.169.254:80", &denied);
    check_refused(&node, &format!("/udp?to={}", datagrams.local_addr().unwrap()), &denied);
    check_refused(&node, "/listen?at=127.0.0.1:0", &denied);
    let unknown = ["PermissionDenied", "unresolvable", "failed to lookup address information"];
    for name in ["localhost", "example.com", "metadata.google.internal"] {
        check_refused(&node, &format!("/resolve?name={name}"), &unknown);
    }
    assert_eq!(visitors.load(Ordering::Relaxed), 0);
    assert!(datagrams.recv(&mut [0; 16]).is_err(), "a datagram came through");
}

#[test]
fn of_the_process_only_what_the_manifest_says_is_seen() {
    let app = app("");
    let up = Command::up(app.path()).argument("--no-watch").environment("FORERUN_SECRET_OF_THE_NODE", "hidden");
    let node = up.start();
    let seen = node.text("/variables");
    assert_eq!(seen, "[] []\n", "neither environment nor arguments of the node");
    let folder = node.get("/folder");
    assert!(!folder.text().contains(app.path().to_str().unwrap()), "{folder:?}");
    assert_eq!(node.text("/stdin"), "\n");
}

#[test]
fn stores_of_others_are_not_opened() {
    let functions = "[function.owner]\nsource = \"misbehave.wasm\"\nroutes = [\"/owner/...\", \"/kv\"]\nkey_value_stores = [\"till\"]\n\n\
         [function.thief]\nsource = \"misbehave.wasm\"\nkey_value_stores = [\"own\"]\n";
    let app = App::new(functions);
    app.component("misbehave.wasm", &misbehave());
    let node = Command::up(app.path()).argument("--no-watch").start();
    assert_eq!(node.get("/kv?store=till").json()["after"], 1);
    for name in ["till", "..%2Ftill", "Till", "", "*", "own%00till"] {
        let answer = node.admin("GET", &format!("/v1/functions/thief/invoke/kv?store={name}"), b"");
        assert_eq!((answer.status, answer.text().as_str()), (500, "Error::NoSuchStore\n"), "{name}");
    }
    assert_eq!(node.get("/kv?store=till").json()["before"], 1, "nobody else has counted");
}

#[test]
fn another_application_is_neither_read_nor_called() {
    let vault = App::new(
        "[function.vault]\nsource = \"misbehave.wasm\"\nroutes = [\"/kv\", \"/vault/...\"]\nkey_value_stores = [\"till\"]\n",
    );
    vault.component("misbehave.wasm", &misbehave());
    let node = Command::up(vault.path()).argument("--no-watch").start();
    assert_eq!(node.get("/kv?store=till").json()["after"], 1);
    let thief = |allowed: &str| {
        let specification = json!({
            "name": "thief", "app": "thieves", "routes": ["/outbound"], "key_value_stores": ["till"],
            "allowed_outbound_hosts": [allowed],
        });
        let deployed = node.deploy(&specification, &misbehave());
        assert_eq!(deployed.status, 200, "{deployed:?}");
    };
    thief("*://*:*");
    let stolen = || node.admin("GET", "/v1/functions/thief/invoke/kv?store=till", b"").json();
    assert_eq!((stolen()["before"].as_u64(), stolen()["before"].as_u64()), (Some(0), Some(1)), "a store of its own");
    assert_eq!(node.get("/kv?store=till").json()["before"], 1, "nobody else has counted");
    let by_address = format!("http://{}/vault/x", node.gateway);
    for url in ["http://vault.forerun.internal/", "http://vault.spin.internal/", by_address.as_str()] {
        let told = refusal(&node, url);
        assert!(told.contains("HttpRequestDenied"), "{url}: {told}");
    }
    thief("http://vault.forerun.internal");
    let told = node.text("/outbound?url=http://vault.forerun.internal/kv?store=till");
    assert!(told.starts_with("status 200"), "{told}");
}

/// A server that counts its visitors, and sends each the same answer.
fn outside(status: &'static str, header: &str) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let visitors = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&visitors);
    let answer = format!("HTTP/1.1 {status}\r\n{header}content-length: 8\r\nconnection: close\r\n\r\noutside\n");
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            counted.fetch_add(1, Ordering::Relaxed);
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    (address, visitors)
}

/// What the guest was told of a call that had no answer.
fn refusal(node: &Node, url: &str) -> String {
    let answer = node.get(&format!("/outbound?url={url}"));
    assert_eq!(answer.status, 502, "{url}: {answer:?}");
    answer.text()
}

#[test]
fn any_host_is_none_of_the_nodes_surroundings() {
    let node = node("allowed_outbound_hosts = [\"*://*:*\"]");
    let (address, visitors) = outside("200 OK", "");
    let port = address.port();
    // However the address is written: as IPv6, with IPv4 inside, as one number, in octal, in hexadecimal, shortened.
    for host in [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0177.0.0.1",
        "0x7f.0.0.1",
        "0x7f000001",
        "0.0.0.0",
        "localhost",
        "localhost.",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[::127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
        "169.254.169.254",
        "2852039166",
        "0xa9fea9fe",
        "0251.0376.0251.0376",
        "[::ffff:169.254.169.254]",
        "[fd00:ec2::254]",
        "[fe80::1]",
        "100.100.100.200",
        // A public address by its number; on one cloud it answers to every machine.
        "168.63.129.16",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.0.1",
    ] {
        let told = refusal(&node, &format!("http://{host}:{port}/"));
        // A C library that does not read an unusual form says that there is no such name, which reaches nothing either.
        let unusual = host.starts_with('0') || host.bytes().all(|byte| byte.is_ascii_digit()) || host == "127.1";
        let named = told.contains("DestinationIpProhibited") || (unusual && told.contains("DnsError"));
        assert!(named, "{host}: {told}");
    }
    for (url, name) in [
        (format!("http://user:secret@{address}/"), "HttpRequestUriInvalid"),
        ("ftp://example.com/".to_owned(), ""),
        ("file:///etc/passwd".to_owned(), ""),
    ] {
        let told = refusal(&node, &url);
        assert!(told.contains(name), "{url}: {told}");
    }
    assert_eq!(visitors.load(Ordering::Relaxed), 0);
}

#[test]
fn the_admin_port_is_out_of_reach_and_wants_its_token_anyway() {
    let node = node("allowed_outbound_hosts = [\"*://*:*\"]");
    for host in ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "2130706433"] {
        let told = refusal(&node, &format!("http://{host}:{}/v1/functions", node.admin.port()));
        assert!(told.contains("DestinationIpProhibited"), "{host}: {told}");
    }
    // An operator who names it still gives no token away.
    let app = app(&format!("allowed_outbound_hosts = [\"http://{}\"]", node.admin));
    let named = Command::up(app.path()).argument("--no-watch").start();
    let told = named.text(&format!("/outbound?url=http://{}/v1/functions", node.admin));
    assert!(told.starts_with("status 401"), "{told}");
}

#[test]
fn a_redirect_is_the_guests_to_follow() {
    let (inner, inner_visitors) = outside("200 OK", "");
    let to_inner: &str = Box::leak(format!("location: http://{inner}/\r\n").into_boxed_str());
    let (open, visitors) = outside("302 Found", to_inner);
    let node = node(&format!("allowed_outbound_hosts = [\"http://{open}\"]"));
    let told = node.text(&format!("/outbound?url=http://{open}/"));
    assert!(told.starts_with("status 302"), "{told}");
    assert!(refusal(&node, &format!("http://{inner}/")).contains("HttpRequestDenied"));
    assert_eq!((visitors.load(Ordering::Relaxed), inner_visitors.load(Ordering::Relaxed)), (1, 0));
}

/// Runs the node with a list of hosts of its own, the first argument. Exit code 77: this system allows no mount.
const WITH_OWN_HOSTS: &str = r#"mount --bind "$1" /etc/hosts || exit 77; shift; exec "$@""#;

/// A node for which `hosts` is the list of known hosts, if this system lets us.
fn node_with_hosts(app: &App, hosts: &std::path::Path) -> Option<Node> {
    let shell = ["--user", "--map-root-user", "--mount", "sh", "-c", WITH_OWN_HOSTS, "sh", hosts.to_str().unwrap()];
    let up = [env!("CARGO_BIN_EXE_forerun"), "up", app.path().to_str().unwrap(), "--ephemeral", "--no-watch"];
    let mut process = Command::through("unshare", &[&shell[..], &up[..]].concat()).on_free_ports().begin();
    let said = eventually("a node or an end", || {
        (process.has_ended() || process.stderr().contains("admin API on")).then(|| process.stderr())
    });
    if said.contains("admin API on") {
        return Some(Node::of(process));
    }
    println!("SKIPPED: a list of hosts of its own needs a mount namespace: {said}");
    None
}

#[test]
fn a_name_that_turns_to_the_inside_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let hosts = folder.path().join("hosts");
    let (address, visitors) = outside("200 OK", "");
    let port = address.port();
    // In place, since what is mounted is the file and not its name.
    let turn = |to: &str| fs::write(&hosts, format!("{to} turns.example\n")).unwrap();
    turn("10.0.0.1");
    let any = app("allowed_outbound_hosts = [\"*://*:*\"]");
    let Some(node) = node_with_hosts(&any, &hosts) else { return };
    let url = format!("http://turns.example:{port}/");
    for to in ["10.0.0.1", "127.0.0.1", "169.254.169.254", "::1", "::ffff:127.0.0.1", "fd00:ec2::254"] {
        turn(to);
        let told = refusal(&node, &url);
        assert!(told.contains("DestinationIpProhibited"), "{to}: {told}");
    }
    assert_eq!(visitors.load(Ordering::Relaxed), 0);

    // Whoever is named may be inside, but not where a cloud keeps the credentials of its machines.
    turn("127.0.0.1");
    let named = app("allowed_outbound_hosts = [\"http://turns.example:*\"]");
    let Some(node) = node_with_hosts(&named, &hosts) else { return };
    assert_eq!(node.text(&format!("/outbound?url={url}")), "status 200\noutside\n");
    for to in ["169.254.169.254", "fe80::1", "fd00:ec2::254", "::ffff:169.254.169.254", "100.100.100.200"] {
        turn(to);
        let told = refusal(&node, &url);
        assert!(told.contains("DestinationIpProhibited"), "{to}: {told}");
    }
    assert_eq!(visitors.load(Ordering::Relaxed), 1);
}
