//! Components made at random in the shape of linked libraries, and fixtures with damaged bytes.
//!
//! A library has its part of one memory, one table and a few globals of an environment, calls functions of the
//! libraries before it, directly, through the table and through stubs, and traps now and then. A seed reproduces.

use std::fmt::Write;

use forerun_specialize::passes::prelink::{PrelinkBounds, prelink};
use proptest::prelude::*;
use wasmtime::component::Val;

use super::harness::{component, engine, merge, run};
use super::shim::SHIM;

/// Table entries of each library; there are as many functions.
const FUNCTIONS: u32 = 3;

/// A small generator of numbers, so that a component depends on its seed alone.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    /// SplitMix64.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, bound: u32) -> u32 {
        u32::try_from(self.next() % u64::from(bound)).unwrap()
    }
}

/// An expression with the value of an `i32`, in a function of library `library`.
fn expression(random: &mut Random, library: u32, depth: u32) -> String {
    let sub = |random: &mut Random| expression(random, library, depth + 1);
    // Deep ones end; libraries before this one are called, so every call ends.
    match random.below(if depth > 3 { 5 } else { 15 }) {
        0 => format!("(i32.const {})", random.next() as i32),
        1 => format!("(local.get {})", random.below(2)),
        2 => "(global.get $base)".to_owned(),
        3 => format!("(global.get $shared{})", random.below(2)),
        4 => "(global.get $own)".to_owned(),
        5 => format!("(i32.add {} {})", sub(random), sub(random)),
        6 => format!("(i32.xor {} {})", sub(random), sub(random)),
        7 => format!("(i32.rem_u {} {})", sub(random), sub(random)),
        8 => format!("(i32.load8_u offset={} (i32.and {} (i32.const 4095)))", random.below(64), sub(random)),
        9 => format!("(if (result i32) {} (then {}) (else {}))", sub(random), sub(random), sub(random)),
        10 => format!(
            "(block (result i32) (i32.store (i32.and {} (i32.const 4095)) {}) {})",
            sub(random),
            sub(random),
            sub(random)
        ),
        11 => format!("(block (result i32) (global.set $shared{} {}) {})", random.below(2), sub(random), sub(random)),
        12 if library > 0 => {
            let (of, function) = (random.below(library), random.below(FUNCTIONS));
            format!("(call $l{of}f{function} {} {})", sub(random), sub(random))
        }
        13 if library > 0 => {
            let (of, function) = (random.below(library), random.below(FUNCTIONS));
            format!("(call $stub{of}_{function} {} {})", sub(random), sub(random))
        }
        14 if library > 0 => {
            // One more than there are: sometimes nothing is there.
            let index = random.below(library * FUNCTIONS + 1);
            let index = if index == library * FUNCTIONS { 63 } else { index };
            format!("(call_indirect $t (type $op) {} {} (i32.const {index}))", sub(random), sub(random))
        }
        _ => format!("(i32.mul (local.get 1) (i32.const {}))", random.below(9)),
    }
}

/// An environment, some libraries and a last module that only passes on.
fn libraries(seed: u64) -> String {
    let random = &mut Random(seed);
    let count = 1 + random.below(4);
    let mut text = String::from("(component\n(core module $env (type $op (func (param i32 i32) (result i32)))\n");
    text += "(memory (export \"memory\") 1) (table $t (export \"table\") 64 funcref)\n";
    text += "(global (export \"shared0\") (mut i32) (i32.const 11)) (global (export \"shared1\") (mut i32) (i32.const 5))\n";
    for library in 0..count {
        let _ = writeln!(text, "(global (export \"base{library}\") i32 (i32.const {}))", 16 + library * 32);
        for function in 0..FUNCTIONS {
            let index = library * FUNCTIONS + function;
            let call = format!("(call_indirect $t (type $op) (local.get 0) (local.get 1) (i32.const {index}))");
            let _ = writeln!(text, "(func (export \"stub{library}_{function}\") (type $op) {call})");
        }
    }
    text += ")\n(core instance $env (instantiate $env))\n";
    let reset = random.below(3) == 0;
    for library in 0..count {
        text += &one_library(random, library, reset);
    }
    text += "(type $op (func (param \"x\" u32) (param \"y\" u32) (result u32)))\n";
    for function in 0..FUNCTIONS {
        let last = count - 1;
        let lift = format!("(canon lift (core func $l{last} \"f{function}\"))");
        let _ = writeln!(text, "(func (export \"f{function}\") (type $op) {lift})");
    }
    text + ")"
}

