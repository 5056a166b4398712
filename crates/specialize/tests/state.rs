//! The pass `state` on the real engine: globals come back to what they were, and what could not come back is refused.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use forerun_specialize::passes::Unsupported;
use forerun_specialize::passes::state::{
    CLOSE_STREAM, COPIES, COPY, GROW, OPEN_STREAM, Obstacle, RESTORE, ROOM, SAME, SAVE, SET_COPY, STATE_INTERFACE,
    StateRefusal, Stated, add_state_calls,
};
use support::{Vm, component, engine};

impl Vm {
    fn save(&mut self) -> wasmtime::Result<()> {
        let save = self.of(STATE_INTERFACE, SAVE);
        self.call(save, ())
    }

    fn restore(&mut self) -> wasmtime::Result<()> {
        let restore = self.of(STATE_INTERFACE, RESTORE);
        self.call(restore, ())
    }
}

impl Vm {
    fn same(&mut self) -> bool {
        let same = self.of(STATE_INTERFACE, SAME);
        self.call::<_, (bool,)>(same, ()).unwrap().0
    }

    fn copies(&mut self) -> Vec<u64> {
        let (copies, copy) = (self.of(STATE_INTERFACE, COPIES), self.of(STATE_INTERFACE, COPY));
        let (count,) = self.call::<_, (u32,)>(copies, ()).unwrap();
        (0..count).map(|number| self.call::<_, (u64,)>(copy, (number,)).unwrap().0).collect()
    }

    fn set_copy(&mut self, number: u32, value: u64) -> wasmtime::Result<()> {
        let set_copy = self.of(STATE_INTERFACE, SET_COPY);
        self.call(set_copy, (number, value))
    }

    /// Has the globals of `other`, as those were saved.
    fn become_like(&mut self, other: &mut Self) {
        self.save().unwrap();
        for (number, value) in (0..).zip(other.copies()) {
            self.set_copy(number, value).unwrap();
        }
        self.restore().unwrap();
    }

    fn grow(&mut self, memory: u32, pages: u32) -> bool {
        let grow = self.of(STATE_INTERFACE, &format!("{GROW}{memory}"));
        self.call::<_, (bool,)>(grow, (pages,)).unwrap().0
    }

    fn open_stream(&mut self) -> u32 {
        let open = self.of(STATE_INTERFACE, OPEN_STREAM);
        self.call::<_, (u32,)>(open, ()).unwrap().0
    }

    fn close_stream(&mut self, handle: u32) -> wasmtime::Result<()> {
        let close = self.of(STATE_INTERFACE, CLOSE_STREAM);
        self.call(close, (handle,))
    }

    fn room(&mut self, bytes: u32) -> wasmtime::Result<()> {
        let room = self.of(STATE_INTERFACE, ROOM);
        self.call(room, (bytes,))
    }
}

/// The component with save and restore, and a VM of it.
fn stated(text: &str) -> (Stated, Vm) {
    let stated = add_state_calls(&component(text)).unwrap();
    let vm = Vm::new(&engine(), &stated.component);
    (stated, vm)
}

fn refusal(text: &str) -> StateRefusal {
    add_state_calls(&component(text)).map(|stated| stated.globals).unwrap_err()
}

/// The obstacle in a component of one core module with `contents`.
fn obstacle(contents: &str) -> Obstacle {
    let text = format!("(component (core module $m {contents}) (core instance (instantiate $m)))");
    match refusal(&text) {
        StateRefusal::Obstacle(obstacle) => obstacle,
        other => panic!("{other:?}"),
    }
}

/// Whether a component of one core module with `contents` is taken.
fn is_taken(contents: &str) -> bool {
    let text = format!("(component (core module $m {contents}) (core instance (instantiate $m)))");
    add_state_calls(&component(&text)).is_ok()
}

/// Counts its calls in a global.
const COUNTER: &str = r#"
(component
  (core module $m
    (global $calls (mut i32) (i32.const 5))
    (func (export "next") (result i32)
      (global.set $calls (i32.add (global.get $calls) (i32.const 1)))
      (global.get $calls)))
  (core instance $i (instantiate $m))
  (func (export "next") (result u32) (canon lift (core func $i "next"))))
"#;

