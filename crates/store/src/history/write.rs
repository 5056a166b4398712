//! Writing events in batches: each batch is one transaction with the calls and their sums, so that both always agree.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use forerun_telemetry::{EventSink, InvocationEvent};
use forerun_types::Outcome;
use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};

use super::schema::add_sums_to_row;
use super::{Counts, HistorySettings, maintain};
use crate::directory::DataDirectory;
use crate::error::{StorageError, While};

/// Events of one transaction. When the process is killed, they are lost, and those that wait behind them.
const BATCH_EVENTS_MAX: usize = 512;
/// An event is not held back longer than this while others come.
const BATCH_AGE_MAX: Duration = Duration::from_secs(1);
/// Maintenance follows the clock, and the number of events, so that a burst cannot outrun the bound on bytes by far.
const MAINTENANCE_INTERVAL: Duration = Duration::from_secs(60);
const MAINTENANCE_EVENTS: u64 = 50_000;
/// Classes whose row is remembered. There are more only with many functions; then the rows are looked up again.
const CLASSES_REMEMBERED_MAX: usize = 10_000;

/// Writes the history. Blocks on the disk: give it to a [`Detached`](forerun_telemetry::Detached).
pub struct HistoryWriter {
    connection: Connection,
    settings: HistorySettings,
    file: PathBuf,
    batch: Vec<InvocationEvent>,
    batch_begun: Instant,
    classes: HashMap<Class, i64>,
    maintained: Instant,
    written_since: u64,
    counts: Arc<Counts>,
    failing: bool,
    /// The data directory stays ours for as long as its database is open.
    _directory: Arc<DataDirectory>,
}

/// What the `classes` table holds one row for.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Class {
    function: forerun_types::FunctionName,
    app: Arc<str>,
    class: forerun_telemetry::RequestClass,
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
        settings: HistorySettings,
        file: PathBuf,
        counts: Arc<Counts>,
        directory: Arc<DataDirectory>,
    ) -> Self {
        let now = Instant::now();
        Self {
            connection,
            settings,
            file,
            batch: Vec::with_capacity(BATCH_EVENTS_MAX),
            batch_begun: now,
            classes: HashMap::new(),
            maintained: now,
            written_since: 0,
            counts,
            failing: false,
            _directory: directory,
        }
    }

    fn write(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        let written = write_batch(&mut self.connection, &mut self.classes, &self.batch);
        let written = written.while_doing("writing the history", &self.file);
        let events = self.batch.len() as u64;
        self.batch.clear();
        match &written {
            Ok(()) => self.written_since += events,
            Err(_) => {
                // Rows made in a transaction that was undone are not there.
                self.classes.clear();
                self.counts.lost_events.fetch_add(events, Ordering::Relaxed);
            }
        }
        self.report(written);
    }

    /// Says so once when writing begins to fail, and once when it works again.
    fn report(&mut self, written: Result<(), StorageError>) {
        let was_failing = std::mem::replace(&mut self.failing, written.is_err());
        match written {
            Err(error) if !was_failing => tracing::error!(%error, "history is not written; events are lost"),
            Ok(()) if was_failing => tracing::info!("history is written again"),
            Ok(()) | Err(_) => {}
        }
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

impl EventSink for HistoryWriter {
    fn take(&mut self, events: &[InvocationEvent]) {
        for event in events {
            if self.batch.is_empty() {
                self.batch_begun = Instant::now();
            }
            self.batch.push(event.clone());
            if self.batch.len() >= BATCH_EVENTS_MAX {
                self.write();
            }
        }
        if self.batch_begun.elapsed() >= BATCH_AGE_MAX {
            self.write();
        }
        self.maintain_if_due();
    }

    fn flush(&mut self) {
        self.write();
        self.maintain_if_due();
    }
}

fn write_batch(
    connection: &mut Connection,
    classes: &mut HashMap<Class, i64>,
    batch: &[InvocationEvent],
) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut sums: BTreeMap<(i64, i64), Sums> = BTreeMap::new();
    for event in batch {
        let class = class_row(&transaction, classes, event)?;
        insert_call(&transaction, class, event)?;
        let minute_unix_s = integer(event.started_unix_us / 60_000_000 * 60);
        sums.entry((minute_unix_s, class)).or_default().add(event);
    }
    for ((start_unix_s, class), sums) in sums {
        add_sums(&transaction, start_unix_s, class, &sums)?;
    }
    transaction.commit()
}

fn class_row(
    connection: &Connection,
    classes: &mut HashMap<Class, i64>,
    event: &InvocationEvent,
) -> rusqlite::Result<i64> {
    let class = Class { function: event.function.clone(), app: Arc::clone(&event.app), class: event.class.clone() };
    if let Some(row) = classes.get(&class) {
        return Ok(*row);
    }
    let parameters = params![
        event.function.as_str(),
        &*event.app,
        event.class.method,
        &*event.class.route,
        event.class.size_bucket,
    ];
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
    classes.insert(class, row);
    Ok(row)
}

fn insert_call(connection: &Connection, class: i64, event: &InvocationEvent) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO calls (started_unix_us, invocation_id, trace_id, span_id, parent_span_id, class, revision,
                caller, serve_path, outcome, status, routed_us, admitted_us, deployed_us, first_byte_us, total_us,
                busy_us, memory_bytes_peak, bytes_in, bytes_out, session, cpu_us)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21,
                ?22)",
        )?
        .execute(params![
            integer(event.started_unix_us),
            event.id.as_u128().to_be_bytes(),
            event.trace.trace_id.to_bytes(),
            event.trace.span_id.to_bytes(),
            event.parent_span.map(forerun_types::SpanId::to_bytes),
            class,
            event.revision.0,
            event.caller.as_ref().map(forerun_types::FunctionName::as_str),
            event.serve_path.label(),
            event.outcome.label(),
            event.status,
            integer(event.phases.routed_us),
            integer(event.phases.admitted_us),
            integer(event.phases.deployed_us),
            integer(event.phases.first_byte_us),
            integer(event.phases.total_us),
            integer(event.busy_us),
            integer(event.memory_bytes_peak),
            integer(event.bytes_in),
            integer(event.bytes_out),
            event.session.map(|session| session.as_u64().to_be_bytes()),
            event.cpu_us.map(integer),
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
    fn add(&mut self, event: &InvocationEvent) {
        let total_us = integer(event.phases.total_us);
        self.calls += 1;
        self.failures += i64::from(event.outcome != Outcome::Ok);
        self.total_us_sum = self.total_us_sum.saturating_add(total_us);
        self.total_us_max = self.total_us_max.max(total_us);
        self.busy_us_sum = self.busy_us_sum.saturating_add(integer(event.busy_us));
        self.memory_bytes_peak_max = self.memory_bytes_peak_max.max(integer(event.memory_bytes_peak));
        self.bytes_in_sum = self.bytes_in_sum.saturating_add(integer(event.bytes_in));
        self.bytes_out_sum = self.bytes_out_sum.saturating_add(integer(event.bytes_out));
    }
}

/// SQLite has signed numbers only. The bound leaves room for thousands of them in one sum.
fn integer(value: u64) -> i64 {
    const BOUND: i64 = 1 << 51;
    i64::try_from(value).unwrap_or(BOUND).min(BOUND)
}
