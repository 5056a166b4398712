//! What may not be split is refused by name, and hostile bytes never do more than that.

use std::collections::BTreeMap;
use std::fmt::Write;

use forerun_specialize::passes::body_hash::BodyHash;
use forerun_specialize::passes::split::{Known, SplitPlan, split};

use crate::everything::EVERYTHING;
use crate::seeds::{Numbers, for_seeds};

fn nothing_known() -> SplitPlan {
    SplitPlan::new(Known::ByIndex(BTreeMap::new()), 1)
}

fn hello(name: &str) -> Vec<u8> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/hello/components");
    std::fs::read(format!("{folder}/{name}.wasm")).unwrap()
}

const WORK: &str = r#"(func (export "work") (param i32) (result i32)
    (i32.add (local.get 0) (i32.add (i32.const 100000) (i32.const 200000))))"#;

#[test]
fn what_may_not_be_split_is_refused_by_name() {
    let one = |inner: &str| format!("(component (core module $m {WORK} {inner}) (core instance (instantiate $m)))");
    let cases: [(&str, String); 12] = [
        ("gc_types", one("(type (struct (field i32))) (func (result anyref) (ref.null any))")),
        ("gc_types", one("(type $f (func)) (func (param (ref $f)) (call_ref $f (local.get 0)))")),
        ("threads", one("(memory 1 1 shared)")),
        ("no_module", "(component)".into()),
        ("nested_modules", format!("(component (component (core module {WORK})))")),
        (
            "nested_modules",
            format!(
                "(component (core module $m {WORK}) (component (alias outer 1 $m (core module $n)) (core instance (instantiate $n))))"
            ),
        ),
        ("module_as_value", format!(r#"(component (core module $m {WORK}) (export "m" (core module $m)))"#)),
        ("module_as_value", r#"(component (import "m" (core module)))"#.into()),
        ("several_modules", format!("(component (core module {WORK}) (core module {WORK}) (core module {WORK}))")),
        ("instantiated_times", format!("(component (core module {WORK}))")),
        (
            "instantiated_times",
            format!(
                "(component (core module $m {WORK}) (core instance (instantiate $m)) (core instance (instantiate $m)))"
            ),
        ),
        ("name_taken", one(r#"(table (export "__cold") 1 funcref)"#)),
    ];
    for (name, wat) in cases {
        let bytes = wat::parse_str(&wat).unwrap_or_else(|error| panic!("{wat}: {error}"));
        let refusal = split(&bytes, &nothing_known()).expect_err(&wat);
        assert_eq!(refusal.name(), name, "{wat}: {refusal}");
        assert!(!refusal.to_string().is_empty());
    }
    assert_eq!(split(&hello("hello-p3"), &nothing_known()).unwrap_err().name(), "concurrency");
    for no_component in [&b""[..], b"#!/bin/sh", b"\0asm\x0d\0\x01\0\x01", &hello("hello")[..30_000]] {
        assert_eq!(split(no_component, &nothing_known()).unwrap_err().name(), "malformed");
    }
    assert_eq!(split(b"\0asm\x01\0\0\0", &nothing_known()).unwrap_err().name(), "no_module");
}

#[test]
fn a_plan_that_leaves_nothing_to_do_is_refused() {
    let hello = hello("hello");
    let all: BTreeMap<u32, u16> = (0..100_000).map(|function| (function, 1000)).collect();
    let refusal = split(&hello, &SplitPlan::new(Known::ByIndex(all), 1)).unwrap_err();
    assert_eq!(refusal.name(), "nothing_cold");
    let foreign = Known::ByBody(BTreeMap::from([(BodyHash([1; 16]), 1000)]));
    assert_eq!(split(&hello, &SplitPlan::new(foreign, 1)).unwrap_err().name(), "none_known");
}

#[test]
fn more_cold_functions_than_a_table_holds_are_refused() {
    let mut wat = String::from("(component (core module $m (func $f0)");
    for function in 10_000..70_001 {
        write!(wat, "(func (export \"{function}\") (result i32) (i32.add (i32.const 1000000) (i32.mul (i32.const {function}) (i32.const 9000000))))").unwrap();
    }
    wat += ") (core instance (instantiate $m)))";
    let refusal = split(&wat::parse_str(wat).unwrap(), &nothing_known()).unwrap_err();
    assert_eq!(refusal.name(), "too_many_slots");
}

#[test]
fn what_is_split_is_not_split_again() {
    let split_once = split(&wat::parse_str(EVERYTHING).unwrap(), &nothing_known()).unwrap();
    assert_eq!(split(&split_once.primary, &nothing_known()).unwrap_err().name(), "name_taken");
}

#[test]
fn torn_components_are_refused_or_split_but_never_panic() {
    let sources = [wat::parse_str(EVERYTHING).unwrap(), hello("hello")];
    for_seeds(400, |seed| {
        let mut numbers = Numbers::new(seed);
        let mut bytes = sources[usize::from(seed % 8 == 0)].clone();
        for _ in 0..1 + numbers.below(3) {
            let at = usize::try_from(numbers.below(bytes.len() as u64)).unwrap();
            bytes[at] = numbers.bytes(1)[0];
        }
        if numbers.below(4) == 0 {
            bytes.truncate(usize::try_from(numbers.below(bytes.len() as u64)).unwrap());
        }
        // Whatever comes of it: no panic, and nothing invalid is called a split.
        if let Err(refusal) = split(&bytes, &numbers.plan(60)) {
            assert_ne!(refusal.name(), "invalid_output", "seed {seed}: {refusal}");
        }
    });
}
