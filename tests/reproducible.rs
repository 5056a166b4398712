//! A profile alone determines an image: the same component and the same profile give the same bytes, whichever process
//! makes them.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test fails by panicking")]

use forerun_specialize::passes::body_hash::body_hashes;
use forerun_specialize::{Job, JobKind, Supervisor, WorkerSettings};
use serde_json::{Value, json};

/// Jobs of the worker, by their numbers: code, quick and full; twin; primary, groups and cold code of a split.
const KINDS: [u32; 6] = [1, 2, 12, 21, 22, 23];

fn component() -> Vec<u8> {
    std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/hello/components/hello.wasm")).unwrap()
}

/// Some functions of the component as it is after merging.
fn known() -> Vec<Value> {
    let merge = forerun_specialize::passes::known("prelink").unwrap();
    let merged = forerun_specialize::passes::apply(&component(), &[merge]).0.unwrap();
    let modules = wasmparser::Parser::new(0).parse_all(&merged).filter_map(|payload| match payload.unwrap() {
        wasmparser::Payload::ModuleSection { unchecked_range, .. } => Some(merged[unchecked_range].to_vec()),
        _ => None,
    });
    let main = modules.max_by_key(Vec::len).unwrap();
    body_hashes(&main).unwrap().iter().step_by(4).map(|hash| json!([hash, 500])).collect()
}

/// What a new process makes.
fn made(kind: u32, parameters: &Value) -> [u8; 32] {
    let settings = WorkerSettings { executable: env!("CARGO_BIN_EXE_forerun").into(), ..WorkerSettings::default() };
    let job =
        Job { kind: JobKind(kind), parameters: parameters.to_string().into_bytes(), component: component().into() };
    let artifact = Supervisor::new(settings).run(job).unwrap();
    assert!(artifact.bytes.len() > 1_000, "{}", artifact.bytes.len());
    artifact.checksum
}

#[test]
fn the_same_profile_gives_the_same_bytes_in_every_process() {
    let known = known();
    let of = |known: &[Value]| json!({ "passes": ["prelink"], "split": { "known": known, "hot_permille_min": 1, "then": ["state"] } });
    let (all, fewer) = (of(&known), of(&known[..known.len() / 2]));
    for kind in KINDS {
        let first = made(kind, &all);
        assert_eq!(first, made(kind, &all), "job {kind}");
        if kind == 21 {
            assert_ne!(first, made(kind, &fewer), "another profile is another image");
        }
    }
}
