//! VMs that are put back to the state after the warm-up requests: what that state must be, and that nothing but the warm-up
//! is ever seen.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::collections::HashSet;

use common::{Guest, get, load, prepared, repository, spec};
use forerun_driver::{GuestStream, IsolationReport, Trust, Trusts};
use forerun_specialize::passes::state::add_state_calls;
use forerun_types::{
    CallAnswer, Draw, FunctionSpec, GenericReason, NoCopy, Outcome, ReusePolicy, ServePath, VmDiscard, WarmRefusal,
    WarmUpRequest,
};
use http::Request;

fn warm_up(path: &str) -> WarmUpRequest {
    WarmUpRequest { method: "GET".into(), path: path.into(), body: String::new(), answer_to_calls: None }
}

fn warm_spec(paths: &[&str]) -> FunctionSpec {
    let mut spec = spec();
    spec.reuse = ReusePolicy::Warm;
    spec.warm_up = paths.iter().map(|path| warm_up(path)).collect();
    spec
}

fn steady_as(spec: &FunctionSpec) -> Guest {
    load(&prepared("tests/guests/components/steady.wasm"), spec).unwrap()
}

fn report(guest: &Guest) -> IsolationReport {
    guest.program.isolation()
}

/// Why VMs that are warmed up with `spec`'s requests are not put back to the state after those.
async fn refusal(spec: &FunctionSpec) -> WarmRefusal {
    let guest = steady_as(spec);
    assert_eq!(guest.call(get("/nothing")).await.0, 404);
    let report = report(&guest);
    assert_eq!((report.policy, report.idle_vms), ("rollback", 1), "as without a warm-up: {report:?}");
    for _ in 0..3 {
        let (_, body, end) = guest.call(get("/count")).await;
        assert_eq!((&*body.unwrap(), end.serve_path), (&b"1"[..], ServePath::RolledBack));
    }
    report.not_warm.unwrap()
}

#[tokio::test]
async fn requests_find_what_the_warm_up_left_and_nothing_else() {
    let guest = steady_as(&warm_spec(&["/learn"]));
    assert_eq!(guest.text("/learnt").await, "no", "the first VM is made for a request and is not warm");
    let first = report(&guest);
    assert_eq!((first.policy, first.idle_vms, &first.not_warm), ("warm", 1, &None), "{first:?}");
    assert_eq!(first.discarded, [(VmDiscard::NotWarm, 1)], "{first:?}");
    for round in 0..40 {
        for (path, expected) in [("/learnt", "yes"), ("/count", "1"), ("/remember?text=secret", "before []")] {
            let (status, body, end) = guest.call(get(path)).await;
            assert_eq!((status, end.serve_path), (200, ServePath::RolledBack), "{round} {path}");
            let body = body.unwrap();
            assert!(body.starts_with(expected.as_bytes()), "{round} {path}: {body:?}");
        }
    }
    let after = report(&guest);
    assert_eq!((after.rolled_back, after.idle_vms, after.discarded.len()), (120, 1, 1), "{after:?}");
    assert!(guest.recorded.log.lock().unwrap().is_empty(), "the warm-up has no log");
}

#[tokio::test]
async fn a_vm_held_ready_is_warm_at_its_first_request() {
    let guest = steady_as(&warm_spec(&["/learn", "/churn?seed=0"]));
    std::sync::Arc::clone(&guest.program).hold_ready(2).await.unwrap();
    assert_eq!((guest.program.held_ready().vms, report(&guest).policy), (2, "warm"));
    let report = report(&guest);
    // One more was made for the test.
    assert_eq!((report.warm_copies, report.no_copy), (3, None));
    for _ in 0..4 {
        let (_, body, end) = guest.call(get("/learnt")).await;
        assert_eq!(&*body.unwrap(), b"yes", "{end:?}");
        assert!(matches!(end.serve_path, ServePath::Ready | ServePath::RolledBack), "{end:?}");
    }
}

/// What `count` requests are answered that come at once, each in a VM that was held ready and has served none.
async fn of_ready_vms(guest: &Guest, count: usize, path: &str) -> Vec<(u16, String)> {
    std::sync::Arc::clone(&guest.program).hold_ready(count.try_into().unwrap()).await.unwrap();
    let calls = (0..count).map(|_| async {
        let (status, body, end) = guest.call(get(path)).await;
        assert_eq!(end.serve_path, ServePath::Ready, "{end:?}");
        (status, String::from_utf8(body.unwrap().to_vec()).unwrap())
    });
    futures::future::join_all(calls).await
}

