//! Reading the history out: rows as CSV or JSON lines, page by page, so that a slow reader holds nothing up.

use std::io::{self, Write};

use forerun_types::{FunctionName, InvocationId};
use rusqlite::types::ValueRef;
use rusqlite::{OptionalExtension, Row, params};
use serde_json::{Map, Value};

use super::{CATCH_UP_PATIENCE, History};
use crate::error::{StorageError, While};

/// Rows read at once, some 2 MB; between pages the writer can tidy up its log.
const PAGE_ROWS: usize = 5000;
const DOING: &str = "reading the history";

/// Which rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExportTable {
    /// Single invocations (`invocations` in the file), by time.
    Invocations,
    /// Sums per minute and per hour (`loads` in the file), by time.
    Loads,
}

/// What to export.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportQuery {
    /// Which rows.
    pub table: ExportTable,
    /// Of one function only.
    pub function: Option<FunctionName>,
    /// From here on, in microseconds since the Unix epoch.
    pub from_unix_us: u64,
    /// Up to before here.
    pub to_unix_us: u64,
}

impl ExportQuery {
    /// All rows of `table`.
    pub fn all(table: ExportTable) -> Self {
        Self { table, function: None, from_unix_us: 0, to_unix_us: u64::MAX }
    }
}

/// How rows are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExportFormat {
    /// RFC 4180 with a header line; lines end in `\n`.
    Csv,
    /// One JSON object a line.
    JsonLines,
}

/// Why an export ended early.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The history cannot be read.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// Whoever reads does not take any more.
    #[error("export: {detail}")]
    Output {
        /// What writing said.
        detail: String,
    },
}

impl From<io::Error> for ExportError {
    fn from(error: io::Error) -> Self {
        Self::Output { detail: error.to_string() }
    }
}

/// Where a page ended: rows after it in the order of the page.
#[derive(Clone, Copy, Default)]
struct Position {
    time: i64,
    /// Rows with that time that were read already.
    skip: i64,
}

impl History {
    /// Writes the rows that `query` asks for to `output`; how many there were. What is on its way into the history is
    /// waited for first, for two seconds at most. Blocks as long as `output` does.
    ///
    /// # Errors
    /// See [`ExportError`].
    pub fn export(
        &self,
        query: &ExportQuery,
        format: ExportFormat,
        output: &mut dyn Write,
    ) -> Result<u64, ExportError> {
        self.journal.catch_up(CATCH_UP_PATIENCE);
        let bound = |unix_us: u64| match query.table {
            ExportTable::Invocations => i64::try_from(unix_us).unwrap_or(i64::MAX),
            ExportTable::Loads => i64::try_from(unix_us / 1_000_000).unwrap_or(i64::MAX),
        };
        let mut position = Position { time: bound(query.from_unix_us), skip: 0 };
        let mut count = 0;
        loop {
            let (page, rows) = self.page(query, format, &mut position, bound(query.to_unix_us), count == 0)?;
            output.write_all(&page)?;
            count += rows as u64;
            if rows < PAGE_ROWS {
                output.flush()?;
                return Ok(count);
            }
        }
    }

    /// The invocation with that id, as [`ExportFormat::JsonLines`] has it. Reads through everything: recent ones
    /// are found faster in memory.
    ///
    /// # Errors
    /// See [`StorageError`].
    pub fn find(&self, id: InvocationId) -> Result<Option<Value>, StorageError> {
        let sql = "SELECT * FROM invocations WHERE id = (SELECT id FROM calls WHERE invocation_id = ?1 LIMIT 1)";
        let reader = self.reader.lock();
        reader.query_row(sql, [id.as_u128().to_be_bytes()], object).optional().while_doing(DOING, &self.file)
    }

    /// The next page as text, and its rows.
    fn page(
        &self,
        query: &ExportQuery,
        format: ExportFormat,
        position: &mut Position,
        to: i64,
        first: bool,
    ) -> Result<(Vec<u8>, usize), StorageError> {
        let (table, time, order) = match query.table {
            ExportTable::Invocations => ("invocations", "started_unix_us", "started_unix_us, id"),
            ExportTable::Loads => {
                ("loads", "start_unix_s", "start_unix_s, seconds, function, app, method, route, size_bucket")
            }
        };
        let sql = format!(
            "SELECT * FROM {table} WHERE {time} >= ?1 AND {time} < ?2 AND (?3 IS NULL OR function = ?3)
             ORDER BY {order} LIMIT ?4 OFFSET ?5"
        );
        let mut read = || -> rusqlite::Result<_> {
            let reader = self.reader.lock();
            let mut statement = reader.prepare_cached(&sql)?;
            let function = query.function.as_ref().map(FunctionName::as_str);
            let limit = i64::try_from(PAGE_ROWS).unwrap_or(i64::MAX);
            let mut page = Vec::new();
            if first && format == ExportFormat::Csv {
                header(&statement.column_names(), &mut page);
            }
            let mut rows = statement.query(params![position.time, to, function, limit, position.skip])?;
            let mut count = 0;
            while let Some(row) = rows.next()? {
                count += 1;
                let time = row.get(time)?;
                // Rows of one time have no other place to go on from than their number.
                *position = if time == position.time {
                    Position { skip: position.skip + 1, ..*position }
                } else {
                    Position { time, skip: 1 }
                };
                match format {
                    ExportFormat::Csv => csv(row, &mut page)?,
                    ExportFormat::JsonLines => json_line(row, &mut page)?,
                }
            }
            Ok((page, count))
        };
        read().while_doing(DOING, &self.file)
    }
}

fn header(names: &[&str], page: &mut Vec<u8>) {
    page.extend(names.join(",").as_bytes());
    page.push(b'\n');
}

fn csv(row: &Row<'_>, page: &mut Vec<u8>) -> rusqlite::Result<()> {
    for index in 0..row.as_ref().column_count() {
        if index > 0 {
            page.push(b',');
        }
        match value(row.get_ref(index)?) {
            Value::Null => {}
            Value::String(text) => field(&text, page),
            other => page.extend(other.to_string().as_bytes()),
        }
    }
    page.push(b'\n');
    Ok(())
}

fn field(text: &str, page: &mut Vec<u8>) {
    if text.contains(['"', ',', '\n', '\r']) {
        page.extend(format!("\"{}\"", text.replace('"', "\"\"")).as_bytes());
    } else {
        page.extend(text.as_bytes());
    }
}

fn json_line(row: &Row<'_>, page: &mut Vec<u8>) -> rusqlite::Result<()> {
    page.extend(object(row)?.to_string().as_bytes());
    page.push(b'\n');
    Ok(())
}

fn object(row: &Row<'_>) -> rusqlite::Result<Value> {
    let names = row.as_ref().column_names();
    let pairs = names.iter().enumerate().map(|(index, name)| Ok(((*name).to_owned(), value(row.get_ref(index)?))));
    pairs.collect::<rusqlite::Result<Map<_, _>>>().map(Value::Object)
}

/// The views have whole numbers and texts only.
fn value(value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(number) => number.into(),
        ValueRef::Real(number) => number.into(),
        ValueRef::Text(text) => String::from_utf8_lossy(text).into(),
        ValueRef::Blob(_) => Value::Null,
    }
}
