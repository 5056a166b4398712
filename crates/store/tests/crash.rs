//! Kills a process that deploys and writes history, at random moments, many times; everything it had acknowledged must be there.
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

use forerun_driver::{KeyValues, StoreName};
use forerun_store::{HistorySettings, KeyValueLimits, Store, StoreSettings};
use forerun_telemetry::{EventSink, InvocationEvent, Phases, RequestClass};
use forerun_types::{
    ComponentDigest, FunctionName, FunctionSpec, GenericReason, InvocationId, Outcome, RevisionNumber, ServePath,
    SpanId, TraceContext, TraceId,
};

const STORE: StoreName<'_> = StoreName { app: "shop", name: "s" };
const DIRECTORY_VARIABLE: &str = "FORERUN_CRASH_TEST_DIRECTORY";
const ROUNDS: u64 = 25;
const REVISIONS_KEPT: u32 = 5;
const FUNCTIONS: u64 = 3;
/// Invocations of one batch for the history.
const BATCH_EVENTS: u64 = 100;

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
    let (journal, mut writer, _history) = store.history(HistorySettings::default()).unwrap();
    writer.settle().unwrap();
    let mut events = number(store.directory(), "SELECT count(*) FROM invocations");
    let mut journal = journal.settled_by(writer, || {}).unwrap();
    let mut output = std::io::stdout().lock();
    for turn in 0.. {
        let count = key_values.increment(STORE, "n", 1).unwrap();
        writeln!(output, "count {count}").unwrap();
        let function: FunctionName = format!("f{}", turn % FUNCTIONS).parse().unwrap();
        let mut spec = FunctionSpec::named(function.clone());
        spec.routes = vec![format!("/{function}").parse().unwrap()];
        let content = format!("{function} {count}").repeat(500);
        let digest = store.put_component(content.as_bytes()).unwrap();
        let deployed = store.deploy(&spec, digest, turn).unwrap();
        writeln!(output, "revision {function} {} {digest}", deployed.revision()).unwrap();
        // What is in the journal is kept, whether the database has it already or not.
        journal.take(&(0..BATCH_EVENTS).map(|number| event(events + number)).collect::<Vec<_>>());
        if turn % 3 == 0 {
            journal.flush();
        }
        events += BATCH_EVENTS;
        writeln!(output, "events {events}").unwrap();
        if turn % 4 == 0 {
            store.collect_garbage(SystemTime::now(), Duration::from_secs(3600)).unwrap();
        }
    }
}

fn event(number: u64) -> InvocationEvent {
    let (trace_id, span_id) = (TraceId::from_random(number.into()), SpanId::from_random(number));
    InvocationEvent {
        id: InvocationId::from_random(number.into()),
        started_unix_us: 1_700_000_000_000_000 + number * 100_000,
        function: format!("f{}", number % FUNCTIONS).parse().unwrap(),
        app: "".into(),
        revision: RevisionNumber(1),
        class: RequestClass { method: "GET", route: "/".into(), size_bucket: 0 },
        trace: TraceContext { trace_id, span_id, sampled: true },
        parent_span: None,
        caller: None,
        session: None,
        serve_path: ServePath::Generic(GenericReason::NoImage),
        outcome: Outcome::Ok,
        status: 200,
        phases: Phases::default(),
        busy_us: 0,
        calls_us: 0,
        cpu_us: None,
        memory_bytes_peak: 0,
        bytes_in: 0,
        bytes_out: 0,
    }
}

/// The answer of the history to a question that has a number for an answer.
fn number(directory: &Path, sql: &str) -> u64 {
    let history = rusqlite::Connection::open(directory.join("history.db")).unwrap();
    history.query_row(sql, [], |row| row.get::<_, u32>(0)).unwrap().into()
}

#[derive(Default)]
struct Acknowledged {
    count: u64,
    events: u64,
    revisions: BTreeMap<FunctionName, (RevisionNumber, ComponentDigest)>,
}

impl Acknowledged {
    fn note(&mut self, line: &str) {
        let words: Vec<_> = line.split(' ').collect();
        match words.as_slice() {
            ["count", count] => self.count = count.parse().unwrap(),
            ["events", events] => self.events = events.parse().unwrap(),
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

/// Checks that everything acknowledged is there. What is there counts as acknowledged from now on: one more of
/// each may have been finished without a word.
fn check(directory: &Path, acknowledged: &mut Acknowledged) {
    let store = open(directory);
    let count = store.key_values(KeyValueLimits::default()).unwrap().increment(STORE, "n", 0).unwrap();
    assert!([0, 1].contains(&(count - acknowledged.count)), "{count} {}", acknowledged.count);
    acknowledged.count = count;
    let (_journal, mut writer, _history) = store.history(HistorySettings::default()).unwrap();
    writer.settle().unwrap();
    let events = number(directory, "SELECT count(*) FROM invocations");
    // A batch is there whole or not at all.
    assert!([0, BATCH_EVENTS].contains(&(events - acknowledged.events)), "{events} {}", acknowledged.events);
    assert_eq!(number(directory, "SELECT ifnull(sum(calls), 0) FROM loads"), events);
    acknowledged.events = events;
    for (function, (number, digest)) in &mut acknowledged.revisions {
        let active = store.active_revision(function).unwrap().expect("an acknowledged function is there");
        assert!([0, 1].contains(&(active.number.0 - number.0)), "{} {number}", active.number);
        let revisions = store.revisions(function).unwrap();
        let kept = revisions.iter().find(|revision| revision.number == *number);
        assert_eq!(kept.expect("an acknowledged revision is there").digest, *digest);
        for revision in &revisions {
            store.component(revision.digest).unwrap();
        }
        (*number, *digest) = (active.number, active.digest);
    }
    let files = std::fs::read_dir(directory.join("components")).unwrap();
    assert!(files.map(|entry| entry.unwrap().file_name()).all(|name| !name.to_string_lossy().ends_with(".tmp")));
}

#[test]
fn kill_loses_nothing_acknowledged() {
    let directory = tempfile::tempdir().unwrap();
    let mut acknowledged = Acknowledged::default();
    // Any spread will do, as long as it is the same in every run: 0 to 40 ms in steps that do not repeat.
    for round in 0..ROUNDS {
        let delay = Duration::from_micros(round * 7919 * 37 % 40_000);
        run_and_kill(directory.path(), delay, &mut acknowledged);
        check(directory.path(), &mut acknowledged);
    }
    assert!(
        acknowledged.count >= ROUNDS && acknowledged.events > 0 && acknowledged.revisions.len() == FUNCTIONS as usize
    );
}
