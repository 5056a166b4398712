//! The pass `interrupt` on the real engine: what runs for ever is stopped, and what does not answers as before.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use forerun_specialize::passes::interrupt::{Checked, add_checks};
use support::component;
use support::interrupted::{Asked, Interrupted};

/// A component of one core module with `contents`, which exports `f: func() -> u32`.
fn with_f(contents: &str) -> String {
    format!(
        r#"(component (core module $m {contents}) (core instance $i (instantiate $m))
            (func (export "f") (result u32) (canon lift (core func $i "f"))))"#
    )
}

fn checked(text: &str) -> Checked {
    add_checks(&component(text)).unwrap()
}

/// Code that without checks would run for longer than anyone waits.
const ENDLESS: &[(&str, &str)] = &[
    ("a loop", r#"(func (export "f") (result i32) (loop (br 0)) (i32.const 1))"#),
    (
        "a loop that gives a value",
        r#"(func (export "f") (result i32) (i32.const 7) (loop (param i32) (result i32) (br 0)))"#,
    ),
    (
        "functions that call each other through a table, twice each",
        r#"(table 2 funcref) (elem (i32.const 0) $a $b) (type $t (func (param i32)))
           (func $a (type $t) (if (local.get 0) (then
              (call_indirect (type $t) (i32.sub (local.get 0) (i32.const 1)) (i32.const 1))
              (call_indirect (type $t) (i32.sub (local.get 0) (i32.const 1)) (i32.const 1)))))
           (func $b (type $t) (if (local.get 0) (then
              (call_indirect (type $t) (i32.sub (local.get 0) (i32.const 1)) (i32.const 0))
              (call_indirect (type $t) (i32.sub (local.get 0) (i32.const 1)) (i32.const 0)))))
           (func (export "f") (result i32)
              (call_indirect (type $t) (i32.const 60) (i32.const 0)) (i32.const 1))"#,
    ),
    (
        "a function that calls itself twice",
        r#"(func $f (param i32) (if (local.get 0) (then
              (call $f (i32.sub (local.get 0) (i32.const 1)))
              (call $f (i32.sub (local.get 0) (i32.const 1))))))
           (func (export "f") (result i32) (call $f (i32.const 60)) (i32.const 1))"#,
    ),
    (
        "three functions in a circle, one of them twice",
        r#"(func $a (param i32) (if (local.get 0) (then
              (call $b (i32.sub (local.get 0) (i32.const 1)))
              (call $b (i32.sub (local.get 0) (i32.const 1))))))
           (func $b (param i32) (call $c (local.get 0)))
           (func $c (param i32) (call $a (local.get 0)))
           (func (export "f") (result i32) (call $a (i32.const 60)) (i32.const 1))"#,
    ),
    (
        "a function that becomes itself",
        r#"(func $f (result i32) (return_call $f)) (func (export "f") (result i32) (call $f))"#,
    ),
    (
        "two functions that become each other",
        r#"(func $a (result i32) (return_call $b)) (func $b (result i32) (return_call $a))
           (func (export "f") (result i32) (call $a))"#,
    ),
    (
        "a function that becomes itself through a table",
        r#"(table 1 funcref) (elem (i32.const 0) $f) (type $t (func (result i32)))
           (func $f (export "f") (result i32) (return_call_indirect (type $t) (i32.const 0)))"#,
    ),
];

/// Each of 60 functions calls the next one twice.
fn doubling(call: &str) -> String {
    let mut text = String::new();
    for number in 0..60 {
        text += &format!("(func $f{number} (call $f{next}) ({call} $f{next}))\n", next = number + 1);
    }
    text + r#"(func $f60) (func (export "f") (result i32) (call $f0) (i32.const 1))"#
}

#[test]
fn what_runs_for_ever_is_stopped_while_the_flag_is_up() {
    for (what, contents) in ENDLESS {
        let mut vm = Interrupted::new(&checked(&with_f(contents)).component, Asked::Stop);
        let error = vm.number("f").unwrap_err();
        assert!(format!("{error:?}").contains("stopped"), "{what}: {error:?}");
        assert_eq!(vm.times(), 1, "{what}");
    }
}

#[test]
fn calls_that_double_are_stopped_though_nothing_repeats() {
    for call in ["call", "return_call"] {
        let checked = checked(&with_f(&doubling(call)));
        assert_eq!((checked.loops, checked.indirect, checked.circles), (0, 0, 0));
        assert!(checked.stretches > 0);
        let error = Interrupted::new(&checked.component, Asked::Stop).number("f").unwrap_err();
        assert!(format!("{error:?}").contains("stopped"), "{error:?}");
    }
}

#[test]
fn a_host_that_lowers_the_flag_is_not_asked_any_more() {
    let text = with_f(
        r#"(func (export "f") (result i32) (local i32)
        (loop (br_if 0 (i32.lt_u (local.tee 0 (i32.add (local.get 0) (i32.const 1))) (i32.const 10)))) (local.get 0))"#,
    );
    let mut vm = Interrupted::new(&checked(&text).component, Asked::Yield);
    assert_eq!((vm.number("f").unwrap(), vm.times(), vm.flag(0).0), (10, 10, 1));
    vm.set_flag(0, 0);
    assert_eq!((vm.number("f").unwrap(), vm.times(), vm.flag(0).0), (10, 10, 0));
    vm.set_flag(0, 1);
    assert_eq!((vm.number("f").unwrap(), vm.times(), vm.flag(0).0), (10, 20, 1));
}