#[test]
fn a_counter_comes_back_as_often_as_one_likes() {
    let (stated, mut vm) = stated(COUNTER);
    assert_eq!((stated.modules, stated.globals), (1, 1));
    assert_eq!(vm.number("next").unwrap(), 6);
    vm.save().unwrap();
    for _ in 0..3 {
        assert_eq!(vm.number("next").unwrap(), 7);
        assert_eq!(vm.number("next").unwrap(), 8);
        vm.restore().unwrap();
    }
    // A later save replaces the earlier one.
    assert_eq!(vm.number("next").unwrap(), 7);
    vm.save().unwrap();
    assert_eq!(vm.number("next").unwrap(), 8);
    vm.restore().unwrap();
    assert_eq!(vm.number("next").unwrap(), 8);
}

#[test]
fn restore_without_save_traps_rather_than_zeroes() {
    let (_, mut vm) = stated(COUNTER);
    let error = vm.restore().unwrap_err();
    assert!(format!("{error:?}").contains("unreachable"), "{error:?}");
}

#[test]
fn the_same_bytes_make_the_same_bytes() {
    let source = component(COUNTER);
    assert_eq!(add_state_calls(&source), add_state_calls(&source));
}

#[test]
fn every_type_of_number_is_saved() {
    let (stated, mut vm) = stated(
        r#"
(component
  (core module $m
    (global $a (mut i32) (i32.const -1))
    (global $b (mut i64) (i64.const -2))
    (global $c (mut f32) (f32.const nan:0x200001))
    (global $d (mut f64) (f64.const -0))
    (global $e (mut v128) (v128.const i64x2 3 -4))
    (global $constant i32 (i32.const 9))
    (func (export "spoil") (result i32)
      (global.set $a (i32.const 1)) (global.set $b (i64.const 1)) (global.set $c (f32.const 1))
      (global.set $d (f64.const 1)) (global.set $e (v128.const i64x2 1 1)) (i32.const 0))
    (func (export "sum") (result i32)
      (i32.eq (global.get $a) (i32.const -1))
      (i64.eq (global.get $b) (i64.const -2))
      (i32.eq (i32.reinterpret_f32 (global.get $c)) (i32.const 0x7fa00001))
      (i64.eq (i64.reinterpret_f64 (global.get $d)) (i64.const 0x8000000000000000))
      (i8x16.all_true (i8x16.eq (global.get $e) (v128.const i64x2 3 -4)))
      i32.add i32.add i32.add i32.add))
  (core instance $i (instantiate $m))
  (func (export "spoil") (result u32) (canon lift (core func $i "spoil")))
  (func (export "sum") (result u32) (canon lift (core func $i "sum"))))
"#,
    );
    assert_eq!(stated.globals, 5);
    assert_eq!(vm.number("sum").unwrap(), 5);
    vm.save().unwrap();
    assert!(vm.same(), "even what is no number");
    vm.number("spoil").unwrap();
    assert_eq!(vm.number("sum").unwrap(), 0);
    assert!(!vm.same());
    vm.restore().unwrap();
    assert_eq!(vm.number("sum").unwrap(), 5);
    assert!(vm.same());
}

/// Two modules, so that numbers go on from one to the other.
const ALL_TYPES: &str = r#"
(component
  (core module $m
    (global $a (mut i32) (i32.const 1))
    (global $b (mut i64) (i64.const 2))
    (global $e (mut v128) (v128.const i64x2 3 4))
    (func (export "spoil")
      (global.set $a (i32.const -1)) (global.set $b (i64.const -2)) (global.set $e (v128.const i64x2 5 -6))))
  (core module $n
    (import "m" "spoil" (func $first))
    (global $c (mut f32) (f32.const 7))
    (global $d (mut f64) (f64.const 8))
    (func (export "spoil") (result i32)
      (call $first) (global.set $c (f32.const nan:0x200001)) (global.set $d (f64.const -0)) (i32.const 0)))
  (core instance $i (instantiate $m))
  (core instance $j (instantiate $n (with "m" (instance $i))))
  (func (export "spoil") (result u32) (canon lift (core func $j "spoil"))))
"#;

