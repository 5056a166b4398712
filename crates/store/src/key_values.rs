//! `wasi:keyvalue` stores in one SQLite file: bounded, each the store of one application, shared by the functions of that
//! application that list it.
//!
//! Which function may open which store is checked by the driver, which knows the manifest. Until format 2, stores belonged
//! to the node; `adopt` gives those to the applications that used them.

mod adopt;

use std::path::PathBuf;
use std::sync::Arc;

use forerun_driver::{KeyValueError, KeyValues, StoreName};
use parking_lot::Mutex;
use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};

use crate::database::{self, CHECKED_BYTES_MAX, DatabaseKind, Durability};
use crate::directory::DataDirectory;
use crate::error::{OpenError, StorageError, from_sqlite};
use crate::registry::StoreUsers;

const KIND: DatabaseKind = DatabaseKind {
    file_name: "keyvalues.db",
    application_id: u32::from_be_bytes(*b"FRkv"),
    migrations: &[FORMAT_1, FORMAT_2],
    // Guests write on the request path: a sync per write would cost them milliseconds each.
    durability: Durability::Checkpoints,
    checked_bytes_max: CHECKED_BYTES_MAX,
};

const FORMAT_1: &str = "
    CREATE TABLE stores (
        id INTEGER PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        bytes INTEGER NOT NULL DEFAULT 0
    ) STRICT;
    CREATE TABLE pairs (
        store INTEGER NOT NULL REFERENCES stores (id) ON DELETE CASCADE,
        key TEXT NOT NULL,
        value BLOB NOT NULL,
        PRIMARY KEY (store, key)
    ) STRICT;
";

/// Stores belong to applications. To whom those that are there belong is not known in this file: see `adopt`.
const FORMAT_2: &str = "
    CREATE TABLE stores_of_applications (
        id INTEGER PRIMARY KEY,
        app TEXT,
        name TEXT NOT NULL,
        bytes INTEGER NOT NULL DEFAULT 0,
        UNIQUE (app, name)
    ) STRICT;
    INSERT INTO stores_of_applications (id, app, name, bytes) SELECT id, NULL, name, bytes FROM stores;
    DROP TABLE stores;
    ALTER TABLE stores_of_applications RENAME TO stores;
    CREATE TABLE to_adopt (store INTEGER PRIMARY KEY REFERENCES stores (id) ON DELETE CASCADE) STRICT;
    INSERT INTO to_adopt (store) SELECT id FROM stores;
";

/// How large things may get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyValueLimits {
    /// Name of a store. Default 128 bytes.
    pub store_name_bytes_max: usize,
    /// One key. Default 1 KiB: keys are compared and listed, not read.
    pub key_bytes_max: usize,
    /// One value. Default 4 MiB: larger ones belong into an object store.
    pub value_bytes_max: usize,
    /// Keys and values of one store together. Default 1 GiB, so that one application cannot fill the disk.
    pub store_bytes_max: u64,
    /// Pairs or keys of one call. Default 1000.
    pub batch_max: usize,
    /// Keys of one page of a list. Default 1000.
    pub page_keys: u32,
}

impl Default for KeyValueLimits {
    fn default() -> Self {
        Self {
            store_name_bytes_max: 128,
            key_bytes_max: 1 << 10,
            value_bytes_max: 4 << 20,
            store_bytes_max: 1 << 30,
            batch_max: 1000,
            page_keys: 1000,
        }
    }
}

/// The key-value stores of one node. Writers wait for each other; readers do not wait for writers.
pub struct SqliteKeyValues {
    writer: Mutex<Connection>,
    reader: Mutex<Connection>,
    limits: KeyValueLimits,
    file: PathBuf,
    /// The data directory stays ours for as long as its database is open.
    _directory: Arc<DataDirectory>,
}

