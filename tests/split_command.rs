//! `forerun split` through the real binary.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use forerun_specialize::passes::body_hash::body_hashes;
use forerun_specialize::passes::split::SplitIndex;
use forerun_types::{
    BodyHash, BuildPlan, CodePath, Optimisation, Permille, ProfileSource, ReusePolicy, SpecializationProfile,
    VmParameters,
};
use serde_json::Value;

fn hello() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/hello/components/hello.wasm")
}

/// A profile with these functions, by the hash of their bodies.
fn profile(bodies: &[[u8; 16]]) -> SpecializationProfile {
    let path = |body: &[u8; 16]| CodePath { body: BodyHash::from_bytes(*body), probability: Permille::nearest(0.5) };
    SpecializationProfile {
        version: 1,
        build: BuildPlan::new(Optimisation::Full, bodies.iter().map(path).collect(), Vec::new()),
        vm: VmParameters {
            memory_bytes_max: 64 << 20,
            resident_bytes: 0,
            epochs_max: 100,
            cpus: Vec::new(),
            reuse: ReusePolicy::Fresh,
            parked: 0,
            cold_groups_max: 8,
        },
        confidence: Permille::CERTAIN,
        source: ProfileSource::Operator,
    }
}

/// Every third function of the largest module of `hello`.
fn some_bodies() -> Vec<[u8; 16]> {
    let component = std::fs::read(hello()).unwrap();
    let modules = wasmparser::Parser::new(0).parse_all(&component).filter_map(|payload| match payload.unwrap() {
        wasmparser::Payload::ModuleSection { unchecked_range, .. } => Some(component[unchecked_range].to_vec()),
        _ => None,
    });
    let main = modules.max_by_key(Vec::len).unwrap();
    body_hashes(&main).unwrap().into_iter().step_by(3).map(|hash| hash.0).collect()
}

fn run(profile: &Path, folder: &Path, options: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_forerun"));
    command.arg("split").arg(hello()).arg("--profile").arg(profile).arg("-o").arg(folder).args(options);
    command.env_remove("FORERUN_LOG").stdin(Stdio::null()).output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_component_and_a_profile_give_a_primary_groups_and_an_index() {
    let scratch = tempfile::tempdir().unwrap();
    let file = scratch.path().join("profile.json");
    std::fs::write(&file, profile(&some_bodies()).to_json()).unwrap();
    let folder = scratch.path().join("parts");
    let done = run(&file, &folder, &[]);
    assert!(done.status.success(), "{}", stderr(&done));
    let table = String::from_utf8(done.stdout.clone()).unwrap();
    assert!(
        table.contains("kept") && table.contains("cold") && stderr(&done).contains("of the code is hot"),
        "{table}"
    );
    let index = SplitIndex::from_json(&std::fs::read(folder.join("index.json")).unwrap()).unwrap();
    for (number, group) in index.groups.iter().enumerate() {
        let bytes = std::fs::read(folder.join(format!("cold-{number}.wasm"))).unwrap();
        assert_eq!(bytes.len() as u64, group.bytes);
    }
    assert!(!index.groups.is_empty() && index.report.probable > 10, "{:?}", index.report);
    assert!(folder.join("primary.wasm").is_file());

    let again = run(&file, &folder, &[]);
    assert_eq!(again.status.code(), Some(2));
    assert!(stderr(&again).contains("no empty folder"), "{}", stderr(&again));

    let json = run(&file, &scratch.path().join("others"), &["--json", "--threshold", "400"]);
    let summary: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(summary["groups"], index.groups.len());
}

#[test]
fn what_stays_whole_says_why() {
    let scratch = tempfile::tempdir().unwrap();
    let file = scratch.path().join("profile.json");
    let folder = scratch.path().join("parts");
    for (text, expected) in [
        (profile(&[[7; 16]]).to_json(), "none_known"),
        (profile(&[]).to_json(), "covers the whole component"),
        ("{}".to_owned(), "not a specialization profile"),
    ] {
        std::fs::write(&file, text).unwrap();
        let refused = run(&file, &folder, &[]);
        assert_eq!(refused.status.code(), Some(1));
        assert!(stderr(&refused).contains(expected) && stderr(&refused).contains("\nhint: "), "{}", stderr(&refused));
        assert!(!folder.exists());
    }
    std::fs::write(&file, profile(&some_bodies()).to_json()).unwrap();
    // Nothing is that probable: then nothing is kept but what must be, which is a split all the same.
    assert!(run(&file, &folder, &["--threshold", "900"]).status.success());
}