#[test]
fn copies_are_read_and_written_bit_for_bit_whatever_their_type() {
    let (stated, mut vm) = stated(ALL_TYPES);
    vm.save().unwrap();
    let (seven, eight) = (u64::from(7_f32.to_bits()), 8_f64.to_bits());
    assert_eq!(vm.copies(), [1, 2, 3, 4, seven, eight]);
    vm.number("spoil").unwrap();
    assert_eq!(vm.copies(), [1, 2, 3, 4, seven, eight], "what was saved stays");
    vm.save().unwrap();
    let spoilt = [0xffff_ffff, 2_u64.wrapping_neg(), 5, 6_u64.wrapping_neg(), 0x7fa0_0001, 1 << 63];
    assert_eq!(vm.copies(), spoilt);

    let mut other = Vm::new(&engine(), &stated.component);
    other.become_like(&mut vm);
    assert!(other.same(), "its globals took the values");
    other.save().unwrap();
    assert_eq!(other.copies(), spoilt);
    let error = other.set_copy(6, 0).unwrap_err();
    assert!(format!("{error:?}").contains("unreachable"), "there are six: {error:?}");
}

#[test]
fn memories_grow_as_far_as_they_may() {
    let (_, mut vm) = stated(
        r#"
(component
  (core module $m
    (memory (export "a") 1 3)
    (memory 2)
    (func (export "sizes") (result i32) (i32.add (memory.size 0) (i32.mul (i32.const 100) (memory.size 1)))))
  (core instance $i (instantiate $m))
  (func (export "sizes") (result u32) (canon lift (core func $i "sizes"))))
"#,
    );
    assert!(vm.grow(0, 2) && vm.grow(1, 5) && vm.grow(1, 0));
    assert_eq!(vm.number("sizes").unwrap(), 703);
    assert!(!vm.grow(0, 1), "it has its maximum");
    assert_eq!(vm.number("sizes").unwrap(), 703);
}

#[test]
fn streams_are_opened_and_closed_by_the_numbers_that_the_guest_has() {
    let (stated, mut vm) = {
        let text = r#"
(component
  (import "wasi:cli/stdout@0.2.6" (instance
    (export "output-stream" (type (sub resource)))
    (export "get-stdout" (func (result (own 0)))))))
"#;
        let stated = add_state_calls(&component(text)).unwrap();
        let vm = Vm::with_stdout(&engine(), &stated.component);
        (stated, vm)
    };
    assert!(stated.has_streams);
    assert_eq!([vm.open_stream(), vm.open_stream(), vm.open_stream()], [1, 2, 3]);
    vm.close_stream(2).unwrap();
    assert_eq!(vm.store.data(), &[101], "the host lets its second one go");
    assert_eq!(vm.open_stream(), 2, "a number that is free is given out first");
    assert!(vm.close_stream(9).is_err());
}

#[test]
fn an_instance_that_only_has_the_name_gives_no_streams() {
    let stated = add_state_calls(&component(r#"(component (import "wasi:cli/stdout@0.2.6" (instance)))"#)).unwrap();
    assert!(!stated.has_streams);
    let (stated, _) = self::stated(COUNTER);
    assert!(!stated.has_streams);
}

#[test]
fn one_global_of_any_module_that_differs_is_seen() {
    let module = |name: &str, ty: &str, before: &str, after: &str| {
        format!(
            r#"(core module ${name} (global $g (mut {ty}) ({ty}.const {before})) (global (mut i32) (i32.const 1))
                (func (export "f") (global.set $g ({ty}.const {after}))))
            (core instance $i{name} (instantiate ${name}))
            (func (export "{name}") (canon lift (core func $i{name} "f")))"#
        )
    };
    let cases =
        [("a", "i32", "1", "2"), ("b", "i64", "1", "4294967297"), ("c", "f32", "0", "-0"), ("d", "f64", "0", "-0")];
    let modules: String = cases.iter().map(|(name, ty, before, after)| module(name, ty, before, after)).collect();
    let vector = r#"(core module $v (global $g (mut v128) (v128.const i64x2 1 1)) (func (export "f")
        (global.set $g (v128.const i64x2 1 2)))) (core instance $iv (instantiate $v))
        (func (export "v") (canon lift (core func $iv "f")))"#;
    let (_, mut vm) = stated(&format!("(component {modules} {vector})"));
    assert!(!vm.same(), "nothing was saved");
    vm.save().unwrap();
    for name in ["a", "b", "c", "d", "v"] {
        assert!(vm.same(), "{name}");
        let change = vm.top(name);
        vm.call::<(), ()>(change, ()).unwrap();
        assert!(!vm.same(), "{name}");
        vm.restore().unwrap();
    }
}

