//! The tables of functions and revisions, and reading them.
//!
//! A function has one active revision and a few earlier (or, after a rollback, later) ones. The routes
//! table holds the routes of active revisions only, so that the database itself keeps them unique.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::PathBuf;

use forerun_types::{ComponentDigest, FunctionName, FunctionSpec, RevisionNumber};
use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::database::{self, CHECKED_BYTES_MAX, DatabaseKind, Durability};
use crate::error::{StorageError, While};
use crate::store::Store;

pub(crate) const KIND: DatabaseKind = DatabaseKind {
    file_name: "registry.db",
    application_id: u32::from_be_bytes(*b"FRrg"),
    migrations: &[FORMAT_1],
    durability: Durability::EveryCommit,
    checked_bytes_max: CHECKED_BYTES_MAX,
};

const FORMAT_1: &str = "
    CREATE TABLE functions (
        name TEXT PRIMARY KEY NOT NULL,
        active_revision INTEGER NOT NULL,
        last_revision INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE revisions (
        function TEXT NOT NULL REFERENCES functions (name) ON DELETE CASCADE,
        number INTEGER NOT NULL,
        digest TEXT NOT NULL,
        spec TEXT NOT NULL,
        created_unix_ms INTEGER NOT NULL,
        PRIMARY KEY (function, number)
    ) STRICT;
    CREATE TABLE routes (
        route TEXT PRIMARY KEY NOT NULL,
        function TEXT NOT NULL REFERENCES functions (name) ON DELETE CASCADE
    ) STRICT;
    CREATE INDEX routes_by_function ON routes (function);
    CREATE TABLE settings (
        key TEXT PRIMARY KEY NOT NULL,
        value TEXT NOT NULL
    ) STRICT;
";

/// One revision of one function; never changes once made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revision {
    /// Its number.
    pub number: RevisionNumber,
    /// Its component.
    pub digest: ComponentDigest,
    /// Everything else about it; names the function.
    pub spec: FunctionSpec,
    /// When it was deployed, in milliseconds since the Unix epoch.
    pub created_unix_ms: u64,
}

/// One function, for lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FunctionRecord {
    /// The revision that serves.
    pub active: Revision,
    /// Highest number given to a revision so far; above the active one's after a rollback.
    pub last_revision: RevisionNumber,
    /// Revisions kept.
    pub revisions: u32,
}

/// Which applications use which key-value stores, by name of the store.
#[derive(Clone, Debug, Default)]
pub(crate) struct StoreUsers(BTreeMap<String, Vec<String>>);

impl StoreUsers {
    /// The applications whose functions list the store `name`, in order.
    pub(crate) fn of(&self, name: &str) -> &[String] {
        self.0.get(name).map_or(&[], Vec::as_slice)
    }

    fn among<'a>(specs: impl Iterator<Item = &'a FunctionSpec>) -> Self {
        let mut users: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for spec in specs {
            for store in &spec.key_value_stores {
                users.entry(store.clone()).or_default().insert(spec.app.clone());
            }
        }
        Self(users.into_iter().map(|(store, apps)| (store, apps.into_iter().collect())).collect())
    }

    /// As these say, and for stores that they do not know, as `others` say.
    fn or(mut self, others: Self) -> Self {
        for (store, apps) in others.0 {
            self.0.entry(store).or_insert(apps);
        }
        self
    }
}

const REVISION_COLUMNS: &str = "revisions.number, revisions.digest, revisions.spec, revisions.created_unix_ms";

