//! Settling what is in the journal, batch by batch: each is one transaction with the calls, their sums and how far the
//! journal is settled, so that all three always agree.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};

use super::journal::{Batch, JournalReader, Next, Position};
use super::row::{Class, Row};
use super::schema::add_sums_to_row;
use super::{Failing, HistorySettings, maintain};
use crate::directory::DataDirectory;
use crate::error::{StorageError, While};

/// Maintenance follows the clock, and the number of events, so that a burst cannot outrun the bound on bytes by far.
const MAINTENANCE_INTERVAL: Duration = Duration::from_secs(60);
const MAINTENANCE_EVENTS: u64 = 50_000;
/// Classes whose row is remembered. There are more only with many functions; then the rows are looked up again.
const CLASSES_REMEMBERED_MAX: usize = 10_000;

/// Writes the history. Blocks on the disk: see [`HistoryJournal::settled_by`](super::HistoryJournal::settled_by).
pub struct HistoryWriter {
    connection: Connection,
    journal: JournalReader,
    settings: HistorySettings,
    file: PathBuf,
    classes: HashMap<Class<'static>, i64>,
    maintained: Instant,
    written_since: u64,
    failing: Failing,
    /// The data directory stays ours for as long as its database is open.
    _directory: Arc<DataDirectory>,
}

/// Sums over the calls of one class in one minute.
#[derive(Default)]
struct Sums {
    calls: i64,
    failures: i64,
    total_us_sum: i64,
    total_us_max: i64,
    busy_us_sum: i64,
    memory_bytes_peak_max: i64,
    bytes_in_sum: i64,
    bytes_out_sum: i64,
}

impl HistoryWriter {
    pub(super) fn new(
        connection: Connection,
        journal: JournalReader,
        settings: HistorySettings,
        file: PathBuf,
        directory: Arc<DataDirectory>,
    ) -> Self {
        Self {
            connection,
            journal,
            settings,
            file,
            classes: HashMap::new(),
            maintained: Instant::now(),
            written_since: 0,
            failing: Failing::default(),
            _directory: directory,
        }
    }

    /// Settles whatever comes into the journal, until nothing more will come.
    pub(super) fn run(mut self) {
        let journal = Arc::clone(self.journal.journal());
        loop {
            let next = journal.next(self.failing.is_failing());
            let settled = self.settle();
            self.failing.report(settled, "history is not written; it waits in its journal", "history is written again");
            if next == Next::SettleAndEnd {
                break;
            }
        }
        journal.is_left();
    }

    /// Settles all that is in the journal.
    ///
    /// # Errors
    /// See [`StorageError`]; what is not settled stays in the journal.
    pub fn settle(&mut self) -> Result<(), StorageError> {
        while let Some(batch) = self.journal.next()? {
            let written = write_batch(&mut self.connection, &mut self.classes, &batch);
            if written.is_err() {
                // Rows made in a transaction that was undone are not there.
                self.classes.clear();
            }
            self.written_since += written.while_doing("writing the history", &self.file)?;
            self.journal.settle(&batch);
            self.maintain_if_due();
        }
        self.journal.journal().all_settled();
        self.maintain_if_due();
        Ok(())
    }

    fn maintain_if_due(&mut self) {
        if self.maintained.elapsed() < MAINTENANCE_INTERVAL && self.written_since < MAINTENANCE_EVENTS {
            return;
        }
        self.maintained = Instant::now();
        self.written_since = 0;
        let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        self.maintain(u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX));
    }

    /// Lets go of what is too old or too much at `now_unix_ms`.
    pub(super) fn maintain(&mut self, now_unix_ms: u64) {
        match maintain::maintain(&mut self.connection, &self.settings, now_unix_ms) {
            Ok(classes_removed) => {
                if classes_removed {
                    self.classes.clear();
                }
            }
            Err(error) => tracing::warn!(%error, "history cannot be tidied up; trying again later"),
        }
    }
}

/// Writes the rows of `batch`; how many there were.
fn write_batch(
    connection: &mut Connection,
    classes: &mut HashMap<Class<'static>, i64>,
    batch: &Batch,
) -> rusqlite::Result<u64> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut sums: BTreeMap<(i64, i64), Sums> = BTreeMap::new();
    let mut count = 0;
    for rows in batch.rows() {
        let rows = rows.unwrap_or_else(|error| {
            tracing::warn!(%error, "a record of the history's journal has no rows of ours and is left out");
            Vec::new()
        });
        for row in &rows {
            let class = class_row(&transaction, classes, &row.class)?;
            insert_call(&transaction, class, row)?;
            let minute_unix_s = integer(row.started_unix_us / 60_000_000 * 60);
            sums.entry((minute_unix_s, class)).or_default().add(row);
        }
        count += rows.len() as u64;
    }
    for ((start_unix_s, class), sums) in sums {
        add_sums(&transaction, start_unix_s, class, &sums)?;
    }
    set_position(&transaction, batch.end())?;
    transaction.commit()?;
    Ok(count)
}

