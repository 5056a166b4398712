//! The store of one node: opens the data directory and everything in it, in order.

use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;
use rusqlite::Connection;

use crate::admin_token::{self, AdminToken, AdminTokenError};
use crate::components::Components;
use crate::directory::DataDirectory;
use crate::error::OpenError;
use crate::key_values::{KeyValueLimits, SqliteKeyValues};
use crate::{database, registry};

/// Functions, revisions, components and settings of one node. Cheap to share behind an `Arc`.
pub struct Store {
    pub(crate) directory: Arc<DataDirectory>,
    pub(crate) settings: StoreSettings,
    /// One writer at a time is SQLite's own rule; reads are rare enough to share its connection.
    pub(crate) registry: Mutex<Connection>,
    pub(crate) components: Components,
}

/// What can be set about the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreSettings {
    /// Revisions kept per function for `rollback`, the active one always among them. Default 20; at least 1.
    pub revisions_kept: u32,
}

impl Default for StoreSettings {
    fn default() -> Self {
        Self { revisions_kept: 20 }
    }
}

impl Store {
    /// Opens the data directory at `path`, making or migrating it first, and holds it until dropped.
    ///
    /// # Errors
    /// See [`OpenError`]; what is refused is left as it is.
    pub fn open(path: &Path, settings: StoreSettings) -> Result<Self, OpenError> {
        let directory = DataDirectory::open(path)?;
        let registry = database::open(directory.path(), &registry::KIND)?;
        let components = Components::open(directory.path())?;
        Ok(Self { directory: Arc::new(directory), settings, registry: Mutex::new(registry), components })
    }

    /// The data directory, for others that keep files in it (logs, history, images).
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Opens the key-value stores of the functions. Call it once; the result holds the data directory, too.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn key_values(&self, limits: KeyValueLimits) -> Result<SqliteKeyValues, OpenError> {
        SqliteKeyValues::open(Arc::clone(&self.directory), limits, || self.store_users())
    }

    /// The token of the admin API, made at the first call.
    ///
    /// # Errors
    /// See [`AdminTokenError`].
    pub fn admin_token(&self) -> Result<AdminToken, AdminTokenError> {
        admin_token::read_or_create(self.directory.path())
    }
}
