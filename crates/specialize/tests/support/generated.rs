//! Components around core modules from a generator.

use arbitrary::Unstructured;
use wasm_encoder::Encode;

use super::{Vm, component};

/// What each module exports, and each component with it.
const EXPORTS: &str = r#"(module
    (func (export "a") (param i32) (result i32) unreachable)
    (func (export "b") (param i64) (result i64) unreachable)
    (func (export "c") (param f64) (result f32) unreachable))"#;

/// What a module may have beside functions and globals.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// Nothing, so that the globals are all that changes.
    GlobalsOnly,
    /// A memory and a table.
    MemoryAndTable,
}

/// A module that does not trap unless its fuel ends; `None` if the seed is too short for one.
pub(crate) fn module(seed: &[u8], state: State) -> Option<Vec<u8>> {
    let some = usize::from(state == State::MemoryAndTable);
    let config = wasm_smith::Config {
        exports: Some(wat::parse_str(EXPORTS).unwrap()),
        max_imports: 0,
        max_memories: some,
        max_memory32_bytes: 10 << 16,
        max_tables: some,
        max_table_elements: 100,
        max_tags: 0,
        min_funcs: 6,
        min_globals: 3,
        max_data_segments: some,
        max_element_segments: some,
        allow_start_export: true,
        bulk_memory_enabled: false,
        canonicalize_nans: true,
        disallow_traps: true,
        exceptions_enabled: false,
        gc_enabled: false,
        memory64_enabled: false,
        reference_types_enabled: false,
        relaxed_simd_enabled: false,
        threads_enabled: false,
        ..wasm_smith::Config::default()
    };
    let mut module = wasm_smith::Module::new(config, &mut Unstructured::new(seed)).ok()?;
    module.ensure_termination(20_000).ok()?;
    Some(module.to_bytes())
}

/// A component around such a module. `imports` are definitions that come first, `placeholder` what the module imports,
/// and `with` the arguments that it is instantiated with.
pub(crate) fn wrap(module: &[u8], imports: &str, placeholder: &str, with: &str) -> Vec<u8> {
    let text = format!(
        r#"(component
            {imports}
            (core module $m
                {placeholder}
                (func (export "a") (param i32) (result i32) unreachable)
                (func (export "b") (param i64) (result i64) unreachable)
                (func (export "c") (param f64) (result f32) unreachable))
            (core instance $i (instantiate $m {with}))
            (func (export "a") (param "x" s32) (result s32) (canon lift (core func $i "a")))
            (func (export "b") (param "x" s64) (result s64) (canon lift (core func $i "b")))
            (func (export "c") (param "x" f64) (result f32) (canon lift (core func $i "c"))))"#
    );
    replace_module(&component(&text), module)
}

/// The component with `module` in the place of the one it has: its text cannot hold a module's bytes.
fn replace_module(component: &[u8], module: &[u8]) -> Vec<u8> {
    let found = wasmparser::Parser::new(0).parse_all(component).find_map(|payload| match payload.unwrap() {
        wasmparser::Payload::ModuleSection { unchecked_range, .. } => Some(unchecked_range),
        _ => None,
    });
    let range = found.expect("there is one");
    let mut header = Vec::new();
    range.len().encode(&mut header);
    let mut output = component[..range.start - header.len()].to_vec();
    module.encode(&mut output);
    output.extend_from_slice(&component[range.end..]);
    output
}

/// What one call gives, as bits; `None` if it traps, after which a VM is not entered again.
pub(crate) fn answer(vm: &mut Vm, which: u8, x: i64) -> Option<u64> {
    match which % 3 {
        0 => {
            let function = vm.top("a");
            vm.call::<(i32,), (i32,)>(function, (x as i32,)).map(|(y,)| y as u64).ok()
        }
        1 => {
            let function = vm.top("b");
            vm.call::<(i64,), (i64,)>(function, (x,)).map(|(y,)| y as u64).ok()
        }
        _ => {
            let function = vm.top("c");
            vm.call::<(f64,), (f32,)>(function, (x as f64,)).map(|(y,)| u64::from(y.to_bits())).ok()
        }
    }
}

/// What calls give, up to the first trap.
pub(crate) fn answers(vm: &mut Vm, calls: &[(u8, i64)]) -> Vec<Option<u64>> {
    let mut answers = Vec::new();
    for (which, x) in calls {
        answers.push(answer(vm, *which, *x));
        if answers.last() == Some(&None) {
            break;
        }
    }
    answers
}
