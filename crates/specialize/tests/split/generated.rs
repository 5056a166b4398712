//! Generated modules, wrapped in components: every function that a component can lift is called, in its own instance.

use std::cell::Cell;

use forerun_specialize::passes::split::{SplitRefusal, split};

use crate::compare::whole_with_split;
use crate::modules::{Proposals, generate, wrap};
use crate::seeds::{Numbers, for_seeds};

#[test]
fn generated_modules_do_the_same_whole_and_split() {
    let [splits, calls, misses, flagged] = [const { Cell::new(0) }; 4];
    for_seeds(400, |seed| {
        let mut numbers = Numbers::new(seed);
        let Some(module) = generate(&mut numbers, Proposals::Run) else { return };
        let compared = std::panic::catch_unwind(move || whole_with_split(&module, &mut numbers));
        let compared = compared.unwrap_or_else(|_| panic!("seed {seed}"));
        let Some(compared) = compared else { return };
        splits.set(splits.get() + 1);
        calls.set(calls.get() + compared.calls);
        misses.set(misses.get() + compared.misses);
        flagged.set(flagged.get() + compared.flagged);
    });
    let [splits, calls, misses, flagged] = [splits, calls, misses, flagged].map(|count| count.get());
    eprintln!("{splits} modules split, {calls} calls, {misses} groups missed, {flagged} with flags");
    if std::env::var("FORERUN_SPLIT_SEED").is_err() {
        let enough = splits > 20 && calls > 200 && misses > 100 && flagged > 100;
        assert!(enough, "the generator yields too little");
    }
}

/// A split validates its parts itself; here it is only that it finds nothing to complain of.
#[test]
fn generated_modules_split_into_valid_parts() {
    let splits = Cell::new(0);
    for_seeds(300, |seed| {
        let mut numbers = Numbers::new(seed);
        let Some(module) = generate(&mut numbers, Proposals::All) else { return };
        let (component, _, functions) = wrap(&module);
        match split(&component, &numbers.plan(functions)) {
            Ok(_) => splits.set(splits.get() + 1),
            Err(SplitRefusal::NothingCold { .. } | SplitRefusal::NoneKnown(_)) => {}
            Err(refusal) => panic!("seed {seed}: {refusal}"),
        }
    });
    assert!(splits.get() > 50 || std::env::var("FORERUN_SPLIT_SEED").is_ok(), "{} are too few", splits.get());
}