impl SqliteKeyValues {
    /// Opens the file; `users` says which applications use which stores, and is asked where stores without an application
    /// are to be given to those.
    pub(crate) fn open(
        directory: Arc<DataDirectory>,
        limits: KeyValueLimits,
        users: impl FnOnce() -> Result<StoreUsers, StorageError>,
    ) -> Result<Self, OpenError> {
        let mut writer = database::open(directory.path(), &KIND)?;
        adopt::adopt(&mut writer, users, &database::file(directory.path(), &KIND))?;
        let reader = database::open_again(directory.path(), &KIND)?;
        let file = database::file(directory.path(), &KIND);
        let (writer, reader) = (Mutex::new(writer), Mutex::new(reader));
        Ok(Self { writer, reader, limits, file, _directory: directory })
    }

    fn read<T>(&self, read: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, KeyValueError> {
        read(&self.reader.lock()).map_err(|error| storage(&from_sqlite(&error, "reading key values", &self.file)))
    }

    /// Runs `change` in a transaction on the store named `store`; an error of any kind undoes it.
    fn change<T>(
        &self,
        store: StoreName<'_>,
        change: impl FnOnce(&Connection, i64) -> Result<T, Refusal>,
    ) -> Result<T, KeyValueError> {
        self.check_store(store)?;
        let mut writer = self.writer.lock();
        let changed = change_in_transaction(&mut writer, store, self.limits.store_bytes_max, change);
        changed.map_err(|refusal| match refusal {
            Refusal::Named(error) => error,
            Refusal::Sqlite(error) => storage(&from_sqlite(&error, "writing key values", &self.file)),
        })
    }

    fn check_store(&self, store: StoreName<'_>) -> Result<(), KeyValueError> {
        within("the store's name", store.name.len(), self.limits.store_name_bytes_max)
    }

    fn check_key(&self, key: &str) -> Result<(), KeyValueError> {
        within("a key", key.len(), self.limits.key_bytes_max)
    }
}

/// Why a transaction is undone.
enum Refusal {
    Named(KeyValueError),
    Sqlite(rusqlite::Error),
}

impl From<rusqlite::Error> for Refusal {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl KeyValues for SqliteKeyValues {
    fn get(&self, store: StoreName<'_>, key: &str) -> Result<Option<Vec<u8>>, KeyValueError> {
        self.check_store(store)?;
        self.check_key(key)?;
        self.read(|reader| {
            reader
                .prepare_cached(
                    "SELECT value FROM pairs JOIN stores ON stores.id = pairs.store
                     WHERE stores.app = ?1 AND stores.name = ?2 AND pairs.key = ?3",
                )?
                .query_row([store.app, store.name, key], |row| row.get(0))
                .optional()
        })
    }

    fn set_many(&self, store: StoreName<'_>, pairs: &[(String, Vec<u8>)]) -> Result<(), KeyValueError> {
        within_count(pairs.len(), self.limits.batch_max)?;
        for (key, value) in pairs {
            self.check_key(key)?;
            within("a value", value.len(), self.limits.value_bytes_max)?;
        }
        self.change(store, |writer, store| {
            for (key, value) in pairs {
                put(writer, store, key, value)?;
            }
            Ok(())
        })
    }

    fn delete_many(&self, store: StoreName<'_>, keys: &[String]) -> Result<(), KeyValueError> {
        within_count(keys.len(), self.limits.batch_max)?;
        self.change(store, |writer, store| {
            for key in keys {
                delete(writer, store, key)?;
            }
            Ok(())
        })
    }

    fn list_keys(&self, store: StoreName<'_>, after: Option<&str>) -> Result<Vec<String>, KeyValueError> {
        self.check_store(store)?;
        let page_keys = self.limits.page_keys.max(1);
        self.read(|reader| {
            // The smallest text is the empty one, which may itself be a key: hence the two conditions.
            reader
                .prepare_cached(
                    "SELECT pairs.key FROM pairs JOIN stores ON stores.id = pairs.store
                     WHERE stores.app = ?1 AND stores.name = ?2 AND pairs.key >= ?3 AND (?4 OR pairs.key > ?3)
                     ORDER BY pairs.key LIMIT ?5",
                )?
                .query_map(params![store.app, store.name, after.unwrap_or(""), after.is_none(), page_keys], |row| {
                    row.get(0)
                })?
                .collect()
        })
    }

