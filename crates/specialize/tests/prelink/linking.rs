//! Small components with everything that core modules share: functions, globals, tables, memories, segments.

use forerun_specialize::passes::prelink::PrelinkFigures;
use wasmtime::component::Val::U32;

use super::harness::{component, merge, run, same};

fn before_after(figures: &PrelinkFigures) -> [(u64, u64); 4] {
    let of = [figures.modules, figures.core_instances, figures.functions, figures.globals];
    of.map(|one| (one.before, one.after))
}

const TWO: &str = r#"(component
    (core module $a
        (global $base (export "base") i32 (i32.const 40))
        (global $count (export "count") (mut i32) (i32.const 0))
        (func (export "add") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1)))
        (func $unused (export "unused") (result i32) (global.set $count (i32.const 99)) (i32.const 1)))
    (core module $b
        (import "a" "add" (func $add (param i32 i32) (result i32)))
        (import "a" "base" (global $base i32))
        (import "a" "count" (global $count (mut i32)))
        (global $twice i32 (i32.add (global.get $base) (global.get $base)))
        (func (export "run") (param i32) (result i32)
            (global.set $count (i32.add (global.get $count) (i32.const 1)))
            (call $add (call $add (local.get 0) (global.get $twice)) (global.get $count))))
    (core instance $a (instantiate $a))
    (core instance $b (instantiate $b (with "a" (instance $a))))
    (func (export "run") (param "x" u32) (result u32) (canon lift (core func $b "run"))))"#;

#[test]
fn imports_become_direct_calls_and_constants() {
    let (merged, seen) = same(TWO, &[("run", &[U32(1)]), ("run", &[U32(1)]), ("run", &[U32(u32::MAX)])]);
    assert_eq!(seen.calls.unwrap()[1], Ok(vec!["U32(83)".to_owned()]));
    // `unused` is gone, and with `base` and `twice` two globals are constants.
    assert_eq!(before_after(&merged.figures), [(2, 1), (2, 1), (3, 2), (3, 1)]);
}

#[test]
fn the_same_bytes_twice() {
    let bytes = component(TWO);
    assert_eq!(merge(&bytes).bytes, merge(&bytes).bytes);
}

#[test]
fn a_global_that_only_dead_code_sets_is_a_constant() {
    let wat = r#"(component
        (core module $a
            (global $g (export "g") (mut i32) (i32.const 5))
            (func (export "relocate") (global.set $g (i32.const 6))))
        (core module $b
            (import "a" "g" (global $g (mut i32)))
            (func (export "run") (result i32) (global.get $g)))
        (core instance $a (instantiate $a))
        (core instance $b (instantiate $b (with "a" (instance $a))))
        (func (export "run") (result u32) (canon lift (core func $b "run"))))"#;
    let (merged, seen) = same(wat, &[("run", &[])]);
    assert_eq!(seen.calls.unwrap(), [Ok(vec!["U32(5)".to_owned()])]);
    assert_eq!(merged.figures.globals.after, 0);
}

