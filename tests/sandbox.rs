//! The server's own sandbox, looked at from outside: what the kernel says of the process, what it can read, and that all
//! it has to do still works in it.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    missing_docs,
    reason = "a test fails by panicking, or says why not"
)]

mod support;

use std::fs;
use std::path::Path;

use support::app::misbehaving;
use support::node::data_folder;
use support::{App, Command, Node, eventually, misbehave};

/// The values of one line of `status`, of each thread of a process.
fn of_threads(process: &str, line: &str) -> Vec<u64> {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).unwrap();
    let of = |task: fs::DirEntry| {
        // A thread that has just ended has no status.
        let status = fs::read_to_string(task.path().join("status")).ok()?;
        let found = status.lines().find_map(|text| text.strip_prefix(line))?;
        found.trim().parse().ok()
    };
    tasks.filter_map(|task| of(task.unwrap())).collect()
}

/// Whether this machine has what the sandbox needs; says so if not.
fn offered(node: &Node) -> bool {
    let complete = node.process.stderr().contains("the server has its sandbox");
    if !complete {
        println!("SKIPPED: no landlock or no seccomp here: {}", node.process.stderr());
    }
    complete
}

#[test]
fn every_thread_is_confined_and_the_node_does_what_it_does() {
    let app = App::misbehaving("key_value_stores = [\"s\"]");
    let node = Command::up(app.path()).start();
    if !offered(&node) {
        return;
    }
    let process = node.process.id().to_string();
    assert_eq!(node.get("/kv?store=s").json()["after"], 1, "compiled by a worker, and it writes to the disk");
    let (filters, privileges) = (of_threads(&process, "Seccomp:"), of_threads(&process, "NoNewPrivs:"));
    assert!(filters.len() > 3 && filters.iter().all(|filter| *filter == 2), "{filters:?}");
    assert!(privileges.iter().all(|set| *set == 1), "{privileges:?}");
    // A worker was started in it, and did not fall back to the node.
    assert!(!node.process.stderr().contains("compiled by the node itself"), "{}", node.process.stderr());
    // It follows its manifest.
    app.manifest(&misbehaving("environment = { NEW = \"yes\" }"));
    eventually("the new revision", || (node.function("guest")["revision"] == 2).then_some(()));
    let ended = node.stop();
    assert_eq!(ended.code, Some(0), "{ended:?}");
}

#[test]
fn what_lies_elsewhere_is_not_read_unless_the_sandbox_is_off() {
    for (switch, read) in [("on", false), ("off", true)] {
        let app = App::misbehaving("");
        let elsewhere = tempfile::tempdir().unwrap();
        let component = elsewhere.path().join("elsewhere.wasm");
        fs::copy(misbehave(), &component).unwrap();
        let node = Command::up(app.path()).argument("--sandbox").argument(switch).start();
        if !read && !offered(&node) {
            return;
        }
        let process = node.process.id().to_string();
        assert_eq!(of_threads(&process, "Seccomp:").iter().all(|filter| *filter == 2), !read || is_filtered());
        let table = misbehaving("").replace("misbehave.wasm", component.to_str().unwrap());
        app.manifest(&format!("{table}\nenvironment = {{ FROM = \"elsewhere\" }}\n"));
        if read {
            eventually("the new revision", || (node.function("guest")["revision"] == 2).then_some(()));
        } else {
            eventually("a refusal", || node.process.stderr().contains("what was running goes on").then_some(()));
            assert!(node.process.stderr().contains("ermission denied"), "{}", node.process.stderr());
            assert_eq!(node.function("guest")["revision"], 1);
        }
    }
}

/// Whether the tests themselves run below a filter of system calls, as in a container.
fn is_filtered() -> bool {
    of_threads("self", "Seccomp:").iter().all(|filter| *filter == 2)
}

#[test]
fn a_temporary_data_folder_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let app = App::misbehaving("");
    let up = Command::up(app.path()).argument("--no-watch");
    let node = up.environment("TMPDIR", folder.path().to_str().unwrap()).start();
    assert_eq!(entries(folder.path()), 1);
    assert_eq!(node.stop().code, Some(0));
    assert_eq!(entries(folder.path()), 0);
}

fn entries(folder: &Path) -> usize {
    fs::read_dir(folder).unwrap().count()
}

#[test]
fn a_data_folder_that_is_not_there_yet_is_made_and_private() {
    use std::os::unix::fs::PermissionsExt;
    let (_folder, data) = data_folder();
    let data = data.join("new/data");
    let node = Command::serve(&data).start();
    assert_eq!(fs::metadata(&data).unwrap().permissions().mode() & 0o777, 0o700);
    drop(node);
}
