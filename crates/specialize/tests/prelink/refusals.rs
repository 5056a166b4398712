//! A component for every reason to leave one as it is.

use forerun_specialize::passes::prelink::{PrelinkBounds, PrelinkRefusal, prelink};

use super::harness::component;
use super::shim::SHIM;

/// Two instances that join unless `module`, which is the first, has something that is not merged.
fn with_module(module: &str) -> Vec<u8> {
    component(&format!(
        r#"(component
        (core module $a {module} (func (export "f") (result i32) (i32.const 1)))
        (core module $b (import "a" "f" (func $f (result i32))) (func (export "run") (result i32) (call $f)))
        (core instance $a (instantiate $a))
        (core instance $b (instantiate $b (with "a" (instance $a))))
        (func (export "run") (result u32) (canon lift (core func $b "run"))))"#
    ))
}

/// Two instances that join, with more of the component's own level before and after.
fn with_outer(before: &str, after: &str) -> Vec<u8> {
    component(&format!(
        r#"(component
        {before}
        (core module $a (func (export "f") (result i32) (i32.const 1)))
        (core module $b (import "a" "f" (func $f (result i32))) (func (export "run") (result i32) (call $f)))
        (core instance $a (instantiate $a))
        (core instance $b (instantiate $b (with "a" (instance $a))))
        (func $run (export "run") (result u32) (canon lift (core func $b "run")))
        {after})"#
    ))
}

fn refusal(bytes: &[u8]) -> PrelinkRefusal {
    prelink(bytes, &PrelinkBounds::default()).expect_err("refused")
}

#[test]
fn nothing_is_refused_without_a_reason() {
    assert!(prelink(&with_module(""), &PrelinkBounds::default()).is_ok());
    assert!(prelink(&with_outer("", ""), &PrelinkBounds::default()).is_ok());
}

#[test]
fn what_core_modules_may_not_have() {
    for (module, name, sentence) in [
        ("(tag (param i32))", "tag", "core module 0 uses exception tags"),
        ("(rec (type (func)) (type (func (param i32))))", "recursion_group", "core module 0 has a group of"),
        ("(type (sub (func)))", "open_type", "core module 0 has a type that is not final"),
        ("(type $t (sub (func))) (type (sub final $t (func)))", "open_type", "core module 0 has a type that is not"),
        ("(type (struct (field i32)))", "gc_type", "core module 0 has garbage-collected types"),
        ("(type $t (func)) (func (param (ref $t)))", "typed_reference", "core module 0 has references to"),
        ("(type $t (func)) (table 1 (ref null $t))", "typed_reference", "core module 0 has references to"),
        ("(memory 1 2 shared)", "shared_memory", "core module 0 shares its memory between threads"),
        ("(func $x) (table 1 funcref (ref.func $x))", "table_initializer", "core module 0 has a table with an initial"),
        ("(global v128 (v128.const i64x2 1 2))", "global", "core module 0 has a global that is a vector"),
        ("(func $x) (global funcref (ref.func $x))", "global", "core module 0 has a global that is a vector"),
        (
            "(table 1 i31ref) (elem (i32.const 0) i31ref (ref.i31 (i32.const 1)))",
            "element_expression",
            "core module 0 has a table entry that is neither a function nor null",
        ),
    ] {
        let refusal = refusal(&with_module(module));
        assert_eq!(refusal.name(), name, "{module}");
        assert!(refusal.to_string().starts_with(sentence), "{module}: {refusal}");
    }
}