/// Like the libraries of a Python component: an environment with stubs, a library that fills its part of the table.
#[test]
fn stubs_tables_and_segments_at_relocated_places() {
    let wat = r#"(component
        (core module $env
            (type $op (func (param i32) (result i32)))
            (memory (export "memory") 1)
            (table $t (export "table") 8 funcref)
            (global (export "memory_base") i32 (i32.const 64))
            (global (export "table_base") i32 (i32.const 3))
            (func (export "double") (param i32) (result i32)
                (call_indirect $t (type $op) (local.get 0) (i32.const 3)))
            (func (export "missing") (param i32) (result i32)
                (call_indirect $t (type $op) (local.get 0) (i32.const 7)))
            (func (export "wrong") (param i32) (result i32)
                (call_indirect $t (type $op) (local.get 0) (i32.const 4))))
        (core module $lib
            (import "env" "memory" (memory 1))
            (import "env" "table" (table $t 8 funcref))
            (import "env" "memory_base" (global $memory i32))
            (import "env" "table_base" (global $table i32))
            (func $double (param i32) (result i32) (i32.mul (local.get 0) (i32.const 2)))
            (func $none)
            (elem (table $t) (global.get $table) func $double $none)
            (data (global.get $memory) "\07\00\00\00")
            (data (i32.add (global.get $memory) (i32.const 4)) "\09\00\00\00")
            (func (export "load") (param i32) (result i32)
                (i32.load (i32.add (global.get $memory) (local.get 0)))))
        (core module $main
            (type $op (func (param i32) (result i32)))
            (import "env" "double" (func $double (type $op)))
            (import "env" "missing" (func $missing (type $op)))
            (import "env" "wrong" (func $wrong (type $op)))
            (import "env" "table" (table $t 8 funcref))
            (import "lib" "load" (func $load (type $op)))
            (export "load" (func $load))
            (func (export "double") (type $op) (call $double (local.get 0)))
            (func (export "missing") (type $op) (call $missing (local.get 0)))
            (func (export "wrong") (type $op) (call $wrong (local.get 0)))
            (func (export "dynamic") (type $op) (call_indirect $t (type $op) (i32.const 21) (local.get 0))))
        (core instance $env (instantiate $env))
        (core instance $lib (instantiate $lib (with "env" (instance $env))))
        (core instance $main (instantiate $main (with "env" (instance $env)) (with "lib" (instance $lib))))
        (type $op (func (param "x" u32) (result u32)))
        (func (export "load") (type $op) (canon lift (core func $main "load")))
        (func (export "double") (type $op) (canon lift (core func $main "double")))
        (func (export "missing") (type $op) (canon lift (core func $main "missing")))
        (func (export "wrong") (type $op) (canon lift (core func $main "wrong")))
        (func (export "dynamic") (type $op) (canon lift (core func $main "dynamic"))))"#;
    let (merged, seen) =
        same(wat, &[("load", &[U32(0)]), ("load", &[U32(4)]), ("double", &[U32(4)]), ("dynamic", &[U32(3)])]);
    let values: Vec<_> = seen.calls.unwrap().into_iter().map(|call| call.unwrap().concat()).collect();
    assert_eq!(values, ["U32(7)", "U32(9)", "U32(8)", "U32(42)"]);
    // The stub `double` is seen through: of ten functions one is gone.
    assert_eq!(before_after(&merged.figures)[2], (10, 9));
    assert_eq!(merged.figures.globals.after, 0);
    // A trap ends an instance, so each has its own.
    for (name, argument, trap) in [
        ("missing", 1, "IndirectCallToNull"),
        ("wrong", 1, "BadSignature"),
        ("dynamic", 7, "IndirectCallToNull"),
        ("dynamic", 8, "TableOutOfBounds"),
        ("load", 1 << 30, "MemoryOutOfBounds"),
    ] {
        let (_, seen) = same(wat, &[(name, &[U32(argument)]), ("double", &[U32(1)])]);
        let calls = seen.calls.unwrap();
        assert_eq!(calls[0], Err(format!("trap {trap}")), "{name}");
        assert!(calls[1].is_err(), "an instance that trapped is not entered again");
    }
}

#[test]
fn references_and_passive_segments() {
    let wat = r#"(component
        (core module $a
            (type $op (func (param i32) (result i32)))
            (memory (export "memory") 1)
            (table $t (export "table") 4 funcref)
            (func $first (param i32) (result i32) (i32.add (local.get 0) (i32.const 100)))
            (elem $declared declare func $first)
            (func (export "first") (result i32)
                (table.set $t (i32.const 0) (ref.func $first))
                (call_indirect $t (type $op) (i32.const 1) (i32.const 0)))
            (func (export "drop-declared") (elem.drop $declared)))
        (core module $b
            (type $op (func (param i32) (result i32)))
            (import "a" "table" (table $t 4 funcref))
            (import "a" "memory" (memory 1))
            (import "a" "first" (func $first (result i32)))
            (import "a" "drop-declared" (func $drop))
            (func $second (param i32) (result i32) (i32.sub (local.get 0) (i32.const 1)))
            (func $third (param i32) (result i32) (i32.const 333))
            (elem $unused declare func $third)
            (elem $passive funcref (ref.null func) (ref.func $second) (ref.func $third))
            (data $bytes "\01\02\03\04")
            (data (i32.const 16) "\10")
            (export "first" (func $first))
            (func (export "table") (param i32) (result i32)
                (call $drop)
                (table.init $t $passive (i32.const 1) (i32.const 0) (i32.const 3))
                (elem.drop $passive)
                (call_indirect $t (type $op) (i32.const 10) (local.get 0)))
            (func (export "again") (table.init $t $passive (i32.const 1) (i32.const 0) (i32.const 1)))
            (func (export "bytes") (param i32) (result i32)
                (memory.init $bytes (i32.const 0) (i32.const 0) (i32.const 4))
                (data.drop $bytes)
                (i32.load (local.get 0))))
        (core instance $a (instantiate $a))
        (core instance $b (instantiate $b (with "a" (instance $a))))
        (type $op (func (param "x" u32) (result u32)))
        (func (export "first") (result u32) (canon lift (core func $b "first")))
        (func (export "table") (type $op) (canon lift (core func $b "table")))
        (func (export "again") (canon lift (core func $b "again")))
        (func (export "bytes") (type $op) (canon lift (core func $b "bytes"))))"#;
    let (_, seen) = same(wat, &[("first", &[]), ("table", &[U32(2)]), ("bytes", &[U32(0)])]);
    let values: Vec<_> = seen.calls.unwrap().into_iter().map(|call| call.unwrap().concat()).collect();
    assert_eq!(values, ["U32(101)", "U32(9)", "U32(67305985)"]);
    same(wat, &[("table", &[U32(3)]), ("table", &[U32(3)])]);
    same(wat, &[("table", &[U32(1)])]);
    same(wat, &[("bytes", &[U32(16)]), ("bytes", &[U32(0)])]);
}