/// How far the journal is settled.
pub(super) fn position(connection: &Connection) -> rusqlite::Result<Position> {
    let row = connection.query_row("SELECT segment, events FROM journal", [], |row| {
        Ok(Position { segment: row.get(0)?, events: row.get(1)? })
    });
    row.optional().map(Option::unwrap_or_default)
}

fn set_position(connection: &Connection, position: Position) -> rusqlite::Result<()> {
    connection
        .prepare_cached("INSERT OR REPLACE INTO journal VALUES (1, ?1, ?2)")?
        .execute([position.segment, position.events])
        .map(drop)
}

fn class_row(
    connection: &Connection,
    classes: &mut HashMap<Class<'static>, i64>,
    class: &Class<'_>,
) -> rusqlite::Result<i64> {
    let known: &HashMap<Class<'_>, i64> = classes;
    if let Some(row) = known.get(class) {
        return Ok(*row);
    }
    let parameters = params![&*class.function, &*class.app, &*class.method, &*class.route, class.size_bucket];
    let found = connection
        .prepare_cached(
            "SELECT id FROM classes
             WHERE function = ?1 AND app = ?2 AND method = ?3 AND route = ?4 AND size_bucket = ?5",
        )?
        .query_row(parameters, |row| row.get(0))
        .optional()?;
    let row = match found {
        Some(row) => row,
        None => connection
            .prepare_cached(
                "INSERT INTO classes (function, app, method, route, size_bucket) VALUES (?1, ?2, ?3, ?4, ?5)",
            )?
            .insert(parameters)?,
    };
    if classes.len() >= CLASSES_REMEMBERED_MAX {
        classes.clear();
    }
    classes.insert(class.to_static(), row);
    Ok(row)
}

fn insert_call(connection: &Connection, class: i64, row: &Row<'_>) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO calls (started_unix_us, invocation_id, trace_id, span_id, parent_span_id, class, revision,
                caller, serve_path, outcome, status, routed_us, admitted_us, deployed_us, first_byte_us, total_us,
                busy_us, memory_bytes_peak, bytes_in, bytes_out, session, cpu_us)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21,
                ?22)",
        )?
        .execute(params![
            integer(row.started_unix_us),
            row.invocation_id,
            row.trace_id,
            row.span_id,
            row.parent_span_id,
            class,
            row.revision,
            row.caller,
            row.serve_path,
            row.outcome,
            row.status,
            integer(row.routed_us),
            integer(row.admitted_us),
            integer(row.deployed_us),
            integer(row.first_byte_us),
            integer(row.total_us),
            integer(row.busy_us),
            integer(row.memory_bytes_peak),
            integer(row.bytes_in),
            integer(row.bytes_out),
            row.session,
            row.cpu_us.map(integer),
        ])
        .map(drop)
}

fn add_sums(connection: &Connection, start_unix_s: i64, class: i64, sums: &Sums) -> rusqlite::Result<()> {
    connection
        .prepare_cached(concat!(
            "INSERT INTO minutes VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10) ",
            add_sums_to_row!()
        ))?
        .execute(params![
            start_unix_s,
            class,
            sums.calls,
            sums.failures,
            sums.total_us_sum,
            sums.total_us_max,
            sums.busy_us_sum,
            sums.memory_bytes_peak_max,
            sums.bytes_in_sum,
            sums.bytes_out_sum,
        ])
        .map(drop)
}

impl Sums {
    fn add(&mut self, row: &Row<'_>) {
        let total_us = integer(row.total_us);
        self.calls += 1;
        self.failures += i64::from(row.has_failed());
        self.total_us_sum = self.total_us_sum.saturating_add(total_us);
        self.total_us_max = self.total_us_max.max(total_us);
        self.busy_us_sum = self.busy_us_sum.saturating_add(integer(row.busy_us));
        self.memory_bytes_peak_max = self.memory_bytes_peak_max.max(integer(row.memory_bytes_peak));
        self.bytes_in_sum = self.bytes_in_sum.saturating_add(integer(row.bytes_in));
        self.bytes_out_sum = self.bytes_out_sum.saturating_add(integer(row.bytes_out));
    }
}

/// SQLite has signed numbers only. The bound leaves room for thousands of them in one sum.
fn integer(value: u64) -> i64 {
    const BOUND: i64 = 1 << 51;
    i64::try_from(value).unwrap_or(BOUND).min(BOUND)
}
