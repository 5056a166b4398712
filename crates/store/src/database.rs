//! Opening one SQLite file: ours, not newer, not damaged, migrated, in WAL mode. A file that is refused is left as it is.
//!
//! ```text
//! absent ──► made whole under another name, renamed ──┐
//! present ──► header ──► application ──► version ──► quick check ──► migrate ──► open
//!               │            │              │             │
//!            Corrupted     Foreign        Newer       Corrupted
//! ```

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, TransactionBehavior};

use crate::directory;
use crate::error::{OpenError, StorageError, While};

/// A kind of database: its place and its formats.
pub(crate) struct DatabaseKind {
    /// File name in the data directory.
    pub(crate) file_name: &'static str,
    /// `PRAGMA application_id`: four bytes that say whose database it is.
    pub(crate) application_id: u32,
    /// Statements that lead from format n to n + 1; never changed once released.
    pub(crate) migrations: &'static [&'static str],
    /// What a commit waits for.
    pub(crate) durability: Durability,
    /// Larger files are not read through when they are opened, see [`CHECKED_BYTES_MAX`].
    pub(crate) checked_bytes_max: u64,
}

/// What a commit waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Durability {
    /// The disk: what is acknowledged survives a loss of power.
    EveryCommit,
    /// The system: what is acknowledged survives the death of the process; a loss of power may take
    /// the last commits, but never leaves half of one.
    Checkpoints,
}

const MAGIC: &[u8; 16] = b"SQLite format 3\0";
/// The header of a database; a shorter file was cut off.
const HEADER_BYTES: usize = 100;
/// A check reads the whole file. Beyond this (about a second of reading) damage is found when it is met instead.
pub(crate) const CHECKED_BYTES_MAX: u64 = 256 << 20;
/// Someone with `sqlite3` in hand may hold a lock for a moment.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// A burst makes the write-ahead log long; this much of it is kept for reuse.
const LOG_BYTES_KEPT: i64 = 16 << 20;

/// Opens the database of `kind` in `directory`, making or migrating it first.
pub(crate) fn open(directory: &Path, kind: &DatabaseKind) -> Result<Connection, OpenError> {
    let path = directory.join(kind.file_name);
    if !path.try_exists().while_doing("looking for a database", &path)? {
        create(&path, kind)?;
    }
    check_header(&path)?;
    let mut connection = Connection::open(&path).while_doing("opening a database", &path)?;
    // Until it is known to be good, closing it must not write the log into it.
    hold_back(&connection, true, &path)?;
    let format = check_ours(&connection, &path, kind)?;
    check_content(&connection, &path, kind.checked_bytes_max)?;
    configure(&connection, kind.durability).while_doing("setting up a database", &path)?;
    migrate(&mut connection, format, kind).while_doing("migrating a database", &path)?;
    hold_back(&connection, false, &path)?;
    Ok(connection)
}

/// One more connection to a database that [`open`] has opened and that is still open.
pub(crate) fn open_again(directory: &Path, kind: &DatabaseKind) -> Result<Connection, OpenError> {
    let path = directory.join(kind.file_name);
    let connection = Connection::open(&path).while_doing("opening a database", &path)?;
    configure(&connection, kind.durability).while_doing("setting up a database", &path)?;
    Ok(connection)
}

/// Made under another name, so that a file under its own name is never half made: an empty one is damage, not a start.
fn create(path: &Path, kind: &DatabaseKind) -> Result<(), StorageError> {
    let doing = "making a database";
    let unfinished = path.with_extension("db.tmp");
    let journal = path.with_extension("db.tmp-journal");
    for leftover in [&unfinished, &journal] {
        directory::remove_if_there(leftover).while_doing(doing, path)?;
    }
    let made = fill(&unfinished, kind);
    if made.is_err() {
        let _ = directory::remove_if_there(&unfinished);
    }
    made?;
    std::fs::rename(&unfinished, path).while_doing(doing, path)?;
    directory::sync_parent(path).while_doing(doing, path)
}