impl Store {
    /// All functions, by name.
    ///
    /// # Errors
    /// See [`StorageError`].
    pub fn functions(&self) -> Result<Vec<FunctionRecord>, StorageError> {
        let sql = format!(
            "SELECT {REVISION_COLUMNS}, functions.last_revision,
                (SELECT count(*) FROM revisions AS kept WHERE kept.function = functions.name)
             FROM functions JOIN revisions
                ON revisions.function = functions.name AND revisions.number = functions.active_revision
             ORDER BY functions.name"
        );
        let record = |row: &Row<'_>| {
            let last_revision = RevisionNumber(row.get(4)?);
            Ok(FunctionRecord { active: revision(row)?, last_revision, revisions: row.get(5)? })
        };
        let registry = self.registry.lock();
        rows(&registry, &sql, [], record).while_doing("listing functions", &self.registry_file())
    }

    /// The active revision of every function, by name: what a node serves after its start.
    ///
    /// # Errors
    /// See [`StorageError`].
    pub fn active(&self) -> Result<Vec<Revision>, StorageError> {
        let sql = format!(
            "SELECT {REVISION_COLUMNS} FROM functions JOIN revisions
                ON revisions.function = functions.name AND revisions.number = functions.active_revision
             ORDER BY functions.name"
        );
        let registry = self.registry.lock();
        rows(&registry, &sql, [], revision).while_doing("listing functions", &self.registry_file())
    }

    /// The kept revisions of a function, newest first; empty if there is no such function.
    ///
    /// # Errors
    /// See [`StorageError`].
    pub fn revisions(&self, function: &FunctionName) -> Result<Vec<Revision>, StorageError> {
        let sql = format!("SELECT {REVISION_COLUMNS} FROM revisions WHERE function = ?1 ORDER BY number DESC");
        let registry = self.registry.lock();
        rows(&registry, &sql, [function.as_str()], revision).while_doing("listing revisions", &self.registry_file())
    }

    /// The active revision of a function, if there is such a function.
    ///
    /// # Errors
    /// See [`StorageError`].
    pub fn active_revision(&self, function: &FunctionName) -> Result<Option<Revision>, StorageError> {
        let registry = self.registry.lock();
        active_revision(&registry, function).while_doing("looking up a function", &self.registry_file())
    }

    /// Which applications use which key-value stores: by active revisions, and for other stores by all that are kept.
    pub(crate) fn store_users(&self) -> Result<StoreUsers, StorageError> {
        let active = self.active()?;
        let sql = format!("SELECT {REVISION_COLUMNS} FROM revisions");
        let registry = self.registry.lock();
        let kept: Vec<Revision> =
            rows(&registry, &sql, [], revision).while_doing("listing revisions", &self.registry_file())?;
        let among = |revisions: &[Revision]| StoreUsers::among(revisions.iter().map(|revision| &revision.spec));
        Ok(among(&active).or(among(&kept)))
    }

    pub(crate) fn registry_file(&self) -> PathBuf {
        database::file(self.directory(), &KIND)
    }

    /// Digests that a kept revision names.
    pub(crate) fn named_digests(&self, registry: &Connection) -> Result<HashSet<ComponentDigest>, StorageError> {
        rows(registry, "SELECT DISTINCT digest FROM revisions", [], |row| digest(row, 0))
            .while_doing("listing components", &self.registry_file())
    }
}

/// The active revision of `function`.
pub(crate) fn active_revision(registry: &Connection, function: &FunctionName) -> rusqlite::Result<Option<Revision>> {
    let sql = format!(
        "SELECT {REVISION_COLUMNS} FROM functions JOIN revisions
            ON revisions.function = functions.name AND revisions.number = functions.active_revision
         WHERE functions.name = ?1"
    );
    registry.query_row(&sql, [function.as_str()], revision).optional()
}

/// Revision `number` of `function`.
pub(crate) fn revision_numbered(
    registry: &Connection,
    function: &FunctionName,
    number: RevisionNumber,
) -> rusqlite::Result<Option<Revision>> {
    let sql = format!("SELECT {REVISION_COLUMNS} FROM revisions WHERE function = ?1 AND number = ?2");
    registry.query_row(&sql, params![function.as_str(), number.0], revision).optional()
}

/// All rows of a query.
pub(crate) fn rows<T, C: FromIterator<T>>(
    registry: &Connection,
    sql: &str,
    parameters: impl rusqlite::Params,
    read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<C> {
    registry.prepare(sql)?.query_map(parameters, read)?.collect()
}

/// The revision in the first four columns of a row.
fn revision(row: &Row<'_>) -> rusqlite::Result<Revision> {
    let spec: FunctionSpec = serde_json::from_str(row.get_ref(2)?.as_str()?).map_err(|error| malformed(2, error))?;
    let created: i64 = row.get(3)?;
    let created_unix_ms = u64::try_from(created).map_err(|error| malformed(3, error))?;
    Ok(Revision { number: RevisionNumber(row.get(0)?), digest: digest(row, 1)?, spec, created_unix_ms })
}

fn digest(row: &Row<'_>, column: usize) -> rusqlite::Result<ComponentDigest> {
    row.get_ref(column)?.as_str()?.parse().map_err(|error| malformed(column, error))
}

fn malformed(column: usize, error: impl std::error::Error + Send + Sync + 'static) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(error))
}