#[tokio::test]
async fn copies_of_the_warm_state_serve_as_vms_do_that_were_warmed_up() {
    for (path, expected) in [("/learnt", "yes"), ("/count", "1"), ("/remember?text=secret", "before []")] {
        let guest = steady_as(&warm_spec(&["/learn", "/churn?seed=0"]));
        for (status, body) in of_ready_vms(&guest, 16, path).await {
            assert!(status == 200 && body.starts_with(expected), "{path}: {body}");
        }
        let report = report(&guest);
        assert_eq!((report.policy, &report.no_copy), ("warm", &None), "{report:?}");
        assert_eq!((report.warm_copies, report.rolled_back), (17, 16), "one more was tested: {report:?}");
        for _ in 0..8 {
            assert!(guest.text(path).await.starts_with(expected), "put back: {path}");
        }
    }
}

/// The guest has its standard output open in the warm state. Nobody but itself knows by which number.
#[tokio::test]
async fn copies_have_the_guests_output_where_it_expects_it() {
    let guest = seeded("(;renew;)", "");
    let seeds: HashSet<_> = of_ready_vms(&guest, 16, "/").await.into_iter().map(|(status, _)| status).collect();
    assert_eq!((report(&guest).policy, report(&guest).no_copy), ("warm", None));
    assert_eq!((report(&guest).warm_copies, seeds.len() > 10), (17, true), "each draws anew: {seeds:?}");
    seeds_of(&guest, 16).await;
    assert_eq!(report(&guest).rolled_back, 32, "{:?}", report(&guest));
    let log = guest.recorded.log.lock().unwrap();
    assert_eq!(log.len(), 32, "a line of each request, and none of the warm-up: {log:?}");
    assert!(log.iter().all(|(_, stream, text)| *stream == GuestStream::Stdout && text == "a line\n"), "{log:?}");
}

/// Has the one VM that was put back fail, and with it the one that serves the request again.
async fn lose_idle_vm(guest: &Guest) {
    let (_, _, end) = guest.call(get("/trap")).await;
    assert_eq!(end.serve_path, ServePath::Generic(GenericReason::RetriedRolledBack), "{end:?}");
}

/// What requests that come at once are answered where no VM is held or kept for them.
async fn unexpected(guest: &Guest, count: usize, path: &str) -> Vec<(ServePath, u16, String)> {
    let calls = (0..count).map(|_| async {
        let (status, body, end) = guest.call(get(path)).await;
        (end.serve_path, status, String::from_utf8(body.unwrap_or_default().to_vec()).unwrap())
    });
    futures::future::join_all(calls).await
}

#[tokio::test]
async fn a_request_that_nobody_expected_finds_the_warm_state_as_well() {
    let generic = |why| (ServePath::Generic(why), 200, "no".to_owned());
    for (specialized, expected) in [
        (Trust::Full, (ServePath::Specialized, 200, "yes".to_owned())),
        // All ids are 7 here.
        (Trust::Compared { control_one_in: 7 }, generic(GenericReason::ControlSpecialized)),
        (Trust::Withdrawn, generic(GenericReason::Quarantined)),
        (Trust::SwitchedOff, generic(GenericReason::Disabled)),
    ] {
        let guest = steady_as(&warm_spec(&["/learn"]));
        assert_eq!(of_ready_vms(&guest, 1, "/learnt").await[0].1, "yes");
        lose_idle_vm(&guest).await;
        guest.program.trust(Trusts { specialized, ..Trusts::default() });
        // Another one would find the first one's VM, put back.
        assert_eq!(unexpected(&guest, 1, "/learnt").await, [expected]);
    }
}

/// As that of any prepared VM: a new one as it is made serves the request again.
#[tokio::test]
async fn a_copy_that_traps_has_its_request_served_again() {
    let guest = steady_as(&warm_spec(&["/learn"]));
    assert_eq!(of_ready_vms(&guest, 1, "/learnt").await[0].1, "yes");
    lose_idle_vm(&guest).await;
    let answers = unexpected(&guest, 8, "/trap").await;
    let again = answers.iter().filter(|(path, _, _)| *path == ServePath::Generic(GenericReason::RetriedSpecialized));
    assert_eq!(again.count(), 8, "{answers:?}");
}

