//! A disk that is really full: a child process in a mount namespace of its own, on a small `tmpfs`.
//!
//! Where the system allows no mount, the test says so and checks nothing.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test fails by panicking")]

mod support;

use std::path::Path;
use std::process::Command;

use forerun_images::{Claim, ImageCacheSettings, PublishError};
use support::*;

const DIRECTORY_VARIABLE: &str = "FORERUN_DISK_TEST_DIRECTORY";
const MOUNT: &str = r#"mount -t tmpfs -o size=1m tmpfs "$1" || exit 77; shift; exec "$@""#;
const NO_MOUNT: i32 = 77;

#[test]
#[ignore = "the child of `a_full_disk_is_named_and_loses_nothing`"]
fn child() {
    let directory = std::env::var_os(DIRECTORY_VARIABLE).expect("set by the parent");
    let directory = Path::new(&directory);
    let clock = HandClock::default();
    let cache = open_with(directory, ImageCacheSettings::default(), &clock);
    publish(&cache, 1, 300_000, 1.0).unwrap();
    publish(&cache, 2, 300_000, 1.0).unwrap();
    let before = files(directory);
    assert_eq!(publish(&cache, 3, 600_000, 1.0), Err(PublishError::DiskFull));
    assert_eq!(files(directory), before);
    assert_eq!(cache.counters().stored_images, 2);
    // Not the image's fault: it waits a minute, uncounted, however often.
    assert!(matches!(cache.claim(&key(3)), Claim::BackingOff { until_unix_ms: 60_000, failures: 0 }));
    for number in [1, 2] {
        assert_eq!(content(&cache.get(&key(number)).unwrap()), payload(number, 300_000));
    }
    // Full to the last byte, not even the index can be written: counted, and nothing else is lost.
    let filler = vec![b'x'; 4096];
    let mut file = std::fs::File::create(directory.join("filler")).unwrap();
    while std::io::Write::write_all(&mut file, &filler).is_ok() {}
    drop(file);
    cache.save();
    assert_eq!(cache.counters().index_save_failed, 1);
    drop(cache);
    let cache = open_with(directory, ImageCacheSettings::default(), &clock);
    cache.get(&key(1)).unwrap();
    std::fs::remove_file(directory.join("filler")).unwrap();
    clock.set(60_000);
    publish(&cache, 3, 100_000, 1.0).unwrap();
}

#[test]
fn a_full_disk_is_named_and_loses_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let output = Command::new("unshare")
        .args(["--mount", "sh", "-c", MOUNT, "sh"])
        .arg(directory.path())
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--ignored", "--nocapture"])
        .env(DIRECTORY_VARIABLE, directory.path())
        .output();
    let output = match output {
        Ok(output) if output.status.code() != Some(NO_MOUNT) && output.status.code() != Some(1) => output,
        Ok(output) => {
            println!("not checked: no mount allowed here: {}", String::from_utf8_lossy(&output.stderr));
            return;
        }
        Err(error) => {
            println!("not checked: no `unshare` here: {error}");
            return;
        }
    };
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}
