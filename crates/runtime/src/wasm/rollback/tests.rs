//! Rollbacks of core modules in components, compared with fresh ones: all memory and all results, which tell of globals.

use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use arbitrary::Unstructured;
use forerun_specialize::passes::state::add_state_calls;
use forerun_types::{FunctionSpec, NoRoom, VmDiscard};
use wasmtime::component::{Component, Instance, Linker, Val};
use wasmtime::{ExternType, FuncType, Module, ValType};

use super::super::engine::{Code, Concurrency, Interruption};
use super::super::sandbox::Sandbox;
use super::super::settings::WasmSettings;
use super::super::vm::{Template, VmState, VmStore};
use super::baseline::Baseline;
use super::calls::{RoomFailed, StateExports};
use super::nobody::host;
use super::point::Point;
use super::room::Growth;
use crate::sys::Tracker;

static SANDBOX: LazyLock<Sandbox> = LazyLock::new(|| {
    let settings = WasmSettings { vms_max: 64, ..WasmSettings::default() };
    Sandbox::new(&settings, Concurrency::None, Code::Whole(Interruption::Epochs), || {}).unwrap()
});
static TRACKER: LazyLock<Arc<Tracker>> = LazyLock::new(|| Tracker::new().unwrap());

fn template() -> Template {
    Template::new(SANDBOX.engine.clone(), &FunctionSpec::named("core".parse().unwrap()), host(), None)
}

/// A component around a core module, which exports the module's functions, and went through the specializer.
struct Wrapped {
    component: Component,
    exports: StateExports,
    functions: Vec<(String, Vec<ValType>)>,
}

/// Bytes of a section: its number, its size, its content.
fn section(number: u8, content: &[u8]) -> Vec<u8> {
    [&[number][..], &leb(content.len()), content].concat()
}

fn leb(mut number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = (number & 0x7f) as u8;
        number >>= 7;
        bytes.push(if number == 0 { low } else { low | 0x80 });
        if number == 0 {
            return bytes;
        }
    }
}

fn text(name: &str) -> Vec<u8> {
    [leb(name.len()), name.as_bytes().to_vec()].concat()
}

/// A core type as the component's binary format writes it: signed integers and floats.
fn code(ty: &ValType) -> Option<u8> {
    match ty {
        ValType::I32 => Some(0x7a),
        ValType::I64 => Some(0x78),
        ValType::F32 => Some(0x76),
        ValType::F64 => Some(0x75),
        ValType::V128 | ValType::Ref(_) => None,
    }
}

/// The type of a lifted function; none for what cannot be lifted as it is.
fn lifted_type(ty: &FuncType) -> Option<Vec<u8>> {
    let parameters = ty.params().map(|ty| code(&ty)).collect::<Option<Vec<_>>>()?;
    let results = ty.results().map(|ty| code(&ty)).collect::<Option<Vec<_>>>()?;
    if parameters.len() > 16 || results.len() > 1 {
        return None;
    }
    let mut bytes = vec![0x40];
    bytes.extend(leb(parameters.len()));
    for (number, parameter) in parameters.iter().enumerate() {
        bytes.extend(text(&format!("p{number}")));
        bytes.push(*parameter);
    }
    match results.first() {
        Some(result) => bytes.extend([0, *result]),
        None => bytes.extend([1, 0]),
    }
    Some(bytes)
}

impl Wrapped {
    /// None for a module that does not compile here, has nothing to call, or that the specializer refuses.
    fn of(core: &[u8]) -> Option<Self> {
        let module = Module::new(&SANDBOX.engine, core).ok()?;
        let (mut aliases, mut types, mut lifts, mut exports) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let mut functions = Vec::new();
        for export in module.exports() {
            let ExternType::Func(ty) = export.ty() else { continue };
            let Some(lifted) = lifted_type(&ty) else { continue };
            let number = functions.len();
            let name = format!("f{number}");
            aliases.extend([&[0, 0, 1, 0][..], &text(export.name())].concat());
            types.extend(lifted);
            lifts.extend([&[0, 0][..], &leb(number), &[0], &leb(number)].concat());
            exports.extend([&[0][..], &text(&name), &[1], &leb(number), &[0]].concat());
            functions.push((export.name().to_owned(), ty.params().collect()));
        }
        let counted = |items: Vec<u8>| [leb(functions.len()), items].concat();
        let component = [
            b"\0asm\x0d\0\x01\0".to_vec(),
            section(1, core),
            section(2, &[1, 0, 0, 0]),
            section(6, &counted(aliases)),
            section(7, &counted(types)),
            section(8, &counted(lifts)),
            section(11, &counted(exports)),
        ]
        .concat();
        if functions.is_empty() {
            return None;
        }
        let stated = add_state_calls(&component).ok()?.component;
        let component = Component::from_binary(&SANDBOX.engine, &stated).unwrap();
        let exports = StateExports::of(&component).unwrap();
        Some(Self { component, exports, functions })
    }

