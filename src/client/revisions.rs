//! `forerun revisions` and `forerun rollback`.

use forerun_types::{FunctionName, RevisionNumber};
use serde_json::json;

use super::answers::{Change, Revision};
use super::api::Api;
use super::error::ClientError;
use super::text;
use crate::cli::output::{Format, Output};
use crate::cli::table::{Align, Table};

/// Lists the revisions of a function, newest first.
pub(super) fn list(output: &Output, api: &Api, name: &FunctionName) -> Result<(), ClientError> {
    let answer = api.get(&format!("/v1/functions/{name}/revisions"))?;
    let revisions: Vec<Revision> = api.understand(answer.clone())?;
    let mut table = Table::new(&[
        ("revision", Align::Right),
        ("active", Align::Left),
        ("created", Align::Left),
        ("component", Align::Left),
        ("routes", Align::Left),
    ]);
    for revision in &revisions {
        let active = if revision.active { "active" } else { "" };
        let (created, component) = (text::moment(revision.created_unix_ms), text::digest(&revision.digest));
        table.row([&revision.revision.to_string(), active, &created, &component, &revision.spec.routes()]);
    }
    output.table(&table, &answer, "no revisions").map_err(ClientError::Stdout)
}

/// Makes another revision the active one.
pub(super) fn rollback(
    output: &Output,
    api: &Api,
    name: &FunctionName,
    to: Option<RevisionNumber>,
) -> Result<(), ClientError> {
    let request = match to {
        Some(number) => json!({ "to": number }),
        None => json!({}),
    };
    let answer = api.post(&format!("/v1/functions/{name}/rollback"), &request)?;
    let change: Change = api.understand(answer.clone())?;
    match output.format {
        Format::Json => output.json(&answer).map_err(ClientError::Stdout),
        Format::Human => {
            output.note(&format!("{} serves revision {} now", change.name, change.revision));
            Ok(())
        }
    }
}
