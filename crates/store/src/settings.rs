//! Settings of the node that outlive it: a key and a JSON value. What they mean is the node's business.

use rusqlite::{OptionalExtension, params};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{StorageError, While};
use crate::store::Store;

/// A key is a word or two, not a text.
const KEY_BYTES_MAX: usize = 128;
/// Settings are read as a whole; anything larger wants a table of its own.
const VALUE_BYTES_MAX: usize = 1 << 20;

/// Why a setting was not read or written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingError {
    /// The key is empty or too long.
    #[error("a settings key has 1 to {KEY_BYTES_MAX} bytes, this one has {bytes}")]
    BadKey {
        /// Length found, in bytes.
        bytes: usize,
    },
    /// The value is too long as JSON.
    #[error("setting `{key}` has {bytes} bytes, at most {VALUE_BYTES_MAX} are accepted")]
    TooLarge {
        /// The key.
        key: String,
        /// Size found, in bytes.
        bytes: usize,
    },
    /// What is stored is not of the type asked for, or what is to be stored is no JSON.
    #[error("setting `{key}` is not of the expected form: {detail}")]
    Malformed {
        /// The key.
        key: String,
        /// What is wrong with it.
        detail: String,
    },
    /// The disk failed or is full.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl Store {
    /// The setting `key`, if it was ever set.
    ///
    /// # Errors
    /// See [`SettingError`].
    pub fn setting<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, SettingError> {
        let sql = "SELECT value FROM settings WHERE key = ?1";
        let text = self.registry.lock().query_row(sql, [key], |row| row.get::<_, String>(0)).optional();
        let Some(text) = text.while_doing("reading a setting", &self.registry_file())? else { return Ok(None) };
        serde_json::from_str(&text).map(Some).map_err(|error| malformed(key, &error))
    }

    /// Sets `key`; as durable as a deployment.
    ///
    /// # Errors
    /// See [`SettingError`].
    pub fn set_setting<T: Serialize>(&self, key: &str, value: &T) -> Result<(), SettingError> {
        if key.is_empty() || key.len() > KEY_BYTES_MAX {
            return Err(SettingError::BadKey { bytes: key.len() });
        }
        let text = serde_json::to_string(value).map_err(|error| malformed(key, &error))?;
        if text.len() > VALUE_BYTES_MAX {
            return Err(SettingError::TooLarge { key: key.to_owned(), bytes: text.len() });
        }
        let sql = "INSERT INTO settings (key, value) VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = ?2";
        let written = self.registry.lock().execute(sql, params![key, text]);
        written.while_doing("writing a setting", &self.registry_file())?;
        Ok(())
    }

    /// Forgets `key`; one that is not set is fine.
    ///
    /// # Errors
    /// See [`SettingError`].
    pub fn remove_setting(&self, key: &str) -> Result<(), SettingError> {
        let removed = self.registry.lock().execute("DELETE FROM settings WHERE key = ?1", [key]);
        removed.while_doing("removing a setting", &self.registry_file())?;
        Ok(())
    }
}

fn malformed(key: &str, error: &serde_json::Error) -> SettingError {
    SettingError::Malformed { key: key.to_owned(), detail: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::StoreSettings;

    #[test]
    fn keeps_values_across_restarts_and_refuses_bad_ones() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path(), StoreSettings::default()).unwrap();
        assert_eq!(store.setting::<u32>("a"), Ok(None));
        store.set_setting("a", &1).unwrap();
        store.set_setting("a", &vec![1, 2]).unwrap();
        drop(store);
        let store = Store::open(directory.path(), StoreSettings::default()).unwrap();
        assert_eq!(store.setting("a"), Ok(Some(vec![1, 2])));
        assert!(matches!(store.setting::<u32>("a"), Err(SettingError::Malformed { .. })));
        assert_eq!(store.set_setting("", &1), Err(SettingError::BadKey { bytes: 0 }));
        let long = "x".repeat(VALUE_BYTES_MAX);
        assert!(matches!(store.set_setting("a", &long), Err(SettingError::TooLarge { .. })));
        store.remove_setting("a").unwrap();
        assert_eq!(store.setting::<u32>("a"), Ok(None));
    }
}