    fn wat(text: &str) -> Self {
        Self::of(&wat::parse_str(text).unwrap()).expect("admitted")
    }
}

/// A store with an instance in it, and what it takes to put it back. The point goes before the store.
struct CoreVm<'a> {
    point: Option<Point>,
    store: VmStore,
    instance: Instance,
    wrapped: &'a Wrapped,
}

impl<'a> CoreVm<'a> {
    async fn new(wrapped: &'a Wrapped) -> wasmtime::Result<Self> {
        let mut store = template().store(Instant::now() + Duration::from_secs(60));
        let linker = Linker::new(&SANDBOX.engine);
        let instance = linker.instantiate_async(&mut store, &wrapped.component).await?;
        wrapped.exports.make_room(&mut store, &instance).await?;
        wrapped.exports.save(&mut store, &instance).await?;
        store.data_mut().limiter.made();
        Ok(Self { point: None, store, instance, wrapped })
    }

    async fn call(&mut self, name: &str, arguments: &[Val]) -> Result<Vec<Val>, String> {
        let number = self.wrapped.functions.iter().position(|(known, _)| known == name).unwrap();
        let function = self.instance.get_func(&mut self.store, format!("f{number}")).unwrap();
        let mut results = vec![Val::Bool(false); function.ty(&self.store).results().len()];
        let called = function.call_async(&mut self.store, arguments, &mut results).await;
        called.map(|()| results).map_err(|error| error.root_cause().to_string())
    }

    fn grew(&self) -> bool {
        let limiter = &self.store.data().limiter;
        limiter.memory_grew() || limiter.table_grew()
    }

    async fn put_back(&mut self, baseline: &Baseline) -> Result<(), VmDiscard> {
        match &mut self.point {
            Some(point) => point.again(&mut self.store, baseline).await?,
            None => {
                let (exports, instance) = (&self.wrapped.exports, &self.instance);
                self.point = Some(Point::first(&mut self.store, instance, exports, baseline, &TRACKER).await?);
            }
        }
        let clean = self.point.as_ref().unwrap().is_clean(&mut self.store, baseline).await;
        assert!(clean, "not as it was made");
        Ok(())
    }

    /// The memories as they are.
    async fn state(&mut self) -> Baseline {
        let memories = self.wrapped.exports.memories(&mut self.store, &self.instance).await.unwrap();
        Baseline::of(&mut self.store, &memories).unwrap()
    }

    async fn equals(&mut self, state: &Baseline) -> bool {
        let memories = self.wrapped.exports.memories(&mut self.store, &self.instance).await.unwrap();
        state.equals(&self.store, &memories)
    }
}

#[tokio::test]
async fn memories_and_globals_of_all_kinds_go_back() {
    let module = Wrapped::wat(
        r#"(module
            (memory 40) (memory $other 2)
            (data (i32.const 70000) "in the image") (data (memory $other) (i32.const 5) "and here")
            (global $count (mut i32) (i32.const 7)) (global $wide (mut i64) (i64.const -1))
            (global $float (mut f32) (f32.const nan:0x200001)) (global $double (mut f64) (f64.const -0))
            (global $vector (mut v128) (v128.const i64x2 1 2)) (global $fixed i32 (i32.const 3))
            (func (export "change") (param $at i32) (result i32)
                (i64.store (local.get $at) (i64.const 0x0123456789abcdef))
                (i64.store offset=65536 (local.get $at) (i64.const 0x0123456789abcdef))
                (memory.fill (i32.const 70002) (i32.const 1) (i32.const 4))
                (memory.copy $other 0 (i32.const 5000) (i32.const 70000) (i32.const 20))
                (global.set $count (i32.add (global.get $count) (i32.const 1)))
                (global.set $wide (i64.const 9)) (global.set $float (f32.const 1)) (global.set $double (f64.const 1))
                (global.set $vector (v128.const i64x2 3 4))
                (global.get $count))
            (func (export "globals") (result i64)
                (i64.xor (i64.xor (global.get $wide) (i64.reinterpret_f64 (global.get $double)))
                    (i64.xor (i64.extend_i32_u (i32.reinterpret_f32 (global.get $float)))
                        (i64x2.extract_lane 1 (global.get $vector))))))"#,
    );
    let mut vm = CoreVm::new(&module).await.unwrap();
    let baseline = vm.state().await;
    let globals = vm.call("globals", &[]).await.unwrap();
    for round in 0..50 {
        let at = Val::S32(round * 40_009 % (38 << 16));
        assert_eq!(vm.call("change", &[at]).await.unwrap(), [Val::S32(8)], "the counter never advances");
        assert!(!vm.equals(&baseline).await);
        assert_ne!(vm.call("globals", &[]).await.unwrap(), globals);
        vm.put_back(&baseline).await.unwrap();
        assert!(vm.point.as_ref().unwrap().restored_bytes > 0);
        assert_eq!(vm.call("globals", &[]).await.unwrap(), globals);
    }
}

