//! Split components that look at flags: they are stopped and let others run, in their primary and in a group that was loaded.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use forerun_driver::LoadError;
use forerun_runtime::SplitProgram;
use forerun_specialize::passes::split::{Known, SplitPlan, split};
use forerun_types::{FunctionSpec, Outcome, ReusePolicy, ServePath};

use crate::common::{Guest, get, load_split, spec, with_flags};
use crate::parts::{self, Cold, all_cold, component, layout};

const MISBEHAVE: &str = "tests/guests/components/misbehave.wasm";

/// The guest in parts: with nothing in its primary that need not be, or with all that `path` runs.
async fn split_for(path: Option<&str>, reuse: ReusePolicy) -> (Guest, Arc<Cold>) {
    let source = with_flags(MISBEHAVE);
    let spec = FunctionSpec { reuse, ..spec() };
    let mut known = BTreeMap::new();
    loop {
        let mut plan = SplitPlan::new(Known::ByIndex(known.clone()), 1);
        plan.group_functions_max = 10;
        let split = split(&source, &plan).unwrap();
        let cold = Arc::new(Cold::of_flagged(&split));
        let mut guest = parts::load(&split, &cold, 10_000, &spec).unwrap();
        let Some(path) = path else { return (guest, cold) };
        guest.timeout = Duration::from_millis(1_500);
        let _ = guest.call(get(path)).await;
        let misses = cold.take_misses();
        if misses.is_empty() {
            guest.timeout = Duration::from_secs(20);
            return (guest, cold);
        }
        let missed = misses.iter().flat_map(|miss| &split.groups[miss.group as usize].functions);
        known.extend(missed.map(|function| (*function, 1000)));
    }
}

#[tokio::test]
async fn what_does_not_end_is_ended_wherever_it_runs() {
    for in_primary in [false, true] {
        let (mut guest, cold) = split_for(in_primary.then_some("/loop"), ReusePolicy::Rollback).await;
        guest.timeout = Duration::from_millis(500);
        let began = Instant::now();
        let (_, _, end) = guest.call(get("/loop")).await;
        assert_eq!(end.outcome, Outcome::Timeout, "in the primary: {in_primary}: {}", end.detail);
        assert!(began.elapsed() < Duration::from_secs(10));
        assert_eq!(cold.take_misses().is_empty(), in_primary);
    }
}

#[tokio::test]
async fn a_busy_guest_lets_others_run_wherever_it_is() {
    for in_primary in [false, true] {
        let (guest, cold) = split_for(in_primary.then_some("/burn?ms=1"), ReusePolicy::Rollback).await;
        // The groups that both need are there from now on.
        let _ = (guest.text("/burn?ms=1").await, guest.text("/count").await, cold.take_misses());
        guest.lets_others_run(600).await;
    }
}

#[tokio::test]
async fn a_vm_that_missed_nothing_is_put_back() {
    let (guest, cold) = split_for(Some("/count"), ReusePolicy::Rollback).await;
    // Some of the first are thrown away, since their memory grew.
    for _ in 0..10 {
        assert_eq!(guest.text("/count").await.trim(), "1");
    }
    let (_, _, end) = guest.call(get("/count")).await;
    assert_eq!(end.serve_path, ServePath::RolledBack, "{:?}", end);
    assert!(cold.take_misses().is_empty());
}

/// An allocator that calls for cold code when it is asked for room spends each VM that is made: it is not asked again.
#[tokio::test]
async fn vms_are_made_although_the_way_to_more_memory_is_cold() {
    let (guest, _) = split_for(None, ReusePolicy::Rollback).await;
    for _ in 0..10 {
        assert_eq!(guest.text("/count").await.trim(), "1");
    }
}

/// Primary and groups are for one engine, and a component without flags is none for the one without epochs.
#[tokio::test]
async fn code_that_could_not_be_stopped_is_not_loaded() {
    let split = all_cold(&component(MISBEHAVE), 50);
    let refused = parts::load(&split, &Arc::new(Cold::of_flagged(&split)), 100, &spec()).err().unwrap();
    assert!(matches!(&refused, LoadError::ForeignImage { detail } if detail.contains("flag")), "{refused:?}");

    let split = all_cold(&with_flags(MISBEHAVE), 50);
    // Groups that were compiled for epochs, to be loaded where there are none.
    let with_epochs = Arc::new(Cold { on_disk: true, ..Cold::of(&split) });
    let program = SplitProgram {
        layout: layout(&split),
        source: Arc::clone(&with_epochs) as _,
        listener: Arc::clone(&with_epochs) as _,
        groups_per_vm_max: 100,
        interruption: Cold::of_flagged(&split).interruption(),
    };
    let guest = load_split(&split.primary, None, program, &spec()).unwrap();
    let (_, _, end) = guest.call(get("/count")).await;
    assert!(end.outcome == Outcome::Trap && end.detail.contains("epoch"), "{}", end.detail);
}
