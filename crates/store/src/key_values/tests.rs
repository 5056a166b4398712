//! Key values against a map, at their limits, and across a restart.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::directory::tests::directory_in_memory;

fn open(limits: KeyValueLimits) -> (tempfile::TempDir, SqliteKeyValues) {
    let directory = directory_in_memory();
    let data = Arc::new(DataDirectory::open(directory.path()).unwrap());
    (directory, SqliteKeyValues::open(data, limits, nobody).unwrap())
}

/// Nothing is to be given to anybody.
fn nobody() -> Result<StoreUsers, StorageError> {
    panic!("a new file has no stores from before")
}

fn store(name: &str) -> StoreName<'_> {
    StoreName { app: "shop", name }
}

fn tiny() -> KeyValueLimits {
    KeyValueLimits { key_bytes_max: 4, value_bytes_max: 40, store_bytes_max: 100, batch_max: 3, ..Default::default() }
}

fn pair(key: &str, value: &str) -> (String, Vec<u8>) {
    (key.to_owned(), value.as_bytes().to_vec())
}

#[test]
fn keeps_stores_apart_and_survives_a_restart() {
    let (directory, key_values) = open(KeyValueLimits::default());
    key_values.set_many(store("a"), &[pair("k", "1"), pair("", "empty key")]).unwrap();
    key_values.set_many(store("b"), &[pair("k", "2")]).unwrap();
    drop(key_values);
    let data = Arc::new(DataDirectory::open(directory.path()).unwrap());
    let key_values = SqliteKeyValues::open(data, KeyValueLimits::default(), nobody).unwrap();
    assert_eq!(key_values.get(store("a"), "k").unwrap().unwrap(), b"1");
    assert_eq!(key_values.get(store("b"), "k").unwrap().unwrap(), b"2");
    assert_eq!(key_values.get(store("a"), "absent"), Ok(None));
    assert_eq!(key_values.get(store("absent"), "k"), Ok(None));
    assert_eq!(key_values.list_keys(store("a"), None).unwrap(), ["", "k"]);
    key_values.delete_many(store("a"), &["k".into(), "absent".into()]).unwrap();
    assert_eq!(key_values.list_keys(store("a"), None).unwrap(), [""]);
}

#[test]
fn applications_have_stores_of_their_own() {
    let (_directory, key_values) = open(KeyValueLimits::default());
    let apps = ["shop", "", "Shop", "shop/till", "*"];
    for app in apps {
        key_values.set_many(StoreName { app, name: "till" }, &[pair("who", app)]).unwrap();
    }
    for app in apps {
        let till = StoreName { app, name: "till" };
        assert_eq!(key_values.get(till, "who").unwrap().unwrap(), app.as_bytes());
        key_values.delete_many(till, &["who".into()]).unwrap();
        assert_eq!(key_values.list_keys(till, None).unwrap(), [""; 0]);
    }
    let (other, other_till) = (StoreName { app: "other", name: "till" }, StoreName { app: "shop", name: "/till" });
    assert_eq!((key_values.get(other, "who"), key_values.get(other_till, "who")), (Ok(None), Ok(None)));
}

/// A data directory of the release before, with the store of each name holding its name.
fn written_by_format_1(stores: &[&str]) -> tempfile::TempDir {
    let directory = directory_in_memory();
    let before = DatabaseKind { migrations: &[FORMAT_1], ..KIND };
    let connection = database::open(directory.path(), &before).unwrap();
    for name in stores {
        connection.execute("INSERT INTO stores (name, bytes) VALUES (?1, 1 + length(?1))", [name]).unwrap();
        let id = connection.last_insert_rowid();
        connection
            .execute("INSERT INTO pairs (store, key, value) VALUES (?1, 'k', CAST(?2 AS BLOB))", params![id, name])
            .unwrap();
    }
    directory
}

/// Deploys functions, each of an application and with the stores it lists.
fn deploy(node: &crate::Store, functions: &[(&str, &str, &[&str])]) {
    let digest = node.put_component(b"component").unwrap();
    for (name, app, stores) in functions {
        let mut spec = forerun_types::FunctionSpec::named(name.parse().unwrap());
        (*app).clone_into(&mut spec.app);
        spec.key_value_stores = stores.iter().map(ToString::to_string).collect();
        node.deploy(&spec, digest, 1).unwrap();
    }
}

