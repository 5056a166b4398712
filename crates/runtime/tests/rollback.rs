//! VMs that are put back after their requests: as good as fresh ones, and thrown away where that is in doubt.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::time::Duration;

use common::{Guest, get, load, prepared, repository, spec};
use forerun_driver::IsolationReport;
use forerun_types::{FunctionSpec, GenericReason, NoRoom, Outcome, ReusePolicy, RollbackRefusal, ServePath, VmDiscard};
use http::Request;

fn steady_as(spec: &FunctionSpec) -> Guest {
    load(&prepared("tests/guests/components/steady.wasm"), spec).unwrap()
}

fn steady() -> Guest {
    steady_as(&spec())
}

fn with_policy(reuse: ReusePolicy) -> Guest {
    let mut spec = spec();
    spec.reuse = reuse;
    steady_as(&spec)
}

fn report(guest: &Guest) -> IsolationReport {
    guest.program.isolation()
}

fn discards(guest: &Guest, why: VmDiscard) -> u64 {
    report(guest).discarded.into_iter().find(|(reason, _)| *reason == why).map_or(0, |(_, count)| count)
}

#[tokio::test]
async fn a_counter_never_advances_in_a_vm_that_serves_again_and_again() {
    let guest = steady();
    let mut rolled_back = 0;
    for _ in 0..50 {
        let (status, body, end) = guest.call(get("/count")).await;
        assert_eq!((status, &*body.unwrap()), (200, &b"1"[..]), "{end:?}");
        rolled_back += u32::from(end.serve_path == ServePath::RolledBack);
    }
    let report = report(&guest);
    assert_eq!(rolled_back, 49, "{report:?}");
    assert_eq!((report.policy, report.rolled_back, report.idle_vms), ("rollback", 50, 1), "{report:?}");
    assert!(report.discarded.is_empty() && report.refusal.is_none(), "{report:?}");
    assert!(report.restored_bytes > 0 && report.idle_bytes > 0 && report.idle_bytes < 8 << 20, "{report:?}");
    let reused = with_policy(ReusePolicy::Reuse { requests_max: 100, idle_ms: 60_000 });
    assert_eq!(
        (reused.text("/count").await, reused.text("/count").await),
        ("1".into(), "2".into()),
        "it would advance"
    );
}

#[tokio::test]
async fn random_requests_are_answered_as_by_fresh_vms() {
    let (rolled, fresh) = (steady(), with_policy(ReusePolicy::Fresh));
    let mut state = 42_u64;
    for number in 0..150 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let draw = state >> 33;
        let path = match draw % 7 {
            0 => "/count".to_owned(),
            1 => format!("/remember?text=text-{draw}"),
            2 => format!("/print?text={draw}"),
            3 => format!("/flood?bytes={}", draw % 4_000_000),
            4 => "/nothing".to_owned(),
            _ => format!("/churn?seed={draw}"),
        };
        let ((status, body, _), (fresh_status, fresh_body, _)) =
            (rolled.call(get(&path)).await, fresh.call(get(&path)).await);
        assert_eq!((status, body.unwrap()), (fresh_status, fresh_body.unwrap()), "request {number}: {path}");
    }
    assert!(report(&rolled).rolled_back >= 140, "{:?}", report(&rolled));
    assert_eq!(report(&fresh).rolled_back, 0);
}

#[tokio::test]
async fn each_request_has_its_own_randomness_clock_environment_and_log() {
    let mut with = spec();
    with.environment.insert("COLOUR".into(), "blue".into());
    let guest = steady_as(&with);
    let mut seen = std::collections::HashSet::new();
    for _ in 0..10 {
        let random = guest.text("/random").await;
        let (bytes, hash) = random.rsplit_once(' ').unwrap();
        assert!(seen.insert(bytes.to_owned()) && seen.insert(hash.to_owned()), "drawn again: {random}");
        assert!(guest.text("/env").await.contains("blue"));
        assert!(
            guest.text("/clock").await.parse::<u64>().unwrap() < 5_000_000_000,
            "the clock starts with the request"
        );
        guest.text("/print?text=line").await;
    }
    assert!(report(&guest).rolled_back >= 39, "a stream to the log may stay open: {:?}", report(&guest));
    let log = guest.recorded.log.lock().unwrap();
    assert_eq!(log.iter().filter(|(_, _, text)| text.contains("printed line")).count(), 10, "{log:?}");
}