#[tokio::test]
async fn what_a_page_was_written_with_once_is_restored_every_time_and_counted() {
    let module = Wrapped::wat(
        r#"(module (memory 16) (func (export "write") (param i32) (i32.store (local.get 0) (i32.const 1))))"#,
    );
    let mut vm = CoreVm::new(&module).await.unwrap();
    let baseline = vm.state().await;
    // The first page is written whenever the host asks where the memory is.
    for (page, pages) in [(1, 1), (2, 2), (3, 3), (3, 3)] {
        vm.call("write", &[Val::S32(4096 * page)]).await.unwrap();
        vm.put_back(&baseline).await.unwrap();
        assert_eq!(vm.point.as_ref().unwrap().restored_bytes, pages * 4096, "page {page}");
    }
}

#[tokio::test]
async fn floods_of_pages_are_discarded_and_growth_is_noticed() {
    let module = Wrapped::wat(
        r#"(module (memory 1 2048) (memory $large 400) (table 1 8 funcref)
            (func (export "grow") (drop (memory.grow (i32.const 1))))
            (func (export "flood") (memory.fill $large (i32.const 0) (i32.const 1) (i32.const 16777216)))
            (func (export "scatter") (local $at i32) (loop
                (i32.store $large (local.get $at) (i32.const 1))
                (local.set $at (i32.add (local.get $at) (i32.const 8192)))
                (br_if 0 (i32.lt_u (local.get $at) (i32.const 26214400)))))
            (func (export "little") (i32.store (i32.const 0) (i32.const 1))))"#,
    );
    for (first, second) in [("flood", None), ("little", Some("flood")), ("little", Some("scatter"))] {
        let mut vm = CoreVm::new(&module).await.unwrap();
        let baseline = vm.state().await;
        vm.call(first, &[]).await.unwrap();
        let mut put_back = vm.put_back(&baseline).await;
        if let Some(second) = second {
            assert_eq!(put_back, Ok(()));
            vm.call(second, &[]).await.unwrap();
            put_back = vm.put_back(&baseline).await;
        }
        assert_eq!(put_back, Err(VmDiscard::TooManyPages), "{first} {second:?}");
    }
    let mut vm = CoreVm::new(&module).await.unwrap();
    let baseline = vm.state().await;
    assert!(!vm.grew());
    vm.call("grow", &[]).await.unwrap();
    assert!(vm.grew());
    assert_eq!(vm.put_back(&baseline).await, Err(VmDiscard::Unlike), "and would not fit");
}

#[tokio::test]
async fn the_baseline_of_another_component_does_not_fit() {
    let one = Wrapped::wat("(module (memory 1) (func (export \"f\")))");
    let two = Wrapped::wat("(module (memory 2) (func (export \"f\")))");
    let baseline = CoreVm::new(&one).await.unwrap().state().await;
    assert_eq!(CoreVm::new(&two).await.unwrap().put_back(&baseline).await, Err(VmDiscard::Unlike));
}

#[tokio::test]
async fn the_next_vm_of_a_slot_starts_clean() {
    let module = Wrapped::wat(
        r#"(module (memory 4) (data (i32.const 100) "image")
            (func (export "write") (memory.fill (i32.const 0) (i32.const 1) (i32.const 200000)))
            (func (export "sum") (result i32) (local $at i32) (local $sum i32) (loop
                (local.set $sum (i32.add (local.get $sum) (i32.load8_u (local.get $at))))
                (local.set $at (i32.add (local.get $at) (i32.const 1)))
                (br_if 0 (i32.lt_u (local.get $at) (i32.const 262144)))) (local.get $sum)))"#,
    );
    let mut expected = None;
    for _ in 0..200 {
        let mut vm = CoreVm::new(&module).await.unwrap();
        let baseline = vm.state().await;
        let sum = vm.call("sum", &[]).await.unwrap();
        assert_eq!(*expected.get_or_insert(sum.clone()), sum, "a slot that was watched before is like any other");
        vm.call("write", &[]).await.unwrap();
        vm.put_back(&baseline).await.unwrap();
        vm.call("write", &[]).await.unwrap();
    }
}

