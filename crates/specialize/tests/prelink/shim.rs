//! What componentizing tools make: a shim of stubs, the main module, and a fixup that fills the stubs' table.

use forerun_specialize::passes::prelink::REVISION;
use wasmtime::component::Val;

use super::harness::{component, merge, same};

/// Functions of the host that need the main module's memory reach it through stubs; an adapter stands between.
pub(crate) const SHIM: &str = r#"(component
    (import "log" (func $log (param "message" string) (result u32)))
    (import "greet" (func $greet (param "name" string) (result string)))
    (import "tick" (func $tick (result u32)))
    (import "thing" (type $thing (sub resource)))
    (import "make" (func $make (result (own $thing))))
    (type $own (resource (rep i32)))

    (core module $main
        (import "host" "log" (func $log (param i32 i32) (result i32)))
        (import "host" "greet" (func $greet (param i32 i32 i32)))
        (import "host" "make" (func $make (result i32)))
        (import "host" "drop" (func $drop (param i32)))
        (import "host" "new" (func $new (param i32) (result i32)))
        (import "host" "rep" (func $rep (param i32) (result i32)))
        (import "adapter" "twice" (func $twice (param i32 i32) (result i32)))
        (memory (export "memory") 1)
        (global $heap (mut i32) (i32.const 1024))
        (global $live (mut i32) (i32.const 0))
        (func $realloc (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
            (local $at i32)
            (local.set $at (global.get $heap))
            (global.set $heap (i32.add (global.get $heap) (i32.add (local.get 3) (i32.const 8))))
            (global.set $live (i32.add (global.get $live) (i32.const 1)))
            (local.get $at))
        (func (export "echo") (param $at i32) (param $len i32) (result i32)
            (drop (call $log (local.get $at) (local.get $len)))
            (drop (call $twice (local.get $at) (local.get $len)))
            (call $greet (local.get $at) (local.get $len) (i32.const 16))
            (i32.const 16))
        (func (export "echo_post") (param i32)
            (global.set $live (i32.const 0)) (i32.store (i32.const 16) (i32.const 0)))
        (func (export "live") (result i32) (global.get $live))
        (func (export "things") (result i32)
            (call $drop (call $make))
            (call $rep (call $new (i32.const 4711))))
        (data (i32.const 0) "static"))
    (core module $adapter
        (import "env" "memory" (memory 0))
        (import "main" "cabi_realloc" (func $realloc (param i32 i32 i32 i32) (result i32)))
        (import "host" "log" (func $log (param i32 i32) (result i32)))
        (import "host" "tick" (func $tick (result i32)))
        (global $state (mut i32) (i32.const 0))
        (func (export "twice") (param $at i32) (param $len i32) (result i32)
            (if (i32.eqz (global.get $state))
                (then (global.set $state (call $realloc (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 64)))))
            (memory.copy (global.get $state) (local.get $at) (local.get $len))
            (i32.store8 (i32.add (global.get $state) (local.get $len))
                (i32.add (i32.const 48) (call $tick)))
            (call $log (global.get $state) (i32.add (local.get $len) (i32.const 1)))))
    (core module $shim
        (type $log (func (param i32 i32) (result i32)))
        (type $greet (func (param i32 i32 i32)))
        (table (export "$imports") 3 3 funcref)
        (func (export "0") (type $log) (call_indirect (type $log) (local.get 0) (local.get 1) (i32.const 0)))
        (func (export "1") (type $greet)
            (call_indirect (type $greet) (local.get 0) (local.get 1) (local.get 2) (i32.const 1)))
        (func (export "2") (type $log) (call_indirect (type $log) (local.get 0) (local.get 1) (i32.const 2))))
    (core module $fixup
        (import "" "0" (func (param i32 i32) (result i32)))
        (import "" "1" (func (param i32 i32 i32)))
        (import "" "2" (func (param i32 i32) (result i32)))
        (import "" "$imports" (table 3 3 funcref))
        (elem (i32.const 0) func 0 1 2))

    (core instance $shim (instantiate $shim))
    (alias core export $shim "0" (core func $shim-log))
    (alias core export $shim "1" (core func $shim-greet))
    (alias core export $shim "2" (core func $shim-twice))
    (core func $make (canon lower (func $make)))
    (core func $drop (canon resource.drop $thing))
    (core func $new (canon resource.new $own))
    (core func $rep (canon resource.rep $own))
    (core instance $host
        (export "log" (func $shim-log)) (export "greet" (func $shim-greet)) (export "make" (func $make))
        (export "drop" (func $drop)) (export "new" (func $new)) (export "rep" (func $rep)))
    (core instance $for-main (export "twice" (func $shim-twice)))
    (core instance $main (instantiate $main (with "host" (instance $host)) (with "adapter" (instance $for-main))))
    (alias core export $main "memory" (core memory $memory))
    (alias core export $main "cabi_realloc" (core func $realloc))
    (core func $tick (canon lower (func $tick)))
    (core instance $env (export "memory" (memory $memory)))
    (core instance $adapter-host (export "log" (func $shim-log)) (export "tick" (func $tick)))
    (core instance $adapter (instantiate $adapter
        (with "env" (instance $env)) (with "main" (instance $main)) (with "host" (instance $adapter-host))))
    (alias core export $adapter "twice" (core func $twice))
    (alias core export $shim "$imports" (core table $table))
    (core func $log (canon lower (func $log) (memory $memory) string-encoding=utf8))
    (core func $greet (canon lower (func $greet) (memory $memory) (realloc $realloc) string-encoding=utf8))
    (core instance $fixup-args
        (export "$imports" (table $table)) (export "0" (func $log)) (export "1" (func $greet))
        (export "2" (func $twice)))
    (core instance (instantiate $fixup (with "" (instance $fixup-args))))
    (alias core export $main "echo" (core func $echo))
    (alias core export $main "echo_post" (core func $post))
    (func (export "echo") (param "text" string) (result string)
        (canon lift (core func $echo) (memory $memory) (realloc $realloc) (post-return $post)))
    (func (export "live") (result u32) (canon lift (core func $main "live")))
    (func (export "things") (result u32) (canon lift (core func $main "things"))))"#;

