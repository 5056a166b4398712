//! Random deployments, rollbacks and removals against a model that is a map in memory.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test fails by panicking")]

use std::collections::BTreeMap;

use forerun_store::{DeployError, Deployed, Deployment, RollbackError, Store, StoreSettings};
use forerun_types::{ComponentDigest, FunctionName, FunctionSpec, RevisionNumber};
use proptest::prelude::*;

const REVISIONS_KEPT: usize = 3;
const COMPONENTS: [&[u8]; 2] = [b"zero", b"one"];

#[derive(Debug, Clone)]
enum Step {
    Deploy(Vec<Wish>),
    Rollback(u8, Option<u32>),
    Remove(u8),
    Restart,
}

/// A function, its routes as bits, its component.
#[derive(Debug, Clone)]
struct Wish {
    function: u8,
    routes: u8,
    component: usize,
}

/// Syncs cost nothing there, and many small databases are made.
fn directory_in_memory() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

fn step() -> impl Strategy<Value = Step> {
    let wish = (0..3u8, 0..8u8, 0..COMPONENTS.len()).prop_map(|(function, routes, component)| Wish {
        function,
        routes: routes & 0b11 | (1 << (function + 2)) & routes << 2,
        component,
    });
    prop_oneof![
        6 => proptest::collection::vec(wish, 1..3).prop_map(Step::Deploy),
        3 => (0..3u8, proptest::option::of(0..8u32)).prop_map(|(function, to)| Step::Rollback(function, to)),
        1 => (0..3u8).prop_map(Step::Remove),
        1 => Just(Step::Restart),
    ]
}

fn name(function: u8) -> FunctionName {
    format!("f{function}").parse().unwrap()
}

fn deployment(wish: &Wish) -> Deployment {
    let mut spec = FunctionSpec::named(name(wish.function));
    let routes = (0..8).filter(|bit| wish.routes >> bit & 1 == 1);
    spec.routes = routes.map(|bit| format!("/{bit}").parse().unwrap()).collect();
    Deployment { spec, digest: ComponentDigest::of(COMPONENTS[wish.component]) }
}

#[derive(Clone, Default, Debug, PartialEq)]
struct Function {
    active: u32,
    last: u32,
    kept: BTreeMap<u32, (FunctionSpec, ComponentDigest)>,
}

type Model = BTreeMap<FunctionName, Function>;

/// Whether no route belongs to two functions.
fn routes_are_unique(model: &Model) -> bool {
    let mut routes: Vec<_> =
        model.values().flat_map(|function| function.kept[&function.active].0.routes.iter()).collect();
    let count = routes.len();
    routes.sort_by_key(ToString::to_string);
    routes.dedup();
    routes.len() == count
}

fn deploy(model: &Model, deployments: &[Deployment]) -> Option<(Model, Vec<Deployed>)> {
    let mut next = model.clone();
    let mut answers = Vec::new();
    for (index, Deployment { spec, digest }) in deployments.iter().enumerate() {
        if deployments[..index].iter().any(|earlier| earlier.spec.name == spec.name) {
            return None;
        }
        let function = next.entry(spec.name.clone()).or_default();
        let same = function.kept.get(&function.active) == Some(&(spec.clone(), *digest));
        if !same {
            function.last += 1;
            function.active = function.last;
            function.kept.insert(function.active, (spec.clone(), *digest));
            while function.kept.len() > REVISIONS_KEPT {
                function.kept.pop_first();
            }
        }
        let number = RevisionNumber(function.active);
        answers.push(if same { Deployed::Unchanged(number) } else { Deployed::New(number) });
    }
    routes_are_unique(&next).then_some((next, answers))
}

fn rollback(model: &Model, name: &FunctionName, to: Option<u32>) -> Option<Model> {
    let mut next = model.clone();
    let function = next.get_mut(name)?;
    let target = match to {
        Some(number) => function.kept.contains_key(&number).then_some(number)?,
        None => *function.kept.range(..function.active).next_back()?.0,
    };
    function.active = target;
    routes_are_unique(&next).then_some(next)
}

fn as_model(store: &Store) -> Model {
    let records = store.functions().unwrap();
    let function = |record: &forerun_store::FunctionRecord| {
        let revisions = store.revisions(&record.active.spec.name).unwrap();
        assert_eq!(revisions.len(), record.revisions as usize);
        let kept = revisions.into_iter().map(|revision| (revision.number.0, (revision.spec, revision.digest)));
        Function { active: record.active.number.0, last: record.last_revision.0, kept: kept.collect() }
    };
    records.iter().map(|record| (record.active.spec.name.clone(), function(record))).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn behaves_as_a_map_of_functions(steps in proptest::collection::vec(step(), 1..25)) {
        let directory = directory_in_memory();
        let settings = StoreSettings { revisions_kept: u32::try_from(REVISIONS_KEPT).unwrap() };
        let mut store = Store::open(directory.path(), settings.clone()).unwrap();
        for component in COMPONENTS {
            store.put_component(component).unwrap();
        }
        let mut model = Model::new();
        for step in &steps {
            match step {
                Step::Deploy(wishes) => {
                    let deployments: Vec<_> = wishes.iter().map(deployment).collect();
                    match (store.deploy_app(&deployments, 1), deploy(&model, &deployments)) {
                        (Ok(answers), Some((next, expected))) => {
                            prop_assert_eq!(answers, expected);
                            model = next;
                        }
                        (Err(DeployError::RouteTaken { .. } | DeployError::FunctionTwice { .. }), None) => {}
                        (result, expected) => prop_assert!(false, "{:?} but {:?}", result, expected),
                    }
                }
                Step::Rollback(function, to) => {
                    let result = store.rollback(&name(*function), to.map(RevisionNumber));
                    match (result, rollback(&model, &name(*function), *to)) {
                        (Ok(revision), Some(next)) => {
                            prop_assert_eq!(revision.number.0, next[&name(*function)].active);
                            model = next;
                        }
                        (Err(RollbackError::Storage(error)), _) => prop_assert!(false, "{}", error),
                        (Err(_), None) => {}
                        (result, expected) => prop_assert!(false, "{:?} but {:?}", result, expected),
                    }
                }
                Step::Remove(function) => {
                    prop_assert_eq!(store.remove(&name(*function)).is_ok(), model.remove(&name(*function)).is_some());
                }
                Step::Restart => {
                    drop(store);
                    store = Store::open(directory.path(), settings.clone()).unwrap();
                }
            }
            prop_assert_eq!(as_model(&store), model.clone());
        }
    }
}
