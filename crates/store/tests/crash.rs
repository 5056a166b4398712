//! Kills a process that deploys, at random moments, many times; everything it had acknowledged must be there.
//!
//! `kill -9` leaves what the process gave to the system; a loss of power, which also takes what the
//! system had not given to the disk, cannot be made here and rests on the syncs in the code.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, SystemTime};

use forerun_driver::KeyValues;
use forerun_store::{KeyValueLimits, Store, StoreSettings};
use forerun_types::{ComponentDigest, FunctionName, FunctionSpec, RevisionNumber};

const DIRECTORY_VARIABLE: &str = "FORERUN_CRASH_TEST_DIRECTORY";
const ROUNDS: u64 = 25;
const REVISIONS_KEPT: u32 = 5;
const FUNCTIONS: u64 = 3;

fn open(path: &Path) -> Store {
    Store::open(path, StoreSettings { revisions_kept: REVISIONS_KEPT }).unwrap()
}

/// The child: deploys, increments and collects garbage until it is killed; one line for each acknowledgement.
#[test]
#[ignore = "the child of `kill_loses_nothing_acknowledged`"]
fn child() {
    let directory = std::env::var_os(DIRECTORY_VARIABLE).expect("set by the parent");
    let store = open(Path::new(&directory));
    let key_values = store.key_values(KeyValueLimits::default()).unwrap();
    let mut output = std::io::stdout().lock();
    for turn in 0.. {
        let count = key_values.increment("s", "n", 1).unwrap();
        writeln!(output, "count {count}").unwrap();
        let function: FunctionName = format!("f{}", turn % FUNCTIONS).parse().unwrap();
        let mut spec = FunctionSpec::named(function.clone());
        spec.routes = vec![format!("/{function}").parse().unwrap()];
        let content = format!("{function} {count}").repeat(500);
        let digest = store.put_component(content.as_bytes()).unwrap();
        let deployed = store.deploy(&spec, digest, turn).unwrap();
        writeln!(output, "revision {function} {} {digest}", deployed.revision()).unwrap();
        if turn % 4 == 0 {
            store.collect_garbage(SystemTime::now(), Duration::from_secs(3600)).unwrap();
        }
    }
}

#[derive(Default)]
struct Acknowledged {
    count: u64,
    revisions: BTreeMap<FunctionName, (RevisionNumber, ComponentDigest)>,
}

impl Acknowledged {
    fn note(&mut self, line: &str) {
        let words: Vec<_> = line.split(' ').collect();
        match words.as_slice() {
            ["count", count] => self.count = count.parse().unwrap(),
            ["revision", function, number, digest] => {
                let revision = (RevisionNumber(number.parse().unwrap()), digest.parse().unwrap());
                self.revisions.insert(function.parse().unwrap(), revision);
            }
            // What the test harness of the child prints.
            _ => {}
        }
    }
}

fn start(directory: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--ignored", "--nocapture", "--test-threads=1"])
        .env(DIRECTORY_VARIABLE, directory)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Runs the child until `delay` after its first acknowledgement, kills it, and notes what it had acknowledged.
fn run_and_kill(directory: &Path, delay: Duration, acknowledged: &mut Acknowledged) {
    let mut child = start(directory);
    let output = BufReader::new(child.stdout.take().unwrap());
    let (first, started) = mpsc::channel();
    let reader = thread::spawn(move || {
        let mut lines = Vec::new();
        for line in output.lines().map_while(Result::ok) {
            if line.starts_with("count") {
                let _ = first.send(());
            }
            lines.push(line);
        }
        lines
    });
    started.recv_timeout(Duration::from_secs(60)).expect("the child begins to work");
    thread::sleep(delay);
    child.kill().unwrap();
    child.wait().unwrap();
    reader.join().unwrap().iter().for_each(|line| acknowledged.note(line));
}

fn check(directory: &Path, acknowledged: &Acknowledged) {
    let store = open(directory);
    let count = store.key_values(KeyValueLimits::default()).unwrap().increment("s", "n", 0).unwrap();
    assert!(count == acknowledged.count || count == acknowledged.count + 1, "{count} {}", acknowledged.count);
    for (function, (number, digest)) in &acknowledged.revisions {
        let active = store.active_revision(function).unwrap().expect("an acknowledged function is there");
        // The one that was being deployed may have been finished without being acknowledged.
        assert!(active.number == *number || active.number.0 == number.0 + 1);
        let revisions = store.revisions(function).unwrap();
        let acknowledged = revisions.iter().find(|revision| revision.number == *number);
        assert_eq!(acknowledged.expect("an acknowledged revision is there").digest, *digest);
        for revision in &revisions {
            store.component(revision.digest).unwrap();
        }
    }
    let unfinished = std::fs::read_dir(directory.join("components")).unwrap();
    assert!(unfinished.map(|entry| entry.unwrap().file_name()).all(|name| !name.to_string_lossy().ends_with(".tmp")));
}

#[test]
fn kill_loses_nothing_acknowledged() {
    let directory = tempfile::tempdir().unwrap();
    let mut acknowledged = Acknowledged::default();
    // Any spread will do, as long as it is the same in every run: 0 to 40 ms in steps that do not repeat.
    for round in 0..ROUNDS {
        let delay = Duration::from_micros(round * 7919 * 37 % 40_000);
        run_and_kill(directory.path(), delay, &mut acknowledged);
        check(directory.path(), &acknowledged);
    }
    assert!(acknowledged.count >= ROUNDS && acknowledged.revisions.len() == FUNCTIONS as usize);
}
