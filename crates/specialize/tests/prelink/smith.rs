//! Modules made by `wasm-smith`: two that fit each other, linked and merged, do the same.
//!
//! One module imports whatever it likes of the exports of the other. Functions of both are called with random
//! numbers. The seeds are fixed, so a failure names the seed that shows it again.

use arbitrary::Unstructured;
use forerun_specialize::passes::prelink::{PrelinkBounds, prelink};
use wasm_encoder::reencode::{Reencode, RoundtripReencoder};
use wasm_encoder::{
    ComponentBuilder, ComponentExportKind, ComponentValType, EntityType, ExportKind, ImportSection, ModuleArg,
    PrimitiveValType, TypeSection,
};
use wasm_smith::{Config, Module};
use wasmparser::{ExternalKind, Payload, TypeRef};
use wasmtime::component::Val;

use super::generated::Random;
use super::harness::run;
use super::lifted::lifted;

const SEEDS: u64 = 250;
/// Functions called of each module: more say little new and each is compiled twice.
const CALLED_MAX: usize = 6;

/// What a module exports, in the words of imports.
struct Shape {
    types: Vec<wasmparser::FuncType>,
    exports: Vec<(String, TypeRef)>,
}

fn shape(module: &[u8]) -> Shape {
    let mut types = Vec::new();
    let (mut functions, mut tables, mut memories, mut globals) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut exports = Vec::new();
    for payload in wasmparser::Parser::new(0).parse_all(module) {
        match payload.unwrap() {
            Payload::TypeSection(groups) => types.extend(groups.into_iter_err_on_gc_types().map(Result::unwrap)),
            Payload::ImportSection(imports) => {
                for import in imports.into_imports() {
                    match import.unwrap().ty {
                        ty @ (TypeRef::Func(_) | TypeRef::FuncExact(_)) => functions.push(ty),
                        ty @ TypeRef::Table(_) => tables.push(ty),
                        ty @ TypeRef::Memory(_) => memories.push(ty),
                        ty @ TypeRef::Global(_) => globals.push(ty),
                        TypeRef::Tag(_) => unreachable!("not generated"),
                    }
                }
            }
            Payload::FunctionSection(of) => functions.extend(of.into_iter().map(|ty| TypeRef::Func(ty.unwrap()))),
            Payload::TableSection(of) => tables.extend(of.into_iter().map(|table| TypeRef::Table(table.unwrap().ty))),
            Payload::MemorySection(of) => memories.extend(of.into_iter().map(|ty| TypeRef::Memory(ty.unwrap()))),
            Payload::GlobalSection(of) => globals.extend(of.into_iter().map(|it| TypeRef::Global(it.unwrap().ty))),
            Payload::ExportSection(of) => {
                for export in of {
                    let export = export.unwrap();
                    let space = match export.kind {
                        ExternalKind::Func | ExternalKind::FuncExact => &functions,
                        ExternalKind::Table => &tables,
                        ExternalKind::Memory => &memories,
                        ExternalKind::Global => &globals,
                        ExternalKind::Tag => unreachable!("not generated"),
                    };
                    exports.push((export.name.to_owned(), space[export.index as usize]));
                }
            }
            _ => {}
        }
    }
    Shape { types, exports }
}

/// A module that only says what may be imported.
fn importable(shape: &Shape) -> Vec<u8> {
    let mut types = TypeSection::new();
    for ty in &shape.types {
        types.ty().func_type(&RoundtripReencoder.func_type(ty.clone()).unwrap());
    }
    let mut imports = ImportSection::new();
    for (name, ty) in &shape.exports {
        let ty: EntityType = RoundtripReencoder.entity_type(*ty).unwrap();
        imports.import("a", name, ty);
    }
    let mut module = wasm_encoder::Module::new();
    module.section(&types).section(&imports);
    module.finish()
}

fn module(random: &mut Random, imports: Option<&[u8]>, references: bool) -> Option<Vec<u8>> {
    let data: Vec<u8> = (0..400).flat_map(|_| random.next().to_le_bytes()).collect();
    let config = Config {
        available_imports: Some(imports.map_or_else(|| wasm_encoder::Module::new().finish(), <[u8]>::to_vec)),
        export_everything: true,
        min_funcs: 2,
        max_funcs: 8,
        max_instructions: 60,
        max_memories: if imports.is_some() { 0 } else { 1 },
        max_memory32_bytes: 4 << 16,
        max_tables: 2,
        max_table_elements: 32,
        max_globals: 6,
        max_element_segments: 4,
        max_data_segments: 3,
        allow_start_export: false,
        exceptions_enabled: false,
        gc_enabled: false,
        memory64_enabled: false,
        threads_enabled: false,
        simd_enabled: false,
        relaxed_simd_enabled: false,
        canonicalize_nans: true,
        reference_types_enabled: references,
        ..Config::default()
    };
    let mut module = Module::new(config, &mut Unstructured::new(&data)).ok()?;
    module.ensure_termination(500).ok()?;
    Some(module.to_bytes())
}

