//! Many revisions, one after the other, while requests come: none is lost, the cache stays within its budget, and memory
//! does not grow with the number of revisions.
//!
//! 40 of them by default; `FORERUN_REVISIONS=200 cargo test --test redeploy` is the run that SPEC.md speaks of.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    missing_docs,
    reason = "a test fails by panicking, or says figures"
)]

mod support;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use serde_json::json;
use support::node::data_folder;
use support::{Command, Node, hello};

/// Machine code of about a dozen revisions.
const BUDGET_MIB: u64 = 3;

fn revisions() -> u64 {
    std::env::var("FORERUN_REVISIONS").map_or(40, |text| text.parse().expect("a number of revisions"))
}

/// The component with its number in a custom section: another component that does the same.
fn numbered(number: u64) -> Vec<u8> {
    let mut component = std::fs::read(hello()).unwrap();
    let contents = [b"\x08revision".as_slice(), &number.to_le_bytes()].concat();
    component.push(0);
    component.push(u8::try_from(contents.len()).unwrap());
    component.extend(contents);
    component
}

/// Memory of the node's process that is its own, in bytes.
fn own_bytes(node: &Node) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", node.process.id())).unwrap();
    let anonymous = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    anonymous.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

fn stored_bytes(node: &Node) -> u64 {
    let images = node.admin_json("/v1/images")["images"].clone();
    images.as_array().unwrap().iter().map(|image| image["bytes"].as_u64().unwrap()).sum()
}

#[test]
fn revision_after_revision_loses_no_request_and_keeps_to_the_budget() {
    let (_folder, data) = data_folder();
    let node = Command::serve(&data).argument("--images-mib").argument(BUDGET_MIB.to_string()).start();
    let specification = json!({ "name": "hello", "routes": ["/..."] });
    let deploy = |number| {
        let digest = node.upload(&numbered(number));
        let answer = node.deploy_stored(&specification, &digest);
        assert_eq!(answer.status, 200, "{answer:?}");
    };
    deploy(0);
    let (done, asked) = (AtomicBool::new(false), AtomicU64::new(0));
    let (early, late) = std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut client = node.client();
                while !done.load(Ordering::Relaxed) {
                    let answer = client.get("/");
                    assert_eq!((answer.status, answer.text().as_str()), (200, "hello\n"));
                    asked.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let mut early = 0;
        for number in 1..=revisions() {
            deploy(number);
            assert!(stored_bytes(&node) <= BUDGET_MIB << 20, "{} bytes are kept", stored_bytes(&node));
            if number == revisions() / 2 {
                early = own_bytes(&node);
            }
        }
        let late = own_bytes(&node);
        done.store(true, Ordering::Relaxed);
        (early, late)
    });
    let asked = asked.load(Ordering::Relaxed);
    println!("{} revisions, {asked} requests, own memory {early} bytes half way and {late} at the end", revisions());
    assert!(asked > 2 * revisions(), "{asked} requests show nothing");
    assert_eq!(node.function("hello")["revision"], revisions() + 1);
    // What the allocator keeps varies; a leak of one revision's code each would be twice this.
    assert!(late < early + (32 << 20), "{early} bytes half way, {late} at the end");
}