    fn increment(&self, store: StoreName<'_>, key: &str, delta: u64) -> Result<u64, KeyValueError> {
        self.check_key(key)?;
        self.change(store, |writer, store| {
            let current = value(writer, store, key)?.map_or(Some(0), |value| number(&value));
            let sum = current.and_then(|current| current.checked_add(delta));
            let sum = sum.ok_or(Refusal::Named(KeyValueError::NotANumber))?;
            put(writer, store, key, sum.to_string().as_bytes())?;
            Ok(sum)
        })
    }
}

fn change_in_transaction<T>(
    writer: &mut Connection,
    store: StoreName<'_>,
    bytes_max: u64,
    change: impl FnOnce(&Connection, i64) -> Result<T, Refusal>,
) -> Result<T, Refusal> {
    let transaction = writer.transaction_with_behavior(TransactionBehavior::Immediate)?;
    transaction
        .prepare_cached("INSERT INTO stores (app, name) VALUES (?1, ?2) ON CONFLICT (app, name) DO NOTHING")?
        .execute([store.app, store.name])?;
    let id = transaction
        .prepare_cached("SELECT id FROM stores WHERE app = ?1 AND name = ?2")?
        .query_row([store.app, store.name], |row| row.get::<_, i64>(0))?;
    let done = change(&transaction, id)?;
    let bytes: i64 =
        transaction.prepare_cached("SELECT bytes FROM stores WHERE id = ?1")?.query_row([id], |row| row.get(0))?;
    if u64::try_from(bytes).unwrap_or(0) > bytes_max {
        let detail = format!("the store would have {bytes} bytes, at most {bytes_max} are allowed");
        return Err(Refusal::Named(KeyValueError::OverLimits { detail }));
    }
    transaction.commit()?;
    Ok(done)
}

fn put(writer: &Connection, store: i64, key: &str, value: &[u8]) -> rusqlite::Result<()> {
    delete(writer, store, key)?;
    writer
        .prepare_cached("INSERT INTO pairs (store, key, value) VALUES (?1, ?2, ?3)")?
        .execute(params![store, key, value])?;
    account(writer, store, pair_bytes(key, value.len()))
}

fn delete(writer: &Connection, store: i64, key: &str) -> rusqlite::Result<()> {
    let gone = writer
        .prepare_cached("DELETE FROM pairs WHERE store = ?1 AND key = ?2 RETURNING length(value)")?
        .query_row(params![store, key], |row| row.get::<_, u32>(0))
        .optional()?;
    match gone {
        Some(value_bytes) => account(writer, store, -pair_bytes(key, value_bytes as usize)),
        None => Ok(()),
    }
}

fn value(writer: &Connection, store: i64, key: &str) -> rusqlite::Result<Option<Vec<u8>>> {
    writer
        .prepare_cached("SELECT value FROM pairs WHERE store = ?1 AND key = ?2")?
        .query_row(params![store, key], |row| row.get(0))
        .optional()
}

fn account(writer: &Connection, store: i64, bytes: i64) -> rusqlite::Result<()> {
    writer
        .prepare_cached("UPDATE stores SET bytes = bytes + ?2 WHERE id = ?1")?
        .execute(params![store, bytes])
        .map(drop)
}

/// What a pair counts for: its own bytes. Keys and values are bounded far below 2^62.
fn pair_bytes(key: &str, value_bytes: usize) -> i64 {
    i64::try_from(key.len() + value_bytes).unwrap_or(i64::MAX / 2)
}

fn number(value: &[u8]) -> Option<u64> {
    let digits_only = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(value).ok().filter(|_| digits_only)?.parse().ok()
}

fn within(what: &str, bytes: usize, max: usize) -> Result<(), KeyValueError> {
    if bytes <= max {
        return Ok(());
    }
    Err(KeyValueError::OverLimits { detail: format!("{what} has {bytes} bytes, at most {max} are allowed") })
}

fn within_count(count: usize, max: usize) -> Result<(), KeyValueError> {
    if count <= max {
        return Ok(());
    }
    Err(KeyValueError::OverLimits { detail: format!("{count} entries in one call, at most {max} are allowed") })
}

fn storage(error: &StorageError) -> KeyValueError {
    KeyValueError::Storage { detail: error.to_string() }
}

#[cfg(test)]
mod tests;