/// Has as much room made as two VMs call for that grew by a page.
fn want_room(exports: &StateExports) {
    let growth = Growth { bytes: 65_536, room_bytes: 0, room_bytes_max: u64::MAX };
    (0..2).for_each(|_| exports.room.grew(growth, exports.can_make_room()));
}

#[tokio::test]
async fn in_a_vm_with_room_requests_need_not_grow_memory_and_all_of_it_goes_back() {
    // Gives blocks one after the other, and has memory grow when there is none left; a smaller size gives the rest back.
    let module = Wrapped::wat(
        r#"(module (memory 1 100) (global $end (mut i32) (i32.const 1024))
            (func $have (param $end i32)
                (if (i32.gt_u (local.get $end) (i32.shl (memory.size) (i32.const 16))) (then
                    (drop (memory.grow (i32.add (i32.const 1)
                        (i32.shr_u (i32.sub (local.get $end) (i32.shl (memory.size) (i32.const 16))) (i32.const 16))))))))
            (func (export "cabi_realloc") (param $old i32) (param $from i32) (param $align i32) (param $to i32)
                (result i32)
                (if (i32.eqz (local.get $old)) (then (local.set $old (global.get $end))))
                (global.set $end (i32.add (local.get $old) (local.get $to)))
                (call $have (global.get $end))
                (local.get $old))
            (func (export "write") (param $bytes i32) (result i32) (local $at i32)
                (local.set $at (global.get $end))
                (global.set $end (i32.add (global.get $end) (local.get $bytes)))
                (call $have (global.get $end))
                (memory.fill (local.get $at) (i32.const 7) (local.get $bytes))
                (local.get $at)))"#,
    );
    let mut without = CoreVm::new(&module).await.unwrap();
    without.call("write", &[Val::S32(500_000)]).await.unwrap();
    assert!(without.grew());
    want_room(&module.exports);
    let mut vm = CoreVm::new(&module).await.unwrap();
    let baseline = vm.state().await;
    for _ in 0..10 {
        assert_eq!(vm.call("write", &[Val::S32(500_000)]).await.unwrap(), [Val::S32(1025)], "a byte is taken");
        assert!(!vm.grew());
        vm.put_back(&baseline).await.unwrap();
    }
}

#[tokio::test]
async fn an_allocator_that_fails_is_not_asked_again() {
    let module = Wrapped::wat(
        r#"(module (memory 1) (func (export "f"))
            (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) unreachable))"#,
    );
    want_room(&module.exports);
    let failed = CoreVm::new(&module).await.err().expect("no room");
    assert!(failed.is::<RoomFailed>(), "{failed:?}");
    assert_eq!((module.exports.room.bytes(), module.exports.room.refusal()), (0, Some(NoRoom::Trapped)));
    CoreVm::new(&module).await.unwrap();
}

#[tokio::test]
async fn an_allocator_that_calls_the_host_is_not_asked_again() {
    let text = r#"(component
        (import "host" (func $host)) (core func $host (canon lower (func $host)))
        (core module $m (import "" "host" (func $host)) (memory 1)
            (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (call $host) (i32.const 8)))
        (core instance (instantiate $m (with "" (instance (export "host" (func $host)))))))"#;
    let stated = add_state_calls(&wat::parse_str(text).unwrap()).unwrap().component;
    let component = Component::from_binary(&SANDBOX.engine, &stated).unwrap();
    let exports = StateExports::of(&component).unwrap();
    want_room(&exports);
    let mut linker = Linker::new(&SANDBOX.engine);
    let host = |mut store: wasmtime::StoreContextMut<'_, VmState>, (): ()| {
        wasmtime_wasi::WasiView::ctx(store.data_mut());
        Ok(())
    };
    linker.root().func_wrap("host", host).unwrap();
    let mut store = template().store(Instant::now() + Duration::from_secs(60));
    let instance = linker.instantiate_async(&mut store, &component).await.unwrap();
    let failed = exports.make_room(&mut store, &instance).await.unwrap_err();
    assert!(failed.is::<RoomFailed>(), "{failed:?}");
    assert_eq!(exports.room.refusal(), Some(NoRoom::HostCalled));
}

