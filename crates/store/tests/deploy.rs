//! Deploying, rolling back and removing as the node does it.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use forerun_store::{
    ComponentError, DeployError, Deployed, Deployment, GarbageReport, RemoveError, RollbackError, StorageError, Store,
    StoreSettings,
};
use forerun_types::{ComponentDigest, FunctionName, FunctionSpec, RevisionNumber};

fn open(path: &Path) -> Store {
    Store::open(path, StoreSettings::default()).unwrap()
}

fn name(text: &str) -> FunctionName {
    text.parse().unwrap()
}

fn spec(function: &str, routes: &[&str]) -> FunctionSpec {
    let mut spec = FunctionSpec::named(name(function));
    spec.routes = routes.iter().map(|route| route.parse().unwrap()).collect();
    spec
}

fn deployment(store: &Store, function: &str, routes: &[&str]) -> Deployment {
    Deployment { spec: spec(function, routes), digest: store.put_component(b"component").unwrap() }
}

#[test]
fn revisions_count_up_and_survive_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let digest = store.put_component(b"one").unwrap();
    let mut full = spec("cart", &["/cart", "shop.example/cart/..."]);
    full.environment.insert("KEY".into(), "value \" \u{0} ä".replace('\0', ""));
    full.allowed_outbound_hosts = vec!["https://api.example.com".parse().unwrap()];
    assert_eq!(store.deploy(&full, digest, 5), Ok(Deployed::New(RevisionNumber(1))));
    assert_eq!(store.deploy(&full, digest, 6), Ok(Deployed::Unchanged(RevisionNumber(1))));
    let other = store.put_component(b"two").unwrap();
    assert_eq!(store.deploy(&full, other, 7), Ok(Deployed::New(RevisionNumber(2))));
    drop(store);
    let store = open(directory.path());
    let active = store.active().unwrap();
    assert_eq!(active.len(), 1);
    assert_eq!((active[0].number, active[0].digest, active[0].created_unix_ms), (RevisionNumber(2), other, 7));
    assert_eq!(active[0].spec, full);
    let numbers: Vec<_> = store.revisions(&name("cart")).unwrap().iter().map(|revision| revision.number.0).collect();
    assert_eq!(numbers, [2, 1]);
    assert_eq!(store.component(digest).unwrap(), b"one");
    assert_eq!(store.functions().unwrap()[0].revisions, 2);
    assert_eq!(store.active_revision(&name("cart")).unwrap().as_ref(), active.first());
}

#[test]
fn refusals_have_names_and_change_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let digest = store.put_component(b"component").unwrap();
    store.deploy(&spec("cart", &["/cart"]), digest, 0).unwrap();
    let before = store.functions().unwrap();
    let (function, route, holder) = (name("basket"), "/cart".to_owned(), "cart".to_owned());
    assert_eq!(
        store.deploy(&spec("basket", &["/a", "/cart"]), digest, 0),
        Err(DeployError::RouteTaken { function: function.clone(), route, holder })
    );
    let missing = ComponentDigest::of(b"missing");
    assert_eq!(
        store.deploy(&spec("basket", &[]), missing, 0),
        Err(DeployError::ComponentMissing { function: function.clone(), digest: missing })
    );
    let twice = [deployment(&store, "basket", &[]), deployment(&store, "basket", &["/b"])];
    assert_eq!(store.deploy_app(&twice, 0), Err(DeployError::FunctionTwice { function }));
    let mut bad = spec("basket", &[]);
    bad.limits.memory_bytes = 1;
    assert!(matches!(store.deploy(&bad, digest, 0), Err(DeployError::Spec { .. })));
    let mut large = spec("basket", &[]);
    large.environment = (0..200).map(|number| (format!("V{number}"), "x".repeat(30_000))).collect();
    assert!(matches!(store.deploy(&large, digest, 0), Err(DeployError::SpecTooLarge { .. })));
    assert_eq!(store.functions().unwrap(), before);
}

#[test]
fn an_application_is_deployed_whole_and_may_swap_routes() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let other = deployment(&store, "other", &["/other"]);
    store.deploy_app(&[other], 0).unwrap();
    let app = [deployment(&store, "a", &["/a"]), deployment(&store, "b", &["/b"])];
    assert_eq!(store.deploy_app(&app, 0).unwrap(), [Deployed::New(RevisionNumber(1)); 2]);
    let swapped = [deployment(&store, "a", &["/b"]), deployment(&store, "b", &["/a"])];
    assert_eq!(store.deploy_app(&swapped, 0).unwrap(), [Deployed::New(RevisionNumber(2)); 2]);
    let before = store.functions().unwrap();
    let refused = [deployment(&store, "a", &["/a2"]), deployment(&store, "b", &["/other"])];
    assert!(matches!(store.deploy_app(&refused, 0), Err(DeployError::RouteTaken { .. })));
    assert_eq!(store.functions().unwrap(), before);
    let mixed = [swapped[0].clone(), deployment(&store, "b", &["/c"])];
    let answers = store.deploy_app(&mixed, 0).unwrap();
    assert_eq!(answers, [Deployed::Unchanged(RevisionNumber(2)), Deployed::New(RevisionNumber(3))]);
}

