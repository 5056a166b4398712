//! Key values against a map, at their limits, and across a restart.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::directory::tests::directory_in_memory;

fn open(limits: KeyValueLimits) -> (tempfile::TempDir, SqliteKeyValues) {
    let directory = directory_in_memory();
    let data = Arc::new(DataDirectory::open(directory.path()).unwrap());
    (directory, SqliteKeyValues::open(data, limits).unwrap())
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
    key_values.set_many("a", &[pair("k", "1"), pair("", "empty key")]).unwrap();
    key_values.set_many("b", &[pair("k", "2")]).unwrap();
    drop(key_values);
    let data = Arc::new(DataDirectory::open(directory.path()).unwrap());
    let key_values = SqliteKeyValues::open(data, KeyValueLimits::default()).unwrap();
    assert_eq!(key_values.get("a", "k").unwrap().unwrap(), b"1");
    assert_eq!(key_values.get("b", "k").unwrap().unwrap(), b"2");
    assert_eq!(key_values.get("a", "absent"), Ok(None));
    assert_eq!(key_values.get("absent", "k"), Ok(None));
    assert_eq!(key_values.list_keys("a", None).unwrap(), ["", "k"]);
    key_values.delete_many("a", &["k".into(), "absent".into()]).unwrap();
    assert_eq!(key_values.list_keys("a", None).unwrap(), [""]);
}

#[test]
fn refuses_what_is_too_large_and_changes_nothing() {
    let (_directory, key_values) = open(tiny());
    let over = |result: Result<(), KeyValueError>| assert!(matches!(result, Err(KeyValueError::OverLimits { .. })));
    over(key_values.set_many("s", &[pair("a", "1"), pair("abcde", "1")]));
    over(key_values.set_many("s", &[pair("a", &"x".repeat(41))]));
    over(key_values.set_many("s", &[pair("a", ""), pair("b", ""), pair("c", ""), pair("d", "")]));
    over(key_values.set_many("s", &["a", "b", "c"].map(|key| pair(key, &"x".repeat(40)))));
    over(key_values.set_many(&"s".repeat(129), &[]));
    over(key_values.get("s", "abcde").map(drop));
    assert_eq!(key_values.list_keys("s", None).unwrap(), [""; 0]);
    // What is overwritten or deleted gives its room back.
    for _ in 0..5 {
        key_values.set_many("s", &["a", "b"].map(|key| pair(key, &"x".repeat(40)))).unwrap();
    }
    key_values.delete_many("s", &["a".into()]).unwrap();
    key_values.set_many("s", &[pair("c", &"x".repeat(40))]).unwrap();
}

#[test]
fn lists_in_pages() {
    let (_directory, key_values) = open(KeyValueLimits { page_keys: 2, ..Default::default() });
    let keys = ["", "a", "b", "ä", "b\0"];
    key_values.set_many("s", &keys.map(|key| pair(key, "x"))).unwrap();
    let (mut listed, mut after) = (Vec::new(), None::<String>);
    loop {
        let page = key_values.list_keys("s", after.as_deref()).unwrap();
        let Some(last) = page.last() else { break };
        after = Some(last.clone());
        listed.extend(page);
    }
    assert_eq!(listed, ["", "a", "b", "b\0", "ä"]);
}

#[test]
fn increments_numbers_only_and_loses_no_step() {
    let (_directory, key_values) = open(KeyValueLimits::default());
    assert_eq!(key_values.increment("s", "n", 2), Ok(2));
    key_values.set_many("s", &[pair("text", "+1"), pair("none", ""), pair("max", &u64::MAX.to_string())]).unwrap();
    for key in ["text", "none", "max"] {
        assert_eq!(key_values.increment("s", key, 1), Err(KeyValueError::NotANumber));
    }
    assert_eq!(key_values.increment("s", "max", 0), Ok(u64::MAX));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..25 {
                    key_values.increment("s", "n", 1).unwrap();
                }
            });
        }
    });
    assert_eq!(key_values.get("s", "n").unwrap().unwrap(), b"102");
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
                Step::Set(pairs) => key_values.set_many("s", pairs),
                Step::Delete(keys) => key_values.delete_many("s", keys),
                Step::Increment(key, delta) => key_values.increment("s", key, *delta).map(drop),
            };
            let next = expected(&model, step, &tiny());
            prop_assert_eq!(result.is_ok(), next.is_some(), "{:?} {:?}", step, result);
            model = next.unwrap_or(model);
            prop_assert_eq!(key_values.list_keys("s", None).unwrap(), model.keys().cloned().collect::<Vec<_>>());
            for (key, value) in &model {
                let stored = key_values.get("s", key).unwrap();
                prop_assert_eq!(stored.as_ref(), Some(value));
            }
        }
    }
}
