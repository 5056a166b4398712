//! Kills a process that publishes, fails and discards, at random moments, many times; what it had acknowledged must be there.
//!
//! `kill -9` leaves what the process gave to the system; a loss of power, which also takes what the system had not
//! given to the disk, cannot be made here and rests on the syncs in the code.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use forerun_images::{Claim, DiscardReason, ImageCache, ImageCacheSettings, Miss};
use support::*;

const DIRECTORY_VARIABLE: &str = "FORERUN_CRASH_TEST_DIRECTORY";
const ROUNDS: u64 = 20;
const IMAGE_BYTES: usize = 100_000;
/// Room for ten.
const BYTES_MAX: u64 = 11 * IMAGE_BYTES as u64;
/// Keys whose builds fail begin here.
const BAD: u64 = 1 << 60;

fn opened(path: &Path) -> ImageCache {
    let settings = ImageCacheSettings { bytes_max: BYTES_MAX, ..ImageCacheSettings::default() };
    open_with(path, settings, &HandClock::default())
}

/// The child: publishes until it is killed; one line for each acknowledgement.
#[test]
#[ignore = "the child of `kill_loses_nothing_acknowledged`"]
fn child() {
    let directory = std::env::var_os(DIRECTORY_VARIABLE).expect("set by the parent");
    let cache = opened(Path::new(&directory));
    // Keys that no earlier child has used.
    let first = u64::from(std::process::id()) << 20;
    let mut output = std::io::stdout().lock();
    for turn in first.. {
        if matches!(cache.claim(&key(turn)), Claim::Yours(_)) {
            // Given up: the wait is written, and taken back.
            cache.forgive(&key(turn));
        }
        // Each worth as much as the others: the oldest goes.
        publish(&cache, turn, IMAGE_BYTES, 1.0).unwrap();
        writeln!(output, "\npublished {turn}").unwrap();
        match turn % 3 {
            0 => {
                cache.discard(&key(turn), DiscardReason::Misbehaved { detail: "trap".into() });
                writeln!(output, "\ndiscarded {turn}").unwrap();
            }
            1 => {
                cache.fail(ticket(&cache, &key(BAD + turn)), "trap");
                writeln!(output, "\nfailed {}", BAD + turn).unwrap();
            }
            _ => drop(cache.get(&key(turn)).unwrap()),
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

/// Runs the child until `delay` after its first acknowledgement, kills it, and returns what it had acknowledged.
fn run_and_kill(directory: &Path, delay: Duration) -> Vec<(String, u64)> {
    let mut child = start(directory);
    let output = BufReader::new(child.stdout.take().unwrap());
    let (first, started) = mpsc::channel();
    let reader = thread::spawn(move || {
        let mut lines = Vec::new();
        for line in output.lines().map_while(Result::ok) {
            let words: Vec<_> = line.split(' ').collect();
            if let [verb @ ("published" | "discarded" | "failed"), number] = words.as_slice() {
                let _ = first.send(());
                lines.push(((*verb).to_owned(), number.parse().unwrap()));
            }
        }
        lines
    });
    started.recv_timeout(Duration::from_secs(60)).expect("the child begins to work");
    thread::sleep(delay);
    child.kill().unwrap();
    child.wait().unwrap();
    reader.join().unwrap()
}

/// What each key must be now, by the last word about it.
fn check(directory: &Path, acknowledged: &[(String, u64)]) {
    let last: BTreeMap<_, _> = acknowledged.iter().map(|(verb, number)| (*number, verb.as_str())).collect();
    let cache = opened(directory);
    assert_eq!(cache.counters().index_lost, 0);
    for (number, verb) in &last {
        let result = cache.get(&key(*number));
        match (*verb, result) {
            ("published", Ok(lease)) => assert_eq!(content(&lease), payload(*number, IMAGE_BYTES)),
            // A later one took its room, or it was being discarded when the end came.
            ("published", Err(Miss::Evicted | Miss::Vanished | Miss::Quarantined { .. })) => {}
            ("discarded", Err(Miss::Quarantined { failures: 1, .. })) => {}
            ("failed", Err(Miss::BackingOff { failures: 1, .. })) => {}
            (verb, result) => panic!("{verb} {number}: {result:?}"),
        }
    }
    let mut numbers = last.iter().filter(|(_, verb)| **verb == "published").map(|(number, _)| *number).rev();
    // The last one that was stored and stayed is there: what came later needed no more than the room of one.
    if let (Some(_), Some(number)) = (numbers.next(), numbers.next()) {
        cache.get(&key(number)).unwrap();
    }
    let files = files(directory);
    assert!(files.iter().map(|(_, bytes)| bytes).sum::<u64>() <= BYTES_MAX);
    assert!(files.iter().all(|(path, _)| !path.to_string_lossy().ends_with(".tmp")));
    // No file that is not whole.
    for row in cache.list().iter().filter(|row| row.bytes > 0) {
        cache.get(&row.key).unwrap();
    }
}

#[test]
fn kill_loses_nothing_acknowledged() {
    let directory = tempfile::tempdir().unwrap();
    let mut published = 0;
    // Any spread will do, as long as it is the same in every run: 0 to 60 ms in steps that do not repeat.
    for round in 0..ROUNDS {
        let delay = Duration::from_micros(round * 7919 * 37 % 60_000);
        let acknowledged = run_and_kill(directory.path(), delay);
        check(directory.path(), &acknowledged);
        published += acknowledged.len();
    }
    assert!(published as u64 >= ROUNDS);
}
