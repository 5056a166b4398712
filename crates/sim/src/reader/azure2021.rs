//! Azure Functions 2021: one row per call, `app,func,end_timestamp,duration` in seconds.

use super::columns::{self, Header};
use super::lines::Lines;
use super::{Context, TraceError};
use crate::trace::{Invocation, UNKNOWN};

/// Reads the lines.
pub fn read(lines: &mut Lines<'_>, context: &mut Context<'_>) -> Result<(), TraceError> {
    let header = Header::read(lines)?;
    let app = header.require("app", lines)?;
    let function = header.require("func", lines)?;
    let end = header.require("end_timestamp", lines)?;
    let duration = header.require("duration", lines)?;
    while let Some(line) = lines.next_line()? {
        let fields = columns::split(&line);
        let scope = context.directory.scopes.number(columns::text(&fields, app, "app", lines)?);
        let kind = context.directory.kinds.number(columns::text(&fields, function, "func", lines)?);
        let end_s = columns::seconds(&fields, end, "end_timestamp", lines)?;
        let duration_s = columns::seconds(&fields, duration, "duration", lines)?;
        (context.sink)(Invocation {
            at_us: ((end_s - duration_s).max(0.0) * 1e6) as u64,
            function: context.directory.function(scope, kind),
            scope,
            kind,
            session: 0,
            caller: UNKNOWN,
            count: 1,
            duration_us: (duration_s * 1e6).min(f64::from(u32::MAX)) as u32,
        })?;
    }
    Ok(())
}