/// Takes from its end, gives back nothing, and keeps account.
const ALLOCATOR: &str = r#"
  (core module $m
    (memory (export "memory") 1 20)
    (global $end (mut i32) (i32.const 65536))
    (func (export "cabi_realloc") (param $old i32) (param $old_size i32) (param $align i32) (param $size i32)
      (result i32)
      (if (i32.eqz (local.get $old)) (then
        (if (i32.eq (i32.const -1) (memory.grow (i32.shr_u (i32.add (local.get $size) (i32.const 65535)) (i32.const 16))))
          (then unreachable))
        (return (global.get $end))))
      (if (i32.ne (local.get $size) (i32.const 1)) (then unreachable))
      (local.get $old))
    (func (export "pages") (result i32) (memory.size)))
  (core instance $i (instantiate $m))
  (func (export "pages") (result u32) (canon lift (core func $i "pages")))
"#;

#[test]
fn room_is_what_the_allocator_has_after_it() {
    let (stated, mut vm) = stated(&format!("(component {ALLOCATOR})"));
    assert!(stated.has_room);
    assert_eq!(vm.number("pages").unwrap(), 1);
    vm.room(100_000).unwrap();
    assert_eq!(vm.number("pages").unwrap(), 3);
    vm.save().unwrap();
    vm.restore().unwrap();
    assert!(vm.room(u32::MAX / 2).is_err(), "more than it may have");
}

#[test]
fn without_one_allocator_there_is_no_room() {
    let has_room = |text: &str| add_state_calls(&component(text)).unwrap().has_room;
    let module =
        |export: &str| format!("(component (core module $m (memory 1) {export}) (core instance (instantiate $m)))");
    let right = r#"(func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 0))"#;
    assert!(has_room(&module(right)));
    for wrong in [
        "",
        r#"(func (export "cabi_realloc") (param i32 i32 i32) (result i32) (i32.const 0))"#,
        r#"(func (export "cabi_realloc") (param i32 i32 i32 i32))"#,
        r#"(func (export "cabi_realloc") (param i64 i32 i32 i32) (result i32) (i32.const 0))"#,
        r#"(global (export "cabi_realloc") i32 (i32.const 0))"#,
        r#"(func (export "cabi_import_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 0))"#,
    ] {
        assert!(!has_room(&module(wrong)), "{wrong}");
    }
    let two = r#"(component (core module $m (memory 1) RIGHT) (core instance (instantiate $m))
        (core module $n (memory 1) RIGHT) (core instance (instantiate $n)))"#;
    assert!(!has_room(&two.replace("RIGHT", right)));
}

#[test]
fn a_shared_global_is_saved_by_the_module_that_defines_it() {
    let (stated, mut vm) = stated(
        r#"
(component
  (core module $owner
    (global (export "shared") (mut i32) (i32.const 0)))
  (core module $user
    (import "owner" "shared" (global $shared (mut i32)))
    (global $own (mut i32) (i32.const 100))
    (func (export "next") (result i32)
      (global.set $shared (i32.add (global.get $shared) (i32.const 1)))
      (global.set $own (i32.add (global.get $own) (global.get $shared)))
      (global.get $own)))
  (core instance $o (instantiate $owner))
  (core instance $u (instantiate $user (with "owner" (instance $o))))
  (func (export "next") (result u32) (canon lift (core func $u "next"))))
"#,
    );
    assert_eq!((stated.modules, stated.globals), (2, 2));
    vm.save().unwrap();
    for _ in 0..2 {
        assert_eq!(vm.number("next").unwrap(), 101);
        assert_eq!(vm.number("next").unwrap(), 103);
        vm.restore().unwrap();
    }
}