#[test]
fn a_module_instantiated_twice_is_two() {
    let wat = r#"(component
        (core module $counter
            (global $n (mut i32) (i32.const 0))
            (func (export "next") (result i32)
                (global.set $n (i32.add (global.get $n) (i32.const 1))) (global.get $n)))
        (core module $main
            (import "a" "next" (func $a (result i32)))
            (import "b" "next" (func $b (result i32)))
            (func (export "run") (result i32)
                (i32.add (i32.mul (call $a) (i32.const 100)) (i32.add (call $b) (i32.add (call $b) (call $b))))))
        (core instance $a (instantiate $counter))
        (core instance $b (instantiate $counter))
        (core instance $main (instantiate $main (with "a" (instance $a)) (with "b" (instance $b))))
        (func (export "run") (result u32) (canon lift (core func $main "run"))))"#;
    let (merged, seen) = same(wat, &[("run", &[]), ("run", &[])]);
    assert_eq!(seen.calls.unwrap()[0], Ok(vec!["U32(106)".to_owned()]));
    assert_eq!(before_after(&merged.figures), [(2, 1), (3, 1), (3, 3), (2, 2)]);
}

#[test]
fn control_flow_keeps_its_types() {
    let wat = r#"(component
        (core module $a
            (type $unused (func (param f32)))
            (type $pair (func (param i32 i32) (result i32 i32)))
            (type $op (func (param i32) (result i32)))
            (table $t (export "t") 1 funcref)
            (func $swap (export "swap") (type $pair) (local.get 1) (local.get 0))
            (func $down (export "down") (type $op)
                (if (result i32) (i32.eqz (local.get 0))
                    (then (i32.const 77))
                    (else (return_call $down (i32.sub (local.get 0) (i32.const 1))))))
            (elem (i32.const 0) func $down))
        (core module $b
            (type $op (func (param i32) (result i32)))
            (type $pair (func (param i32 i32) (result i32 i32)))
            (import "a" "swap" (func $swap (type $pair)))
            (import "a" "t" (table $t 1 funcref))
            (func (export "run") (type $op) (local f64 f32 i64)
                (local.get 0) (i32.const 5)
                (block (type $pair) (call $swap) (br 0))
                (i32.sub))
            (func (export "tail") (type $op)
                (return_call_indirect $t (type $op) (local.get 0) (i32.const 0))))
        (core instance $a (instantiate $a))
        (core instance $b (instantiate $b (with "a" (instance $a))))
        (type $op (func (param "x" u32) (result u32)))
        (func (export "run") (type $op) (canon lift (core func $b "run")))
        (func (export "tail") (type $op) (canon lift (core func $b "tail"))))"#;
    let (_, seen) = same(wat, &[("run", &[U32(2)]), ("tail", &[U32(100_000)])]);
    assert_eq!(seen.calls.unwrap(), [Ok(vec!["U32(3)".to_owned()]), Ok(vec!["U32(77)".to_owned()])]);
}

