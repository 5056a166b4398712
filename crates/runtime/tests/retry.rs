//! A request whose prepared VM failed is served again by a new one, if nothing that counts was done.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::time::Duration;

use common::{Guest, get, load, misbehave, prepared, spec};
use forerun_driver::{Body, InvocationEnd, full_body};
use forerun_types::{GenericReason, Outcome, ServePath, VmDiscard};
use http::Request;

const RETRIED_READY: ServePath = ServePath::Generic(GenericReason::RetriedReady);

/// The guest that goes wrong when it is told to, with so many VMs held ready.
async fn fickle(vms: u32) -> Guest {
    let mut spec = spec();
    spec.key_value_stores.push("default".into());
    let guest = misbehave(&spec);
    hold(&guest, vms).await;
    guest
}

async fn hold(guest: &Guest, vms: u32) {
    guest.program.clone().hold_ready(vms).await.unwrap();
}

fn orders(guest: &Guest, orders: &[&'static str]) {
    *guest.recorded.orders.lock().unwrap() = orders.iter().copied().collect();
}

fn post(path: &str, body: &'static str) -> Request<Body> {
    Request::post(path).header("host", "example.test").body(full_body(body)).unwrap()
}

/// One request whose first VM goes wrong.
async fn once(request: Request<Body>) -> (u16, String, InvocationEnd, Guest) {
    let guest = fickle(1).await;
    orders(&guest, &["go wrong"]);
    let (status, body, end) = guest.call(request).await;
    let body = body.map_or_else(|error| error.to_string(), |body| String::from_utf8(body.to_vec()).unwrap());
    let body = body.trim_end().to_owned();
    (status, body, end, guest)
}

#[tokio::test]
async fn a_ready_vm_that_fails_is_made_up_for_by_a_new_one() {
    for then in ["trap", "exit", "never"] {
        let (status, body, end, guest) = once(get(&format!("/fickle?then={then}"))).await;
        assert_eq!((status, body.as_str(), end.outcome), (200, "fine", Outcome::Ok), "{then}: {end:?}");
        assert_eq!(end.serve_path, RETRIED_READY, "{then}");
        assert!(end.detail.is_empty(), "{end:?}");
        assert_eq!(guest.program.held_ready().vms, 0, "the VM that failed is gone");
    }
}

#[tokio::test]
async fn a_body_that_was_not_read_is_there_again() {
    let (status, body, end, _guest) = once(post("/fickle?then=trap", "all of it")).await;
    assert_eq!((status, body.as_str(), end.serve_path), (200, "fine all of it", RETRIED_READY), "{end:?}");
}

#[tokio::test]
async fn what_it_says_on_stderr_does_not_count() {
    let (status, _, end, guest) = once(get("/fickle?first=complain")).await;
    assert_eq!((status, end.serve_path), (200, RETRIED_READY), "{end:?}");
    let log = guest.recorded.log.lock().unwrap();
    assert!(log.iter().any(|(_, _, text)| text.contains("about to go wrong")), "{log:?}");
}

#[tokio::test]
async fn what_was_done_is_not_done_twice() {
    for (first, why) in [
        ("print", "it had written to stdout"),
        ("write", "it had written key values"),
        ("call", "it had called another service"),
        ("read", "it had read from the request's body"),
    ] {
        let (status, _, end, guest) = once(post(&format!("/fickle?first={first}"), "all of it")).await;
        assert_eq!((status, end.outcome, end.serve_path), (0, Outcome::Trap, ServePath::Ready), "{first}: {end:?}");
        assert!(end.detail.contains(why), "{first}: {end:?}");
        let (calls, values) = (guest.recorded.calls.lock().unwrap(), guest.recorded.values.lock().unwrap());
        assert_eq!(calls.len(), usize::from(first == "call"), "{calls:?}");
        assert_eq!(values.get("default/count").map(Vec::as_slice), (first == "write").then_some(&b"1"[..]));
    }
}

#[tokio::test]
async fn an_answer_that_has_begun_is_not_begun_again() {
    let (status, _, end, _guest) = once(get("/fickle?first=answer")).await;
    assert_eq!((status, end.outcome, end.serve_path), (200, Outcome::Trap, ServePath::Ready), "{end:?}");
}

#[tokio::test]
async fn an_answer_that_is_an_error_is_an_answer() {
    let (status, _, end, _guest) = once(get("/fickle?then=error")).await;
    assert_eq!((status, end.outcome, end.serve_path), (500, Outcome::Ok, ServePath::Ready), "{end:?}");
}

#[tokio::test]
async fn a_request_is_retried_once_and_by_a_new_vm_only() {
    let guest = fickle(3).await;
    orders(&guest, &["go wrong", "go wrong", "go wrong"]);
    let (status, _, end) = guest.call(get("/fickle")).await;
    assert_eq!((status, end.outcome, end.serve_path), (0, Outcome::Trap, RETRIED_READY), "{end:?}");
    assert_eq!(guest.recorded.orders.lock().unwrap().len(), 1, "the third VM was not tried");
    assert_eq!(guest.program.held_ready().vms, 2, "the new VM was a new one");
    hold(&guest, 0).await;
    let (status, _, end) = guest.call(get("/fickle")).await;
    let why = ServePath::Generic(GenericReason::BelowThreshold);
    assert_eq!((status, end.outcome, end.serve_path), (0, Outcome::Trap, why), "no VM had been prepared: {end:?}");
}

#[tokio::test]
async fn a_guest_that_ran_out_of_time_has_none_for_another_attempt() {
    let mut guest = fickle(1).await;
    guest.timeout = Duration::from_millis(300);
    let (_, _, end) = guest.call(get("/loop")).await;
    assert_eq!((end.outcome, end.serve_path), (Outcome::Timeout, ServePath::Ready), "{end:?}");
}

/// The monotonic clock of a VM starts when it is put back: this one is too old for its request, a new one is not.
#[tokio::test]
async fn a_vm_that_was_put_back_and_fails_is_made_up_for_by_a_new_one() {
    let guest = load(&prepared("tests/guests/components/steady.wasm"), &spec()).unwrap();
    assert_eq!(guest.text("/count").await, "1");
    assert_eq!(guest.program.isolation().idle_vms, 1);
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    let (status, body, end) = guest.call(get("/aged?ms=1000")).await;
    assert_eq!((status, &*body.unwrap()), (200, &b"young enough"[..]), "{end:?}");
    assert_eq!(end.serve_path, ServePath::Generic(GenericReason::RetriedRolledBack));
    let discarded = guest.program.isolation().discarded;
    assert!(discarded.contains(&(VmDiscard::Failed, 1)), "{discarded:?}");
}