#[test]
fn what_a_start_function_did_stays() {
    let (_, mut vm) = stated(
        r#"
(component
  (core module $m
    (global $calls (mut i32) (i32.const 0))
    (func $begin (global.set $calls (i32.const 40)))
    (start $begin)
    (func (export "next") (result i32)
      (global.set $calls (i32.add (global.get $calls) (i32.const 1)))
      (global.get $calls)))
  (core instance $i (instantiate $m))
  (func (export "next") (result u32) (canon lift (core func $i "next"))))
"#,
    );
    vm.save().unwrap();
    assert_eq!(vm.number("next").unwrap(), 41);
    vm.restore().unwrap();
    assert_eq!(vm.number("next").unwrap(), 41);
}

#[test]
fn without_globals_there_are_calls_that_do_nothing() {
    for text in
        ["(component)", "(component (core module $m (global i32 (i32.const 1))) (core instance (instantiate $m)))"]
    {
        let (stated, mut vm) = stated(text);
        assert_eq!((stated.modules, stated.globals), (0, 0));
        vm.save().unwrap();
        vm.restore().unwrap();
    }
}

#[test]
fn a_module_that_nobody_instantiates_has_no_state() {
    let (stated, _) = stated(
        "(component (core module (global (mut i32) (i32.const 1)) (table 1 funcref) (func (table.set (i32.const 0) (ref.null func)))))",
    );
    assert_eq!(stated.globals, 0);
}

#[test]
fn a_pass_can_be_applied_once() {
    let once = add_state_calls(&component(COUNTER)).unwrap();
    let again = add_state_calls(&once.component);
    assert_eq!(again, Err(StateRefusal::Unsupported(Unsupported::NameTaken { name: STATE_INTERFACE })));
    let taken = r#"(component (core module $m (global (mut i32) (i32.const 0)) (func (export "forerun:save"))) (core instance (instantiate $m)))"#;
    assert_eq!(refusal(taken), StateRefusal::Unsupported(Unsupported::NameTaken { name: "forerun:save" }));
}

#[test]
fn the_order_of_the_index_spaces_does_not_matter() {
    // Types, aliases, nested type components and exports before, between and after the modules.
    let (_, mut vm) = stated(
        r#"
(component
  (type $text string)
  (core module $first (global (export "g") (mut i32) (i32.const 1)) (memory (export "m") 1))
  (component $shim (import "f" (func $f)) (export "f" (func $f)))
  (core instance $one (instantiate $first))
  (alias core export $one "m" (core memory $memory))
  (core module $second
    (import "one" "g" (global $g (mut i32)))
    (func (export "next") (result i32)
      (global.set $g (i32.add (global.get $g) (i32.const 1))) (global.get $g))
    (func (export "quiet")))
  (core instance $two (instantiate $second (with "one" (instance $one))))
  (func $quiet (canon lift (core func $two "quiet")))
  (instance $shimmed (instantiate $shim (with "f" (func $quiet))))
  (export "test:a/b" (instance $shimmed))
  (func (export "next") (result u32) (canon lift (core func $two "next"))))
"#,
    );
    vm.save().unwrap();
    assert_eq!(vm.number("next").unwrap(), 2);
    vm.restore().unwrap();
    assert_eq!(vm.number("next").unwrap(), 2);
}

#[test]
fn changing_a_table_or_dropping_a_segment_is_an_obstacle() {
    let prefix = "(table $t 4 funcref) (memory 1) (elem $e funcref (ref.null func)) (data $d \"x\")";
    let changes = [
        ("(table.set $t (i32.const 0) (ref.null func))", "table.set", "table-changed"),
        ("(drop (table.grow $t (ref.null func) (i32.const 1)))", "table.grow", "table-changed"),
        ("(table.fill $t (i32.const 0) (ref.null func) (i32.const 1))", "table.fill", "table-changed"),
        ("(table.copy $t $t (i32.const 0) (i32.const 1) (i32.const 1))", "table.copy", "table-changed"),
        ("(table.init $t $e (i32.const 0) (i32.const 0) (i32.const 1))", "table.init", "table-changed"),
        ("(data.drop $d)", "data.drop", "segment-dropped"),
        ("(elem.drop $e)", "elem.drop", "segment-dropped"),
    ];
    for (code, expected, name) in changes {
        let found = obstacle(&format!("{prefix} (func) (func (export \"f\") {code})"));
        let (Obstacle::TableChanged { module: 0, function: 1, instruction }
        | Obstacle::SegmentDropped { module: 0, function: 1, instruction }) = found
        else {
            panic!("{code}: {found:?}");
        };
        assert_eq!((instruction, found.name()), (expected, name));
    }
    // Only memory is written, and memory is put back.
    assert!(is_taken(&format!(
        "{prefix} (func (export \"f\") (memory.init $d (i32.const 0) (i32.const 0) (i32.const 1)) (drop (memory.grow (i32.const 1))))"
    )));
}

