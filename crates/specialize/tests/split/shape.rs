//! What a split looks like: hot bodies as they were, groups with nothing they do not need, slots in order.

use std::collections::{BTreeMap, BTreeSet};

use forerun_specialize::passes::body_hash::{BodyHash, body_hashes};
use forerun_specialize::passes::split::{self, COLD_TABLE, Known, PRIMARY, Split, SplitPlan, SplitReport, split};
use wasmparser::{Encoding, Operator, Parser, Payload};

use crate::everything::EVERYTHING;
use crate::seeds::{Numbers, for_seeds};

fn hello() -> Vec<u8> {
    std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/hello/components/hello.wasm")).unwrap()
}

fn cold_but(source: &[u8], hot: &[u32]) -> Split {
    let known = hot.iter().map(|function| (*function, 1000)).collect();
    split(source, &SplitPlan::new(Known::ByIndex(known), 1)).unwrap()
}

fn core_modules(component: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    Parser::new(0).parse_all(component).filter_map(|payload| match payload.unwrap() {
        Payload::ModuleSection { unchecked_range, .. } => Some(component[unchecked_range].to_vec()),
        _ => None,
    })
}

/// The core module of a component that is split: the largest.
fn main_module(component: &[u8]) -> Vec<u8> {
    core_modules(component).max_by_key(Vec::len).unwrap()
}

/// What is left of it, which another module may be larger than.
fn primary_module(split: &Split) -> Vec<u8> {
    core_modules(&split.primary).find(|module| exports(module).any(|name| name == COLD_TABLE)).unwrap()
}

fn exports(module: &[u8]) -> impl Iterator<Item = String> {
    let names = |payload| match payload {
        Payload::ExportSection(exports) => exports.into_iter().map(|export| export.unwrap().name.to_owned()).collect(),
        _ => Vec::new(),
    };
    Parser::new(0).parse_all(module).flat_map(move |payload| names(payload.unwrap()))
}

/// The instructions of each body, with every call as `call` and every reference of a function as `reference`, and
/// without what a split adds: the slot before a call of one of the last `connecting` functions, and the position that
/// is left in the global `position` before a call through the table of entries.
fn bodies(module: &[u8], connecting: u32, position: Option<u32>) -> Vec<Vec<String>> {
    let raw: Vec<_> = Parser::new(0)
        .parse_all(module)
        .filter_map(|payload| match payload.unwrap() {
            Payload::CodeSectionEntry(body) => Some(body),
            _ => None,
        })
        .collect();
    let functions = imported_functions(module) + u32::try_from(raw.len()).unwrap();
    let kept = u32::try_from(raw.len()).unwrap() - connecting;
    let body = |body: &wasmparser::FunctionBody<'_>| {
        let mut texts = vec![format!("{:?}", body.get_locals_reader().unwrap().into_iter().collect::<Vec<_>>())];
        for operator in body.get_operators_reader().unwrap() {
            match operator.unwrap() {
                Operator::Call { function_index } | Operator::ReturnCall { function_index } => {
                    if function_index >= functions - connecting {
                        assert!(texts.pop().unwrap().starts_with("I32Const"), "its slot");
                    }
                    texts.push("call".into());
                }
                Operator::RefFunc { .. } => texts.push("reference".into()),
                Operator::GlobalSet { global_index } | Operator::GlobalGet { global_index }
                    if Some(global_index) == position => {}
                operator => texts.push(format!("{operator:?}")),
            }
        }
        texts
    };
    raw.iter().take(kept as usize).map(body).collect()
}

/// Functions of a primary that connect it with its groups: those of each type, the loader.
fn connecting(report: &SplitReport) -> u32 {
    report.dispatchers + report.entries + 1
}

fn globals(module: &[u8]) -> u32 {
    let sections = Parser::new(0).parse_all(module).filter_map(|payload| match payload.unwrap() {
        Payload::GlobalSection(section) => Some(section.count()),
        _ => None,
    });
    sections.sum()
}

#[test]
fn hot_bodies_stay_as_they_are_but_for_the_functions_they_name() {
    for source in [wat::parse_str(EVERYTHING).unwrap(), hello()] {
        let before = bodies(&main_module(&source), 0, None);
        for_seeds(10, |seed| {
            let functions = u32::try_from(before.len()).unwrap();
            let plan = Numbers::new(seed).plan(functions);
            let Ok(split) = split(&source, &plan) else { return };
            let (main, report) = (primary_module(&split), &split.report);
            let position = report.no_entry_table.is_none().then(|| globals(&main) - 1);
            let after = bodies(&main, connecting(report), position);
            let hot = report.probable + report.pinned + report.tiny;
            assert_eq!(after.len(), (hot + report.stubs) as usize, "seed {seed}");
            // Each found is taken away; what is not found is a stub.
            let mut rest = before.clone();
            let same = after.iter().filter(|body| {
                let found = rest.iter().position(|before| before == *body);
                found.is_some_and(|found| !rest.swap_remove(found).is_empty())
            });
            assert!(same.count() >= hot as usize, "seed {seed}");
            assert_eq!(hot + report.cold + report.dead, report.functions);
            let in_groups: usize = split.groups.iter().map(|group| group.functions.len()).sum();
            assert_eq!(in_groups, report.cold as usize, "seed {seed}");
        });
    }
}

