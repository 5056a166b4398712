//! Real guests, whole and split at random: the same answers.

use std::collections::BTreeMap;
use std::sync::Arc;

use forerun_runtime::CodeFrom;
use forerun_specialize::passes::split::{Known, SplitPlan, split};
use forerun_types::Outcome;

use crate::common::{Guest, get, load, spec, with_flags};
use crate::parts::{self, Cold, all_cold, component};

/// What a person reads of a trap is where it was, as of a whole component.
#[tokio::test]
async fn a_trap_says_where_it_was() {
    let source = component("tests/guests/components/misbehave.wasm");
    let split = all_cold(&source, 50);
    let cold = Arc::new(Cold::of(&split));
    let guests = [load(&source, &spec()).unwrap(), parts::load(&split, &cold, 1000, &spec()).unwrap()];
    for guest in guests {
        let (_, _, end) = guest.call(get("/trap")).await;
        assert!(end.detail.starts_with("wasm trap: wasm `unreachable`"), "{}", end.detail);
        assert!(end.detail.contains("wasm backtrace:") && !end.detail.contains("coredump"), "{}", end.detail);
    }
}

/// Status, body or its error, outcome and log of one request.
async fn seen(guest: &Guest, path: &str) -> (u16, Result<Vec<u8>, String>, Outcome, String) {
    guest.recorded.log.lock().unwrap().clear();
    let (status, body, end) = guest.call(get(path)).await;
    let log = guest.recorded.log.lock().unwrap();
    let log = log.iter().map(|(_, stream, text)| format!("{stream:?}: {text}")).collect();
    (status, body.map(|bytes| bytes.to_vec()).map_err(|error| error.to_string()), end.outcome, log)
}

fn numbers(mut seed: u64) -> impl FnMut(u64) -> u64 {
    move |bound| {
        seed = seed.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        (seed >> 33) % bound
    }
}

const GUESTS: [(&str, &[&str]); 3] = [
    ("examples/hello/components/hello.wasm", &["/", "/another"]),
    ("examples/shop/components/catalog.wasm", &["/catalog", "/catalog/1", "/nothing"]),
    ("tests/guests/components/misbehave.wasm", &["/count", "/trap", "/exit", "/recurse", "/never"]),
];

#[tokio::test]
async fn guests_answer_the_same_whole_and_split() {
    let mut misses = [0, 0];
    for (path, requests) in GUESTS {
        let whole = load(&component(path), &spec()).unwrap();
        for (looks_at_flags, source) in [(false, component(path)), (true, with_flags(path))] {
            for seed in 0..4 {
                let mut below = numbers(seed);
                let known: BTreeMap<u32, u16> =
                    (0..2_000).filter(|_| below(4) < seed).map(|function| (function, 1000)).collect();
                let mut plan = SplitPlan::new(Known::ByIndex(known), 500);
                plan.group_functions_max = usize::try_from(10 + below(100)).unwrap();
                let split = split(&source, &plan).unwrap();
                let cold = Arc::new(Cold { looks_at_flags, ..Cold::of(&split) });
                let guest = parts::load(&split, &cold, 1000, &spec()).unwrap();
                for request in requests {
                    let expected = seen(&whole, request).await;
                    let seen = seen(&guest, request).await;
                    assert_eq!(expected, seen, "{path} {request}, seed {seed}, flags: {looks_at_flags}");
                }
                misses[usize::from(looks_at_flags)] += cold.take_misses().len();
            }
        }
    }
    assert!(misses.iter().all(|misses| *misses > 50), "{misses:?} misses are too few to have tested anything");
}

#[tokio::test]
async fn a_miss_is_told_with_its_slot_and_where_the_code_was() {
    let split = all_cold(&component("tests/guests/components/misbehave.wasm"), 50);
    let cold = Arc::new(Cold::of(&split));
    let guest = parts::load(&split, &cold, 1000, &spec()).unwrap();
    let mut slots = Vec::new();
    for from in [CodeFrom::Compiler, CodeFrom::Memory] {
        guest.text("/count").await;
        let misses = cold.take_misses();
        assert!(misses.len() > 1);
        for miss in &misses {
            assert_eq!(miss.from, from);
            let group = &split.groups[miss.group as usize];
            let entries = u32::try_from(group.entries.len()).unwrap();
            let in_slots = (group.first_slot..group.first_slot + entries).contains(&miss.slot);
            let position = miss.slot.checked_sub(split.report.slots);
            let in_table = position.is_some_and(|position| group.positions.contains(&position));
            assert!(in_slots != in_table, "{miss:?}");
        }
        slots.push(misses.iter().map(|miss| miss.slot).collect::<Vec<_>>());
    }
    assert_eq!(slots[0], slots[1], "the same request misses the same");
    let on_disk = Arc::new(Cold { on_disk: true, ..Cold::of(&split) });
    let guest = parts::load(&split, &on_disk, 1000, &spec()).unwrap();
    guest.text("/count").await;
    assert!(on_disk.take_misses().iter().all(|miss| miss.from == CodeFrom::Disk));
}

#[tokio::test]
async fn what_was_seen_once_and_kept_hot_is_not_missed() {
    let source = component("tests/guests/components/misbehave.wasm");
    let mut known = BTreeMap::new();
    // Each round keeps what the last one missed; one function more a miss, so that this ends.
    for _ in 0..200 {
        let mut plan = SplitPlan::new(Known::ByIndex(known.clone()), 1);
        plan.group_functions_max = 1;
        let split = split(&source, &plan).unwrap();
        let cold = Arc::new(Cold::of(&split));
        let guest = parts::load(&split, &cold, 10_000, &spec()).unwrap();
        guest.text("/count").await;
        let misses = cold.take_misses();
        if misses.is_empty() {
            assert!(!known.is_empty() && split.report.cold > split.report.probable, "{:?}", split.report);
            return;
        }
        for miss in misses {
            known.insert(split.groups[miss.group as usize].functions[0], 1000);
        }
    }
    panic!("the same functions are missed again and again");
}
