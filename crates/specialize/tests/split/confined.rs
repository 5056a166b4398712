//! What runs where the component may not be left, or before it is complete, is never cold.

use std::collections::BTreeMap;

use forerun_specialize::passes::split::{ConfinedCallees, Known, Split, SplitPlan, split};
use wasmtime::component::Val;

use crate::engine::Runnable;

/// A component whose function takes and gives a text: arguments are lowered by `alloc`, results freed by `done`.
/// `$way` is how `alloc` calls the function that does the work.
fn echo(way: &str) -> String {
    let component = r#"(component
      (core module $main
        (memory (export "memory") 1)
        (table funcref (elem $bump))
        (type $bump_type (func (param i32) (result i32)))
        (global $next (mut i32) (i32.const 1024))
        (global $allocations (export "allocations") (mut i32) (i32.const 0))
        (global $freed (export "freed") (mut i32) (i32.const 0))
        (func $bump (type $bump_type)
          (global.set $allocations (i32.add (global.get $allocations) (i32.const 1)))
          (global.get $next)
          (global.set $next (i32.add (global.get $next) (local.get 0))))
        (func (export "alloc") (param i32 i32 i32 i32) (result i32)
          (drop (i32.add (local.get 0) (i32.add (local.get 1) (local.get 2))))
          (local.get 3) $way)
        (func $note (param i32)
          (global.set $freed (i32.add (global.get $freed) (i32.load offset=4 (local.get 0)))))
        (func (export "done") (param i32)
          (drop (i32.add (local.get 0) (i32.add (i32.const 100000) (i32.const 200000))))
          (call $note (local.get 0)))
        (func (export "echo") (param i32 i32) (result i32)
          (i32.store (i32.const 16) (local.get 0))
          (i32.store (i32.const 20) (local.get 1))
          (i32.const 16)))
      (core instance $main (instantiate $main))
      (func (export "echo") (param "text" string) (result string)
        (canon lift (core func $main "echo") (memory $main "memory") (realloc (func $main "alloc"))
          (post-return (func $main "done")))))"#;
    component.replace("$way", way)
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn all_cold(source: &[u8]) -> Split {
    split(source, &SplitPlan::new(Known::ByIndex(BTreeMap::new()), 1)).unwrap()
}

#[test]
fn what_lowers_arguments_and_frees_results_stays_with_all_that_it_calls() {
    let source = wat::parse_str(echo("(call $bump)")).unwrap();
    let exports = names(&["memory", "allocations", "freed", "alloc", "done"]);
    let split = all_cold(&source);
    assert_eq!((split.report.pins, split.report.pinned, split.report.cold), (2, 4, 1), "{:?}", split.report);
    let text = Val::String("a text that is passed in and out".into());
    let (expected, _) = Runnable::whole(&source, &exports).call("echo", std::slice::from_ref(&text));
    let (seen, misses) = Runnable::split(&split, &exports).call("echo", &[text]);
    assert_eq!(expected, seen);
    assert_eq!(
        (misses.len(), seen.state["allocations"].as_str(), seen.state["freed"].as_str()),
        (1, "I32(1)", "I32(32)")
    );
}

/// Why the others are pinned, and what is left to the comparison before publishing: who is called through a table is
/// not known.
#[test]
fn a_call_through_a_table_from_there_is_counted_and_traps() {
    let source = wat::parse_str(echo("(call_indirect (type $bump_type) (i32.const 0))")).unwrap();
    let split = all_cold(&source);
    assert_eq!((split.report.pinned, split.report.pinned_indirect_calls), (3, 1), "{:?}", split.report);
    let exports = names(&["memory", "allocations"]);
    let (seen, _) = Runnable::split(&split, &exports).call("echo", &[Val::String("text".into())]);
    assert_eq!(seen.result, Err("wasm trap: cannot leave component instance".to_owned()));
}

