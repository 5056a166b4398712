//! Hand-written components: each construct of a module that a split has to carry over, with random hot sets.

use std::collections::BTreeSet;

use forerun_specialize::passes::split::{Known, SplitPlan, SplitRefusal, split};
use wasmtime::component::Val;

use crate::engine::Runnable;
use crate::everything::EVERYTHING;
use crate::seeds::{Numbers, for_seeds};

const EXPORTS: [&str; 4] = ["memory", "counter", "wide", "run"];

pub(crate) fn exports() -> Vec<String> {
    EXPORTS.map(str::to_owned).to_vec()
}

#[test]
fn everything_does_the_same_whole_and_split() {
    let source = wat::parse_str(EVERYTHING).unwrap();
    let whole = Runnable::whole(&source, &exports());
    let missed = std::cell::Cell::new(0);
    for_seeds(60, |seed| {
        let mut numbers = Numbers::new(seed);
        let plan = numbers.plan(40);
        let split = match split(&source, &plan) {
            Ok(split) => split,
            Err(SplitRefusal::NothingCold { .. }) => return,
            Err(refusal) => panic!("seed {seed}: {refusal}"),
        };
        let split = Runnable::split(&split, &exports());
        for _ in 0..8 {
            let argument = Val::U32(u32::try_from(numbers.below(64)).unwrap());
            let (expected, _) = whole.call("run", std::slice::from_ref(&argument));
            let (seen, misses) = split.call("run", std::slice::from_ref(&argument));
            assert_eq!(expected, seen, "seed {seed}, argument {argument:?}, {plan:?}");
            let distinct: BTreeSet<u32> = misses.iter().copied().collect();
            assert_eq!(distinct.len(), misses.len(), "seed {seed}: a slot is missed once");
            missed.set(missed.get() + misses.len());
        }
    });
    assert!(missed.get() > 100 || std::env::var("FORERUN_SPLIT_SEED").is_ok(), "hardly anything was loaded");
}

/// The fixture is worth its length only if it gets to the end and into every failure.
#[test]
fn everything_ends_in_all_its_ways() {
    let whole = Runnable::whole(&wat::parse_str(EVERYTHING).unwrap(), &exports());
    let results: BTreeSet<String> = (0..8)
        .map(|seed| match whole.call("run", &[Val::U32(seed)]).0.result {
            Ok(_) => "returns".to_owned(),
            Err(error) => error,
        })
        .collect();
    assert_eq!(results.len(), 6, "{results:?}");
}

#[test]
fn what_is_predicted_is_not_missed() {
    let source = wat::parse_str(EVERYTHING).unwrap();
    let all: std::collections::BTreeMap<u32, u16> = (0..40).map(|function| (function, 1000)).collect();
    assert!(matches!(
        split(&source, &SplitPlan::new(Known::ByIndex(all.clone()), 1)),
        Err(SplitRefusal::NothingCold { .. })
    ));
    // `fail` calls `is_odd` last; everything but that pair is hot.
    let but = |index: u32| {
        let mut known = all.clone();
        known.remove(&index);
        split(&source, &SplitPlan::new(Known::ByIndex(known), 1)).unwrap()
    };
    let split = but(8);
    assert_eq!((split.report.cold, split.groups.len()), (1, 1));
    let runnable = Runnable::split(&split, &exports());
    let (seen, misses) = runnable.call("run", &[Val::U32(1)]);
    assert_eq!((seen.result.is_err(), misses.len()), (true, 0));
    let (seen, misses) = runnable.call("run", &[Val::U32(7)]);
    assert_eq!((seen.result.is_ok(), misses.len()), (true, 1));
}
