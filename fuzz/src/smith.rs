//! For `generated`: components around core modules that `wasm-smith` makes of bytes.
//!
//! One module or two of which the second imports what it likes of the first, so that there is something to merge. Each
//! uses the proposals that bits of the input allow; what the passes refuse by name (references to the host's objects,
//! wide addresses, exceptions) is rare enough that most components are taken.

#[path = "../../crates/specialize/tests/support/lifted.rs"]
mod lifted;

use self::lifted::lifted;
use crate::chains::is_valid;
use crate::numbers::Numbers;
use arbitrary::Unstructured;
use wasm_encoder::reencode::{Reencode, RoundtripReencoder};
use wasm_encoder::{
    CodeSection, ComponentBuilder, ComponentExportKind, ComponentValType, EntityType, ExportKind, ExportSection,
    Function, FunctionSection, ImportSection, Instruction, ModuleArg, TypeSection,
};
use wasm_smith::{Config, Module};
use wasmparser::{ExternalKind, FuncType, Parser, Payload, TypeRef};

/// Bytes of the input that are not the module's.
const HEADER_BYTES: usize = 8;
/// Functions exported of each module.
const LIFTED_MAX: usize = 8;
/// Bytes that are added to the input, so that short inputs are modules with bodies, too.
const FILLING_BYTES: usize = 1_500;

/// What a module exports, in the words of imports.
struct Shape {
    types: Vec<FuncType>,
    exports: Vec<(String, TypeRef)>,
}

/// The component that bytes make, and a stream of numbers for what is to be done with it; `None` if they make none.
pub fn component(bytes: &[u8]) -> Option<(Vec<u8>, Numbers)> {
    let (header, data) = bytes.split_first_chunk::<HEADER_BYTES>()?;
    let mut numbers = Numbers::of(header);
    let rare = std::array::from_fn(|_| numbers.below(8) == 0);
    let (first_data, second_data) = data.split_at(data.len() / 2);
    let first = module(header, &rare, first_data, None, &mut numbers)?;
    let shape_of_first = shape(&first);
    let mut builder = ComponentBuilder::default();
    let module_index = builder.core_module_raw(None, &first);
    let none: [(&str, ModuleArg); 0] = [];
    let first_instance = builder.core_instantiate(None, module_index, none);
    let mut exported = 0;
    if header[0] & 3 != 0 {
        let second = module(header, &rare, second_data, Some(&importable(&shape_of_first)), &mut numbers)?;
        let module_index = builder.core_module_raw(None, &second);
        let arguments = [("a", ModuleArg::Instance(first_instance))];
        let instance = builder.core_instantiate(None, module_index, arguments);
        exported = export(&mut builder, instance, &shape(&second), exported);
    }
    export(&mut builder, first_instance, &shape_of_first, exported);
    Some((builder.finish(), numbers))
}

/// What few modules use, since most passes refuse it by name. Both modules of a component use the same: an imported table
/// of references is none for a module that knows no references.
type Rare = [bool; 7];

fn module(
    header: &[u8; HEADER_BYTES],
    rare: &Rare,
    data: &[u8],
    imports: Option<&[u8]>,
    numbers: &mut Numbers,
) -> Option<Vec<u8>> {
    let [lifted, flags, more, sizes, functions, ..] = *header;
    // What is lifted: what happens to fit, or of the last module what it is told to export.
    let told = lifted & 4 != 0 && (imports.is_some() || lifted & 3 == 0);
    let on = |bit: u8| flags & (1 << bit) != 0;
    let [memory64, tags, references, collected, start, simd, constants] = *rare;
    let data = [data, &numbers.bytes(FILLING_BYTES)].concat();
    let config = Config {
        available_imports: Some(imports.map_or_else(|| wasm_encoder::Module::new().finish(), <[u8]>::to_vec)),
        export_everything: !told,
        exports: told.then(wanted),
        min_types: 3,
        min_funcs: 2 + usize::from(functions % 12),
        max_funcs: 24,
        max_instructions: 40 + usize::from(sizes) * 2,
        min_memories: u32::from(imports.is_none() && on(0)),
        max_memories: if more & 7 == 0 { 3 } else { usize::from(imports.is_none()) },
        max_memory32_bytes: 4 << 16,
        max_memory64_bytes: 4 << 16,
        memory64_enabled: memory64,
        min_tables: u32::from(on(2)),
        max_tables: 3,
        max_table_elements: 64,
        max_globals: 8,
        max_tags: if tags { 3 } else { 0 },
        max_element_segments: 5,
        max_data_segments: 4,
        allow_start_export: start,
        bulk_memory_enabled: on(4),
        tail_call_enabled: on(5),
        multi_value_enabled: true,
        simd_enabled: simd,
        relaxed_simd_enabled: simd && on(7),
        extended_const_enabled: constants,
        exceptions_enabled: tags,
        // The generator asserts that exceptions, which are references, come with those.
        reference_types_enabled: references || tags,
        gc_enabled: collected && references,
        threads_enabled: false,
        shared_everything_threads_enabled: false,
        custom_page_sizes_enabled: false,
        wide_arithmetic_enabled: false,
        ..Config::default()
    };
    Some(Module::new(config, &mut Unstructured::new(&data)).ok()?.to_bytes())
}

/// What a module must export if it is told to: functions that can be lifted.
fn wanted() -> Vec<u8> {
    let mut types = TypeSection::new();
    let (mut functions, mut exports, mut code) = (FunctionSection::new(), ExportSection::new(), CodeSection::new());
    let number = wasm_encoder::ValType::I32;
    for (index, (name, parameters, results)) in [("x", 1, 1), ("y", 3, 0), ("z", 0, 1)].into_iter().enumerate() {
        types.ty().function(vec![number; parameters], vec![number; results]);
        functions.function(index as u32);
        exports.export(name, ExportKind::Func, index as u32);
        code.function(Function::new([]).instruction(&Instruction::Unreachable).instruction(&Instruction::End));
    }
    let mut module = wasm_encoder::Module::new();
    module.section(&types).section(&functions).section(&exports).section(&code);
    module.finish()
}