/// With less pinned, what was not seen to run there traps, and what was is hot.
#[test]
fn only_what_was_seen_may_be_kept_beside_confined_functions() {
    let source = wat::parse_str(echo("(call $bump)")).unwrap();
    let exports = names(&["memory", "allocations"]);
    let text = || [Val::String("text".into())];
    let with = |known: BTreeMap<u32, u16>| {
        let mut plan = SplitPlan::new(Known::ByIndex(known), 1);
        plan.confined_callees = ConfinedCallees::Observed;
        split(&source, &plan).unwrap()
    };
    let unseen = with(BTreeMap::new());
    assert_eq!((unseen.report.pinned, unseen.report.cold), (2, 2), "{:?}", unseen.report);
    let (seen, _) = Runnable::split(&unseen, &exports).call("echo", &text());
    assert_eq!(seen.result, Err("wasm trap: cannot leave component instance".to_owned()));
    // `$bump`.
    let observed = with(BTreeMap::from([(0, 1000)]));
    assert_eq!((observed.report.pinned, observed.report.probable, observed.report.cold), (2, 1, 1));
    let (expected, _) = Runnable::whole(&source, &exports).call("echo", &text());
    assert_eq!(Runnable::split(&observed, &exports).call("echo", &text()).0, expected);
}

#[test]
fn a_destructor_stays_with_all_that_it_calls() {
    let source = wat::parse_str(
        r#"(component
          (core module $main
            (global $dropped (export "dropped") (mut i32) (i32.const 0))
            (func $note (param i32)
              (global.set $dropped (i32.add (global.get $dropped) (i32.mul (local.get 0) (i32.const 1000)))))
            (func (export "gone") (param i32)
              (drop (i32.add (local.get 0) (i32.add (i32.const 100000) (i32.const 200000))))
              (call $note (local.get 0)))
            (func (export "other") (param i32) (result i32)
              (i32.add (local.get 0) (i32.mul (local.get 0) (i32.add (i32.const 100000) (i32.const 200000))))))
          (core instance $main (instantiate $main))
          (type $thing' (resource (rep i32) (dtor (func $main "gone"))))
          (export $thing "thing" (type $thing'))
          (core func $new (canon resource.new $thing'))
          (core module $maker
            (import "" "new" (func $new (param i32) (result i32)))
            (func (export "make") (result i32) (call $new (i32.const 5))))
          (core instance $maker (instantiate $maker (with "" (instance (export "new" (func $new))))))
          (func (export "make") (result (own $thing)) (canon lift (core func $maker "make")))
          (func (export "other") (param "x" u32) (result u32) (canon lift (core func $main "other"))))"#,
    )
    .unwrap();
    let split = all_cold(&source);
    assert_eq!((split.report.pinned, split.report.cold), (2, 1), "{:?}", split.report);
    let runnable = Runnable::split(&split, &names(&["dropped"]));
    let mut store = runnable.store();
    let instance = runnable.instantiate(&mut store).unwrap();
    let make = instance.get_func(&mut store, "make").unwrap();
    let mut results = [Val::Bool(false)];
    make.call(&mut store, &[], &mut results).unwrap();
    let [Val::Resource(thing)] = results else { panic!("{results:?}") };
    thing.resource_drop(&mut store).unwrap();
    assert_eq!(runnable.state(&mut store)["dropped"], "I32(5000)");
    assert!(store.data().misses.is_empty());
}

#[test]
fn what_runs_before_the_component_is_complete_stays() {
    let by_start = ("(start $set_up)", "");
    let by_another = (
        r#"(export "set-up" (func $set_up))"#,
        r#"(core module $starter (import "main" "set-up" (func $f)) (start $f))
           (core instance (instantiate $starter (with "main" (instance $main))))"#,
    );
    for (in_module, in_component) in [by_start, by_another] {
        let source = wat::parse_str(format!(
            r#"(component
              (core module $main
                (global $ready (export "ready") (mut i32) (i32.const 0))
                (func $really (global.set $ready (i32.add (i32.mul (global.get $ready) (i32.const 7)) (i32.const 3))))
                (func $set_up (call $really) (call $really) (call $really) (call $really) (call $really))
                {in_module}
                (func (export "get") (result i32) (i32.add (i32.const 900000) (i32.mul (global.get $ready) (i32.mul (i32.const 3) (i32.const 70000))))))
              (core instance $main (instantiate $main))
              {in_component}
              (func (export "get") (result u32) (canon lift (core func $main "get"))))"#
        ))
        .unwrap();
        let split = all_cold(&source);
        assert_eq!((split.report.pinned, split.report.cold), (2, 1), "{in_component}: {:?}", split.report);
        let exports = names(&["ready"]);
        let (expected, _) = Runnable::whole(&source, &exports).call("get", &[]);
        let (seen, misses) = Runnable::split(&split, &exports).call("get", &[]);
        assert_eq!(expected, seen);
        assert!(expected.result.is_ok());
        assert_eq!(misses.len(), 1);
    }
}
