//! What a miss may cost, and what happens when it cannot be served.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use forerun_runtime::{ColdCode, ColdLayout, ColdSource, Interruption, Miss, MissListener, SplitProgram};
use forerun_types::{Outcome, ReusePolicy, ServePath};

use crate::common::{get, load, load_split, spec};
use crate::parts::{self, Cold, all_cold, component, layout};

/// Its `/count` calls some ten functions that can be cold.
fn guest() -> Vec<u8> {
    component("tests/guests/components/misbehave.wasm")
}

/// The outcome and detail of a request; its answer may have begun before it failed.
async fn failure(guest: &crate::common::Guest) -> (Outcome, String) {
    let (_, _, end) = guest.call(get("/count")).await;
    (end.outcome, end.detail)
}

#[tokio::test]
async fn a_vm_loads_no_more_groups_than_it_may() {
    let split = all_cold(&guest(), 1);
    let cold = Arc::new(Cold::of(&split));
    let guest = parts::load(&split, &cold, 3, &spec()).unwrap();
    for _ in 0..2 {
        let (outcome, detail) = failure(&guest).await;
        assert_eq!(outcome, Outcome::Trap);
        assert!(detail.contains("has loaded as many groups of cold code as it may: 3"), "{detail}");
        assert_eq!(cold.take_misses().len(), 3);
    }
    assert_eq!(cold.asked.lock().unwrap().len(), 3, "the second VM found them loaded");
}

#[tokio::test]
async fn a_vm_that_missed_is_not_used_again() {
    let mut reused = spec();
    reused.reuse = ReusePolicy::Reuse { requests_max: 100, idle_ms: 60_000 };
    let split = all_cold(&guest(), 150);
    let cold = Arc::new(Cold::of(&split));
    let guest = parts::load(&split, &cold, 100, &reused).unwrap();
    for _ in 0..3 {
        let (_, _, end) = guest.call(get("/count")).await;
        assert_eq!(end.outcome, Outcome::Ok, "{end:?}");
        assert!(matches!(end.serve_path, ServePath::Generic(_)), "{end:?}");
        assert!(!cold.take_misses().is_empty());
    }
}

#[tokio::test]
async fn a_group_without_code_fails_by_name() {
    let split = all_cold(&guest(), 50);
    let cold = Arc::new(Cold { missing: true, ..Cold::of(&split) });
    let guest = parts::load(&split, &cold, 100, &spec()).unwrap();
    let (outcome, detail) = failure(&guest).await;
    assert_eq!(outcome, Outcome::Trap);
    assert!(detail.contains("there is no code of group") && detail.contains("never published"), "{detail}");
}

#[tokio::test]
async fn groups_of_another_split_fail_by_name() {
    let (of_guest, of_catalog) =
        (all_cold(&guest(), 50), all_cold(&component("examples/shop/components/catalog.wasm"), 20));
    let cold = Arc::new(Cold::of(&of_catalog));
    let program = SplitProgram {
        layout: layout(&of_guest),
        source: Arc::clone(&cold) as _,
        listener: Arc::clone(&cold) as _,
        groups_per_vm_max: 100,
        interruption: Interruption::Epochs,
    };
    let guest = load_split(&of_guest.primary, None, program, &spec()).unwrap();
    let (outcome, detail) = failure(&guest).await;
    assert_eq!(outcome, Outcome::Trap);
    let named = ["which the component does not have", "could not be instantiated", "did not fill it"];
    assert!(named.iter().any(|name| detail.contains(name)), "{detail}");
}

#[tokio::test]
async fn requests_that_miss_the_same_group_compile_it_once() {
    let split = all_cold(&guest(), 10_000);
    assert_eq!(split.groups.len(), split.groups.len().min(10), "few large groups: {}", split.groups.len());
    let cold = Arc::new(Cold::of(&split));
    let guest = parts::load(&split, &cold, 100, &spec()).unwrap();
    let (a, b, c) = tokio::join!(guest.text("/count"), guest.text("/count"), guest.text("/count"));
    assert!(a == b && b == c);
    let mut asked = cold.asked.lock().unwrap().clone();
    asked.sort_unstable();
    let times = asked.len();
    asked.dedup();
    assert_eq!(times, asked.len(), "a group was compiled twice");
}