/// Functions that can be lifted without memory: at most 16 numbers in, at most one out.
fn liftable(shape: &Shape) -> Vec<(String, Vec<PrimitiveValType>, Option<PrimitiveValType>)> {
    let one = |(name, ty): &(String, TypeRef)| {
        let TypeRef::Func(ty) = ty else { return None };
        let (parameters, result) = lifted(&shape.types[*ty as usize])?;
        Some((name.clone(), parameters, result))
    };
    shape.exports.iter().filter_map(one).take(CALLED_MAX).collect()
}

/// A function to call: its name, and the types of its parameters.
type Callable = (String, Vec<PrimitiveValType>);

fn linked(a: &[u8], b: &[u8]) -> (Vec<u8>, Vec<Callable>) {
    let mut builder = ComponentBuilder::default();
    let first = builder.core_module_raw(None, a);
    let second = builder.core_module_raw(None, b);
    let none: [(&str, ModuleArg); 0] = [];
    let first = builder.core_instantiate(None, first, none);
    let second = builder.core_instantiate(None, second, [("a", ModuleArg::Instance(first))]);
    let mut callable = Vec::new();
    for (instance, bytes) in [(second, b), (first, a)] {
        for (name, parameters, result) in liftable(&shape(bytes)) {
            let core = builder.core_alias_export(None, instance, &name, ExportKind::Func);
            let (ty, mut encoder) = builder.type_function(None);
            let names: Vec<_> = (0..parameters.len()).map(|index| format!("p{index}")).collect();
            let typed = names.iter().zip(&parameters).map(|(name, ty)| (name.as_str(), ComponentValType::from(*ty)));
            encoder.params(typed.collect::<Vec<_>>()).result(result.map(ComponentValType::from));
            let lifted = builder.lift_func(None, core, ty, []);
            let name = format!("f{}", callable.len());
            builder.export(&name, ComponentExportKind::Func, lifted, None);
            callable.push((name, parameters));
        }
    }
    (builder.finish(), callable)
}

fn argument(random: &mut Random, ty: PrimitiveValType) -> Val {
    let small = random.below(2) == 0;
    let bits = if small { u64::from(random.below(8)) } else { random.next() };
    match ty {
        PrimitiveValType::U32 => Val::U32(bits as u32),
        PrimitiveValType::S64 => Val::S64(bits.cast_signed()),
        PrimitiveValType::F32 => Val::Float32(f32::from_bits(bits as u32)),
        _ => Val::Float64(f64::from_bits(bits)),
    }
}

#[test]
fn modules_at_random() {
    let (mut merged, mut refused, mut answers, mut unknown) = (0, std::collections::BTreeMap::new(), 0, 0);
    for seed in 0..SEEDS {
        let random = &mut Random(seed);
        // Globals that are references are refused, and nearly every module would have one.
        let references = random.below(4) == 0;
        let Some(a) = module(random, None, references) else { continue };
        let Some(b) = module(random, Some(&importable(&shape(&a))), references) else { continue };
        let (bytes, callable) = linked(&a, &b);
        if callable.is_empty() {
            continue;
        }
        let one = match prelink(&bytes, &PrelinkBounds::default()) {
            Ok(one) => one,
            Err(refusal) => {
                assert!(!refusal.name().starts_with("in"), "seed {seed}: {refusal}");
                *refused.entry(refusal.name()).or_insert(0) += 1;
                continue;
            }
        };
        merged += 1;
        for _ in 0..3 {
            let arguments: Vec<Vec<Val>> = callable
                .iter()
                .map(|(_, parameters)| parameters.iter().map(|ty| argument(random, *ty)).collect())
                .collect();
            let calls: Vec<_> = callable.iter().zip(&arguments).map(|((name, _), a)| (name.as_str(), &a[..])).collect();
            // The engine of this build knows no `externref`.
            let Ok(before) = run(&bytes, &calls) else {
                unknown += 1;
                break;
            };
            let after = run(&one.bytes, &calls).unwrap();
            answers += before.calls.iter().flatten().filter(|call| call.is_ok()).count();
            assert_eq!(before, after, "seed {seed}");
        }
    }
    println!("{merged} merged, {answers} answers, {unknown} unknown to the engine, refused: {refused:?}");
    assert!(merged - unknown > SEEDS / 3 && answers > 100, "the test has something to compare");
}