#[tokio::test]
async fn every_doubt_is_a_discard_with_its_name() {
    let mut guest = steady();
    guest.timeout = Duration::from_millis(500);
    for (path, outcome, why) in [
        ("/grow", Outcome::Ok, VmDiscard::MemoryGrew),
        ("/flood?bytes=12000000", Outcome::Ok, VmDiscard::TooManyPages),
        ("/open", Outcome::Ok, VmDiscard::BodyOpen),
        ("/trap", Outcome::Trap, VmDiscard::Failed),
        ("/spin", Outcome::Timeout, VmDiscard::Stopped),
    ] {
        assert_eq!(guest.text("/count").await, "1");
        let before = discards(&guest, why);
        let (_, _, end) = guest.call(get(path)).await;
        let retried = ServePath::Generic(GenericReason::RetriedRolledBack);
        assert_eq!(end.serve_path, if path == "/trap" { retried } else { ServePath::RolledBack }, "{path}");
        assert_eq!(end.outcome, outcome, "{path}: {end:?}");
        // A new VM has tried it, too.
        let failed = if path == "/trap" { 2 } else { 1 };
        assert_eq!(discards(&guest, why), before + failed, "{path}: {:?}", report(&guest));
        let (_, body, end) = guest.call(get("/count")).await;
        assert_eq!(&*body.unwrap(), b"1");
        assert!(matches!(end.serve_path, ServePath::Generic(_)), "after {path} there is no VM left: {end:?}");
    }
    assert_eq!(report(&guest).policy, "rollback");
}

#[tokio::test]
async fn a_vm_that_has_served_its_time_is_followed_by_one_that_waits() {
    let guest = steady();
    for number in 0..1_010 {
        let (_, body, end) = guest.call(get("/count")).await;
        let expected = if number == 0 { ServePath::Generic(GenericReason::NoImage) } else { ServePath::RolledBack };
        assert_eq!((&*body.unwrap(), end.serve_path), (&b"1"[..], expected), "{number}: {end:?}");
    }
    assert_eq!((discards(&guest, VmDiscard::WornOut), report(&guest).idle_vms), (1, 1), "{:?}", report(&guest));
}

#[tokio::test]
async fn a_client_that_leaves_costs_the_vm() {
    let guest = steady();
    assert_eq!(guest.text("/count").await, "1");
    assert_eq!(report(&guest).idle_vms, 1);
    let waiting = guest.begin(get("/slow?ms=60000"));
    assert!(tokio::time::timeout(Duration::from_millis(50), waiting).await.is_err());
    assert_eq!(report(&guest).idle_vms, 0);
    assert_eq!(guest.text("/count").await, "1");
}

#[tokio::test]
async fn a_function_whose_vms_are_always_discarded_is_served_by_fresh_ones() {
    // Room for what a request takes would be more than half of what its limit leaves.
    let mut small = spec();
    small.limits.memory_bytes = 26 << 20;
    let guest = steady_as(&small);
    for _ in 0..8 {
        assert_eq!(guest.text("/grow").await, "grown");
    }
    let shown = report(&guest);
    assert_eq!(shown.policy, "fresh");
    assert_eq!(shown.refusal, Some(RollbackRefusal::AlwaysDiscarded { last: VmDiscard::MemoryGrew }));
    assert!(shown.refusal.unwrap().to_string().contains("a memory grew"));
    assert_eq!((shown.room_bytes, shown.no_room), (0, Some(NoRoom::NotEnough)));
    for _ in 0..3 {
        assert_eq!(guest.text("/count").await, "1");
    }
    assert_eq!(report(&guest).idle_vms, 0);
}

/// The allocators of these have memory grow in the first request of each VM.
#[tokio::test]
async fn vms_whose_memory_would_grow_get_room_and_answer_as_fresh_ones_do() {
    let mut fresh_spec = spec();
    fresh_spec.reuse = ReusePolicy::Fresh;
    let shop = "examples/shop/components";
    for (path, requests) in [
        ("tests/guests/components/steady.wasm".to_owned(), ["/grow", "/count"]),
        (format!("{shop}/catalog.wasm"), ["/catalog", "/catalog/lamp"]),
        (format!("{shop}/receipt.wasm"), ["/receipt/none?pause_ms=0", "/receipt"]),
    ] {
        // One that the specializer has not prepared has no way to get room.
        let unprepared = std::fs::read(repository(&path)).unwrap();
        let (rolled, fresh) = (load(&prepared(&path), &spec()).unwrap(), load(&unprepared, &fresh_spec).unwrap());
        let mut last_paths = Vec::new();
        for number in 0..40 {
            let request = requests[number % 2];
            let (status, body, end) = rolled.call(get(request)).await;
            let (fresh_status, fresh_body, _) = fresh.call(get(request)).await;
            assert_eq!((status, body.unwrap()), (fresh_status, fresh_body.unwrap()), "{path} {request} {number}");
            last_paths.push(end.serve_path);
        }
        let report = report(&rolled);
        println!("{path}: {report:?}");
        assert!(last_paths[20..].iter().all(|path| *path == ServePath::RolledBack), "{path}: {report:?}");
        assert!(report.room_bytes > 0 && report.no_room.is_none(), "{path}: {report:?}");
        assert!(discards(&rolled, VmDiscard::MemoryGrew) >= 2, "it was for a reason: {report:?}");
        assert_eq!(discards(&rolled, VmDiscard::Unlike), 0, "{report:?}");
    }
}