fn fill(path: &Path, kind: &DatabaseKind) -> Result<(), StorageError> {
    let doing = "making a database";
    drop(directory::create_private(path).while_doing(doing, path)?);
    let mut connection = Connection::open(path).while_doing(doing, path)?;
    connection.pragma_update(None, "application_id", kind.application_id).while_doing(doing, path)?;
    migrate(&mut connection, 0, kind).while_doing(doing, path)?;
    drop(connection);
    File::open(path).and_then(|file| file.sync_all()).while_doing(doing, path)
}

fn check_header(path: &Path) -> Result<(), StorageError> {
    let mut header = [0; HEADER_BYTES];
    let mut file = File::open(path).while_doing("opening a database", path)?;
    match file.read_exact(&mut header) {
        Ok(()) if header.starts_with(MAGIC) => Ok(()),
        Ok(()) => Err(StorageError::corrupted(path, "it does not start as a SQLite database does")),
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            Err(StorageError::corrupted(path, "it is cut off"))
        }
        Err(error) => Err(error).while_doing("reading a database", path),
    }
}

fn hold_back(connection: &Connection, hold: bool, path: &Path) -> Result<(), StorageError> {
    let option = DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE;
    connection.set_db_config(option, hold).map(drop).while_doing("opening a database", path)
}

/// The format of the database, if it is ours and not newer than this release.
fn check_ours(connection: &Connection, path: &Path, kind: &DatabaseKind) -> Result<usize, OpenError> {
    let read = |pragma| -> Result<u32, StorageError> {
        connection.pragma_query_value(None, pragma, |row| row.get(0)).while_doing("opening a database", path)
    };
    connection.busy_timeout(BUSY_TIMEOUT).while_doing("opening a database", path)?;
    if read("application_id")? != kind.application_id {
        return Err(OpenError::Foreign { file: path.to_owned() });
    }
    let found = read("user_version")?;
    let supported = latest(kind);
    if found > supported {
        return Err(OpenError::DataDirectoryNewer { file: path.to_owned(), found, supported });
    }
    Ok(usize::try_from(found).unwrap_or(usize::MAX))
}

fn check_content(connection: &Connection, path: &Path, checked_bytes_max: u64) -> Result<(), StorageError> {
    let bytes = path.metadata().while_doing("reading a database", path)?.len();
    if bytes > checked_bytes_max {
        tracing::info!(file = %path.display(), bytes, "database too large to be checked at start");
        return Ok(());
    }
    let query = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0));
    let verdict = query.while_doing("checking a database", path)?;
    if verdict == "ok" { Ok(()) } else { Err(StorageError::corrupted(path, verdict)) }
}

fn configure(connection: &Connection, durability: Durability) -> rusqlite::Result<()> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update_and_check(None, "journal_mode", "wal", |_| Ok(()))?;
    let synchronous = match durability {
        Durability::EveryCommit => "full",
        Durability::Checkpoints => "normal",
    };
    connection.pragma_update(None, "synchronous", synchronous)?;
    connection.pragma_update_and_check(None, "journal_size_limit", LOG_BYTES_KEPT, |_| Ok(()))?;
    connection.pragma_update(None, "foreign_keys", true)?;
    // No files outside of the data folder, which a confined server could not make.
    connection.pragma_update(None, "temp_store", "memory")?;
    // The file may have been handled by others: no functions from its schema, no trust in cell sizes.
    connection.pragma_update(None, "trusted_schema", false)?;
    connection.pragma_update(None, "cell_size_check", true)
}

fn migrate(connection: &mut Connection, format: usize, kind: &DatabaseKind) -> rusqlite::Result<()> {
    if format >= kind.migrations.len() {
        return Ok(());
    }
    // A table that others refer to can be made anew only while nobody follows what refers to it.
    connection.pragma_update(None, "foreign_keys", false)?;
    let migrated = migrate_in_transaction(connection, format, kind);
    connection.pragma_update(None, "foreign_keys", true)?;
    migrated
}

fn migrate_in_transaction(connection: &mut Connection, format: usize, kind: &DatabaseKind) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for step in &kind.migrations[format..] {
        transaction.execute_batch(step)?;
    }
    transaction.pragma_update(None, "user_version", latest(kind))?;
    transaction.commit()
}

/// The format this release writes.
fn latest(kind: &DatabaseKind) -> u32 {
    u32::try_from(kind.migrations.len()).expect("migrations are written by hand")
}

