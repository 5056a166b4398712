//! Components that look at flags in the place of their engine's epochs: they answer the same, can be stopped, and let others
//! run.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test may panic")]

mod common;

use std::time::{Duration, Instant};

use common::{Guest, get, load, load_image, prepared, repository, spec, with_flags};
use forerun_driver::{LoadError, to_the_end_of_the_queue};
use forerun_runtime::{Interruption, Tier, compile_with};
use forerun_types::{FunctionSpec, Outcome, ReusePolicy, ServePath};

const STEADY: &str = "tests/guests/components/steady.wasm";
const MISBEHAVE: &str = "tests/guests/components/misbehave.wasm";

/// The component at `path`, with flags.
fn flagged(path: &str, spec: &FunctionSpec) -> Guest {
    let source = std::fs::read(repository(path)).unwrap();
    let code = compile_with(&with_flags(path), Tier::Full, true, Interruption::Flags).unwrap();
    load_image(&source, &code, spec).unwrap()
}

fn as_policy(reuse: ReusePolicy) -> FunctionSpec {
    let mut spec = spec();
    spec.reuse = reuse;
    spec
}

#[tokio::test]
async fn answers_are_those_of_guests_with_epochs() {
    for reuse in [ReusePolicy::Rollback, ReusePolicy::Fresh] {
        let spec = as_policy(reuse);
        let (flags, epochs) = (flagged(STEADY, &spec), load(&prepared(STEADY), &spec).unwrap());
        for number in 0..60 {
            let path = match number % 5 {
                0 => "/count".to_owned(),
                1 => format!("/churn?n={}", number * 37),
                2 => format!("/remember?value={number}"),
                3 => format!("/grow?n={}", 1 + number % 3),
                _ => "/env".to_owned(),
            };
            let (answer, expected) = (flags.call(get(&path)).await, epochs.call(get(&path)).await);
            assert_eq!((answer.0, answer.1.unwrap()), (expected.0, expected.1.unwrap()), "{path}, {reuse:?}");
            assert_eq!((answer.2.outcome, answer.2.serve_path), (expected.2.outcome, expected.2.serve_path), "{path}");
        }
        let (flags, epochs) = (flags.program.isolation(), epochs.program.isolation());
        assert_eq!((flags.policy, flags.rolled_back), (epochs.policy, epochs.rolled_back));
    }
}

#[tokio::test]
async fn what_does_not_end_is_ended() {
    let mut small = spec();
    small.limits.memory_bytes = 16 << 20;
    let mut guest = flagged(MISBEHAVE, &small);
    guest.timeout = Duration::from_millis(300);
    for (path, outcome) in [
        ("/loop", Outcome::Timeout),
        ("/recurse", Outcome::Trap),
        ("/trap", Outcome::Trap),
        ("/eat", Outcome::OutOfMemory),
    ] {
        let began = Instant::now();
        let (_, _, end) = guest.call(get(path)).await;
        assert_eq!(end.outcome, outcome, "{path}: {}", end.detail);
        assert!(began.elapsed() < Duration::from_secs(10), "{path}");
        assert_eq!(guest.text("/count").await.trim(), "1", "after {path}");
    }
    // Behind an answer as well, in a VM that has been put back.
    let mut steady = flagged(STEADY, &spec());
    assert_eq!(steady.text("/count").await, "1");
    steady.timeout = Duration::from_millis(300);
    let (_, _, end) = steady.call(get("/spin")).await;
    assert_eq!((end.outcome, end.serve_path), (Outcome::Timeout, ServePath::RolledBack));
    assert_eq!(steady.text("/count").await, "1");
}

#[tokio::test]
async fn a_busy_guest_lets_others_run() {
    let guest = flagged(MISBEHAVE, &spec());
    guest.lets_others_run(400).await;
}

/// Ticks pass while others hold the thread. A guest that took them for its own would let go again as soon as it goes on, and get
/// nowhere for as long as anybody waits.
#[tokio::test]
async fn who_has_let_others_run_has_a_turn_of_its_own_behind_them() {
    let guest = flagged(MISBEHAVE, &spec());
    assert_eq!(guest.text("/count").await.trim(), "1");
    let (began, mut held) = (Instant::now(), Duration::ZERO);
    let others = async {
        for _ in 0..1_000 {
            let turn = Instant::now();
            std::thread::sleep(Duration::from_millis(10));
            held += turn.elapsed();
            to_the_end_of_the_queue().await;
        }
    };
    tokio::select! {
        text = guest.text("/burn?ms=400") => assert!(text.starts_with("burnt")),
        () = others => panic!("the guest has not ended"),
    }
    // A third, where the others take two ticks and it takes one.
    let (took, own) = (began.elapsed(), began.elapsed() - held);
    assert!(own > took / 8, "{own:?} of {took:?}");
}

/// Flags are raised in VMs that come and go, at work, waiting and ended.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn vms_come_and_go_while_flags_are_raised() {
    let guests = [flagged(STEADY, &spec()), flagged(STEADY, &as_policy(ReusePolicy::Fresh))];
    let calls = (0..400).map(|number: usize| {
        let guest = &guests[number % 2];
        async move {
            match number % 20 {
                // The client is gone before the guest is.
                3 => drop(tokio::time::timeout(Duration::from_millis(7), guest.begin(get("/spin"))).await),
                _ => assert_eq!(guest.text("/count").await, "1", "{number}"),
            }
        }
    });
    // A few at a time: there are 64 places.
    futures::stream::StreamExt::for_each_concurrent(futures::stream::iter(calls), 16, |call| call).await;
}

#[tokio::test]
async fn code_that_could_not_be_stopped_is_not_loaded() {
    let source = prepared(MISBEHAVE);
    let code = compile_with(&source, Tier::Full, true, Interruption::Flags).unwrap();
    let refused = load_image(&source, &code, &spec()).err().unwrap();
    assert!(matches!(&refused, LoadError::ForeignImage { detail } if detail.contains("flag")), "{refused:?}");
}
