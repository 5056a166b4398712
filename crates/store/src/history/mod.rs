//! The history of invocations: each one for a while, their sums per minute and hour for longer. See `HISTORY.md`.
//!
//! ```text
//! events ──► journal ──► batch ──► one transaction: calls + minutes ──► maintenance: old calls go, minutes become hours
//! ```
//!
//! What is in the journal survives the process. Events that the journal cannot take are lost and counted. No header values, bodies, query strings
//! or client addresses come here: events carry none.

mod export;
mod journal;
mod maintain;
mod row;
mod schema;
mod write;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rusqlite::Connection;

pub use export::{ExportError, ExportFormat, ExportQuery, ExportTable};
pub use journal::HistoryJournal;
use journal::{Journal, JournalReader};
pub use write::HistoryWriter;

use crate::database;
use crate::directory::DataDirectory;
use crate::error::{OpenError, StorageError, While};
use crate::store::Store;
use schema::KIND;

/// How much of the past is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistorySettings {
    /// Single invocations. Default 7 days.
    pub calls_age_ms: u64,
    /// Sums per minute; older ones become sums per hour. Default 30 days.
    pub minutes_age_ms: u64,
    /// Sums per hour. Default 400 days, to compare with last year.
    pub hours_age_ms: u64,
    /// All of it on disk; beyond, the oldest goes, single invocations first. Default 1 GiB, about 7 million of them.
    pub bytes_max: u64,
}

const DAY_MS: u64 = 24 * 3600 * 1000;

impl Default for HistorySettings {
    fn default() -> Self {
        Self { calls_age_ms: 7 * DAY_MS, minutes_age_ms: 30 * DAY_MS, hours_age_ms: 400 * DAY_MS, bytes_max: 1 << 30 }
    }
}

/// Reads the history while a [`HistoryWriter`] writes it.
pub struct History {
    reader: Mutex<Connection>,
    file: PathBuf,
    journal: Arc<Journal>,
    counts: Arc<Counts>,
    /// The data directory stays ours for as long as its database is open.
    _directory: Arc<DataDirectory>,
}

/// Whether something fails, so that it is said once when that begins, and once when it ends.
#[derive(Default)]
struct Failing(bool);

impl Failing {
    fn report<E: std::fmt::Display>(&mut self, outcome: Result<(), E>, failing: &str, again: &str) {
        let was_failing = std::mem::replace(&mut self.0, outcome.is_err());
        match outcome {
            Err(error) if !was_failing => tracing::error!(%error, "{failing}"),
            Ok(()) if was_failing => tracing::info!("{again}"),
            Ok(()) | Err(_) => {}
        }
    }

    fn is_failing(&self) -> bool {
        self.0
    }
}

#[derive(Default)]
struct Counts {
    lost_events: AtomicU64,
}

impl Store {
    /// Opens the history: a sink for the events, to be put behind a thread of its own; what settles them, for
    /// [`HistoryJournal::settled_by`]; and a reader. Call it once. A history that cannot be opened is no reason not to
    /// serve.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn history(&self, settings: HistorySettings) -> Result<(HistoryJournal, HistoryWriter, History), OpenError> {
        let directory = Arc::clone(&self.directory);
        let connection = database::open(directory.path(), &KIND)?;
        let reader = Mutex::new(database::open_again(directory.path(), &KIND)?);
        let file = database::file(directory.path(), &KIND);
        let settled = write::position(&connection).while_doing("opening the history", &file)?;
        let journal = Arc::new(Journal::open(directory.path(), settled)?);
        let counts = Arc::new(Counts::default());
        let pending = JournalReader::new(Arc::clone(&journal), settled);
        let writer = HistoryWriter::new(connection, pending, settings, file.clone(), Arc::clone(&directory));
        let history =
            History { reader, file, journal: Arc::clone(&journal), counts: Arc::clone(&counts), _directory: directory };
        Ok((HistoryJournal::new(journal, counts), writer, history))
    }
}

/// What is on its way to the history is waited for that long before it is read.
const CATCH_UP_PATIENCE: Duration = Duration::from_secs(2);

impl History {
    /// Events that the journal could not take, since the start.
    pub fn lost_events_total(&self) -> u64 {
        self.counts.lost_events.load(Ordering::Relaxed)
    }

    /// What the history takes on disk, in bytes, without the part that is free for reuse.
    ///
    /// # Errors
    /// See [`StorageError`].
    pub fn size_bytes(&self) -> Result<u64, StorageError> {
        maintain::used_bytes(&self.reader.lock()).while_doing("measuring the history", &self.file)
    }
}

#[cfg(test)]
mod tests;