#[test]
fn a_shim_and_its_fixup() {
    let text = [Val::String("abc".to_owned())];
    let (merged, seen) = same(SHIM, &[("live", &[]), ("echo", &text), ("live", &[]), ("echo", &text), ("things", &[])]);
    assert_eq!(seen.log, ["abc", "abc1", "abc", "abc2", "drop 7"]);
    let calls: Vec<_> = seen.calls.unwrap().into_iter().map(|call| call.unwrap().concat()).collect();
    let hello = "String(\"hello, abc\")";
    assert_eq!(calls, ["U32(0)", hello, "U32(0)", hello, "U32(4711)"]);
    // The fixup stays apart: its functions need the memory of the merged module.
    let figures = merged.figures;
    assert_eq!((figures.modules.before, figures.modules.after), (4, 2));
    assert_eq!((figures.core_instances.before, figures.core_instances.after), (9, 4));
}

#[test]
fn a_trap_behind_the_shim() {
    let text = [Val::String("x".repeat(100_000))];
    let (_, seen) = same(SHIM, &[("echo", &text)]);
    assert!(seen.calls.unwrap()[0].is_err(), "longer than the memory");
    assert!(seen.log.is_empty());
}

/// Images are kept by the revision of what made them. If this fails because the pass makes something else now, raise
/// `REVISION`; if the fixture or its assembler has changed, the digest alone.
#[test]
fn other_bytes_are_another_revision() {
    let digest = blake3::hash(&merge(&component(SHIM)).bytes).to_hex();
    assert_eq!((REVISION, &digest[..16]), (2, "b6a30e6221c673ec"));
}

/// Many VMs of one component at once, each with its own memory and handles.
#[test]
fn instances_side_by_side() {
    let bytes = component(SHIM);
    let merged = merge(&bytes).bytes;
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|number| {
                let (bytes, merged) = (&bytes, &merged);
                scope.spawn(move || {
                    let text = [Val::String(format!("guest {number}"))];
                    let calls = [("echo", &text[..]), ("live", &[]), ("things", &[])];
                    for _ in 0..5 {
                        let before = super::harness::run(bytes, &calls).unwrap();
                        assert_eq!(before, super::harness::run(merged, &calls).unwrap());
                    }
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
}