#[test]
fn values_of_every_number_type() {
    let wat = r#"(component
        (core module $a
            (global (export "i") i64 (i64.mul (i64.const -3) (i64.const 0x123456789a)))
            (global (export "f") f32 (f32.const nan:0x400001))
            (global (export "d") f64 (f64.const -0x1.8p-3)))
        (core module $b
            (import "a" "i" (global $i i64)) (import "a" "f" (global $f f32)) (import "a" "d" (global $d f64))
            (global $copy (mut f64) (global.get $d))
            (func (export "i") (result i64) (global.get $i))
            (func (export "f") (result i32) (i32.reinterpret_f32 (global.get $f)))
            (func (export "d") (result f64)
                (global.set $copy (f64.add (global.get $copy) (global.get $d))) (global.get $copy)))
        (core instance $a (instantiate $a))
        (core instance $b (instantiate $b (with "a" (instance $a))))
        (func (export "i") (result s64) (canon lift (core func $b "i")))
        (func (export "f") (result u32) (canon lift (core func $b "f")))
        (func (export "d") (result f64) (canon lift (core func $b "d"))))"#;
    let (_, seen) = same(wat, &[("i", &[]), ("f", &[]), ("d", &[]), ("d", &[])]);
    assert_eq!(seen.calls.unwrap()[1], Ok(vec![format!("U32({})", 0x7fc0_0001)]));
}

/// A second instance writes over what the first wrote, and one out of bounds ends them all.
#[test]
fn segments_are_written_in_order() {
    let wat = |last: u32| {
        format!(
            r#"(component
            (core module $a
                (type $op (func (result i32)))
                (memory (export "m") 1)
                (table $t (export "t") 2 funcref)
                (func $f (result i32) (i32.const 1))
                (elem (i32.const 0) func $f $f)
                (data (i32.const 0) "aaaa")
                (func (export "stub") (result i32) (call_indirect $t (type $op) (i32.const 1))))
            (core module $b
                (import "a" "m" (memory 1)) (import "a" "t" (table 2 funcref))
                (func $f (result i32) (i32.const 2))
                (elem (i32.const {last}) func $f)
                (data (i32.const 2) "bb"))
            (core module $c
                (import "a" "m" (memory 1)) (import "a" "stub" (func $stub (result i32)))
                (func (export "run") (result i32) (i32.add (call $stub) (i32.load (i32.const 0)))))
            (core instance $a (instantiate $a))
            (core instance $b (instantiate $b (with "a" (instance $a))))
            (core instance $c (instantiate $c (with "a" (instance $a))))
            (func (export "run") (result u32) (canon lift (core func $c "run"))))"#
        )
    };
    let text = u32::from_le_bytes(*b"aabb");
    let (_, seen) = same(&wat(1), &[("run", &[])]);
    assert_eq!(seen.calls.unwrap(), [Ok(vec![format!("U32({})", text + 2)])]);
    let (_, seen) = same(&wat(0), &[("run", &[])]);
    assert_eq!(seen.calls.unwrap(), [Ok(vec![format!("U32({})", text + 1)])]);
    let (_, seen) = same(&wat(2), &[("run", &[])]);
    assert_eq!(seen.calls, Err("trap TableOutOfBounds".to_owned()));
}

/// What stays apart is made after the merged module, so nothing that came after it may join.
#[test]
fn start_functions_run_where_they_ran() {
    let wat = r#"(component
        (import "tick" (func $tick (result u32)))
        (core func $tick (canon lower (func $tick)))
        (core module $a
            (import "host" "tick" (func $tick (result i32)))
            (memory (export "m") 1)
            (global (export "g") (mut i32) (i32.const 0))
            (data (i32.const 0) "\01")
            (func (export "tick") (result i32) (call $tick)))
        (core module $lib
            (import "a" "tick" (func $tick (result i32)))
            (export "tick" (func $tick)))
        (core module $start
            (import "a" "m" (memory 1)) (import "a" "tick" (func $tick (result i32)))
            (import "a" "g" (global $g (mut i32)))
            (func $run
                (drop (call $tick))
                (global.set $g (i32.const 50))
                (i32.store8 (i32.const 1) (i32.load8_u (i32.const 2))) (i32.store8 (i32.const 0) (i32.const 9)))
            (start $run))
        (core module $late
            (import "a" "m" (memory 1)) (import "lib" "tick" (func $tick (result i32)))
            (import "a" "g" (global $g (mut i32)))
            (data (i32.const 0) "\03") (data (i32.const 2) "\07")
            (func (export "run") (result i32)
                (i32.add (global.get $g) (i32.add (i32.load (i32.const 0)) (call $tick)))))
        (core instance $host (export "tick" (func $tick)))
        (core instance $a (instantiate $a (with "host" (instance $host))))
        (core instance $lib (instantiate $lib (with "a" (instance $a))))
        (core instance $start (instantiate $start (with "a" (instance $a))))
        (core instance $late (instantiate $late (with "a" (instance $a)) (with "lib" (instance $lib))))
        (func (export "run") (result u32) (canon lift (core func $late "run"))))"#;
    let (merged, seen) = same(wat, &[("run", &[])]);
    // 50, the bytes 3 0 7, and the second tick.
    assert_eq!(seen.calls.unwrap(), [Ok(vec![format!("U32({})", 50 + 3 + (7 << 16) + 2)])]);
    assert_eq!(before_after(&merged.figures)[0], (4, 3));
}

