//! When and by whom VMs are put back, by how their function is called: what a request finds meanwhile.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use common::{Guest, get, load_by, prepared, spec};
use forerun_runtime::{WasmDriver, WasmSettings};
use forerun_types::{FunctionSpec, GenericReason, ReusePolicy, ServePath};

/// The wait is an eighth of the time between two calls: long beside what a test does right behind a request.
const PAUSE: Duration = Duration::from_millis(1_600);

static DRIVER: LazyLock<WasmDriver> = LazyLock::new(|| {
    WasmDriver::new(&WasmSettings { vms_max: 16, put_off_ms_max: 60_000, ..WasmSettings::default() }).unwrap()
});

fn steady(spec: &FunctionSpec) -> Guest {
    load_by(&DRIVER, &prepared("tests/guests/components/steady.wasm"), spec).unwrap()
}

async fn count(guest: &Guest) -> (String, ServePath) {
    let (status, body, end) = guest.call(get("/count")).await;
    assert_eq!(status, 200);
    (String::from_utf8(body.unwrap().to_vec()).unwrap(), end.serve_path)
}

#[tokio::test]
async fn a_vm_that_waits_is_put_back_for_whoever_needs_it_and_else_later() {
    let guest = steady(&spec());
    assert_eq!(count(&guest).await, ("1".into(), ServePath::Generic(GenericReason::NoImage)));
    tokio::time::sleep(PAUSE).await;
    assert_eq!(count(&guest).await, ("1".into(), ServePath::RolledBack));
    let waits = (guest.program.isolation(), guest.program.held_ready());
    assert_eq!((waits.0.idle_vms, waits.0.rolled_back, waits.1.vms), (0, 1, 1), "{waits:?}");

    // Right behind it: the one that waits, and nothing of what its request left.
    assert_eq!(count(&guest).await, ("1".into(), ServePath::RolledBack));
    // Not called now and then any more: put back at once, or nearly so on a slow machine.
    tokio::time::sleep(PAUSE).await;
    let taken = guest.program.isolation();
    assert_eq!((taken.idle_vms, taken.rolled_back), (1, 3), "{taken:?}");

    // And else it is put back by itself.
    assert_eq!(count(&guest).await, ("1".into(), ServePath::RolledBack));
    assert_eq!(guest.program.isolation().rolled_back, 3);
    tokio::time::sleep(PAUSE).await;
    let later = guest.program.isolation();
    assert_eq!((later.idle_vms, later.rolled_back), (1, 4), "{later:?}");
}

#[tokio::test]
async fn who_comes_while_the_only_one_waits_never_gets_another_ones_state() {
    let guest = steady(&spec());
    let remembers = async |text: &str| guest.text(&format!("/remember?text={text}")).await;
    assert!(remembers("first").await.starts_with("before []"));
    tokio::time::sleep(PAUSE).await;
    assert!(remembers("second").await.starts_with("before []"));
    for answer in futures::future::join_all(["a", "b", "c", "d"].map(remembers)).await {
        assert!(answer.starts_with("before []"), "{answer}");
    }
}

#[tokio::test]
async fn a_vm_that_nobody_puts_back_is_freed_in_time() {
    let mut fresh = spec();
    fresh.reuse = ReusePolicy::Fresh;
    let guest = steady(&fresh);
    for _ in 0..2 {
        assert_eq!(count(&guest).await, ("1".into(), ServePath::Generic(GenericReason::NoImage)));
        tokio::time::sleep(PAUSE).await;
    }
    // More than there are places for: none is held for ever.
    for _ in 0..40 {
        assert_eq!(count(&guest).await.0, "1");
    }
}

/// As fast as a test can: one request after the other, each as soon as the one before has ended.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_come_without_a_pause_have_two_vms_in_turn_and_find_nothing_of_one_another() {
    const TIME_MAX: Duration = Duration::from_secs(60);
    let mut fresh = spec();
    fresh.reuse = ReusePolicy::Fresh;
    let (fresh, guest) = (steady(&fresh), steady(&spec()));
    // Each writes to some 170 pages.
    let paths: Vec<String> = (0..4).map(|number| format!("/churn?seed={}", number * 300 + 299)).collect();
    let mut expected = Vec::new();
    for path in &paths {
        expected.push(fresh.text(path).await);
    }
    let began = Instant::now();
    let mut in_turn = 0;
    for number in 0.. {
        let at = number % paths.len();
        let (status, body, _) = guest.call(get(&paths[at])).await;
        assert_eq!((status, &*body.unwrap()), (200, expected[at].as_bytes()), "request {number}");
        in_turn += u32::from(guest.program.held_ready().vms >= 2);
        if in_turn > 200 {
            break;
        }
        assert!(began.elapsed() < TIME_MAX, "{number} requests, {:?}", guest.program.isolation());
    }
    let report = guest.program.isolation();
    assert!(report.refusal.is_none() && report.discarded.is_empty(), "{report:?}");
    assert_eq!(guest.program.held_ready().vms, 2, "and no third one: {report:?}");
}
