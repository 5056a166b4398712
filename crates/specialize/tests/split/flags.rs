//! Components that look at flags and are split: what is known of their functions finds them, and checks go where their bodies go.

use std::collections::{BTreeMap, BTreeSet};

use forerun_specialize::passes::interrupt::{FLAG_OFFSET, GROWTH_PAGES, add_checks};
use forerun_specialize::passes::split::{Known, SplitPlan, main_module, split};
use forerun_specialize::passes::state::add_state_calls;
use forerun_specialize::passes::{self, body_hash::body_hashes};
use wasmparser::{KnownCustom, Operator, Parser, Payload};

use crate::everything::EVERYTHING;
use crate::fixtures::exports;
use crate::modules::{Proposals, generate, wrap};
use crate::seeds::{Numbers, for_seeds};

/// Linked, or it would have more modules than get a flag.
fn hello() -> Vec<u8> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/hello/components/hello.wasm");
    passes::apply(&std::fs::read(path).unwrap(), &[passes::known("prelink").unwrap()]).0.unwrap()
}

/// The core module that is split.
fn main_of(component: &[u8]) -> Vec<u8> {
    let modules = Parser::new(0).parse_all(component).filter_map(|payload| match payload.unwrap() {
        Payload::ModuleSection { unchecked_range, .. } => Some(component[unchecked_range].to_vec()),
        _ => None,
    });
    modules.collect::<Vec<_>>().swap_remove(main_module(component).unwrap() as usize)
}

/// A function of a module: its operators, without checks, and where those have their branches.
#[derive(Debug, PartialEq)]
struct Function {
    operators: Vec<String>,
    branches: BTreeSet<u32>,
}

/// The defined functions of a module, how many it imports, and what hints say of branches, by function.
fn functions(module: &[u8]) -> (Vec<Function>, u32, BTreeMap<u32, BTreeSet<u32>>) {
    let (mut functions, mut imported, mut hints) = (Vec::new(), 0, BTreeMap::new());
    for payload in Parser::new(0).parse_all(module) {
        match payload.unwrap() {
            Payload::ImportSection(section) => {
                let is_function = |ty| matches!(ty, wasmparser::TypeRef::Func(_));
                let imports = section.into_imports();
                imported = imports.filter(|import| is_function(import.as_ref().unwrap().ty)).count() as u32;
            }
            Payload::CustomSection(section) => {
                if let KnownCustom::BranchHints(section) = section.as_known() {
                    for function in section {
                        let function = function.unwrap();
                        let offsets = function.hints.into_iter().map(|hint| {
                            let hint = hint.unwrap();
                            assert!(!hint.taken);
                            hint.func_offset
                        });
                        hints.insert(function.func, offsets.collect());
                    }
                }
            }
            Payload::CodeSectionEntry(body) => functions.push(function(&body)),
            _ => {}
        }
    }
    (functions, imported, hints)
}

fn function(body: &wasmparser::FunctionBody<'_>) -> Function {
    let mut function = Function { operators: Vec::new(), branches: BTreeSet::new() };
    let mut open: Vec<(String, usize)> = Vec::new();
    for item in body.get_operators_reader().unwrap().into_iter_with_offsets() {
        let (operator, offset) = item.unwrap();
        let at = offset - body.range().start;
        let is_check = match (open.len(), &operator) {
            (0, Operator::I32Const { value: 0 }) | (2, Operator::If { .. }) | (5, Operator::Drop) => true,
            (1, Operator::I32Load8U { memarg }) => memarg.offset == u64::from(FLAG_OFFSET),
            (3, Operator::I32Const { value }) => *value == GROWTH_PAGES.cast_signed(),
            (4, Operator::MemoryGrow { .. }) => true,
            (6, Operator::End) => true,
            _ => false,
        };
        if !is_check {
            function.operators.extend(open.drain(..).map(|(text, _)| text));
        }
        open.push((format!("{operator:?}"), at));
        if is_check && open.len() == 7 {
            function.branches.insert(u32::try_from(open[2].1).unwrap());
            open.clear();
        } else if !is_check && !matches!(operator, Operator::I32Const { value: 0 }) {
            function.operators.extend(open.drain(..).map(|(text, _)| text));
        }
    }
    function.operators.extend(open.drain(..).map(|(text, _)| text));
    function
}