/// As in a Python component, where the last library comes after the fixup: it joins as long as the two do not write
/// into the same table.
#[test]
fn an_instance_may_overtake_what_it_does_not_touch() {
    let wat = |table: &str| {
        format!(
            r#"(component
            (import "log" (func $log (param "message" string) (result u32)))
            (core module $a
                (type $log (func (param i32 i32) (result i32)))
                (memory (export "m") 1)
                (table $host (export "host") 2 funcref)
                (table $own (export "own") 2 funcref)
                (data (i32.const 0) "abc")
                (func (export "run") (result i32)
                    (call_indirect $host (type $log) (i32.const 0) (i32.const 3) (i32.const 0)))
                (func (export "late") (result i32)
                    (call_indirect ${table} (type $log) (i32.const 0) (i32.const 0) (i32.const 0))))
            (core module $fixup
                (import "" "log" (func $log (param i32 i32) (result i32))) (import "" "host" (table 2 funcref))
                (elem (i32.const 0) func $log $log))
            (core module $reexport (import "a" "{table}" (table 1 funcref)) (export "again" (table 0)))
            (core module $late
                (import "r" "again" (table 1 funcref))
                (func $f (param i32 i32) (result i32) (i32.const 21))
                (elem (i32.const 0) func $f))
            (core instance $a (instantiate $a))
            (core func $log (canon lower (func $log) (memory $a "m")))
            (alias core export $a "host" (core table $host))
            (core instance $fixup-args (export "log" (func $log)) (export "host" (table $host)))
            (core instance (instantiate $fixup (with "" (instance $fixup-args))))
            (core instance $r (instantiate $reexport (with "a" (instance $a))))
            (core instance (instantiate $late (with "r" (instance $r))))
            (func (export "run") (result u32) (canon lift (core func $a "run")))
            (func (export "late") (result u32) (canon lift (core func $a "late"))))"#
        )
    };
    let (merged, seen) = same(&wat("own"), &[("run", &[]), ("late", &[])]);
    assert_eq!(seen.calls.unwrap(), [Ok(vec!["U32(1)".to_owned()]), Ok(vec!["U32(21)".to_owned()])]);
    assert_eq!((seen.log, merged.figures.modules.after), (vec!["abc".to_owned()], 2));
    let (merged, seen) = same(&wat("host"), &[("run", &[]), ("late", &[])]);
    assert_eq!(seen.calls.unwrap(), [Ok(vec!["U32(21)".to_owned()]), Ok(vec!["U32(21)".to_owned()])]);
    assert_eq!((seen.log, merged.figures.modules.after), (Vec::new(), 3));
}

