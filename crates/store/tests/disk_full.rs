//! A disk that is really full: a child process in a mount namespace of its own, on a small `tmpfs`.
//!
//! Where the system allows no mount, the test says so and checks nothing.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test fails by panicking")]

use std::path::Path;
use std::process::Command;

use forerun_driver::{KeyValueError, KeyValues, StoreName};
use forerun_store::{ComponentError, DeployError, KeyValueLimits, StorageError, Store, StoreSettings};
use forerun_types::{FunctionName, FunctionSpec};

const STORE: StoreName<'_> = StoreName { app: "shop", name: "s" };
const DIRECTORY_VARIABLE: &str = "FORERUN_DISK_TEST_DIRECTORY";
const MOUNT: &str = r#"mount -t tmpfs -o size=2m tmpfs "$1" || exit 77; shift; exec "$@""#;
const NO_MOUNT: i32 = 77;

fn store(path: &Path) -> Store {
    Store::open(path, StoreSettings { revisions_kept: 1000 }).unwrap()
}

fn spec(text: &str) -> FunctionSpec {
    let mut spec = FunctionSpec::named("cart".parse().unwrap());
    spec.environment.insert("TEXT".into(), text.into());
    spec
}

/// Fills what is left of the disk, to the last byte.
fn fill(directory: &Path) {
    let filler = directory.join("filler");
    for bytes in [1 << 16, 1 << 12] {
        let mut content = std::fs::read(&filler).unwrap_or_default();
        while std::fs::write(&filler, &content).is_ok() {
            content.extend(vec![b'x'; bytes]);
        }
        content.truncate(content.len() - bytes);
        std::fs::write(&filler, &content).unwrap();
    }
}

#[test]
#[ignore = "the child of `a_full_disk_is_named_and_loses_nothing`"]
fn child() {
    let directory = std::env::var_os(DIRECTORY_VARIABLE).expect("set by the parent");
    let directory = Path::new(&directory);
    let data = directory.join("data");
    let opened = store(&data);
    let digest = opened.put_component(b"component").unwrap();
    let mut last = opened.deploy(&spec("first"), digest, 0).unwrap();
    let key_values = opened.key_values(KeyValueLimits::default()).unwrap();
    key_values.increment(STORE, "n", 1).unwrap();
    fill(directory);

    let error = opened.put_component(&vec![1; 1 << 20]).unwrap_err();
    assert!(matches!(error, ComponentError::Storage(StorageError::DiskFull { .. })), "{error}");
    let error = (0..1000)
        .find_map(|turn| match opened.deploy(&spec(&format!("{turn} {}", "x".repeat(30_000))), digest, 0) {
            Ok(deployed) => {
                last = deployed;
                None
            }
            Err(error) => Some(error),
        })
        .expect("the disk is full at some time");
    assert!(matches!(error, DeployError::Storage(StorageError::DiskFull { .. })), "{error}");
    let error = (0..1000).find_map(|_| key_values.set_many(STORE, &[("k".into(), vec![1; 100_000])]).err());
    let error = error.expect("the disk is full at some time");
    assert!(matches!(&error, KeyValueError::Storage { detail } if detail.contains("disk is full")), "{error}");

    let function: FunctionName = "cart".parse().unwrap();
    assert_eq!(opened.active_revision(&function).unwrap().unwrap().number, last.revision());
    drop((opened, key_values));
    // It starts on the full disk, and goes on when there is room again.
    let opened = store(&data);
    assert_eq!(opened.active_revision(&function).unwrap().unwrap().number, last.revision());
    assert_eq!(opened.component(digest).unwrap(), b"component");
    std::fs::remove_file(directory.join("filler")).unwrap();
    let next = opened.deploy(&spec("after"), digest, 0).unwrap();
    assert_eq!(next.revision().0, last.revision().0 + 1);
    assert_eq!(opened.key_values(KeyValueLimits::default()).unwrap().increment(STORE, "n", 1), Ok(2));
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
