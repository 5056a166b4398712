//! Cold code that is called where the component may not be left is loaded as well; what runs before the component is
//! complete is never cold.

use std::collections::BTreeMap;

use forerun_specialize::passes::split::{Known, Split, SplitPlan, split};
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
          (drop (i32.add (local.get 0) (i32.add (i32.const 100000) (i32.const 200000))))
          (global.set $allocations (i32.add (global.get $allocations) (i32.const 1)))
          (global.get $next)
          (global.set $next (i32.add (global.get $next) (local.get 0))))
        (func (export "alloc") (param i32 i32 i32 i32) (result i32)
          (drop (i32.add (local.get 0) (i32.add (local.get 1) (local.get 2))))
          (local.get 3) $way)
        (func $note (param i32)
          (drop (i32.add (local.get 0) (i32.add (i32.const 100000) (i32.const 200000))))
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

/// Everything that may be is cold, and has a group of its own.
fn all_cold(source: &[u8]) -> Split {
    let mut plan = SplitPlan::new(Known::ByIndex(BTreeMap::new()), 1);
    plan.group_functions_max = 1;
    split(source, &plan).unwrap()
}

/// By a call and through a table, where `$bump` has a slot and an entry; what frees the result is cold, too.
#[test]
fn what_is_called_while_arguments_are_lowered_and_results_freed_is_loaded() {
    for way in ["(call $bump)", "(call_indirect (type $bump_type) (i32.const 0))"] {
        let source = wat::parse_str(echo(way)).unwrap();
        let exports = names(&["memory", "allocations", "freed", "alloc", "done"]);
        let split = all_cold(&source);
        assert_eq!((split.report.pins, split.report.pinned, split.report.cold), (2, 2, 3), "{:?}", split.report);
        let text = Val::String("a text that is passed in and out".into());
        let (expected, _) = Runnable::whole(&source, &exports).call("echo", std::slice::from_ref(&text));
        let runnable = Runnable::split(&split, &exports);
        let mut store = runnable.store();
        let result = runnable.try_call(&mut store, "echo", &[text]);
        assert_eq!(expected.result.as_ref(), result.as_ref().map_err(|error| panic!("{error:#}")));
        let state = runnable.state(&mut store);
        assert_eq!(expected.state, state, "{way}");
        assert_eq!((state["allocations"].as_str(), state["freed"].as_str()), ("I32(1)", "I32(32)"));
        assert_eq!(store.data().misses.len(), 3, "{way}: {:?}", store.data().misses);
    }
}

/// The same function on both ways: from a request and from an allocation.
#[test]
fn what_was_loaded_where_nobody_may_leave_is_there_for_all() {
    let source = wat::parse_str(
        r#"(component
          (core module $main
            (memory (export "memory") 1)
            (global $calls (export "calls") (mut i32) (i32.const 0))
            (func $first
              (drop (i32.add (i32.const 100000) (i32.const 200000)))
              (global.set $calls (i32.add (global.get $calls) (i32.mul (i32.const 1) (i32.const 100000)))))
            (func $second
              (drop (i32.add (i32.const 100000) (i32.const 200000)))
              (global.set $calls (i32.add (global.get $calls) (i32.mul (i32.const 3) (i32.const 200000)))))
            (func $alloc (export "alloc") (param i32 i32 i32 i32) (result i32) (call $first) (i32.const 1024))
            (func (export "take") (param i32 i32) (call $second)
              (drop (call $alloc (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 100000)))))
          (core instance $main (instantiate $main))
          (func (export "take") (param "text" string)
            (canon lift (core func $main "take") (memory $main "memory") (realloc (func $main "alloc")))))"#,
    )
    .unwrap();
    let split = all_cold(&source);
    let runnable = Runnable::split(&split, &names(&["calls"]));
    let mut store = runnable.store();
    runnable.try_call(&mut store, "take", &[Val::String("text".into())]).unwrap();
    assert_eq!(runnable.state(&mut store)["calls"], "I32(800000)");
    // `$first` in an allocation, `take` and `$second` in the call.
    assert_eq!(store.data().misses.len(), 3, "{:?}", store.data().misses);
}

/// A table of the guest's own that cannot grow is no question.
#[test]
fn a_guests_own_full_table_asks_for_nothing() {
    let source = wat::parse_str(
        r#"(component
          (core module $main
            (table $full 2 2 funcref)
            (global $grown (export "grown") (mut i32) (i32.const 0))
            (func $grow (param i32)
              (global.set $grown (i32.add (i32.mul (global.get $grown) (i32.const 100000))
                (table.grow $full (ref.null func) (local.get 0)))))
            (func $far (param i32) (call $grow (i32.add (local.get 0) (i32.mul (local.get 0) (i32.const 3)))))
            (func (export "run") (result i32) (local $turns i32)
              (call $grow (i32.const 1)) (call $grow (i32.const 77)) (call $far (i32.const 1))
              (loop $turn
                (local.set $turns (i32.add (local.get $turns) (i32.const 1)))
                (br_if $turn (i32.lt_u (local.get $turns) (i32.const 30000000))))
              (global.get $grown)))
          (core instance $main (instantiate $main))
          (func (export "run") (result u32) (canon lift (core func $main "run"))))"#,
    )
    .unwrap();
    let split = all_cold(&source);
    assert_eq!(split.report.slots, 2, "as large as the guest's own table: {:?}", split.report);
    let exports = names(&["grown"]);
    let (expected, _) = Runnable::whole(&source, &exports).call("run", &[]);
    let (seen, misses) = Runnable::split(&split, &exports).call("run", &[]);
    assert_eq!(expected, seen, "{misses:?}");
    assert!(expected.result.is_ok(), "{expected:?}");
}

#[test]
fn what_a_destructor_calls_is_loaded() {
    let source = wat::parse_str(
        r#"(component
          (core module $main
            (global $dropped (export "dropped") (mut i32) (i32.const 0))
            (func $note (param i32)
              (drop (i32.add (local.get 0) (i32.add (i32.const 100000) (i32.const 200000))))
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
    assert_eq!((split.report.pinned, split.report.cold), (1, 2), "{:?}", split.report);
    let runnable = Runnable::split(&split, &names(&["dropped"]));
    let mut store = runnable.store();
    let instance = runnable.instantiate(&mut store).unwrap();
    let make = instance.get_func(&mut store, "make").unwrap();
    let mut results = [Val::Bool(false)];
    make.call(&mut store, &[], &mut results).unwrap();
    let [Val::Resource(thing)] = results else { panic!("{results:?}") };
    thing.resource_drop(&mut store).unwrap();
    assert_eq!(runnable.state(&mut store)["dropped"], "I32(5000)");
    assert_eq!(store.data().misses.len(), 1, "{:?}", store.data().misses);
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
