//! Generated modules, wrapped in components: every function that a component can lift is called, in its own instance.

use forerun_specialize::passes::split::{SplitRefusal, split};
use wasmtime::component::{Type, Val};

use crate::engine::{ENGINE, Runnable};
use crate::modules::{Proposals, generate, wrap};
use crate::seeds::{Numbers, for_seeds};

#[test]
fn generated_modules_do_the_same_whole_and_split() {
    let [splits, calls, misses, asked] = [const { std::cell::Cell::new(0) }; 4];
    for_seeds(400, |seed| {
        let mut numbers = Numbers::new(seed);
        let Some(module) = generate(&mut numbers, Proposals::Run) else { return };
        let (component, exports, functions) = wrap(&module);
        // Externref, which the engine does not know.
        if wasmtime::component::Component::new(&ENGINE, &component).is_err() {
            return;
        }
        let split = match split(&component, &numbers.plan(functions)) {
            Ok(split) => split,
            Err(SplitRefusal::NothingCold { .. } | SplitRefusal::NoneKnown(_)) => return,
            Err(refusal) => panic!("seed {seed}: {refusal}"),
        };
        splits.set(splits.get() + 1);
        let whole = Runnable::whole(&component, &exports);
        let split = Runnable::split(&split, &exports);
        for function in whole.functions() {
            let arguments = whole.arguments(&function, &mut numbers);
            let (expected, _) = whole.call(&function, &arguments);
            let (seen, host) = split.call_with_host(&function, &arguments);
            assert_eq!(expected, seen, "seed {seed}, {function}{arguments:?}");
            calls.set(calls.get() + 1);
            misses.set(misses.get() + host.misses.len());
            asked.set(asked.get() + host.asked.len());
        }
    });
    let [splits, calls, misses, asked] = [splits, calls, misses, asked].map(|count| count.get());
    eprintln!("{splits} modules split, {calls} calls, {misses} groups missed, {asked} of them after a return");
    if std::env::var("FORERUN_SPLIT_SEED").is_err() {
        let enough = splits > 20 && calls > 200 && misses > 100 && asked > 10;
        assert!(enough, "the generator yields too little");
    }
}

impl Runnable {
    /// Arguments for a function: small numbers, large ones, and the ends of their ranges.
    fn arguments(&self, function: &str, numbers: &mut Numbers) -> Vec<Val> {
        let parameters = self.parameters(function);
        parameters
            .into_iter()
            .map(|ty| {
                let number = match numbers.below(4) {
                    0 => numbers.below(4),
                    1 => u64::MAX,
                    _ => numbers.next(),
                };
                match ty {
                    Type::U32 => Val::U32(number as u32),
                    Type::U64 => Val::U64(number),
                    Type::Float32 => Val::Float32(number as f32),
                    Type::Float64 => Val::Float64(number as f64),
                    other => panic!("{other:?} was not lifted"),
                }
            })
            .collect()
    }
}
