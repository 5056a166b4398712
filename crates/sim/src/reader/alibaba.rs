//! Alibaba GenAI 2026: requests with time, tenant (`groupId`) and model (`checkpoint_model_version_id`).
//!
//! The tenant is the scope and the model the kind. Rows without a model name no function and are left out, counted.

use super::columns::{self, Header};
use super::lines::Lines;
use super::{Context, TraceError, time};
use crate::trace::{Invocation, UNKNOWN};

/// Reads the lines.
pub fn read(lines: &mut Lines<'_>, context: &mut Context<'_>) -> Result<(), TraceError> {
    let header = Header::read(lines)?;
    let created = header.require("gmt_create", lines)?;
    let tenant = header.require("groupId", lines)?;
    let model = header.require("checkpoint_model_version_id", lines)?;
    let execution = header.find("exec_time_seconds");
    while let Some(line) = lines.next_line()? {
        let fields = columns::split(&line);
        let model = columns::text(&fields, model, "checkpoint_model_version_id", lines)?;
        if model.is_empty() {
            context.skipped += 1;
            continue;
        }
        let created = columns::text(&fields, created, "gmt_create", lines)?;
        let at_us = time::parse_iso(created)
            .ok_or_else(|| lines.error(format!("`gmt_create` is `{}`, not a time", columns::clip(created))))?;
        let seconds = execution.and_then(|column| fields.get(column)).and_then(|field| field.parse::<f64>().ok());
        let scope = context.directory.scopes.number(columns::text(&fields, tenant, "groupId", lines)?);
        let kind = context.directory.kinds.number(model);
        (context.sink)(Invocation {
            at_us,
            function: context.directory.function(scope, kind),
            scope,
            kind,
            session: 0,
            caller: UNKNOWN,
            count: 1,
            // A float is converted with saturation; a missing or odd one counts as unknown.
            duration_us: (seconds.unwrap_or(0.0) * 1e6) as u32,
        })?;
    }
    Ok(())
}