#[test]
fn a_start_function_and_what_only_it_calls_may_change_anything() {
    let prefix = "(table 4 funcref) (type $nothing (func))
        (func $change (table.set (i32.const 0) (ref.null func)))
        (func $between (call $change))
        (func $start (call $between))
        (start $start)";
    assert!(is_taken(prefix));
    let ways = [
        // Exported, or called by something that is.
        "(export \"f\" (func $change))",
        "(export \"f\" (func $start))",
        "(func (export \"f\") (call $between))",
        "(func (export \"f\") (return_call $between))",
        "(func $far (call $between)) (func (export \"f\") (call $far))",
        // Through a table, or a reference to it.
        "(elem (i32.const 1) $change)",
        "(elem (table 0) (i32.const 1) funcref (ref.func $between))",
        "(elem declare func $change) (func (export \"f\") (drop (ref.func $change)))",
        "(global funcref (ref.func $change))",
        "(table 2 funcref (ref.func $between))",
    ];
    for way in ways {
        let found = obstacle(&format!("{prefix} {way}"));
        assert!(matches!(found, Obstacle::TableChanged { function: 0, .. }), "{way}: {found:?}");
    }
}

#[test]
fn state_outside_of_memories_is_an_obstacle() {
    assert_eq!(
        obstacle("(global i32 (i32.const 0)) (global (mut funcref) (ref.null func))"),
        Obstacle::ReferenceGlobal { module: 0, global: 1 }
    );
    assert_eq!(
        obstacle("(global (mut externref) (ref.null extern))"),
        Obstacle::ReferenceGlobal { module: 0, global: 0 }
    );
    assert_eq!(obstacle("(type (struct))"), Obstacle::GarbageCollection { module: 0 });
    assert_eq!(obstacle("(type (array (mut i8)))"), Obstacle::GarbageCollection { module: 0 });
    assert_eq!(obstacle("(tag)"), Obstacle::Exceptions { module: 0 });
    assert_eq!(obstacle("(memory 1 1 shared)"), Obstacle::SharedMemory { module: 0 });
    assert!(is_taken("(global funcref (ref.null func))"));
}

