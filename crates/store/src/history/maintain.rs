//! Letting go of the past: single calls first, then minutes for hours, then hours. In steps, so that writing goes on.

use rusqlite::{Connection, TransactionBehavior, params};

use super::HistorySettings;
use super::schema::add_sums_to_row;

/// Calls deleted by one statement: some tens of milliseconds.
const STEP_ROWS: i64 = 10_000;
/// Statements of one run; what is left waits for the next.
const STEPS_MAX: usize = 50;
const HOUR_S: u64 = 3600;

/// Applies `settings` at `now_unix_ms`. Says whether classes were removed.
pub(super) fn maintain(
    connection: &mut Connection,
    settings: &HistorySettings,
    now_unix_ms: u64,
) -> rusqlite::Result<bool> {
    let before = |age_ms: u64| now_unix_ms.saturating_sub(age_ms);
    let calls_before_us = before(settings.calls_age_ms).saturating_mul(1000);
    for _ in 0..STEPS_MAX {
        if delete_calls_before(connection, calls_before_us)? < STEP_ROWS {
            break;
        }
    }
    // Whole hours only, so that no hour is half minutes.
    let minutes_before_s = before(settings.minutes_age_ms) / 1000 / HOUR_S * HOUR_S;
    roll_up_before(connection, minutes_before_s)?;
    let hours_before_s = integer(before(settings.hours_age_ms) / 1000);
    let hours = connection.execute("DELETE FROM hours WHERE start_unix_s < ?1", [hours_before_s])?;
    let removed_by_size = shrink(connection, settings.bytes_max)?;
    if hours > 0 || removed_by_size { remove_classes(connection) } else { Ok(false) }
}

/// Bytes of the pages that hold something.
pub(super) fn used_bytes(connection: &Connection) -> rusqlite::Result<u64> {
    let read = |pragma| connection.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0));
    let pages = read("page_count")? - read("freelist_count")?;
    Ok(u64::try_from(pages * read("page_size")?).unwrap_or(0))
}

fn delete_calls_before(connection: &Connection, before_us: u64) -> rusqlite::Result<i64> {
    let sql = "DELETE FROM calls WHERE id IN
        (SELECT id FROM calls WHERE started_unix_us < ?1 ORDER BY started_unix_us LIMIT ?2)";
    let rows = connection.prepare_cached(sql)?.execute(params![integer(before_us), STEP_ROWS])?;
    Ok(i64::try_from(rows).unwrap_or(STEP_ROWS))
}

fn roll_up_before(connection: &mut Connection, before_s: u64) -> rusqlite::Result<usize> {
    let before_s = integer(before_s);
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    transaction.execute(
        concat!(
            "INSERT INTO hours
                SELECT start_unix_s / 3600 * 3600, class, sum(calls), sum(failures), sum(total_us_sum), max(total_us_max),
                    sum(busy_us_sum), max(memory_bytes_peak_max), sum(bytes_in_sum), sum(bytes_out_sum)
                FROM minutes WHERE start_unix_s < ?1 GROUP BY 1, 2 ",
            add_sums_to_row!()
        ),
        [before_s],
    )?;
    let rolled_up = transaction.execute("DELETE FROM minutes WHERE start_unix_s < ?1", [before_s])?;
    transaction.commit()?;
    Ok(rolled_up)
}

/// Deletes the oldest until the rest fits: calls, then minutes (into hours), then hours. Says whether hours went.
fn shrink(connection: &mut Connection, bytes_max: u64) -> rusqlite::Result<bool> {
    let mut hours_removed = false;
    for _ in 0..STEPS_MAX {
        if used_bytes(connection)? <= bytes_max {
            break;
        }
        if delete_calls_before(connection, u64::MAX)? > 0 || roll_up_before(connection, u64::MAX)? > 0 {
            continue;
        }
        let sql = "DELETE FROM hours WHERE start_unix_s IN
            (SELECT DISTINCT start_unix_s FROM hours ORDER BY start_unix_s LIMIT 24)";
        if connection.execute(sql, [])? == 0 {
            break;
        }
        hours_removed = true;
    }
    Ok(hours_removed)
}

/// Removes classes that nothing refers to any more.
fn remove_classes(connection: &Connection) -> rusqlite::Result<bool> {
    let sql = "DELETE FROM classes WHERE id NOT IN
        (SELECT class FROM calls UNION SELECT class FROM minutes UNION SELECT class FROM hours)";
    Ok(connection.execute(sql, [])? > 0)
}

fn integer(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