/// A crowd that calls for as much cold code as it can, beside requests of another function.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_forces_every_miss_is_bounded_and_hurts_only_itself() {
    const CROWD: usize = 10;
    const ROUNDS: usize = 5;
    const GROUPS_MAX: u32 = 3;
    const PATHS: [&str; 4] = ["/count", "/env", "/kv", "/nothing"];
    let split = all_cold(&guest(), 1);
    let cold = Arc::new(Cold::of(&split));
    let hostile = Arc::new(parts::load(&split, &cold, GROUPS_MAX, &spec()).unwrap());
    let neighbour = load(&component("examples/hello/components/hello.wasm"), &spec()).unwrap();
    let expected = neighbour.text("/").await;
    let one = |hostile: Arc<crate::common::Guest>| async move {
        for path in std::iter::repeat_n(PATHS, ROUNDS).flatten() {
            let (_, _, end) = hostile.call(get(path)).await;
            assert_eq!(end.outcome, Outcome::Trap, "{end:?}");
        }
    };
    let crowd: Vec<_> = (0..CROWD).map(|_| tokio::spawn(one(Arc::clone(&hostile)))).collect();
    let mut answered = 0;
    while !crowd.iter().all(tokio::task::JoinHandle::is_finished) {
        assert_eq!(neighbour.text("/").await, expected);
        answered += 1;
    }
    for member in crowd {
        member.await.unwrap();
    }
    assert!(answered > 10, "{answered} answers beside the crowd");
    assert_eq!(cold.take_misses().len(), CROWD * ROUNDS * PATHS.len() * GROUPS_MAX as usize);
    let mut got = cold.asked.lock().unwrap().clone();
    let times = got.len();
    got.sort_unstable();
    got.dedup();
    assert_eq!(times, got.len(), "a group was compiled twice");
    assert!(times <= PATHS.len() * GROUPS_MAX as usize, "{times} groups were compiled");
}

struct Slow(Cold);

impl ColdSource for Slow {
    fn code(&self, group: u32) -> ColdCode {
        std::thread::sleep(Duration::from_millis(250));
        self.0.code(group)
    }
}

impl MissListener for Slow {
    fn missed(&self, miss: Miss) {
        self.0.missed(miss);
    }
}

#[tokio::test]
async fn a_request_does_not_wait_for_code_beyond_its_time() {
    let split = all_cold(&guest(), 20);
    let slow = Arc::new(Slow(Cold::of(&split)));
    let program = SplitProgram {
        layout: layout(&split),
        source: Arc::clone(&slow) as _,
        listener: Arc::clone(&slow) as _,
        groups_per_vm_max: 100,
        interruption: Interruption::Epochs,
    };
    let mut guest = load_split(&split.primary, None, program, &spec()).unwrap();
    guest.timeout = Duration::from_millis(200);
    let (outcome, detail) = failure(&guest).await;
    assert_eq!(outcome, Outcome::Timeout, "{detail}");
    // What it waited for is there for the next one.
    guest.timeout = Duration::from_secs(20);
    assert_eq!(failure(&guest).await.0, Outcome::Ok);
    let mut asked = slow.0.asked.lock().unwrap().clone();
    let times = asked.len();
    asked.sort_unstable();
    asked.dedup();
    assert_eq!(times, asked.len(), "a group was compiled again for the next request");
}

#[tokio::test]
async fn only_split_programs_have_cold_code() {
    let split = all_cold(&guest(), 50);
    let (outcome, detail) = failure(&load(&split.primary, &spec()).unwrap()).await;
    assert!(outcome == Outcome::Trap && detail.contains("uninitialized element"), "{detail}");
    let none = SplitProgram {
        layout: ColdLayout::new([], 0).unwrap(),
        source: Arc::new(Nothing),
        listener: Arc::new(Nothing),
        groups_per_vm_max: 1,
        interruption: Interruption::Epochs,
    };
    let guest = load_split(&split.primary, None, none, &spec()).unwrap();
    let (outcome, detail) = failure(&guest).await;
    assert_eq!(outcome, Outcome::Trap);
    assert!(detail.contains("no group fills slot"), "{detail}");
}

struct Nothing;

impl ColdSource for Nothing {
    fn code(&self, _: u32) -> ColdCode {
        ColdCode::Source(Bytes::new())
    }
}

impl MissListener for Nothing {
    fn missed(&self, _: Miss) {}
}