fn one_library(random: &mut Random, library: u32, writes_table: bool) -> String {
    let mut text = format!("(core module $l{library} (type $op (func (param i32 i32) (result i32)))\n");
    text += "(import \"env\" \"memory\" (memory 1)) (import \"env\" \"table\" (table $t 1 funcref))\n";
    let _ = writeln!(text, "(import \"env\" \"base{library}\" (global $base i32))");
    text += "(import \"env\" \"shared0\" (global $shared0 (mut i32)))";
    text += "(import \"env\" \"shared1\" (global $shared1 (mut i32)))\n";
    for before in 0..library {
        for function in 0..FUNCTIONS {
            let _ = writeln!(text, "(import \"l{before}\" \"f{function}\" (func $l{before}f{function} (type $op)))");
            let stub = format!("stub{before}_{function}");
            let _ = writeln!(text, "(import \"env\" \"{stub}\" (func ${stub} (type $op)))");
        }
    }
    let own = random.below(1000);
    let _ = writeln!(text, "(global $own i32 (i32.add (global.get $base) (i32.const {own})))");
    for function in 0..FUNCTIONS {
        let body = expression(random, library, 0);
        let _ = writeln!(text, "(func $f{function} (export \"f{function}\") (type $op) {body})");
    }
    let entries = random.below(FUNCTIONS + 1);
    let names: String = (0..entries).map(|function| format!(" $f{function}")).collect();
    let _ = writeln!(text, "(elem (table $t) (i32.const {}) func{names})", library * FUNCTIONS);
    let _ = writeln!(text, "(data (global.get $base) \"library {library}\")");
    if writes_table && library == 0 {
        // Whoever changes the table keeps every stub from being seen through.
        text += "(func (export \"write\") (table.set $t (i32.const 1) (ref.func $f0)))";
    }
    text += ")\n";
    let with: String = (0..library).map(|before| format!(" (with \"l{before}\" (instance $l{before}))")).collect();
    text + &format!("(core instance $l{library} (instantiate $l{library} (with \"env\" (instance $env)){with}))\n")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn linked_libraries_answer_as_before(seed: u64) {
        let bytes = component(&libraries(seed));
        let merged = merge(&bytes);
        prop_assert_eq!(merged.figures.modules.after, 1);
        prop_assert_eq!(&merged.bytes, &merge(&bytes).bytes);
        let random = &mut Random(seed ^ 1);
        for _ in 0..4 {
            let arguments: Vec<[Val; 2]> =
                (0..6).map(|_| [Val::U32(random.next() as u32), Val::U32(random.below(70))]).collect();
            let calls: Vec<_> =
                arguments.iter().zip(["f0", "f1", "f2", "f0", "f1", "f2"]).map(|(a, f)| (f, &a[..])).collect();
            let before = run(&bytes, &calls).unwrap();
            let after = run(&merged.bytes, &calls).unwrap();
            prop_assert!(before == after || before.ran_out_of_fuel(), "{:?}\n{:?}", before, after);
        }
    }

    /// Whatever the bytes, there is an answer; and what is merged all the same does the same.
    #[test]
    fn damaged_components_never_panic(
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        end: prop::sample::Index,
        cut in proptest::bool::weighted(0.1),
        which: u64,
    ) {
        let mut bytes = if which % 2 == 0 { component(SHIM) } else { component(&libraries(which)) };
        for (place, byte) in damage {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        if cut {
            bytes.truncate(end.index(bytes.len()));
        }
        if let Ok(merged) = prelink(&bytes, &PrelinkBounds::default()) {
            same_where_it_runs(&bytes, &merged.bytes)?;
        }
    }

    #[test]
    fn any_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(prelink(&bytes, &PrelinkBounds::default()).is_err());
        // Behind the header of a component.
        let headed = [&b"\0asm\x0d\0\x01\0"[..], &bytes].concat();
        prop_assert!(prelink(&headed, &PrelinkBounds::default()).is_err());
    }
}

/// A damaged component may ask for what the engine does not have; then there is nothing to compare.
fn same_where_it_runs(before: &[u8], after: &[u8]) -> Result<(), TestCaseError> {
    if wasmtime::component::Component::new(engine(), before).is_err() {
        return Ok(());
    }
    let arguments = [Val::U32(7), Val::U32(3)];
    let text = [Val::String("abc".to_owned())];
    let calls = [("f0", &arguments[..]), ("f1", &arguments), ("echo", &text), ("live", &[]), ("things", &[])];
    match (run(before, &calls), run(after, &calls)) {
        (Ok(before), Ok(after)) => {
            let fair = !before.ran_out_of_fuel() && !after.ran_out_of_fuel();
            prop_assert!(before == after || !fair, "{:?}\n{:?}", before, after);
        }
        (Err(_), Err(_)) => {}
        (before, after) => prop_assert!(false, "{before:?}\n{after:?}"),
    }
    Ok(())
}

/// Otherwise the test above would compare little.
#[test]
fn the_generator_makes_answers_traps_and_stubs_that_are_seen_through() {
    let (mut answers, mut traps, mut dropped) = (0, 0, 0);
    for seed in 0..30 {
        let bytes = component(&libraries(seed));
        let merged = merge(&bytes);
        dropped += merged.figures.functions.before - merged.figures.functions.after;
        for function in ["f0", "f1", "f2"] {
            let seen = run(&merged.bytes, &[(function, &[Val::U32(3), Val::U32(5)])]).unwrap();
            match &seen.calls.unwrap()[0] {
                Ok(_) => answers += 1,
                Err(_) => traps += 1,
            }
        }
    }
    assert!(answers > 30 && traps > 10 && dropped > 100, "{answers} answers, {traps} traps, {dropped} dropped");
}
