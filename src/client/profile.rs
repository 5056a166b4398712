//! `forerun profile`: what a function's next image is specialized for, and what has become of the last.
//!
//! The node has decided; here it is printed, for people or as the record that `forerun split` reads.

use std::io;

use forerun_types::FunctionName;
use serde_json::Value;

use super::api::Api;
use super::error::ClientError;
use super::explain::within;
use crate::cli::output::{Format, Output};
use crate::cli::table::{Align, Table, printable};

const NOT_SAMPLED: &str = "the node samples no requests (--sample-share 0)";
/// Libraries listed for people.
const LIBRARIES_SHOWN: usize = 10;

/// Shows it; with `--json` the profile alone.
pub(super) fn show(output: &Output, api: &Api, function: &FunctionName) -> Result<(), ClientError> {
    let answer = api.get(&format!("/v1/functions/{function}/profile"))?;
    let specialization = &answer["specialization"];
    let profile = &specialization["profile"];
    match output.format {
        Format::Json if profile.is_null() => {
            Err(ClientError::NoProfile { function: function.clone(), why: why_none(&answer) })
        }
        Format::Json => output.json(profile).map_err(ClientError::Stdout),
        Format::Human => people(output, &answer).map_err(ClientError::Stdout),
    }
}

fn why_none(answer: &Value) -> String {
    answer["specialization"]["why_none"].as_str().unwrap_or(NOT_SAMPLED).to_owned()
}

fn people(output: &Output, answer: &Value) -> io::Result<()> {
    let specialization = &answer["specialization"];
    let profile = &specialization["profile"];
    let mut rows = vec![("function", text(&answer["function"])), ("revision", answer["revision"].to_string())];
    if profile.is_null() {
        rows.push(("profile", format!("none: {}", why_none(answer))));
    } else {
        let paths = profile["build"]["coverage"]["paths"].as_array().map_or(0, Vec::len);
        let certain = profile["build"]["coverage"]["paths"].as_array().into_iter().flatten();
        let certain = certain.filter(|path| path["probability"].as_u64() == Some(1000)).count();
        rows.push(("profile", text(&specialization["digest"])));
        rows.push(("learnt from", format!("{} sampled requests", profile["source"]["requests"])));
        rows.push(("confidence", format!("{} ‰", profile["confidence"])));
        rows.push(("code paths", format!("{paths}, of which {certain} are run by most requests")));
        let vm = &profile["vm"];
        rows.push(("memory at most", format!("{} bytes", vm["memory_bytes_max"])));
        rows.push(("cold groups at most", vm["cold_groups_max"].to_string()));
    }
    if let Some(line) = within("it", &answer["next_request"]) {
        rows.push(("next request", line));
    }
    let line = specialization["image_line"].as_str().map_or_else(|| "none yet".to_owned(), printable);
    rows.push(("image", line));
    let mut table = Table::new(&[("", Align::Left), ("", Align::Left)]);
    rows.into_iter().for_each(|(name, value)| table.row([name.to_owned(), value]));
    output.table(&table, answer, "")?;
    let libraries = profile["build"]["libraries"].as_array().map_or(&[][..], Vec::as_slice);
    if libraries.is_empty() {
        return Ok(());
    }
    output.note("\nlibraries, the most probable:");
    output.table(&table_of_libraries(libraries), answer, "")
}

fn table_of_libraries(libraries: &[Value]) -> Table {
    let mut sorted: Vec<&Value> = libraries.iter().collect();
    sorted.sort_by_key(|library| std::cmp::Reverse(library["probability"].as_u64()));
    let mut table = Table::new(&[("library", Align::Left), ("probability ‰", Align::Right)]);
    for library in sorted.into_iter().take(LIBRARIES_SHOWN) {
        table.row([printable(&text(&library["name"])), library["probability"].to_string()]);
    }
    table
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or("-").to_owned()
}