/// The file of `kind` in `directory`, for messages.
pub(crate) fn file(directory: &Path, kind: &DatabaseKind) -> PathBuf {
    directory.join(kind.file_name)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;

    use super::*;

    const OLD: DatabaseKind = DatabaseKind {
        file_name: "test.db",
        application_id: 7,
        migrations: &["CREATE TABLE t (a INTEGER) STRICT"],
        durability: Durability::EveryCommit,
        checked_bytes_max: CHECKED_BYTES_MAX,
    };
    const NEW: DatabaseKind =
        DatabaseKind { migrations: &[OLD.migrations[0], "ALTER TABLE t ADD COLUMN b TEXT DEFAULT 'x'"], ..OLD };

    fn files(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
        let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
        // The wal-index is rebuilt by whoever opens the database and holds nothing of its own.
        let entries = entries.filter(|path| !path.to_string_lossy().ends_with("-shm"));
        entries.map(|path| (path.clone(), fs::read(path).unwrap())).collect()
    }

    /// Checks that `directory` is refused with `error`'s text and that nothing in it changes.
    fn refused(directory: &Path, expected: &str) {
        let before = files(directory);
        let error = open(directory, &OLD).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
        assert_eq!(files(directory), before);
    }

    #[test]
    fn migrates_older_and_refuses_newer() {
        let directory = tempfile::tempdir().unwrap();
        open(directory.path(), &OLD).unwrap().execute("INSERT INTO t VALUES (1)", []).unwrap();
        let connection = open(directory.path(), &NEW).unwrap();
        let row = connection.query_row("SELECT a, b FROM t", [], |row| Ok((row.get(0)?, row.get(1)?)));
        assert_eq!(row.unwrap(), (1, "x".to_owned()));
        drop(connection);
        let error = open(directory.path(), &OLD).unwrap_err();
        let file = directory.path().join("test.db");
        assert_eq!(error, OpenError::DataDirectoryNewer { file, found: 2, supported: 1 });
        refused(directory.path(), "written by a newer release");
    }

    #[test]
    fn a_failed_migration_leaves_the_older_format() {
        const BROKEN: DatabaseKind = DatabaseKind { migrations: &[OLD.migrations[0], "CREATE TABLE t (a)"], ..OLD };
        let directory = tempfile::tempdir().unwrap();
        drop(open(directory.path(), &OLD).unwrap());
        assert!(matches!(open(directory.path(), &BROKEN), Err(OpenError::Storage(StorageError::Io { .. }))));
        drop(open(directory.path(), &OLD).unwrap());
    }

    #[test]
    fn refuses_what_is_not_ours_and_leaves_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("test.db");
        Connection::open(&path).unwrap().execute_batch("CREATE TABLE other (a)").unwrap();
        refused(directory.path(), "another program");
        fs::write(&path, vec![b'x'; 4096]).unwrap();
        refused(directory.path(), "does not start as a SQLite database");
        fs::write(&path, b"").unwrap();
        refused(directory.path(), "cut off");
    }

    #[test]
    fn refuses_damage_and_leaves_it_with_its_log() {
        let directory = tempfile::tempdir().unwrap();
        let connection = open(directory.path(), &OLD).unwrap();
        for number in 0..2000 {
            connection.execute("INSERT INTO t VALUES (?1)", [number]).unwrap();
        }
        // As a crash leaves it: with a write-ahead log beside it.
        hold_back(&connection, true, Path::new("")).unwrap();
        connection.execute_batch("PRAGMA wal_checkpoint; PRAGMA wal_autocheckpoint = 0").unwrap();
        connection.execute("INSERT INTO t VALUES (1)", []).unwrap();
        drop(connection);
        let path = directory.path().join("test.db");
        let mut bytes = fs::read(&path).unwrap();
        assert!(bytes.len() > 3 * 4096);
        bytes[2 * 4096..].fill(0xff);
        fs::write(&path, &bytes).unwrap();
        assert!(files(directory.path()).len() > 1, "the log is there");
        refused(directory.path(), "is damaged");
    }

    #[test]
    fn leftovers_of_a_crash_while_making_it_do_no_harm() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("test.db.tmp"), b"half").unwrap();
        drop(open(directory.path(), &OLD).unwrap());
        assert!(!directory.path().join("test.db.tmp").exists());
    }
}
