//! Azure Functions 2019: calls per minute, one file a day.
//!
//! The published table has a row per function (`HashOwner,HashApp,HashFunction,Trigger,1,...,1440`); the sparse form
//! `func,minute,count` is the same data with the zeros left out and no application. Several files are taken as
//! consecutive days, in the order given.

use super::columns::{self, Header};
use super::lines::Lines;
use super::{Context, TraceError};
use crate::trace::{Invocation, UNKNOWN};

const MINUTE_US: u64 = 60_000_000;
const DAY_MINUTES: u64 = 1_440;
/// Minutes accepted: ten years.
const MINUTES_MAX: u64 = DAY_MINUTES * 3_653;

/// Reads the lines.
pub fn read(lines: &mut Lines<'_>, context: &mut Context<'_>) -> Result<(), TraceError> {
    let header = Header::read(lines)?;
    match header.find("minute") {
        Some(minute) => read_sparse(lines, context, &header, minute),
        None => read_wide(lines, context, &header),
    }
}

fn read_sparse(
    lines: &mut Lines<'_>,
    context: &mut Context<'_>,
    header: &Header,
    minute_column: usize,
) -> Result<(), TraceError> {
    let function_column = header.require("func", lines)?;
    let count_column = header.require("count", lines)?;
    while let Some(line) = lines.next_line()? {
        let fields = columns::split(&line);
        let name = columns::text(&fields, function_column, "func", lines)?;
        let minute = columns::whole(&fields, minute_column, "minute", lines)?;
        let count = columns::whole(&fields, count_column, "count", lines)?;
        let kind = context.directory.kinds.number(name);
        emit(context, lines, UNKNOWN, kind, context.file * DAY_MINUTES + minute, count)?;
    }
    Ok(())
}

fn read_wide(lines: &mut Lines<'_>, context: &mut Context<'_>, header: &Header) -> Result<(), TraceError> {
    let app_column = header.require("HashApp", lines)?;
    let function_column = header.require("HashFunction", lines)?;
    let first_minute = header.require("1", lines)?;
    while let Some(line) = lines.next_line()? {
        let fields = columns::split(&line);
        let app = columns::text(&fields, app_column, "HashApp", lines)?;
        let function = columns::text(&fields, function_column, "HashFunction", lines)?;
        let scope = context.directory.scopes.number(app);
        let kind = context.directory.kinds.number(function);
        for column in first_minute..header.len() {
            if fields.get(column).is_some_and(|field| field == "0") {
                continue;
            }
            let minute = (column - first_minute) as u64;
            let count = columns::whole(&fields, column, &(minute + 1).to_string(), lines)?;
            emit(context, lines, scope, kind, context.file * DAY_MINUTES + minute, count)?;
        }
    }
    Ok(())
}

fn emit(
    context: &mut Context<'_>,
    lines: &Lines<'_>,
    scope: u32,
    kind: u32,
    minute: u64,
    count: u64,
) -> Result<(), TraceError> {
    if minute >= MINUTES_MAX {
        return Err(lines.error(format!("minute {minute} is beyond ten years")));
    }
    if count == 0 {
        return Ok(());
    }
    let count = u32::try_from(count).map_err(|_| lines.error(format!("{count} calls in one minute")))?;
    let function = context.directory.function(scope, kind);
    let at_us = minute * MINUTE_US;
    (context.sink)(Invocation { at_us, function, scope, kind, session: 0, caller: UNKNOWN, count, duration_us: 0 })
}