#[test]
fn tasks_streams_and_own_resources_are_obstacles() {
    let obstacles = [
        (
            r#"(component
                (core module $m
                    (func (export "f") (result i32) (i32.const 0))
                    (func (export "back") (param i32 i32 i32) (result i32) (i32.const 0)))
                (core instance $i (instantiate $m))
                (func (export "f") async (canon lift (core func $i "f") async (callback (func $i "back")))))"#,
            "asynchronous functions",
        ),
        (r#"(component (core func (canon task.cancel)))"#, "tasks"),
        (r#"(component (core func (canon context.get i32 0)))"#, "tasks"),
        (r#"(component (type $s (stream u8)) (core func (canon stream.new $s)))"#, "streams"),
        (r#"(component (type $s (future u8)) (core func (canon future.new $s)))"#, "futures"),
        (r#"(component (core func (canon waitable-set.new)))"#, "waitable sets"),
    ];
    for (text, expected) in obstacles {
        let StateRefusal::Obstacle(Obstacle::Asynchronous { what }) = refusal(text) else {
            panic!("{text}: {:?}", refusal(text));
        };
        assert_eq!(what, expected);
    }
    let hello_p3 = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/hello/components/hello-p3.wasm");
    let refused = add_state_calls(&std::fs::read(hello_p3).unwrap()).unwrap_err();
    assert_eq!(refused.name(), "asynchronous");
    let own = "(component (type $r (resource (rep i32))) (core func (canon resource.new $r)))";
    assert_eq!(refusal(own), StateRefusal::Obstacle(Obstacle::OwnResources));
}

#[test]
fn what_cannot_be_added_to_is_refused_by_name() {
    let unsupported = |text: &str| match refusal(text) {
        StateRefusal::Unsupported(reason) => reason,
        other => panic!("{other:?}"),
    };
    assert_eq!(
        unsupported("(component (component) (component (component (core module))))"),
        Unsupported::NestedModules { component: 1 }
    );
    assert_eq!(unsupported("(component (import \"m\" (core module)))"), Unsupported::ModuleFromOutside);
    assert_eq!(
        unsupported(
            "(component (core module $a) (core module $b) (core instance (instantiate $b)) (core instance (instantiate $b)))"
        ),
        Unsupported::InstantiatedTwice { module: 1 }
    );
    let failed = |bytes: &[u8]| add_state_calls(bytes).unwrap_err();
    let core_module = wat::parse_str("(module)").unwrap();
    assert_eq!(failed(&core_module), StateRefusal::Unsupported(Unsupported::NotAComponent));
    assert_eq!(failed(b""), StateRefusal::Unsupported(Unsupported::NotAComponent));
    let mut cut_off = component(COUNTER);
    cut_off.truncate(cut_off.len() - 3);
    assert!(matches!(failed(&cut_off), StateRefusal::Unsupported(Unsupported::Invalid { .. })));
    // Every reason can be read and has a short name.
    assert!(failed(&cut_off).to_string().starts_with("the component is not valid"));
    assert_eq!(failed(&cut_off).name(), "invalid");
}

#[test]
fn too_many_globals_are_refused_before_they_slow_a_vm_down() {
    let globals = "(global (mut i32) (i32.const 0))".repeat(10_001);
    let text = format!("(component (core module $m {globals}) (core instance (instantiate $m)))");
    assert_eq!(refusal(&text), StateRefusal::TooManyGlobals { module: 0, globals: 10_001, globals_max: 10_000 });
}

mod properties {
    use proptest::prelude::*;
    use wasmtime::Engine;

    use super::*;
    use crate::support::generated::{State, answers, module, wrap};

    /// After a restore, the same calls give the same answers as in a fresh VM of the original. False if the seed makes
    /// nothing that can be called and restored.
    fn check(engine: &Engine, seed: &[u8], before: &[(u8, i64)], after: &[(u8, i64)]) -> bool {
        let Some(module) = module(seed, State::GlobalsOnly) else { return false };
        let source = wrap(&module, "", "", "");
        let stated = add_state_calls(&source).expect("such modules have no obstacle");
        assert!(stated.globals >= 1, "the fuel is one");
        // A VM whose guest trapped is not entered again, so there is nothing to put back.
        let has_trapped = |answers: &[Option<u64>]| answers.last() == Some(&None);

        let Ok(mut original) = Vm::started(engine, &source) else { return false };
        let expected_before = answers(&mut original, before);
        let expected_after = if has_trapped(&expected_before) { Vec::new() } else { answers(&mut original, after) };
        let mut vm = Vm::new(engine, &stated.component);
        assert_eq!(answers(&mut vm, before), expected_before);
        if has_trapped(&expected_before) || has_trapped(&expected_after) {
            return false;
        }
        vm.save().unwrap();
        let mut other = Vm::new(engine, &stated.component);
        other.become_like(&mut vm);
        assert_eq!(answers(&mut other, after), expected_after, "a VM that was never called before");
        for _ in 0..3 {
            assert_eq!(answers(&mut vm, after), expected_after);
            vm.restore().unwrap();
        }
        true
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_restored_vm_answers_like_one_that_never_went_on(
            seed in proptest::collection::vec(any::<u8>(), 200..2_000),
            before in proptest::collection::vec(any::<(u8, i64)>(), 0..3),
            after in proptest::collection::vec(any::<(u8, i64)>(), 1..5),
        ) {
            prop_assume!(check(&engine(), &seed, &before, &after));
        }

        #[test]
        fn bytes_that_a_stranger_changed_are_refused_or_taken_and_never_panic(
            at in any::<prop::sample::Index>(),
            byte in any::<u8>(),
        ) {
            let mut bytes = component(COUNTER);
            let at = at.index(bytes.len());
            bytes[at] = byte;
            let _ = add_state_calls(&bytes);
        }
    }
}