/// Rust's standard library also keeps what says that there is room in a stream, which is no stream.
#[tokio::test]
async fn a_state_with_other_handles_is_reached_by_the_warm_up() {
    let guest = steady_as(&warm_spec(&["/learn", "/print?text=warm"]));
    for (_, body) in of_ready_vms(&guest, 4, "/learnt").await {
        assert_eq!(body, "yes");
    }
    let report = report(&guest);
    assert_eq!((report.policy, &report.no_copy), ("warm", &Some(NoCopy::StreamsOpen)), "{report:?}");
    assert_eq!(report.warm_copies, 0);
}

#[tokio::test]
async fn each_request_still_has_its_own_host() {
    // The state has streams to the log open.
    let mut with = warm_spec(&["/learn", "/print?text=warm"]);
    with.environment.insert("COLOUR".into(), "blue".into());
    let guest = steady_as(&with);
    guest.text("/learn").await;
    let mut seen = HashSet::new();
    for _ in 0..10 {
        assert_eq!(guest.text("/learnt").await, "yes", "{:?}", report(&guest));
        let random = guest.text("/random").await;
        let (bytes, hash) = random.rsplit_once(' ').unwrap();
        assert!(seen.insert(bytes.to_owned()) && seen.insert(hash.to_owned()), "drawn again: {random}");
        assert!(guest.text("/env").await.contains("blue"));
        assert!(guest.text("/clock").await.parse::<u64>().unwrap() < 5_000_000_000, "it starts with the request");
        guest.text("/print?text=line").await;
    }
    let log = guest.recorded.log.lock().unwrap();
    assert_eq!(log.iter().filter(|(_, _, text)| text.contains("printed line")).count(), 10, "{log:?}");
    assert!(!log.iter().any(|(_, _, text)| text.contains("warm")), "{log:?}");
}

#[tokio::test]
async fn a_state_that_shows_or_that_all_requests_would_share_is_refused_by_name() {
    for (path, what) in [("/random", Draw::Randomness), ("/clock", Draw::Time)] {
        assert_eq!(refusal(&warm_spec(&["/learn", path])).await, WarmRefusal::Drew { what }, "{path}");
    }
    let mut with = warm_spec(&["/env"]);
    with.environment.insert("PASSWORD".into(), "secret".into());
    assert_eq!(refusal(&with).await, WarmRefusal::Drew { what: Draw::Variables });
    for path in ["/count", "/remember?text=a", "/churn?seed=7"] {
        let expected = WarmRefusal::AnswersDiffer { request: format!("GET {path}"), after: 0 };
        assert_eq!(refusal(&warm_spec(&[path])).await, expected);
    }
    let expected = WarmRefusal::AnswersDiffer { request: "GET /count".into(), after: 1 };
    assert_eq!(refusal(&warm_spec(&["/learn", "/count"])).await, expected);
    assert_eq!(refusal(&warm_spec(&["/keep"])).await, WarmRefusal::HandlesKept);
    assert!(matches!(refusal(&warm_spec(&["/trap"])).await, WarmRefusal::Failed { .. }));
    let mut hasty = warm_spec(&["/spin"]);
    hasty.limits.timeout_ms = 300;
    let spun = refusal(&hasty).await;
    assert!(matches!(&spun, WarmRefusal::Failed { detail } if detail.contains("time")), "{spun:?}");
}

/// The guest that seeds itself at its first request, with something replaced in its text.
fn seeded(from: &str, to: &str) -> Guest {
    let text = std::fs::read_to_string(repository("tests/guests/renew.wat")).unwrap();
    assert!(text.contains(from), "{from}");
    let component = wat::parse_str(text.replace(from, to)).unwrap();
    load(&add_state_calls(&component).unwrap().component, &warm_spec(&["/"])).unwrap()
}

async fn seeds_of(guest: &Guest, requests: usize) -> HashSet<u16> {
    let mut seeds = HashSet::new();
    for _ in 0..requests {
        seeds.insert(guest.call(get("/")).await.0);
    }
    seeds
}

#[tokio::test]
async fn what_the_guest_draws_anew_is_the_same_for_no_two_requests() {
    let guest = seeded("(;renew;)", "");
    seeds_of(&guest, 1).await;
    assert_eq!((report(&guest).policy, report(&guest).not_warm), ("warm", None));
    let seeds = seeds_of(&guest, 40).await;
    assert!(seeds.len() > 20, "of 256 there could be: {seeds:?}");
    assert_eq!(report(&guest).rolled_back, 40, "{:?}", report(&guest));
}