#[test]
fn rollback_goes_back_and_is_refused_by_name() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let cart = name("cart");
    let unknown = RollbackError::UnknownFunction { function: cart.clone() };
    assert_eq!(store.rollback(&cart, None), Err(unknown));
    for routes in [["/one"], ["/two"], ["/three"]] {
        store.deploy_app(&[deployment(&store, "cart", &routes)], 0).unwrap();
    }
    assert_eq!(store.rollback(&cart, None).unwrap().number.0, 2);
    assert_eq!(store.rollback_target(&cart, None).unwrap().number.0, 1);
    let kept = [3, 2, 1].map(RevisionNumber).to_vec();
    let (function, revision) = (cart.clone(), RevisionNumber(9));
    let expected = RollbackError::UnknownRevision { function, revision, kept };
    assert_eq!(store.rollback(&cart, Some(RevisionNumber(9))), Err(expected));
    // The route of revision 1 was given up, so another function may have taken it.
    store.deploy_app(&[deployment(&store, "other", &["/one"])], 0).unwrap();
    assert!(matches!(store.rollback(&cart, None), Err(RollbackError::RouteTaken { .. })));
    assert_eq!(store.active_revision(&cart).unwrap().unwrap().number.0, 2);
    store.remove(&name("other")).unwrap();
    assert_eq!(store.rollback(&cart, None).unwrap().number.0, 1);
    let (function, active) = (cart.clone(), RevisionNumber(1));
    assert_eq!(store.rollback(&cart, None), Err(RollbackError::NoEarlierRevision { function, active }));
    // Numbers never go back.
    let next = store.deploy_app(&[deployment(&store, "cart", &["/four"])], 0).unwrap();
    assert_eq!(next, [Deployed::New(RevisionNumber(4))]);
}

#[test]
fn old_revisions_go_and_their_components_with_them() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path(), StoreSettings { revisions_kept: 2 }).unwrap();
    let digests: Vec<_> = ["1", "2", "3"].iter().map(|text| store.put_component(text.as_bytes()).unwrap()).collect();
    for digest in &digests {
        store.deploy(&spec("cart", &[]), *digest, 0).unwrap();
    }
    let kept: Vec<_> = store.revisions(&name("cart")).unwrap().iter().map(|revision| revision.number.0).collect();
    assert_eq!(kept, [3, 2]);
    let later = SystemTime::now() + Duration::from_secs(7200);
    let report = store.collect_garbage(later, Duration::from_secs(3600)).unwrap();
    assert_eq!(report, GarbageReport { removed: 1, removed_bytes: 1 });
    assert_eq!(store.component(digests[0]), Err(ComponentError::Missing { digest: digests[0] }));
    assert!(store.component(digests[1]).is_ok());
    assert_eq!(store.remove(&name("cart")), Ok(()));
    assert_eq!(store.remove(&name("cart")), Err(RemoveError::UnknownFunction { function: name("cart") }));
    assert_eq!(store.collect_garbage(later, Duration::from_secs(3600)).unwrap().removed, 2);
}

#[test]
fn a_rollback_to_a_lost_component_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let first = store.put_component(b"first").unwrap();
    store.deploy(&spec("cart", &[]), first, 0).unwrap();
    store.deploy(&spec("cart", &[]), store.put_component(b"second").unwrap(), 0).unwrap();
    fs::remove_file(store.directory().join("components").join(first.hex())).unwrap();
    assert!(matches!(store.rollback(&name("cart"), None), Err(RollbackError::ComponentMissing { .. })));
}

#[test]
fn a_specification_that_is_no_longer_one_is_damage() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    store.deploy_app(&[deployment(&store, "cart", &[])], 0).unwrap();
    let file = store.directory().join("registry.db");
    drop(store);
    let outside = rusqlite::Connection::open(&file).unwrap();
    outside.execute("UPDATE revisions SET spec = '{}'", []).unwrap();
    drop(outside);
    let error = open(directory.path()).active().unwrap_err();
    assert!(matches!(error, StorageError::Corrupted { .. }), "{error}");
}