#[test]
fn what_components_may_not_have() {
    let triple = r#"(core module $inner (func (export "f")))"#;
    for (before, after, name) in [
        // To import one, its type has to be declared, and that is noticed first.
        (r#"(import "m" (core module))"#, "", "core_types"),
        (triple, r#"(export "m" (core module $inner))"#, "module_as_value"),
        (
            r#"(import "i" (instance $i (export "m" (core module)))) (alias export $i "m" (core module $m))"#,
            "",
            "module_as_value",
        ),
        (
            &format!(
                r#"{triple} (component $c (import "m" (core module)))
                (instance (instantiate $c (with "m" (core module $inner))))"#
            ),
            "",
            "module_as_value",
        ),
        (&format!("{triple} (component (alias outer 1 $inner (core module)))"), "", "outer_core_alias"),
        ("(core type (func))", "", "core_types"),
        (
            r#"(core module $d (func (export "d") (param i32))) (core instance $d (instantiate $d))
            (type $r (resource (rep i32) (dtor (func $d "d"))))"#,
            "",
            "resource_destructor",
        ),
        ("(core func (canon task.cancel))", "", "async_builtin"),
        ("(core func (canon waitable-set.new))", "", "async_builtin"),
        (
            r#"(import "tick" (func $tick async (result u32)))
            (core module $m (memory (export "m") 1)) (core instance $m (instantiate $m))
            (core func (canon lower (func $tick) async (memory $m "m")))"#,
            "",
            "canonical_option",
        ),
        (
            r#"(core module $t (tag (export "t") (param i32))) (core instance $t (instantiate $t))
            (alias core export $t "t" (core tag))"#,
            "",
            "tags",
        ),
        (
            r#"(import "greet" (func $greet (param "name" string) (result string)))
            (import "four"
                (func $four (param "a" u32) (param "b" u32) (param "c" u32) (param "d" u32) (result u32)))
            (core func $four (canon lower (func $four)))
            (core module $m (memory (export "m") 1)) (core instance $m (instantiate $m))
            (core func (canon lower (func $greet) (memory $m "m") (realloc $four)))"#,
            "",
            "lowered_option",
        ),
        ("", "(core func (canon lower (func $run)))", "lower_after_lift"),
        ("", "(type $late (resource (rep i32))) (core func (canon resource.drop $late))", "lower_after_lift"),
    ] {
        let refusal = refusal(&with_outer(before, after));
        assert_eq!(refusal.name(), name, "{before} ... {after}: {refusal}");
        assert!(refusal.to_string().len() > 20);
    }
}

/// What comes after the first lifted function and needs nothing of it is no obstacle.
#[test]
fn a_lowered_function_may_come_late() {
    let bytes = with_outer(
        r#"(import "tick" (func $tick (result u32)))"#,
        r#"(core func $tick (canon lower (func $tick)))
        (core module $c (import "host" "tick" (func $tick (result i32))) (func (export "late") (result i32) (call $tick)))
        (core instance $host (export "tick" (func $tick)))
        (core instance $c (instantiate $c (with "host" (instance $host))))
        (func (export "late") (result u32) (canon lift (core func $c "late")))"#,
    );
    let merged = super::harness::merge(&bytes);
    assert_eq!(merged.figures.modules.after, 1);
    let calls: [super::harness::Call<'_>; 3] = [("late", &[]), ("run", &[]), ("late", &[])];
    let (before, after) = (super::harness::run(&bytes, &calls), super::harness::run(&merged.bytes, &calls));
    assert_eq!(before.unwrap(), after.unwrap());
}

#[test]
fn memories_and_tables_have_bounds() {
    let memories = r#"(component
        (core module $a (memory 1) (func (export "f")))
        (core module $b (import "a" "f" (func)) (memory 1) (func (export "run")))
        (core instance $a (instantiate $a))
        (core instance $b (instantiate $b (with "a" (instance $a))))
        (func (export "run") (canon lift (core func $b "run"))))"#;
    assert_eq!(refusal(&component(memories)), PrelinkRefusal::ManyMemories { memories: 2 });
    let bounds = PrelinkBounds { tables_max: 1, ..PrelinkBounds::default() };
    let tables = with_module("(table 1 funcref) (table 1 funcref)");
    let refusal = prelink(&tables, &bounds).unwrap_err();
    assert_eq!(refusal, PrelinkRefusal::ManyTables { tables: 2, tables_max: 1 });
    assert!(prelink(&tables, &PrelinkBounds::default()).is_ok());
}

#[test]
fn bytes_have_bounds() {
    let bytes = component(SHIM);
    let bounds = PrelinkBounds::default();
    let with = |bounds| prelink(&bytes, &bounds).unwrap_err().to_string();
    let input = with(PrelinkBounds { input_bytes_max: 100, ..bounds });
    assert_eq!(input, format!("the component has {} bytes, at most 100 are pre-linked", bytes.len()));
    let instances = with(PrelinkBounds { instance_bytes_max: 100, ..bounds });
    assert!(instances.starts_with("what it instantiates has "), "{instances}");
    let output = with(PrelinkBounds { output_bytes_max: 100, ..bounds });
    assert!(output.starts_with("the pre-linked component has "), "{output}");
    // A small component that is large when it is instantiated.
    let many: String = (0..900).map(|_| "(core instance (instantiate $m))").collect();
    let zeros = "\\00".repeat(10_000);
    let bytes = component(&format!(
        r#"(component (core module $m (memory 1) (data "{zeros}") (func (export "run"))) {many}
            (core instance $i (instantiate $m)) (func (export "run") (canon lift (core func $i "run"))))"#
    ));
    let small = PrelinkBounds { instance_bytes_max: 4 << 20, ..bounds };
    assert_eq!(prelink(&bytes, &small).unwrap_err().name(), "too_large");
    assert_eq!(prelink(&bytes, &bounds).unwrap_err().name(), "many_memories");
}

#[test]
fn what_is_no_component() {
    assert_eq!(refusal(b"").name(), "invalid_component");
    assert_eq!(refusal(b"\0asm").name(), "invalid_component");
    assert_eq!(refusal(&component("(module)")), PrelinkRefusal::CoreModule);
    let mut broken = component(SHIM);
    broken.truncate(broken.len() / 2);
    assert_eq!(refusal(&broken).name(), "invalid_component");
}

#[test]
fn nothing_to_do() {
    assert_eq!(refusal(&component("(component)")), PrelinkRefusal::NothingLifted);
    let one = r#"(component (core module $m (func (export "run"))) (core instance $i (instantiate $m))
        (func (export "run") (canon lift (core func $i "run"))))"#;
    let refused = refusal(&component(one));
    assert_eq!(refused, PrelinkRefusal::NothingToMerge { instances: 1, apart: None });
    let start = r#"(component
        (core module $a (func $f (export "f")) (start $f))
        (core module $b (import "a" "f" (func $f)) (func (export "run") (call $f)))
        (core instance $a (instantiate $a))
        (core instance $b (instantiate $b (with "a" (instance $a))))
        (func (export "run") (canon lift (core func $b "run"))))"#;
    let said = refusal(&component(start)).to_string();
    let expected = "of its 2 core module instances fewer than two can be merged; \
        the first one that cannot join: it has a start function";
    assert_eq!(said, expected);
}
