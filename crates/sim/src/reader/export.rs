//! What `forerun export` writes: one call a line, as CSV with a header or as JSON objects.
//!
//! Fields: `at_us` (microseconds since the Unix epoch; the node's own history calls it `started_unix_us`, and `at` may
//! hold a date instead), `function`, and optionally `app`, `session`, `caller`, `count`, `duration_us` (`total_us` in the
//! node's history). Unknown fields are left alone, so newer exports can be read.

use super::columns::{self, Header};
use super::lines::Lines;
use super::{Context, TraceError, time};
use crate::trace::{Invocation, UNKNOWN};
use forerun_predict::hash;
use serde_json::Value;

/// Names longer than this are refused; the server gives none.
const NAME_BYTES_MAX: usize = 1_024;

const FIELDS: [&str; 8] = ["at_us", "at", "function", "app", "session", "caller", "count", "duration_us"];

/// Reads the lines.
pub fn read(lines: &mut Lines<'_>, context: &mut Context<'_>) -> Result<(), TraceError> {
    let is_json = lines.peek()?.is_some_and(|line| line.trim_start().starts_with('{'));
    let places = if is_json { None } else { Some(places(lines)?) };
    while let Some(line) = lines.next_line()? {
        let fields = match &places {
            None => json_fields(&line).map_err(|problem| lines.error(problem))?,
            Some(places) => {
                let row = columns::split(&line);
                places.map(|place| place.and_then(|place| row.get(place)).map(|field| field.trim().to_owned()))
            }
        };
        let call = invocation(&fields, context).map_err(|problem| lines.error(problem))?;
        (context.sink)(call)?;
    }
    Ok(())
}

fn places(lines: &mut Lines<'_>) -> Result<[Option<usize>; FIELDS.len()], TraceError> {
    let header = Header::read(lines)?;
    header.require("function", lines)?;
    Ok(FIELDS.map(|name| header.find(name).or_else(|| header.find(in_history(name)?))))
}

/// The name of a field in the history of a node.
fn in_history(name: &str) -> Option<&'static str> {
    match name {
        "at_us" => Some("started_unix_us"),
        "duration_us" => Some("total_us"),
        _ => None,
    }
}

fn json_fields(line: &str) -> Result<[Option<String>; FIELDS.len()], String> {
    let value: Value = serde_json::from_str(line).map_err(|error| format!("not JSON: {error}"))?;
    let field = |name| value.get(name).or_else(|| value.get(in_history(name)?));
    Ok(FIELDS.map(|name| match field(name) {
        Some(Value::String(text)) => Some(text.clone()),
        Some(Value::Number(number)) => Some(number.to_string()),
        Some(Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_)) | None => None,
    }))
}

fn invocation(fields: &[Option<String>; FIELDS.len()], context: &mut Context<'_>) -> Result<Invocation, String> {
    let [at_us, at, function, app, session, caller, count, duration_us] =
        fields.each_ref().map(|field| field.as_deref().filter(|text| !text.is_empty()));
    let at_us = match (at_us, at) {
        (Some(at_us), _) => at_us.parse().map_err(|_| format!("`at_us` is `{}`", columns::clip(at_us)))?,
        (None, Some(at)) => {
            time::parse_iso(at).ok_or_else(|| format!("`at` is `{}`, not a time", columns::clip(at)))?
        }
        (None, None) => return Err("neither `at_us` nor `at`".to_owned()),
    };
    let whole = |name: &str, text: Option<&str>, default: u32| match text {
        None => Ok(default),
        Some(text) => text.parse().map_err(|_| format!("`{name}` is `{}`", columns::clip(text))),
    };
    let function = function.ok_or("no `function`")?;
    for name in [Some(function), app, caller].into_iter().flatten() {
        if name.len() > NAME_BYTES_MAX {
            return Err(format!("a name of {} bytes", name.len()));
        }
    }
    let directory = &mut *context.directory;
    let scope = app.map_or(UNKNOWN, |app| directory.scopes.number(app));
    let kind = directory.kinds.number(function);
    Ok(Invocation {
        at_us,
        function: directory.function(scope, kind),
        scope,
        kind,
        session: session.map_or(0, |session| hash::bytes(session.as_bytes()) | 1),
        caller: caller.map_or(UNKNOWN, |caller| directory.kinds.number(caller)),
        count: whole("count", count, 1)?,
        duration_us: whole("duration_us", duration_us, 0)?,
    })
}