#[tokio::test]
async fn a_guest_that_cannot_draw_anew_is_not_warm() {
    let silent = seeded("(export \"forerun:vm/warm@0.1.0\"", "(export \"somebody:else/warm@0.1.0\"");
    let trapping = seeded("(;renew;)", "unreachable");
    let endless = seeded("(;renew;)", "(loop (br 0))");
    let cannot = WarmRefusal::Discarded { why: VmDiscard::RenewTrapped };
    for (guest, expected) in
        [(silent, WarmRefusal::Drew { what: Draw::Randomness }), (trapping, cannot.clone()), (endless, cannot)]
    {
        let seeds = seeds_of(&guest, 20).await;
        assert!(seeds.len() > 5, "each request seeds itself: {seeds:?}");
        assert_eq!((report(&guest).policy, report(&guest).not_warm), ("rollback", Some(expected)));
    }
}

/// Requests that come while the state is tried are served as ever, and each VM has one fate.
#[tokio::test]
async fn requests_at_the_same_time_are_served_meanwhile() {
    let guest = steady_as(&warm_spec(&["/learn"]));
    let calls = (0..24).map(|number| {
        let guest = &guest;
        async move {
            let text = format!("body {number}").repeat(300);
            let request = Request::post("/echo").header("host", "example.test");
            let request = request.body(forerun_driver::full_body(text.clone())).unwrap();
            let (status, body, end) = guest.call(request).await;
            assert_eq!((status, end.outcome), (200, Outcome::Ok), "{end:?}");
            assert_eq!(&*body.unwrap(), text.as_bytes());
        }
    });
    futures::future::join_all(calls).await;
    let report = report(&guest);
    let discarded: u64 = report.discarded.iter().map(|(_, count)| count).sum();
    assert!(report.rolled_back + discarded == 24, "{report:?}");
    for _ in 0..30 {
        guest.text("/count").await;
    }
    assert_eq!((guest.text("/learnt").await.as_str(), guest.program.isolation().policy), ("yes", "warm"));
}

/// A request that calls another function warms a VM up where the manifest says what the call is answered; nobody is called.
#[tokio::test]
async fn calls_of_the_warm_up_get_the_answer_of_the_manifest_and_nobody_elses() {
    let catalog = r#"{"currency":"EUR","products":[{"id":"lamp","title":"Lamp","about":"","cents":1}]}"#;
    let answer = |body: &str| CallAnswer { status: 200, content_type: "application/json".into(), body: body.into() };
    let cart = |answer: Option<CallAnswer>| {
        let mut with = spec();
        with.reuse = ReusePolicy::Warm;
        with.warm_up = vec![WarmUpRequest { method: "POST".into(), answer_to_calls: answer, ..warm_up("/cart/lamp") }];
        load(&prepared("examples/shop/components/cart.wasm"), &with).unwrap()
    };
    let settled = async |guest: &Guest| {
        // Its VMs get room in their memory first.
        for _ in 0..20 {
            drop(guest.call(get("/none")).await);
        }
        report(guest)
    };
    let told = cart(Some(answer(catalog)));
    let report = settled(&told).await;
    assert_eq!((report.policy, &report.not_warm), ("warm", &None), "{report:?}");
    assert!(told.recorded.calls.lock().unwrap().is_empty(), "nobody is called while a VM is warmed up");
    let request =
        Request::post("/cart/lamp").header("host", "example.test").body(forerun_driver::empty_body()).unwrap();
    let (status, _, end) = told.call(request).await;
    assert_eq!((status, end.serve_path), (502, ServePath::RolledBack), "the host of this test has no catalog");
    assert_eq!(told.recorded.calls.lock().unwrap().len(), 1, "later requests call whom they mean");

    let untold = settled(&cart(None)).await;
    assert_eq!(untold.not_warm, Some(WarmRefusal::Drew { what: Draw::Answer }), "{untold:?}");
    let impossible = CallAnswer { status: 42, ..answer(catalog) };
    let impossible = settled(&cart(Some(impossible))).await;
    assert_eq!(impossible.not_warm, Some(WarmRefusal::Drew { what: Draw::Answer }), "{impossible:?}");
}
