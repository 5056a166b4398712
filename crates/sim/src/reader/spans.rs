//! Spans of distributed traces: `trace,span,parent,op,start_us,dur_us`, the rows of a trace together.
//!
//! A trace is a session, an operation a kind, and the operation of the parent span the caller. A parent of -1, or one
//! that was not seen, means that there is none.

use super::columns::{self, Header};
use super::lines::Lines;
use super::{Context, TraceError};
use crate::trace::{Invocation, UNKNOWN};
use forerun_predict::hash;
use std::collections::HashMap;

/// Spans of one trace that are remembered as possible parents.
const SPANS_MAX: usize = 100_000;

/// Reads the lines.
pub fn read(lines: &mut Lines<'_>, context: &mut Context<'_>) -> Result<(), TraceError> {
    let header = Header::read(lines)?;
    let names = ["trace", "span", "parent", "op", "start_us", "dur_us"];
    let mut places = [0; 6];
    for (place, name) in places.iter_mut().zip(names) {
        *place = header.require(name, lines)?;
    }
    let [trace, span, parent, operation, start, duration] = places;
    let mut current = String::new();
    let mut operations: HashMap<String, u32> = HashMap::new();
    let scope = context.directory.scopes.number("trace");
    while let Some(line) = lines.next_line()? {
        let fields = columns::split(&line);
        let trace = columns::text(&fields, trace, "trace", lines)?;
        if trace != current {
            current = trace.to_owned();
            operations.clear();
        }
        let kind = context.directory.kinds.number(columns::text(&fields, operation, "op", lines)?);
        let caller = operations.get(columns::text(&fields, parent, "parent", lines)?).copied();
        if operations.len() < SPANS_MAX {
            operations.insert(columns::text(&fields, span, "span", lines)?.to_owned(), kind);
        }
        let duration_us = columns::whole(&fields, duration, "dur_us", lines)?;
        (context.sink)(Invocation {
            at_us: columns::whole(&fields, start, "start_us", lines)?,
            function: context.directory.function(scope, kind),
            scope,
            kind,
            session: hash::bytes(current.as_bytes()) | 1,
            caller: caller.unwrap_or(UNKNOWN),
            count: 1,
            duration_us: u32::try_from(duration_us).unwrap_or(u32::MAX),
        })?;
    }
    Ok(())
}