#[test]
fn what_requests_run_most_comes_first() {
    let source = hello();
    let before = bodies(&main_module(&source), 0, None);
    let is_one_of_a_kind =
        |body: &[String]| body.len() > 20 && before.iter().filter(|other| *other == body).count() == 1;
    let chosen: Vec<usize> = (0..before.len()).filter(|number| is_one_of_a_kind(&before[*number])).take(3).collect();
    let imported = imported_functions(&main_module(&source));
    let places = |permille: [u16; 3]| {
        let known = chosen.iter().zip(permille).map(|(number, permille)| (imported + *number as u32, permille));
        let split = split(&source, &SplitPlan::new(Known::ByIndex(known.collect()), 1)).unwrap();
        let main = primary_module(&split);
        let position = split.report.no_entry_table.is_none().then(|| globals(&main) - 1);
        let after = bodies(&main, connecting(&split.report), position);
        let place = |number: &usize| after.iter().position(|body| *body == before[*number]).unwrap();
        chosen.iter().map(place).collect::<Vec<_>>()
    };
    assert_eq!(places([1000, 900, 800]), [0, 1, 2]);
    assert_eq!(places([800, 900, 1000]), [2, 1, 0]);
    assert_eq!(places([900, 900, 900]), [0, 1, 2]);
}

#[test]
fn the_module_that_is_split_can_be_asked_for() {
    let small = "(core module (func (export \"a\")))";
    let large =
        r#"(core module $m (func (export "b") (result i32) (i32.mul (i32.const 12345678) (i32.const 87654321))))"#;
    for (modules, expected) in [([large, small], 0), ([small, large], 1)] {
        let [first, second] = modules;
        let component = format!("(component {first} {second} (core instance (instantiate $m)))");
        assert_eq!(split::main_module(&wat::parse_str(component).unwrap()), Ok(expected));
    }
}

#[test]
fn the_same_input_gives_the_same_bytes() {
    let source = hello();
    let plan = Numbers::new(1).plan(300);
    let (first, second) = (split(&source, &plan).unwrap(), split(&source, &plan).unwrap());
    assert_eq!(first.primary, second.primary);
    let modules = |split: &Split| split.groups.iter().map(|group| group.module.clone()).collect::<Vec<_>>();
    assert_eq!(modules(&first), modules(&second));
}

#[test]
fn slots_are_consecutive_and_every_entry_has_one() {
    for_seeds(20, |seed| {
        let Ok(split) = split(&hello(), &Numbers::new(seed).plan(300)) else { return };
        let mut slot = 0;
        for group in &split.groups {
            assert_eq!(group.first_slot, slot, "seed {seed}");
            slot += u32::try_from(group.entries.len()).unwrap();
            assert!(group.entries.is_sorted());
        }
        assert_eq!(slot, split.report.slots);
    });
}

#[test]
fn a_group_has_nothing_that_it_does_not_need() {
    let source = wat::parse_str(EVERYTHING).unwrap();
    // All but `$sum`, which uses one memory, one global (through `$bump`, which is tiny and hot) and its own type.
    let hot: Vec<u32> = (0..40).filter(|function| *function != 17).collect();
    let split = cold_but(&source, &hot);
    let [group] = &split.groups[..] else { panic!("{:?}", split.report) };
    assert_eq!(group.entries, [17]);
    let (mut types, mut imports) = (0, BTreeSet::new());
    for payload in Parser::new(0).parse_all(&group.module) {
        match payload.unwrap() {
            Payload::Version { encoding, .. } => assert_eq!(encoding, Encoding::Module),
            Payload::TypeSection(section) => types = section.count(),
            Payload::ImportSection(section) => {
                for import in section.into_imports() {
                    let import = import.unwrap();
                    assert_eq!(import.module, PRIMARY);
                    imports.insert(import.name);
                }
            }
            _ => {}
        }
    }
    assert_eq!(types, 2);
    assert_eq!(imports, BTreeSet::from([COLD_TABLE, "__cold_f1", "__cold_m0"]));
}

#[test]
fn what_nothing_can_call_is_dropped() {
    let source = wat::parse_str(EVERYTHING).unwrap();
    let split = cold_but(&source, &[]);
    assert_eq!(split.report.dead, 2, "the two that only call one another: {:?}", split.report);
}

#[test]
fn a_profile_by_bodies_splits_as_one_by_indices() {
    let source = hello();
    let hashes = body_hashes(&main_module(&source)).unwrap();
    let imported = imported_functions(&main_module(&source));
    let mut numbers = Numbers::new(5);
    let by_body: BTreeMap<BodyHash, u16> =
        hashes.iter().filter(|_| numbers.below(3) == 0).map(|hash| (*hash, 900)).collect();
    let by_index = (imported..).zip(&hashes).filter(|(_, hash)| by_body.contains_key(*hash));
    let by_index = by_index.map(|(index, _)| (index, 900)).collect();
    let with = |known| split(&source, &SplitPlan::new(known, 500)).unwrap();
    assert_eq!(with(Known::ByBody(by_body)).primary, with(Known::ByIndex(by_index)).primary);
}

fn imported_functions(module: &[u8]) -> u32 {
    let mut functions = 0;
    for payload in Parser::new(0).parse_all(module) {
        if let Payload::ImportSection(section) = payload.unwrap() {
            let is_function = |ty| matches!(ty, wasmparser::TypeRef::Func(_));
            functions = section.into_imports().filter(|import| is_function(import.as_ref().unwrap().ty)).count();
        }
    }
    u32::try_from(functions).unwrap()
}

#[test]
fn functions_that_were_seen_are_not_grouped_with_those_that_never_ran() {
    let source = hello();
    let known: BTreeMap<u32, u16> = (100..160).map(|function| (function, 10)).collect();
    let mut plan = SplitPlan::new(Known::ByIndex(known.clone()), 500);
    plan.group_functions_max = 20;
    let split = split(&source, &plan).unwrap();
    let mixed = split.groups.iter().filter(|group| {
        let seen = group.entries.iter().filter(|entry| known.contains_key(*entry)).count();
        seen > 0 && seen < group.entries.len()
    });
    assert!(mixed.count() <= 1, "only the group in which the seen ones end may have others");
}
