//! Idle VMs, and the memory that all of them may hold.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::time::{Duration, Instant};

use common::{Guest, get, load_by, prepared, spec};
use forerun_runtime::{WasmDriver, WasmSettings};
use forerun_types::{GenericReason, ServePath, VmDiscard};

/// A VM of the guest holds some hundred kilobytes when it was put back.
const ROOM_FOR_MANY: u64 = 64 << 20;

fn steady(idle_bytes_max: u64) -> (WasmDriver, Guest) {
    let driver = WasmDriver::new(&WasmSettings { vms_max: 16, idle_bytes_max, ..WasmSettings::default() }).unwrap();
    let guest = load_by(&driver, &prepared("tests/guests/components/steady.wasm"), &spec()).unwrap();
    (driver, guest)
}

async fn count(guest: &Guest) -> ServePath {
    let (status, body, end) = guest.call(get("/count")).await;
    assert_eq!((status, &*body.unwrap()), (200, &b"1"[..]));
    end.serve_path
}

#[tokio::test]
async fn an_idle_vm_without_room_is_retired_by_name_and_costs_no_answer() {
    let (_driver, guest) = steady(0);
    let began = Instant::now();
    let retired = || {
        let discarded = guest.program.isolation().discarded;
        discarded.into_iter().find(|(why, _)| *why == VmDiscard::IdleMemory).map_or(0, |(_, count)| count)
    };
    for expected in 1..=2 {
        assert_eq!(count(&guest).await, ServePath::Generic(GenericReason::NoImage));
        while retired() < expected {
            assert!(began.elapsed() < Duration::from_secs(60), "{:?}", guest.program.isolation());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    let report = guest.program.isolation();
    assert_eq!((report.idle_vms, report.refusal), (0, None), "nothing is wrong with the function");
}

#[tokio::test]
async fn those_with_room_wait() {
    let (_driver, guest) = steady(ROOM_FOR_MANY);
    assert_eq!(count(&guest).await, ServePath::Generic(GenericReason::NoImage));
    for _ in 0..4 {
        // Longer than from one look at idle VMs to the next.
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(count(&guest).await, ServePath::RolledBack);
    }
    let report = guest.program.isolation();
    assert!(report.idle_vms == 1 && report.idle_bytes < ROOM_FOR_MANY && report.discarded.is_empty(), "{report:?}");
}