#[test]
fn stores_from_before_applications_go_to_those_that_list_them() {
    let directory = written_by_format_1(&["till", "both", "past", "nobodys"]);
    let node = crate::Store::open(directory.path(), crate::StoreSettings::default()).unwrap();
    deploy(
        &node,
        &[("a", "shop", &["past"]), ("a", "shop", &["till", "both"]), ("b", "bank", &["both"]), ("c", "", &["both"])],
    );
    for round in ["as it is taken over", "and after a restart"] {
        let key_values = node.key_values(KeyValueLimits::default()).unwrap();
        let held = |app: &str, name: &str| key_values.get(StoreName { app, name }, "k").unwrap();
        let of = |name: &str| ["shop", "bank", "", "thief"].map(|app| held(app, name).is_some());
        assert_eq!(of("till"), [true, false, false, false], "{round}");
        assert_eq!(of("past"), [true, false, false, false], "{round}");
        assert_eq!(of("both"), [true, true, true, false], "{round}");
        assert_eq!(of("nobodys"), [false; 4], "{round}");
        let kept = key_values.reader.lock().query_row(
            "SELECT value FROM pairs JOIN stores ON stores.id = pairs.store WHERE app IS NULL AND name = 'nobodys'",
            [],
            |row| row.get::<_, Vec<u8>>(0),
        );
        assert_eq!(kept.unwrap(), b"nobodys", "nothing is lost");
        drop(key_values);
        // Whoever lists it after the fact is somebody else, and does not get it at the next start either.
        deploy(&node, &[("d", "thief", &["till", "nobodys"])]);
    }
    // The copies are stores of their own, with sizes of their own.
    let key_values = node.key_values(KeyValueLimits { store_bytes_max: 6, ..KeyValueLimits::default() }).unwrap();
    let both = |app| StoreName { app, name: "both" };
    key_values.delete_many(both("shop"), &["k".into()]).unwrap();
    assert_eq!(key_values.get(both("bank"), "k").unwrap().unwrap(), b"both");
    assert!(matches!(key_values.set_many(both("bank"), &[pair("l", "x")]), Err(KeyValueError::OverLimits { .. })));
    key_values.set_many(both("shop"), &[pair("l", "x")]).unwrap();
}

#[test]
fn refuses_what_is_too_large_and_changes_nothing() {
    let (_directory, key_values) = open(tiny());
    let over = |result: Result<(), KeyValueError>| assert!(matches!(result, Err(KeyValueError::OverLimits { .. })));
    over(key_values.set_many(store("s"), &[pair("a", "1"), pair("abcde", "1")]));
    over(key_values.set_many(store("s"), &[pair("a", &"x".repeat(41))]));
    over(key_values.set_many(store("s"), &[pair("a", ""), pair("b", ""), pair("c", ""), pair("d", "")]));
    over(key_values.set_many(store("s"), &["a", "b", "c"].map(|key| pair(key, &"x".repeat(40)))));
    over(key_values.set_many(store(&"s".repeat(129)), &[]));
    over(key_values.get(store("s"), "abcde").map(drop));
    assert_eq!(key_values.list_keys(store("s"), None).unwrap(), [""; 0]);
    // What is overwritten or deleted gives its room back.
    for _ in 0..5 {
        key_values.set_many(store("s"), &["a", "b"].map(|key| pair(key, &"x".repeat(40)))).unwrap();
    }
    key_values.delete_many(store("s"), &["a".into()]).unwrap();
    key_values.set_many(store("s"), &[pair("c", &"x".repeat(40))]).unwrap();
}

#[test]
fn lists_in_pages() {
    let (_directory, key_values) = open(KeyValueLimits { page_keys: 2, ..Default::default() });
    let keys = ["", "a", "b", "ä", "b\0"];
    key_values.set_many(store("s"), &keys.map(|key| pair(key, "x"))).unwrap();
    let (mut listed, mut after) = (Vec::new(), None::<String>);
    loop {
        let page = key_values.list_keys(store("s"), after.as_deref()).unwrap();
        let Some(last) = page.last() else { break };
        after = Some(last.clone());
        listed.extend(page);
    }
    assert_eq!(listed, ["", "a", "b", "b\0", "ä"]);
}

