//! Serialisation of hash maps in key order, so that equal content gives equal bytes.

use crate::hash::KeyMap;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::hash::Hash;

/// Writes the entries in key order.
pub(crate) fn serialize<K, V, S>(map: &KeyMap<K, V>, serializer: S) -> Result<S::Ok, S::Error>
where
    K: Ord + Eq + Hash + Serialize,
    V: Serialize,
    S: Serializer,
{
    let mut entries: Vec<(&K, &V)> = map.iter().collect();
    entries.sort_unstable_by(|a, b| a.0.cmp(b.0));
    serializer.collect_seq(entries)
}

/// Reads the entries back.
pub(crate) fn deserialize<'de, K, V, D>(deserializer: D) -> Result<KeyMap<K, V>, D::Error>
where
    K: Eq + Hash + DeserializeOwned,
    V: DeserializeOwned,
    D: Deserializer<'de>,
{
    Ok(Vec::<(K, V)>::deserialize(deserializer)?.into_iter().collect())
}
