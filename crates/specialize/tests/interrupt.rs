//! The pass `interrupt` on the real engine: what runs for ever is stopped, and what does not answers as before.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use forerun_specialize::passes::Unsupported;
use forerun_specialize::passes::interrupt::{
    Checked, INTERRUPT_INTERFACE, InterruptRefusal, MEMORIES_PER_MODULE_MAX, MODULES_MAX, add_checks,
};
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

fn refusal(text: &str) -> InterruptRefusal {
    add_checks(&component(text)).map(|checked| checked.modules).unwrap_err()
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

#[test]
fn a_start_function_is_stopped_before_its_host_knows_the_flag() {
    let text = r#"(component (core module $m (func $f (loop (br 0))) (start $f)) (core instance (instantiate $m)))"#;
    let error = Interrupted::started(&checked(text).component, Asked::Stop).map(|_| ()).unwrap_err();
    assert!(format!("{error:?}").contains("stopped"), "{error:?}");
}

#[test]
fn code_that_was_made_to_wait_can_be_stopped_later() {
    let text = with_f(r#"(func (export "f") (result i32) (loop (br 0)) (i32.const 1))"#);
    let mut vm = Interrupted::new(&checked(&text).component, Asked::StopAfter(100));
    vm.number("f").unwrap_err();
    assert_eq!(vm.times(), 100);
}

#[test]
fn each_module_has_its_own_flag_and_no_memory_changes_its_number() {
    let checked = checked(
        r#"
(component
  (core module $library
    (memory (export "memory") 1)
    (data $kept "\07") (data (i32.const 8) "\05")
    (func (export "wait") (param i32)
      (loop (br_if 0 (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))
      (memory.init $kept (i32.const 9) (i32.const 0) (i32.const 1)) (data.drop $kept)))
  (core module $none (func (export "nothing")))
  (core module $main
    (import "library" "memory" (memory 1)) (import "library" "wait" (func $wait (param i32)))
    (memory 1) (data (memory 1) (i32.const 0) "\03")
    (func (export "f") (result i32)
      (local i32)
      (call $wait (i32.const 3))
      (local.set 0 (i32.const 5))
      (loop (br_if 0 (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))
      (i32.add (i32.load16_u (i32.const 8)) (i32.load8_u 1 (i32.const 0)))))
  (core instance $l (instantiate $library))
  (core instance (instantiate $none))
  (core instance $m (instantiate $main (with "library" (instance $l))))
  (func (export "f") (result u32) (canon lift (core func $m "f"))))
"#,
    );
    assert_eq!((checked.modules, checked.loops), (2, 2));
    for (lowered, asked) in [(vec![], 8), (vec![0], 5), (vec![1], 3), (vec![0, 1], 0)] {
        let mut vm = Interrupted::new(&checked.component, Asked::Yield);
        for number in lowered {
            vm.set_flag(number, 0);
        }
        assert_eq!((vm.number("f").unwrap(), vm.times()), (0x0705 + 3, asked));
    }
}

#[test]
fn hints_that_were_there_give_way_and_the_new_ones_are_understood() {
    let text = with_f(
        r#"(func (export "f") (result i32) (local i32)
            (loop (@metadata.code.branch_hint "\01")
              (br_if 0 (local.tee 0 (i32.xor (local.get 0) (i32.const 1)))))
            (local.get 0))"#,
    );
    let checked = checked(&text);
    let hints = hints(&checked.component);
    assert_eq!(hints.len(), 1, "{hints:?}");
    let (function, operator, taken) = &hints[0];
    assert_eq!((*function, operator.as_str(), *taken), (0, "If { blockty: Empty }", false));
    assert_eq!(Interrupted::new(&checked.component, Asked::Yield).number("f").unwrap(), 0);
}

/// Of each hint in a component the function, the operator that it is for, and whether that is likely.
fn hints(component: &[u8]) -> Vec<(u32, String, bool)> {
    let mut read = Vec::new();
    let mut bodies = Vec::new();
    for payload in wasmparser::Parser::new(0).parse_all(component) {
        match payload.unwrap() {
            wasmparser::Payload::CustomSection(custom) => {
                if let wasmparser::KnownCustom::BranchHints(functions) = custom.as_known() {
                    read.extend(functions.into_iter().map(Result::unwrap));
                }
            }
            wasmparser::Payload::CodeSectionEntry(body) => bodies.push(body),
            _ => {}
        }
    }
    let mut hints = Vec::new();
    for function in read {
        let body = &bodies[function.func as usize];
        for hint in function.hints {
            let hint = hint.unwrap();
            let at = body.range().start + hint.func_offset as usize;
            let mut operators = body.get_operators_reader().unwrap().into_iter_with_offsets().map(Result::unwrap);
            let (operator, _) = operators.find(|(_, offset)| *offset == at).expect("it is for an operator");
            hints.push((function.func, format!("{operator:?}"), hint.taken));
        }
    }
    hints
}

#[test]
fn calls_by_reference_and_caught_exceptions_have_checks() {
    let checked = checked(
        r#"(component (core module $m
            (type $t (func)) (tag $e) (elem declare func $f)
            (func $f (call_ref $t (ref.func $f)))
            (func (return_call_ref $t (ref.func $f)))
            (func (block (try_table (catch $e 0) (throw $e))) (nop))) (core instance (instantiate $m)))"#,
    );
    // Before the first call by reference and what was caught is followed by something.
    assert_eq!((checked.indirect, checked.stretches), (2, 2));
}

#[test]
fn the_same_bytes_make_the_same_bytes() {
    let source = component(&with_f(ENDLESS[2].1));
    assert_eq!(add_checks(&source), add_checks(&source));
}

#[test]
fn what_ends_soon_or_never_runs_is_left_alone() {
    for contents in [
        r#"(func $g (nop)) (func (export "f") (result i32) (call $g) (call $g) (i32.const 1))"#,
        r#"(func (export "f") (result i32) (if (result i32) (i32.const 0) (then (i32.const 1)) (else (i32.const 2))))"#,
    ] {
        assert_eq!(refusal(&with_f(contents)), InterruptRefusal::NothingToCheck);
    }
    let refused = refusal("(component (core module (func (loop (br 0)))))");
    assert_eq!((refused.name(), refused), ("nothing-to-check", InterruptRefusal::NothingToCheck));
}

/// A component of `modules` core modules with `contents` and a loop.
fn with_loops(modules: usize, contents: &str) -> String {
    let of = |number| {
        format!("(core module $m{number} {contents} (func (loop (br 0)))) (core instance (instantiate $m{number}))")
    };
    format!("(component {})", (0..modules).map(of).collect::<String>())
}

#[test]
fn what_cannot_have_checks_is_refused_by_name() {
    let names = |text: &str| refusal(text).name();
    let most = MEMORIES_PER_MODULE_MAX as usize;
    assert_eq!(checked(&with_loops(MODULES_MAX, &"(memory 1)".repeat(most - 1))).modules, MODULES_MAX);
    assert_eq!(names(&with_loops(MODULES_MAX + 1, "")), "too-many-modules");
    assert_eq!(names(&with_loops(1, &"(memory 1)".repeat(most))), "too-many-memories");
    assert_eq!(names(&with_loops(1, r#"(memory (export "forerun:flag") 1)"#)), "name-taken");
    let twice = r#"(component (core module $m (func (loop (br 0))))
        (core instance (instantiate $m)) (core instance (instantiate $m)))"#;
    assert_eq!(names(twice), "instantiated-twice");
    assert_eq!(add_checks(b"no component").unwrap_err().name(), "not-a-component");
}

#[test]
fn checks_are_not_added_twice() {
    let once = checked(&with_loops(1, "")).component;
    let refused = add_checks(&once).unwrap_err();
    assert_eq!(refused, InterruptRefusal::Unsupported(Unsupported::NameTaken { name: INTERRUPT_INTERFACE }));
}

/// Generated modules: with checks they answer as without, whatever the flag says.
mod generated {
    use proptest::prelude::*;

    use super::support::generated::{State, answers, module, wrap};
    use super::support::{Vm, engine};
    use super::*;

    fn asked_answer(vm: &mut Interrupted, which: u8, x: i64) -> Option<u64> {
        match which % 3 {
            0 => vm.call::<(i32,), (i32,)>("a", (x as i32,)).map(|(y,)| y as u64).ok(),
            1 => vm.call::<(i64,), (i64,)>("b", (x,)).map(|(y,)| y as u64).ok(),
            _ => vm.call::<(f64,), (f32,)>("c", (x as f64,)).map(|(y,)| u64::from(y.to_bits())).ok(),
        }
    }

    /// False if the seed makes nothing that is compared.
    fn check(seed: &[u8], calls: &[(u8, i64)]) -> bool {
        let Some(module) = module(seed, State::MemoryAndTable) else { return false };
        let source = wrap(&module, "", "", "");
        let checked = match add_checks(&source) {
            Ok(checked) => checked,
            Err(InterruptRefusal::NothingToCheck) => return false,
            Err(other) => panic!("{other}"),
        };
        let Ok(mut original) = Vm::started(&engine(), &source) else {
            assert!(Interrupted::started(&checked.component, Asked::Yield).is_err(), "it does not start either");
            return false;
        };
        let expected = answers(&mut original, calls);
        for is_up in [true, false] {
            let mut vm = Interrupted::new(&checked.component, Asked::Yield);
            vm.set_flag(0, u8::from(is_up));
            let before = vm.times();
            for ((which, x), expected) in calls.iter().zip(&expected) {
                assert_eq!(asked_answer(&mut vm, *which, *x), *expected, "flag up: {is_up}");
            }
            assert!(is_up || vm.times() == before, "nobody asks while the flag is down");
        }
        true
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, max_shrink_iters: 100, ..ProptestConfig::default() })]

        #[test]
        fn with_checks_it_answers_the_same(
            seed in proptest::collection::vec(any::<u8>(), 200..3_000),
            calls in proptest::collection::vec(any::<(u8, i64)>(), 1..5),
        ) {
            prop_assume!(check(&seed, &calls));
        }

        #[test]
        fn bytes_that_a_stranger_changed_are_refused_or_taken_and_never_panic(
            at in any::<prop::sample::Index>(),
            byte in any::<u8>(),
        ) {
            let mut bytes = component(&with_f(ENDLESS[2].1));
            let at = at.index(bytes.len());
            bytes[at] = byte;
            let _ = add_checks(&bytes);
        }
    }
}