/// For what is held ready: only pages that are there can be populated, and growing would be part of the request.
#[tokio::test]
async fn vms_that_serve_once_get_room_as_well_and_answer_as_those_without() {
    let mut fresh_spec = spec();
    fresh_spec.reuse = ReusePolicy::Fresh;
    let path = "examples/shop/components/catalog.wasm";
    let with_room = load(&prepared(path), &fresh_spec).unwrap();
    let without = load(&std::fs::read(repository(path)).unwrap(), &fresh_spec).unwrap();
    let answers = async |request| {
        let ((status, body, end), (expected, expected_body, _)) =
            (with_room.call(get(request)).await, without.call(get(request)).await);
        assert_eq!((status, body.unwrap()), (expected, expected_body.unwrap()), "{request}");
        end.serve_path
    };
    // What a request wrote is looked at a moment after its answer.
    for number in 0.. {
        answers(["/catalog", "/catalog/lamp"][number % 2]).await;
        if report(&with_room).room_bytes > 0 {
            break;
        }
        assert!(number < 400, "no room: {:?}", report(&with_room));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!((report(&with_room).policy, report(&without).room_bytes), ("fresh", 0));
    for request in ["/catalog", "/catalog/lamp", "/catalog/none"] {
        std::sync::Arc::clone(&with_room.program).hold_ready(1).await.unwrap();
        assert_eq!(answers(request).await, ServePath::Ready);
    }
}

#[tokio::test]
async fn what_is_not_rolled_back_has_a_reason() {
    let concurrent = std::fs::read(repository("examples/hello/components/hello-p3.wasm")).unwrap();
    let concurrent = load(&concurrent, &spec()).unwrap();
    assert_eq!(report(&concurrent).refusal, Some(RollbackRefusal::Tasks));
    assert_eq!(report(&concurrent).policy, "fresh");
    let unprepared = load(&std::fs::read(repository("tests/guests/components/steady.wasm")).unwrap(), &spec()).unwrap();
    assert_eq!(report(&unprepared).refusal, Some(RollbackRefusal::Unprepared));
    let by_choice = with_policy(ReusePolicy::Fresh);
    assert_eq!((report(&by_choice).policy, report(&by_choice).refusal), ("fresh", None));
}

/// Two tenants with the same component, and the next revision of one of them: the same bytes, and never the same VM.
#[tokio::test]
async fn functions_and_revisions_never_share_vms() {
    let of = |name: &str, colour: &str| {
        let mut with = spec();
        with.name = name.parse().unwrap();
        with.environment.insert("COLOUR".into(), colour.into());
        (steady_as(&with), colour.to_owned())
    };
    let guests = [of("one", "red"), of("two", "blue"), of("one", "green")];
    for _ in 0..20 {
        for (guest, own) in &guests {
            let environment = guest.text("/env").await;
            assert!(environment.contains(own), "{environment}");
            let others = guests.iter().filter(|(_, other)| other != own);
            assert!(others.into_iter().all(|(_, other)| !environment.contains(other)), "{environment}");
            assert!(guest.text(&format!("/remember?text={own}")).await.starts_with("before []"));
        }
    }
    for (guest, colour) in &guests {
        assert_eq!((report(guest).idle_vms, report(guest).rolled_back), (1, 40), "{colour}");
    }
}

#[tokio::test]
async fn bodies_of_requests_and_responses_pass_through_rolled_back_vms() {
    let guest = steady();
    for round in 0..10 {
        let text = format!("body {round} ").repeat(1_000);
        let request = Request::post("/echo").header("host", "example.test");
        let request = request.body(forerun_driver::full_body(text.clone())).unwrap();
        let (status, body, end) = guest.call(request).await;
        assert_eq!((status, end.outcome), (200, Outcome::Ok), "{end:?}");
        assert_eq!(&*body.unwrap(), text.as_bytes());
    }
    assert_eq!(report(&guest).rolled_back, 10);
}

#[tokio::test]
async fn the_other_guests_are_served_whether_they_can_be_rolled_back_or_not() {
    for path in ["examples/hello/components/hello.wasm", "tests/guests/components/misbehave.wasm"] {
        let guest = load(&prepared(path), &spec()).unwrap();
        for _ in 0..12 {
            assert_eq!(guest.call(get("/count")).await.0, 200, "{path}");
        }
        let report = report(&guest);
        let discarded: u64 = report.discarded.iter().map(|(_, count)| count).sum();
        assert_eq!(report.rolled_back + discarded, 12, "each VM has one fate: {report:?}");
        println!("{path}: {report:?}");
    }
}