#[test]
fn increments_numbers_only_and_loses_no_step() {
    let (_directory, key_values) = open(KeyValueLimits::default());
    assert_eq!(key_values.increment(store("s"), "n", 2), Ok(2));
    key_values
        .set_many(store("s"), &[pair("text", "+1"), pair("none", ""), pair("max", &u64::MAX.to_string())])
        .unwrap();
    for key in ["text", "none", "max"] {
        assert_eq!(key_values.increment(store("s"), key, 1), Err(KeyValueError::NotANumber));
    }
    assert_eq!(key_values.increment(store("s"), "max", 0), Ok(u64::MAX));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..25 {
                    key_values.increment(store("s"), "n", 1).unwrap();
                }
            });
        }
    });
    assert_eq!(key_values.get(store("s"), "n").unwrap().unwrap(), b"102");
}

#[derive(Debug, Clone)]
enum Step {
    Set(Vec<(String, Vec<u8>)>),
    Delete(Vec<String>),
    Increment(String, u64),
}

fn step() -> impl Strategy<Value = Step> {
    let key = || "[a-c]{0,5}";
    let value = || prop_oneof![proptest::collection::vec(any::<u8>(), 0..45), Just(b"41".to_vec())];
    prop_oneof![
        proptest::collection::vec((key(), value()), 0..4).prop_map(Step::Set),
        proptest::collection::vec(key(), 0..4).prop_map(Step::Delete),
        (key(), 0..3u64).prop_map(|(key, delta)| Step::Increment(key, delta)),
    ]
}

type Model = BTreeMap<String, Vec<u8>>;

/// The model after `step`, or nothing if the step must be refused.
fn expected(model: &Model, step: &Step, limits: &KeyValueLimits) -> Option<Model> {
    let mut next = model.clone();
    match step {
        Step::Set(pairs) => next.extend(pairs.iter().cloned()),
        Step::Delete(keys) => keys.iter().for_each(|key| drop(next.remove(key))),
        Step::Increment(key, delta) => {
            let current = next.get(key).map_or(Some(0), |value| number(value))?;
            next.insert(key.clone(), (current + delta).to_string().into_bytes());
        }
    }
    let touched: Vec<&String> = match step {
        Step::Set(pairs) => pairs.iter().map(|(key, _)| key).collect(),
        Step::Delete(_) => Vec::new(),
        Step::Increment(key, _) => vec![key],
    };
    let values_fit = match step {
        Step::Set(pairs) => {
            pairs.len() <= limits.batch_max && pairs.iter().all(|(_, value)| value.len() <= limits.value_bytes_max)
        }
        Step::Delete(keys) => keys.len() <= limits.batch_max,
        Step::Increment(..) => true,
    };
    let bytes: usize = next.iter().map(|(key, value)| key.len() + value.len()).sum();
    let keys_fit = touched.iter().all(|key| key.len() <= limits.key_bytes_max);
    (values_fit && keys_fit && bytes as u64 <= limits.store_bytes_max).then_some(next)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn behaves_as_a_map(steps in proptest::collection::vec(step(), 1..30)) {
        let (_directory, key_values) = open(tiny());
        let mut model = Model::new();
        for step in &steps {
            let result = match step {
                Step::Set(pairs) => key_values.set_many(store("s"), pairs),
                Step::Delete(keys) => key_values.delete_many(store("s"), keys),
                Step::Increment(key, delta) => key_values.increment(store("s"), key, *delta).map(drop),
            };
            let next = expected(&model, step, &tiny());
            prop_assert_eq!(result.is_ok(), next.is_some(), "{:?} {:?}", step, result);
            model = next.unwrap_or(model);
            prop_assert_eq!(key_values.list_keys(store("s"), None).unwrap(), model.keys().cloned().collect::<Vec<_>>());
            for (key, value) in &model {
                let stored = key_values.get(store("s"), key).unwrap();
                prop_assert_eq!(stored.as_ref(), Some(value));
            }
        }
    }
}
