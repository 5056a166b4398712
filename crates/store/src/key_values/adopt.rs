//! Stores from before stores belonged to applications: each goes to the application whose functions list its name.
//!
//! ```text
//! listed by one application ─► that application's       by several ─► a copy for each: they shared it until now
//! listed by none ─► kept and named in the log, and nobody's: whoever lists that name later is somebody else
//! ```
//! This happens once, in one transaction: `to_adopt` names the stores it is still to happen to.

use std::path::Path;

use rusqlite::{Connection, TransactionBehavior, params};

use crate::error::{StorageError, While};
use crate::registry::StoreUsers;

const DOING: &str = "giving key-value stores to applications";

/// Gives what is to be adopted to the applications that use it; `users` is asked only if there is anything.
pub(super) fn adopt(
    connection: &mut Connection,
    users: impl FnOnce() -> Result<StoreUsers, StorageError>,
    file: &Path,
) -> Result<(), StorageError> {
    let stores = to_adopt(connection).while_doing(DOING, file)?;
    if stores.is_empty() {
        return Ok(());
    }
    let users = users()?;
    give_all(connection, &stores, &users).while_doing(DOING, file)?;
    for (_, name) in &stores {
        match users.of(name) {
            [] => tracing::warn!(store = name, "no application lists this key-value store: it is kept, for nobody"),
            apps => tracing::info!(store = name, ?apps, "a key-value store belongs to applications now"),
        }
    }
    Ok(())
}

fn to_adopt(connection: &Connection) -> rusqlite::Result<Vec<(i64, String)>> {
    let sql = "SELECT id, name FROM stores JOIN to_adopt ON to_adopt.store = stores.id ORDER BY name";
    connection.prepare(sql)?.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
}

fn give_all(connection: &mut Connection, stores: &[(i64, String)], users: &StoreUsers) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for (store, name) in stores {
        if let Some((first, others)) = users.of(name).split_first() {
            others.iter().try_for_each(|app| copy(&transaction, *store, app))?;
            transaction.execute("UPDATE stores SET app = ?2 WHERE id = ?1", params![store, first])?;
        }
    }
    transaction.execute("DELETE FROM to_adopt", [])?;
    transaction.commit()
}

fn copy(connection: &Connection, store: i64, app: &str) -> rusqlite::Result<()> {
    let sql = "INSERT INTO stores (app, name, bytes) SELECT ?2, name, bytes FROM stores WHERE id = ?1";
    connection.execute(sql, params![store, app])?;
    let sql = "INSERT INTO pairs (store, key, value) SELECT ?2, key, value FROM pairs WHERE store = ?1";
    connection.execute(sql, params![store, connection.last_insert_rowid()]).map(drop)
}
