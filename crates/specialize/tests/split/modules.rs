//! Generated modules, and the component around one.

use std::collections::BTreeMap;

use arbitrary::Unstructured;
use wasm_encoder::{
    Alias, CanonicalFunctionSection, CanonicalOption, Component, ComponentAliasSection, ComponentExportKind,
    ComponentExportSection, ComponentTypeSection, ComponentValType, ExportKind, InstanceSection, ModuleArg,
    PrimitiveValType, RawSection,
};
use wasmparser::{ExternalKind, FuncType, Parser, Payload, ValType};

use super::seeds::Numbers;

/// What a module may use.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Proposals {
    /// What the engine runs.
    Run,
    /// All that a split knows.
    All,
}

fn config(numbers: &mut Numbers, proposals: Proposals) -> wasm_smith::Config {
    wasm_smith::Config {
        min_types: 5,
        min_funcs: 8,
        max_funcs: 30,
        max_imports: 0,
        min_memories: 1,
        max_memories: 2,
        max_memory32_bytes: 1 << 20,
        max_memory64_bytes: 1 << 20,
        memory64_enabled: numbers.below(4) == 0,
        min_tables: 1,
        max_tables: 3,
        max_table_elements: 100,
        max_instructions: 200,
        max_tags: 3,
        export_everything: true,
        tail_call_enabled: true,
        threads_enabled: false,
        gc_enabled: false,
        // The engine that Forerun is built with has no garbage collector, which exceptions need.
        exceptions_enabled: proposals == Proposals::All,
        // They bring references to the host's objects, which need it too; most modules with them are of no use here.
        reference_types_enabled: proposals == Proposals::All || numbers.below(8) == 0,
        // Functions that use segments are pinned.
        bulk_memory_enabled: numbers.below(2) == 0,
        shared_everything_threads_enabled: false,
        custom_page_sizes_enabled: false,
        wide_arithmetic_enabled: false,
        ..wasm_smith::Config::default()
    }
}

/// A module that ends: every loop and function takes from a global that starts at some hundred.
pub(crate) fn generate(numbers: &mut Numbers, proposals: Proposals) -> Option<Vec<u8>> {
    let bytes = numbers.bytes(40_000);
    generate_of(&bytes, numbers, proposals)
}

/// The same, of these bytes.
pub(crate) fn generate_of(bytes: &[u8], numbers: &mut Numbers, proposals: Proposals) -> Option<Vec<u8>> {
    let config = config(numbers, proposals);
    let mut module = wasm_smith::Module::new(config, &mut Unstructured::new(bytes)).ok()?;
    module.ensure_termination(300).ok()?;
    Some(module.to_bytes())
}

/// A component that exports every function of `module` that can be lifted without a memory, the names of the module's
/// exports, and how many functions it has. What a function gives is passed to another one that takes just that and gives
/// nothing, if there is one, after its return: where the component may not be left.
pub(crate) fn wrap(module: &[u8]) -> (Vec<u8>, Vec<String>, u32) {
    let outline = Outline::read(module);
    let mut component = Component::new();
    component.section(&RawSection { id: 1, data: module });
    let mut instances = InstanceSection::new();
    instances.instantiate(0, std::iter::empty::<(&str, ModuleArg)>());
    component.section(&instances);
    let mut types = ComponentTypeSection::new();
    let mut aliases = ComponentAliasSection::new();
    let mut lifts = CanonicalFunctionSection::new();
    let mut exports = ComponentExportSection::new();
    let liftable = outline.functions.iter().filter_map(|(name, ty)| Some((name, lifted(ty)?)));
    let mut core_functions = 0;
    let mut core_function = |aliases: &mut ComponentAliasSection, name: &str| {
        aliases.alias(Alias::CoreInstanceExport { instance: 0, kind: ExportKind::Func, name });
        core_functions += 1;
        core_functions - 1
    };
    for (index, (name, (parameters, result))) in (0..).zip(liftable.take(12)) {
        let names: Vec<String> = (0..parameters.len()).map(|n| format!("p{n}")).collect();
        types.function().params(names.iter().map(String::as_str).zip(parameters)).result(result);
        let function = core_function(&mut aliases, name);
        // Not for each: what is entered there is never cold itself.
        let after = outline.takes_what_it_gives(name, index as usize).filter(|_| index % 2 == 0);
        let after = after.map(|after| core_function(&mut aliases, after));
        lifts.lift(function, index, after.map(CanonicalOption::PostReturn));
        exports.export(format!("f{index}"), ComponentExportKind::Func, index, None);
    }
    component.section(&types).section(&aliases).section(&lifts).section(&exports);
    (component.finish(), outline.exports, outline.count)
}

/// The component type whose flat form is a core type, if it has one.
fn lifted(ty: &FuncType) -> Option<(Vec<ComponentValType>, Option<ComponentValType>)> {
    let number = |ty: &ValType| {
        Some(ComponentValType::Primitive(match ty {
            ValType::I32 => PrimitiveValType::U32,
            ValType::I64 => PrimitiveValType::U64,
            ValType::F32 => PrimitiveValType::F32,
            ValType::F64 => PrimitiveValType::F64,
            ValType::V128 | ValType::Ref(_) => return None,
        }))
    };
    let parameters: Option<Vec<_>> = ty.params().iter().map(number).collect();
    let result = match ty.results() {
        [] => None,
        [one] => Some(number(one)?),
        _ => return None,
    };
    let parameters = parameters?;
    (parameters.len() <= 16).then_some((parameters, result))
}

#[derive(Default)]
struct Outline {
    types: Vec<FuncType>,
    function_types: Vec<u32>,
    functions: BTreeMap<String, FuncType>,
    exports: Vec<String>,
    count: u32,
}

impl Outline {
    /// A function that can be called after the return of `name`; which one, if there are several, is up to `choice`.
    fn takes_what_it_gives(&self, name: &str, choice: usize) -> Option<&str> {
        let given = self.functions[name].results();
        let fits = |ty: &FuncType| ty.params() == given && ty.results().is_empty();
        let fitting: Vec<&str> =
            self.functions.iter().filter(|(_, ty)| fits(ty)).map(|(name, _)| name.as_str()).collect();
        fitting.get(choice % fitting.len().max(1)).copied()
    }

    fn read(module: &[u8]) -> Self {
        let mut outline = Self::default();
        for payload in Parser::new(0).parse_all(module) {
            match payload.unwrap() {
                Payload::TypeSection(types) => {
                    outline.types = types.into_iter_err_on_gc_types().collect::<Result<_, _>>().unwrap();
                }
                Payload::FunctionSection(functions) => {
                    outline.function_types = functions.into_iter().collect::<Result<_, _>>().unwrap();
                }
                Payload::ExportSection(exports) => {
                    for export in exports {
                        let export = export.unwrap();
                        outline.exports.push(export.name.to_owned());
                        if export.kind == ExternalKind::Func {
                            let ty = &outline.types[outline.function_types[export.index as usize] as usize];
                            outline.functions.insert(export.name.to_owned(), ty.clone());
                        }
                    }
                }
                _ => {}
            }
        }
        outline.count = u32::try_from(outline.function_types.len()).unwrap();
        outline
    }
}
