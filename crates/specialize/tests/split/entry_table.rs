//! Cold functions that are entered through the module's own table: no stubs, the same calls, and the tables with which
//! that is not done.

use std::collections::BTreeMap;

use forerun_specialize::passes::split::{Known, NoEntryTable, Split, SplitPlan, split};
use wasmtime::component::Val;

use crate::engine::Runnable;

/// A component whose `run(position, argument)` calls through the table; `table` and `more` are text of the main module,
/// `around` of the component.
fn component(table: &str, more: &str, around: &str) -> Vec<u8> {
    let text = format!(
        r#"(component
          (import "test:host/host" (instance $host (export "log" (func (param "value" u64)))))
          (core module $main
            (type $unary (func (param i32) (result i32)))
            (memory (export "memory") 1)
            {table}
            (func $double (type $unary) (drop (i64.const 0x123456789abcdef)) (i32.mul (local.get 0) (i32.add (i32.const 1) (i32.load (i32.const 0)))))
            (func $square (type $unary) (drop (i64.const 0x123456789abcdef)) (i32.mul (local.get 0) (i32.add (local.get 0) (i32.load (i32.const 4)))))
            (func $other (param i64) (result i64) (drop (i64.const 0x123456789abcdef)) (i64.mul (local.get 0) (i64.add (local.get 0) (i64.const 77777))))
            (func $again (type $unary) (drop (i64.const 0x123456789abcdef))
              (return_call_indirect $t (type $unary) (local.get 0) (i32.and (local.get 0) (i32.const 1))))
            (func (export "run") (param i32 i32) (result i32)
              (i32.add
                (call_indirect $t (type $unary) (local.get 1) (local.get 0))
                (call_indirect $t (type $unary) (local.get 1) (local.get 0))))
            (data (i32.const 0) "\01\00\00\00")
            {more})
          (core instance $main (instantiate $main))
          (func (export "run") (param "position" u32) (param "argument" u32) (result u32)
            (canon lift (core func $main "run")))
          {around})"#
    );
    wat::parse_str(text).unwrap()
}

const TABLE: &str = "(table $t 8 8 funcref) (elem (i32.const 0) $double $square $again $other $double)";
/// `run`, by its index.
const RUN: u32 = 4;

fn all_but_run_cold(source: &[u8]) -> Split {
    let mut plan = SplitPlan::new(Known::ByIndex(BTreeMap::from([(RUN, 1000)])), 1);
    plan.group_functions_max = 1;
    split(source, &plan).unwrap()
}

#[test]
fn what_stands_in_the_table_needs_no_stub_and_is_called_all_the_same() {
    let source = component(TABLE, "", "");
    let split = all_but_run_cold(&source);
    let report = &split.report;
    assert_eq!((report.stubs, report.slots, report.positions, report.entries), (0, 0, 5, 2), "{report:?}");
    assert_eq!(report.no_entry_table, None);
    let exports = ["memory".to_owned(), "run".to_owned()];
    let (whole, split) = (Runnable::whole(&source, &exports), Runnable::split(&split, &exports));
    for position in 0..10 {
        for argument in [0, 1, 6, u32::MAX] {
            let arguments = [Val::U32(position), Val::U32(argument)];
            let (expected, _) = whole.call("run", &arguments);
            let (seen, missed) = split.call("run", &arguments);
            assert_eq!(expected, seen, "{arguments:?}");
            // Each group once, whatever the position it is entered by: the second call finds it. `$again` goes on to
            // another. The last positions are empty, beyond the end, or of another type.
            let loaded = match position {
                0 | 1 | 4 => 1,
                2 => 2,
                _ => 0,
            };
            assert_eq!(missed.len(), loaded, "{arguments:?}: {missed:?}");
        }
    }
}

#[test]
fn a_table_that_others_may_use_or_that_changes_has_stubs_as_before() {
    let user = |name: &str| {
        format!(
            r#"(core module $user (import "m" "{name}" (table 8 funcref)))
               (core instance (instantiate $user (with "m" (instance $main))))"#
        )
    };
    let alias = |name: &str| format!(r#"(alias core export $main "{name}" (core table))"#);
    let exported = format!("{TABLE} (export \"t\" (table $t))");
    let with = |function: &str| component(TABLE, &format!("(func (export \"x\") {function})"), "");
    let cases = [
        (component(&exported, "", &user("t")), Some(NoEntryTable::Shared)),
        (component(&exported, "", &alias("t")), Some(NoEntryTable::Shared)),
        // Exported, and nobody takes it.
        (component(&exported, "", ""), None),
        (with("(table.set $t (i32.const 7) (table.get $t (i32.const 0)))"), Some(NoEntryTable::Changed)),
        (with("(table.copy (i32.const 5) (i32.const 0) (i32.const 2))"), Some(NoEntryTable::Changed)),
        (with("(drop (table.size $t))"), None),
        (
            component(
                "(table $t 8 8 funcref) (elem (offset (i32.add (i32.const 1) (i32.const 1))) $double $square)",
                "",
                "",
            ),
            Some(NoEntryTable::Unknown),
        ),
        (component("(table $t 2 2 funcref) (elem (i32.const 1) $double $square)", "", ""), Some(NoEntryTable::Unknown)),
        (
            component(
                "(table $t 8 8 funcref)",
                "(elem declare func $double) (func (export \"x\") (drop (ref.func $double)))",
                "",
            ),
            Some(NoEntryTable::NoTable),
        ),
    ];
    for (number, (source, expected)) in cases.into_iter().enumerate() {
        let split = all_but_run_cold(&source);
        assert_eq!(split.report.no_entry_table, expected, "case {number}");
        assert_eq!(split.report.positions > 0, expected.is_none(), "case {number}: {:?}", split.report);
    }
}

#[test]
fn an_entry_that_is_overwritten_by_a_later_segment_is_never_called() {
    let table = "(table $t 8 8 funcref) (elem (i32.const 0) $square $square) (elem (i32.const 0) $double)";
    let source = component(table, "", "");
    let split = all_but_run_cold(&source);
    assert_eq!(split.report.positions, 2, "{:?}", split.report);
    let exports = ["memory".to_owned(), "run".to_owned()];
    let (whole, split) = (Runnable::whole(&source, &exports), Runnable::split(&split, &exports));
    for position in [0, 1] {
        let arguments = [Val::U32(position), Val::U32(5)];
        let (expected, _) = whole.call("run", &arguments);
        assert_eq!(expected, split.call("run", &arguments).0);
    }
}
