//! What operators are given in `operations/`: the unit is understood by systemd and names options that exist, and a
//! release is packed with all that belongs to it.
//!
//! The dashboard for Grafana is held to the metrics elsewhere, and a container is not built here.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    missing_docs,
    reason = "a test fails by panicking, or says why not"
)]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command as Process, Output};

use support::{Command, repository};

const BINARY: &str = env!("CARGO_BIN_EXE_forerun");

fn unit() -> String {
    fs::read_to_string(repository("operations/forerun.service")).unwrap()
}

#[test]
fn the_unit_is_understood() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("forerun.service");
    // The program must be there to be verified.
    fs::write(&path, unit().replace("/usr/local/bin/forerun", BINARY)).unwrap();
    let verified = match Process::new("systemd-analyze").arg("verify").arg(&path).output() {
        Ok(output) => output,
        Err(error) => {
            println!("SKIPPED: there is no systemd-analyze here: {error}");
            return;
        }
    };
    let said = text(&verified);
    // What it says of other units of this machine is not ours.
    let of_ours: Vec<&str> = said.lines().filter(|line| line.contains("forerun")).collect();
    assert!(verified.status.success() && of_ours.is_empty(), "{}\n{said}", verified.status);
}

#[test]
fn the_unit_starts_the_node_with_options_that_exist() {
    let help = Command::new(&["serve", "--help"]).run().stdout;
    let unit = unit();
    let start = unit.lines().find_map(|line| line.strip_prefix("ExecStart=")).unwrap();
    assert!(start.contains(" serve "), "{start}");
    for option in start.split_whitespace().filter(|word| word.starts_with("--")) {
        assert!(help.contains(&format!("{option} <")), "`forerun serve` has no {option}");
    }
}

/// A worker locks itself in with these; a unit without them has its workers do without.
#[test]
fn the_unit_lets_workers_lock_themselves_in() {
    let unit = unit();
    let filter = unit.lines().find_map(|line| line.strip_prefix("SystemCallFilter=")).unwrap();
    let allowed: Vec<&str> = filter.split_whitespace().collect();
    for call in ["@system-service", "landlock_create_ruleset", "landlock_restrict_self", "seccomp"] {
        assert!(allowed.contains(&call), "{filter}");
    }
    let set = |name: &str| unit.lines().any(|line| line.starts_with(name));
    assert!(!set("MemoryDenyWriteExecute=yes"), "machine code could not be run");
}

#[test]
fn a_release_is_packed_with_what_belongs_to_it() {
    let folder = tempfile::tempdir().unwrap();
    // Stands for the binary: packing the one with all its debug information takes long.
    let binary = folder.path().join("forerun");
    fs::write(&binary, format!("#!/bin/sh\nexec '{BINARY}' \"$@\"\n")).unwrap();
    fs::set_permissions(&binary, fs::Permissions::from_mode(0o755)).unwrap();
    let pack = |to: &str| {
        let to = folder.path().join(to);
        let mut script = Process::new(repository("operations/release.sh"));
        let packed = script.arg(&to).env("FORERUN_BINARY", &binary).env("SOURCE_DATE_EPOCH", "1").output().unwrap();
        assert!(packed.status.success(), "{}", text(&packed));
        to
    };
    let (first, second) = (pack("first"), pack("second"));
    let name = archive(&first);
    assert!(name.starts_with(&format!("forerun-{}-", env!("CARGO_PKG_VERSION"))), "{name}");
    let bytes = |folder: &Path| fs::read(folder.join(&name)).unwrap();
    assert_eq!(bytes(&first), bytes(&second), "the same sources give the same archive");
    let digest = fs::read_to_string(first.join(format!("{name}.sha256"))).unwrap();
    assert_eq!(
        digest,
        format!("{}  {name}\n", support::node::digest_of(&bytes(&first)).strip_prefix("sha256:").unwrap())
    );

    let unpacked = Process::new("tar").arg("-xzf").arg(first.join(&name)).current_dir(&first).output().unwrap();
    assert!(unpacked.status.success(), "{}", text(&unpacked));
    let release = first.join(name.strip_suffix(".tar.gz").unwrap());
    for file in ["LICENSE", "SPEC.md", "SECURITY.md", "docs/operations.md", "forerun.service", "grafana.json"] {
        assert!(release.join(file).is_file(), "{file} is missing");
    }
    for shell in ["bash", "zsh", "fish"] {
        let completions = fs::read_to_string(release.join(format!("completions/forerun.{shell}"))).unwrap();
        assert!(completions.contains("rollback"), "{shell}");
    }
    let version = Process::new(release.join("forerun")).arg("--version").output().unwrap();
    assert_eq!(text(&version).trim(), format!("forerun {}", env!("CARGO_PKG_VERSION")));
}

/// The name of the archive in a folder.
fn archive(folder: &Path) -> String {
    let mut names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.find(|name| name.ends_with(".tar.gz")).unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()
}
