//! Idle VMs of one function make room for another that needs VMs. In a process of its own, since it takes all there are.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use common::{Guest, load, prepared, spec};

/// Of the 64 VMs that the driver has.
const AT_ONCE: usize = 50;

async fn all_at_once(guest: &Guest) {
    let requests = (0..AT_ONCE).map(|_| guest.text("/slow?ms=1000"));
    let answers = futures::future::join_all(requests).await;
    assert!(answers.iter().all(|answer| answer == "waited"));
}

#[tokio::test]
async fn idle_vms_make_room_for_functions_that_have_none() {
    let source = prepared("tests/guests/components/steady.wasm");
    let (one, other) = (load(&source, &spec()).unwrap(), load(&source, &spec()).unwrap());
    all_at_once(&one).await;
    // A slow machine begins the last after the first has ended, and then needs fewer.
    let idle = one.program.isolation().idle_vms;
    assert!(idle > 20, "so many that the other cannot have as many as it needs: {:?}", one.program.isolation());
    for guest in [&other, &one, &other] {
        all_at_once(guest).await;
    }
    let idle = one.program.isolation().idle_vms + other.program.isolation().idle_vms;
    assert!(idle <= 64, "{idle}");
    assert!(one.program.isolation().refusal.is_none(), "giving up a VM says nothing about its function");
}
