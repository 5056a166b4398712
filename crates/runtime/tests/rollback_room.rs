//! Idle VMs of one function make room for another that needs VMs. In a process of its own, since it takes all there are.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use common::{Guest, give_back_memory, load, prepared, spec};
use forerun_types::VmDiscard;

/// Of the 64 VMs that the driver has.
const AT_ONCE: usize = 50;

fn discards(guest: &Guest, why: VmDiscard) -> u64 {
    guest.program.isolation().discarded.into_iter().find(|(reason, _)| *reason == why).map_or(0, |(_, count)| count)
}

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
    assert!(discards(&one, VmDiscard::PlaceNeeded) > 0, "{:?}", one.program.isolation());

    // Where memory is short, each function gives up half of its idle VMs every time it is asked.
    for _ in 0..8 {
        let before = one.program.isolation().idle_vms + other.program.isolation().idle_vms;
        let given_up = u32::try_from(give_back_memory()).unwrap();
        let after = one.program.isolation().idle_vms + other.program.isolation().idle_vms;
        assert_eq!(before - given_up, after);
        assert!(given_up * 2 >= before, "{given_up} of {before}");
    }
    let reports = [&one, &other].map(|guest| guest.program.isolation());
    assert!(reports.iter().all(|report| (report.idle_vms, report.idle_bytes) == (0, 0)), "{reports:?}");
    assert!(
        discards(&one, VmDiscard::MemoryPressure) + discards(&other, VmDiscard::MemoryPressure) > 10,
        "{reports:?}"
    );
    assert_eq!(one.text("/count").await, "1");
}