#[tokio::test]
async fn a_global_that_did_not_go_back_would_be_noticed() {
    let module = Wrapped::wat(
        r#"(module (memory 1) (global $g (mut i64) (i64.const 5))
            (func (export "set") (param i64) (global.set $g (local.get 0))))"#,
    );
    let mut vm = CoreVm::new(&module).await.unwrap();
    let baseline = vm.state().await;
    vm.put_back(&baseline).await.unwrap();
    for (value, clean) in [(6, false), (5, true)] {
        vm.call("set", &[Val::S64(value)]).await.unwrap();
        assert_eq!(vm.point.as_ref().unwrap().is_clean(&mut vm.store, &baseline).await, clean, "{value}");
    }
}

/// A small generator of numbers, so that a seed tells everything.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).unwrap()
    }

    fn value(&mut self, ty: &ValType) -> Val {
        let bits = self.next();
        match ty {
            // Small numbers are addresses in memory more often.
            ValType::I32 => Val::S32((bits % 70_000) as i32),
            ValType::I64 => Val::S64(bits as i64),
            ValType::F32 => Val::Float32((bits % 1_000) as f32),
            _ => Val::Float64((bits % 1_000_000) as f64),
        }
    }
}

/// A module made from a seed: several memories and globals, everything exported, no imports, and an end to every loop.
fn generated(seed: u64) -> Option<Wrapped> {
    let mut numbers = Numbers(seed);
    let entropy: Vec<u8> = (0..2_000).flat_map(|_| numbers.next().to_le_bytes()).collect();
    let config = wasm_smith::Config {
        max_imports: 0,
        min_funcs: 3,
        max_funcs: 12,
        min_memories: 1,
        max_memories: 3,
        max_memory32_bytes: 4 << 20,
        memory_max_size_required: true,
        memory64_enabled: false,
        min_globals: 2,
        max_globals: 20,
        max_tables: 3,
        max_table_elements: 1_000,
        table_max_size_required: true,
        min_data_segments: 2,
        export_everything: true,
        gc_enabled: false,
        exceptions_enabled: false,
        threads_enabled: false,
        reference_types_enabled: false,
        bulk_memory_enabled: false,
        ..wasm_smith::Config::default()
    };
    let mut made = wasm_smith::Module::new(config, &mut Unstructured::new(&entropy)).ok()?;
    made.ensure_termination(2_000).ok()?;
    Wrapped::of(&made.to_bytes())
}

/// What came of a comparison, for the assertion that it compared something.
#[derive(Default, Debug)]
struct Tally {
    modules: u32,
    rollbacks: u32,
    changed: u32,
    traps: u32,
    growths: u32,
}

async fn compare(seed: u64, module: &Wrapped, tally: &mut Tally) {
    // It may trap when it starts.
    let Ok(mut rolled) = CoreVm::new(module).await else { return };
    let baseline = rolled.state().await;
    let mut numbers = Numbers(!seed);
    tally.modules += 1;
    for call in 0..40 {
        let (name, parameters) = &module.functions[numbers.below(module.functions.len())];
        let arguments: Vec<_> = parameters.iter().map(|ty| numbers.value(ty)).collect();
        let mut fresh = CoreVm::new(module).await.unwrap();
        assert!(fresh.equals(&baseline).await, "seed {seed}: instantiation is deterministic");
        let (expected, found) = (fresh.call(name, &arguments).await, rolled.call(name, &arguments).await);
        assert_eq!(format!("{expected:?}"), format!("{found:?}"), "seed {seed}, call {call} of {name}");
        let grew = rolled.grew();
        assert_eq!(grew, fresh.grew(), "seed {seed}, call {call} of {name}");
        if found.is_err() || grew {
            tally.traps += u32::from(found.is_err());
            tally.growths += u32::from(grew);
            rolled = CoreVm::new(module).await.unwrap();
            continue;
        }
        let after = fresh.state().await;
        assert!(rolled.equals(&after).await, "seed {seed}, call {call} of {name}: another memory after the call");
        rolled.put_back(&baseline).await.unwrap();
        tally.rollbacks += 1;
        tally.changed += u32::from(!fresh.equals(&baseline).await);
    }
}

#[tokio::test]
async fn generated_modules_answer_as_fresh_ones_do() {
    let seeds = std::env::var("FORERUN_ROLLBACK_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(40);
    let mut tally = Tally::default();
    for seed in 0..seeds {
        if let Some(module) = generated(seed) {
            compare(seed, &module, &mut tally).await;
        }
    }
    println!("{tally:?}");
    assert!(tally.modules >= 5 && tally.rollbacks >= 50, "the seeds must give something to compare: {tally:?}");
}
