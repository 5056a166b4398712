//! A split program is compared with the whole one: right ones pass, wrong ones are found, chance is no fault.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test may panic")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use forerun_driver::{Driver, LoadRequest};
use forerun_node::verify::{Probe, Stage, Subject, Verdict, compare};
use forerun_runtime::{
    ColdCode, ColdFills, ColdLayout, ColdSource, Interruption, Miss, MissListener, SplitProgram, WasmDriver,
    WasmSettings,
};
use forerun_specialize::passes::split::{Known, Split, SplitPlan, split};
use forerun_types::{CallAnswer, ComponentDigest, FunctionSpec, RevisionNumber};

static DRIVER: LazyLock<WasmDriver> =
    LazyLock::new(|| WasmDriver::new(&WasmSettings { vms_max: 16, ..WasmSettings::default() }).unwrap());

fn component(path: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)).unwrap()
}

fn misbehave() -> Vec<u8> {
    component("tests/guests/components/misbehave.wasm")
}

/// The groups of a split; some may be missing.
struct Groups(Vec<Option<Bytes>>);

impl ColdSource for Groups {
    fn code(&self, group: u32) -> ColdCode {
        match &self.0[group as usize] {
            Some(source) => ColdCode::Source(source.clone()),
            None => ColdCode::Missing("lost".into()),
        }
    }
}

impl MissListener for Groups {
    fn missed(&self, _: Miss) {}
}

fn loaded(source: &[u8], split: Option<SplitProgram>) -> Subject {
    let stage = Arc::new(Stage::default());
    let mut spec = FunctionSpec::named("guest".parse().unwrap());
    spec.key_value_stores = vec!["default".into()];
    let request = LoadRequest {
        spec: &spec,
        revision: RevisionNumber(1),
        digest: ComponentDigest::of(source),
        source,
        host: stage.host(),
        image: None,
    };
    let program = match split {
        Some(split) => DRIVER.load_split(request, split).unwrap(),
        None => DRIVER.load(request).unwrap(),
    };
    Subject { program, stage }
}

fn split_cold(source: &[u8]) -> Split {
    let mut plan = SplitPlan::new(Known::ByIndex(BTreeMap::new()), 1);
    plan.group_functions_max = 30;
    split(source, &plan).unwrap()
}

fn loaded_split(split: &Split, groups: Vec<Option<Bytes>>) -> Subject {
    let groups = Arc::new(Groups(groups));
    let fills =
        split.groups.iter().map(|group| ColdFills { first_slot: group.first_slot, positions: &group.positions });
    let program = SplitProgram {
        layout: ColdLayout::new(fills, split.report.slots).unwrap(),
        source: Arc::clone(&groups) as _,
        listener: groups as _,
        groups_per_vm_max: 1_000,
        interruption: Interruption::Epochs,
    };
    loaded(&split.primary, Some(program))
}

fn groups_of(split: &Split) -> Vec<Option<Bytes>> {
    split.groups.iter().map(|group| Some(Bytes::copy_from_slice(&group.module))).collect()
}

fn probes(paths: &[&str]) -> Vec<Probe> {
    paths.iter().map(|path| Probe::get(path)).collect()
}

#[tokio::test]
async fn a_split_that_does_the_same_passes() {
    let source = misbehave();
    let split = split_cold(&source);
    let outbound = "/outbound?url=http://elsewhere.invalid/";
    let paths = ["/count", "/trap", "/exit", "/recurse", "/never", "/nothing", "/env", "/kv", outbound, "/random"];
    let verdict = compare(&loaded(&source, None), &loaded_split(&split, groups_of(&split)), &probes(&paths)).await;
    assert_eq!(verdict, Verdict::Same { steady: 9, unsteady: 1 });
}

/// Behind a call there is code that no probe reaches while calls are denied.
#[tokio::test]
async fn calls_are_answered_as_the_manifest_says() {
    let source = misbehave();
    let split = split_cold(&source);
    let denied = Probe::get("/outbound?url=http://elsewhere.invalid/");
    let answer = CallAnswer { body: "made up".into(), ..CallAnswer::default() };
    let answered = Probe { answer_to_calls: Some(answer), ..denied.clone() };
    let (whole, candidate) = (loaded(&source, None), loaded_split(&split, groups_of(&split)));
    let (first, second) = (whole.see(&answered).await.unwrap(), whole.see(&denied).await.unwrap());
    assert_ne!(first, second, "an answer is no denial");
    let verdict = compare(&whole, &candidate, &[answered, denied]).await;
    assert_eq!(verdict, Verdict::Same { steady: 2, unsteady: 0 });
}

#[tokio::test]
async fn a_candidate_that_does_something_else_is_found() {
    let source = misbehave();
    let split = split_cold(&source);
    let lost = loaded_split(&split, vec![None; split.groups.len()]);
    let Verdict::Different(mismatch) = compare(&loaded(&source, None), &lost, &probes(&["/count"])).await else {
        panic!("a program without its cold code passed");
    };
    assert_eq!((mismatch.probe.path.as_str(), mismatch.difference.what), ("/count", "status"), "{mismatch}");
    let case = serde_json::to_value(&mismatch).unwrap();
    assert_eq!(serde_json::from_value::<Probe>(case["probe"].clone()).unwrap(), mismatch.probe);

    let other = loaded(&component("examples/hello/components/hello.wasm"), None);
    let verdict = compare(&loaded(&source, None), &other, &probes(&["/count"])).await;
    assert!(matches!(&verdict, Verdict::Different(mismatch) if mismatch.difference.what != "status"), "{verdict:?}");
}

#[tokio::test]
async fn without_a_request_nothing_is_decided() {
    let hello = loaded(&component("examples/hello/components/hello.wasm"), None);
    let broken = Probe { method: "NO METHOD".into(), ..Probe::get("/") };
    assert_eq!(compare(&hello, &hello, &[broken]).await, Verdict::NothingCompared);
    assert_eq!(compare(&hello, &hello, &[]).await, Verdict::NothingCompared);
}