/// Functions that can be lifted without memory are exported: at most 16 numbers in, at most one out.
fn export(builder: &mut ComponentBuilder, instance: u32, shape: &Shape, mut exported: usize) -> usize {
    let functions = shape.exports.iter().filter_map(|(name, ty)| {
        let TypeRef::Func(ty) = ty else { return None };
        let (parameters, result) = lifted(shape.types.get(*ty as usize)?)?;
        Some((name, parameters, result))
    });
    for (name, parameters, result) in functions.take(LIFTED_MAX) {
        let core = builder.core_alias_export(None, instance, name, ExportKind::Func);
        let (ty, mut encoder) = builder.type_function(None);
        let names: Vec<_> = (0..parameters.len()).map(|index| format!("p{index}")).collect();
        let typed = names.iter().zip(&parameters).map(|(name, ty)| (name.as_str(), ComponentValType::from(*ty)));
        encoder.params(typed.collect::<Vec<_>>()).result(result.map(ComponentValType::from));
        let lifted = builder.lift_func(None, core, ty, []);
        builder.export(format!("f{exported}").as_str(), ComponentExportKind::Func, lifted, None);
        exported += 1;
    }
    exported
}

/// A module that only says what may be imported; nothing, if its words name types that cannot be said here (those of the
/// garbage collector).
fn importable(shape: &Shape) -> Vec<u8> {
    let mut types = TypeSection::new();
    for ty in &shape.types {
        if let Ok(ty) = RoundtripReencoder.func_type(ty.clone()) {
            types.ty().func_type(&ty);
        }
    }
    let mut imports = ImportSection::new();
    for (name, ty) in &shape.exports {
        if let Ok(ty) = RoundtripReencoder.entity_type(*ty) {
            let ty: EntityType = ty;
            imports.import("a", name, ty);
        }
    }
    let mut module = wasm_encoder::Module::new();
    module.section(&types).section(&imports);
    let module = module.finish();
    if is_valid(&module).is_ok() { module } else { wasm_encoder::Module::new().finish() }
}

fn shape(module: &[u8]) -> Shape {
    let mut types = Vec::new();
    let (mut functions, mut tables, mut memories) = (Vec::new(), Vec::new(), Vec::new());
    let (mut globals, mut tags) = (Vec::new(), Vec::new());
    let mut exports = Vec::new();
    for payload in Parser::new(0).parse_all(module).map_while(Result::ok) {
        match payload {
            // With types of the garbage collector there are fewer than they are numbered.
            Payload::TypeSection(groups) => types.extend(groups.into_iter_err_on_gc_types().map_while(Result::ok)),
            Payload::ImportSection(imports) => {
                for import in imports.into_imports().map_while(Result::ok) {
                    match import.ty {
                        ty @ (TypeRef::Func(_) | TypeRef::FuncExact(_)) => functions.push(ty),
                        ty @ TypeRef::Table(_) => tables.push(ty),
                        ty @ TypeRef::Memory(_) => memories.push(ty),
                        ty @ TypeRef::Global(_) => globals.push(ty),
                        ty @ TypeRef::Tag(_) => tags.push(ty),
                    }
                }
            }
            Payload::FunctionSection(of) => functions.extend(of.into_iter().map_while(Result::ok).map(TypeRef::Func)),
            Payload::TableSection(of) => {
                tables.extend(of.into_iter().map_while(Result::ok).map(|table| TypeRef::Table(table.ty)));
            }
            Payload::MemorySection(of) => memories.extend(of.into_iter().map_while(Result::ok).map(TypeRef::Memory)),
            Payload::GlobalSection(of) => {
                globals.extend(of.into_iter().map_while(Result::ok).map(|global| TypeRef::Global(global.ty)));
            }
            Payload::TagSection(of) => tags.extend(of.into_iter().map_while(Result::ok).map(TypeRef::Tag)),
            Payload::ExportSection(of) => {
                for export in of.into_iter().map_while(Result::ok) {
                    let space = match export.kind {
                        ExternalKind::Func | ExternalKind::FuncExact => &functions,
                        ExternalKind::Table => &tables,
                        ExternalKind::Memory => &memories,
                        ExternalKind::Global => &globals,
                        ExternalKind::Tag => &tags,
                    };
                    exports.extend(space.get(export.index as usize).map(|ty| (export.name.to_owned(), *ty)));
                }
            }
            _ => {}
        }
    }
    Shape { types, exports }
}

#[cfg(test)]
mod tests {
    use super::*;
    use forerun_specialize::passes::prelink::{PrelinkBounds, prelink};
    use forerun_specialize::passes::split::split;

    /// The passes would agree with everything if they refused everything.
    #[test]
    fn most_are_components_and_many_are_merged_and_split() {
        let (mut valid, mut merged, mut divided) = (0, 0, 0);
        for seed in 0..60 {
            let Some((bytes, mut numbers)) = component(&Numbers::new(seed).bytes(300)) else { continue };
            valid += usize::from(is_valid(&bytes).is_ok());
            merged += usize::from(prelink(&bytes, &PrelinkBounds::default()).is_ok());
            divided += usize::from(split(&bytes, &numbers.plan(&bytes)).is_ok());
        }
        println!("{valid} valid, {merged} merged, {divided} split");
        assert!(valid >= 40 && merged >= 10 && divided >= 5, "{valid} valid, {merged} merged, {divided} split");
    }
}
