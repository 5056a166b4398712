//! What is kept on disk: functions, revisions, components, settings, key values and history.
//!
//! One data directory belongs to one node at a time:
//!
//! ```text
//! node.lock      held by the running node; the kernel lets go of it when the process dies
//! admin.token    bearer token of the admin API, readable by its owner only
//! registry.db    functions, revisions, routes, settings (SQLite, every commit synced)
//! keyvalues.db   wasi:keyvalue stores (SQLite, commits synced at checkpoints)
//! history.db     invocations and their sums (SQLite, see HISTORY.md)
//! components/    <sha256 hex>: components, named by their content
//! ```
//!
//! Calls block on the disk: none belongs on the request path. Nothing here runs or reads a component.

mod admin_token;
mod components;
mod database;
mod deploy;
mod directory;
mod error;
mod history;
mod key_values;
mod registry;
mod rollback;
mod settings;
mod store;

pub use admin_token::{AdminToken, AdminTokenError, read_admin_token};
pub use components::{ComponentError, GarbageReport};
pub use deploy::{DeployError, Deployed, Deployment};
pub use directory::make_data_directory;
pub use error::{OpenError, StorageError};
pub use history::{
    ExportError, ExportFormat, ExportQuery, ExportTable, History, HistoryJournal, HistorySettings, HistoryWriter,
};
pub use key_values::{KeyValueLimits, SqliteKeyValues};
pub use registry::{FunctionRecord, Revision};
pub use rollback::{RemoveError, RollbackError};
pub use settings::SettingError;
pub use store::{Store, StoreSettings};