#[test]
fn passes_before_a_split_leave_functions_where_they_are() {
    let found = std::cell::Cell::new(0);
    let check = |source: &[u8]| {
        let stated = add_state_calls(source).map_or_else(|_| source.to_vec(), |stated| stated.component);
        let Ok(flagged) = add_checks(&stated) else { return };
        assert_eq!(main_module(source), main_module(&flagged.component));
        let [(before, imported_before, _), (after, imported_after, hints)] =
            [source, &flagged.component].map(|component| functions(&main_of(component)));
        assert_eq!(imported_before, imported_after);
        for ((before, after), index) in before.iter().zip(&after).zip(imported_before..) {
            assert_eq!(before.operators, after.operators);
            assert_eq!(hints.get(&index).cloned().unwrap_or_default(), after.branches);
            found.set(found.get() + after.branches.len());
        }
    };
    check(&wat::parse_str(EVERYTHING).unwrap());
    check(&hello());
    for_seeds(40, |seed| {
        let mut numbers = Numbers::new(seed);
        if let Some(module) = generate(&mut numbers, Proposals::Run) {
            let component = wrap(&module).0;
            if main_module(&component).is_ok() {
                check(&component);
            }
        }
    });
    assert!(found.get() > 100 || std::env::var("FORERUN_SPLIT_SEED").is_ok(), "{} checks", found.get());
}

#[test]
fn what_is_known_by_bodies_is_found_before_they_have_checks() {
    let source = hello();
    let known: BTreeMap<_, _> =
        body_hashes(&main_of(&source)).unwrap().into_iter().step_by(3).map(|hash| (hash, 900)).collect();
    let by_index = Known::ByBody(known.clone()).in_component(&source).unwrap();
    let whole = split(&source, &SplitPlan::new(Known::ByBody(known.clone()), 500)).unwrap();
    let flagged = add_checks(&source).unwrap().component;
    let with_flags = split(&flagged, &SplitPlan::new(by_index.clone(), 500)).unwrap();
    assert_eq!((whole.report.probable, whole.report.cold > 0), (with_flags.report.probable, true));
    assert_eq!(split(&source, &SplitPlan::new(by_index, 500)).unwrap().primary, whole.primary);
    let foreign = Known::ByBody(known).in_component(&wat::parse_str(EVERYTHING).unwrap());
    assert_eq!(foreign.unwrap_err().name(), "none_known");
}

#[test]
fn each_check_keeps_its_hint_in_the_primary_and_in_groups() {
    let whole = add_checks(&wat::parse_str(EVERYTHING).unwrap()).unwrap();
    for_seeds(20, |seed| {
        let Ok(split) = split(&whole.component, &Numbers::new(seed).plan(40)) else { return };
        let groups = split.groups.iter().map(|group| group.module.clone());
        let mut checks = 0;
        for module in groups.chain([main_of_primary(&split.primary)]) {
            let (functions, imported, hints) = functions(&module);
            for (function, index) in functions.iter().zip(imported..) {
                assert_eq!(hints.get(&index).cloned().unwrap_or_default(), function.branches, "seed {seed}");
                checks += function.branches.len();
            }
        }
        let all = whole.loops + whole.indirect + whole.circles + whole.stretches;
        // What nothing can call is dropped.
        assert!(checks > 0 && checks <= all, "seed {seed}: {checks} of {all}");
    });
}

/// The module with what the fixture's exports; it may not be the largest any more.
fn main_of_primary(component: &[u8]) -> Vec<u8> {
    let has_exports = |module: &[u8]| {
        Parser::new(0).parse_all(module).any(|payload| match payload.unwrap() {
            Payload::ExportSection(section) => section.into_iter().any(|export| exports()[0] == export.unwrap().name),
            _ => false,
        })
    };
    let mut modules = Parser::new(0).parse_all(component).filter_map(|payload| match payload.unwrap() {
        Payload::ModuleSection { unchecked_range, .. } => Some(component[unchecked_range].to_vec()),
        _ => None,
    });
    modules.find(|module| has_exports(module)).unwrap()
}