#[test]
fn the_rest_of_the_component_is_untouched() {
    let wat = r#"(component $outer
        (import "four" (func $four (param "a" u32) (param "b" u32) (param "c" u32) (param "d" u32) (result u32)))
        (component $inner
            (core module $m (func (export "f") (param i32) (result i32) (i32.mul (local.get 0) (i32.const 3))))
            (core instance $i (instantiate $m))
            (type $t (func (param "x" u32) (result u32)))
            (func (export "triple") (type $t) (canon lift (core func $i "f"))))
        (instance $inner (instantiate $inner))
        (alias export $inner "triple" (func $triple))
        (core func $triple (canon lower (func $triple)))
        (core func $four (canon lower (func $four)))
        (core module $a
            (import "outer" "triple" (func $triple (param i32) (result i32)))
            (export "triple" (func $triple))
            (func $six (export "six") (param i32) (result i32) (i32.mul (local.get 0) (i32.const 6))))
        (core module $b
            (import "a" "six" (func $six (param i32) (result i32)))
            (import "a" "triple" (func $triple (param i32) (result i32)))
            (import "outer" "four" (func $four (param i32 i32 i32 i32) (result i32)))
            (func (export "inner") (param i32) (result i32) (call $triple (local.get 0)))
            (func (export "run") (param i32) (result i32)
                (call $four (call $six (local.get 0)) (i32.const 1) (i32.const 2) (i32.const 4))))
        (core instance $functions (export "triple" (func $triple)) (export "four" (func $four)))
        (core instance $a (instantiate $a (with "outer" (instance $functions))))
        (core instance $b (instantiate $b (with "outer" (instance $functions)) (with "a" (instance $a))))
        (type $run (func (param "x" u32) (result u32)))
        (func $run (type $run) (canon lift (core func $b "run")))
        (func (export "inner") (type $run) (canon lift (core func $b "inner")))
        (instance $api (export "run" (func $run)))
        (export "test:api/api" (instance $api))
        (export "run" (func $run)))"#;
    let (merged, seen) = same(wat, &[("run", &[U32(5)]), ("inner", &[U32(5)])]);
    // A component may not enter one inside of it while it runs; it is told so by the same trap.
    let refused = Err("trap CannotEnterComponent".to_owned());
    assert_eq!(seen.calls.unwrap(), [Ok(vec![format!("U32({})", 30 ^ 1 ^ 2 ^ 4)]), refused]);
    let text = names_in(&merged.bytes);
    assert!(text.contains(&"outer".to_owned()) && text.contains(&"six".to_owned()), "{text:?}");
}

/// Names of the component and of functions in core modules.
fn names_in(bytes: &[u8]) -> Vec<String> {
    let mut names = Vec::new();
    for payload in wasmparser::Parser::new(0).parse_all(bytes) {
        let wasmparser::Payload::CustomSection(custom) = payload.unwrap() else {
            continue;
        };
        match custom.as_known() {
            wasmparser::KnownCustom::Name(parts) => {
                for part in parts {
                    if let wasmparser::Name::Function(functions) = part.unwrap() {
                        names.extend(functions.into_iter().map(|naming| naming.unwrap().name.to_owned()));
                    }
                }
            }
            wasmparser::KnownCustom::ComponentName(parts) => {
                for part in parts {
                    if let wasmparser::ComponentName::Component { name, .. } = part.unwrap() {
                        names.push(name.to_owned());
                    }
                }
            }
            _ => {}
        }
    }
    names
}

#[test]
fn errors_of_the_host_come_through() {
    let wat = r#"(component
        (import "fail" (func $fail))
        (core func $fail (canon lower (func $fail)))
        (core module $a (import "host" "fail" (func $fail)) (func (export "f") (call $fail)))
        (core module $b (import "a" "f" (func $f)) (func (export "run") (call $f))
            (func (export "crash") (unreachable)) (func $deep (export "deep") (call $deep)))
        (core instance $host (export "fail" (func $fail)))
        (core instance $a (instantiate $a (with "host" (instance $host))))
        (core instance $b (instantiate $b (with "a" (instance $a))))
        (func (export "run") (canon lift (core func $b "run")))
        (func (export "crash") (canon lift (core func $b "crash")))
        (func (export "deep") (canon lift (core func $b "deep"))))"#;
    let (_, seen) = same(wat, &[("run", &[])]);
    assert_eq!(seen.calls.unwrap(), [Err("error the host says no".to_owned())]);
    let (_, seen) = same(wat, &[("crash", &[])]);
    assert_eq!(seen.calls.unwrap(), [Err("trap UnreachableCodeReached".to_owned())]);
    let (_, seen) = same(wat, &[("deep", &[])]);
    assert_eq!(seen.calls.unwrap(), [Err("trap StackOverflow".to_owned())]);
}

#[test]
fn pre_linking_again_finds_nothing_left() {
    let merged = merge(&component(TWO));
    let again = forerun_specialize::passes::prelink::prelink(&merged.bytes, &Default::default()).unwrap_err();
    assert_eq!(again.name(), "nothing_to_merge");
    assert!(run(&merged.bytes, &[("run", &[U32(1)])]).is_ok());
}
