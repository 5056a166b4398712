//! `forerun paths`: which code of a function runs, by class of request, and how sure that is.
//!
//! The node has counted; here it is only put into a table, or into the folded lines that flame-graph tools read.

use std::io::{self, Write};

use serde_json::Value;

use super::api::Api;
use super::error::ClientError;
use crate::cli::meaning::CodePaths;
use crate::cli::output::{Format, Output};
use crate::cli::table::{Align, Table, printable};

const NOT_SAMPLED: &str =
    "nothing is known of its code paths yet: call it, and if it is small start the node with --split-min-kib 0";

/// Shows a function's Code Path Probability Map.
pub(super) fn show(output: &Output, api: &Api, wanted: &CodePaths) -> Result<(), ClientError> {
    let answer = api.get(&format!("/v1/functions/{}/paths", wanted.function))?;
    let shown = match (wanted.folded, output.format) {
        (true, _) => folded(&answer),
        (false, Format::Json) => output.json(&answer),
        (false, Format::Human) => tables(output, &answer, wanted),
    };
    shown.map_err(ClientError::Stdout)
}

fn tables(output: &Output, answer: &Value, wanted: &CodePaths) -> io::Result<()> {
    let map = &answer["map"];
    let mut classes = Table::new(&[
        ("requests", Align::Left),
        ("samples", Align::Right),
        ("functions run", Align::Right),
        ("of all", Align::Right),
        ("code never run", Align::Right),
    ]);
    let all = count(&map["functions"]);
    for class in list(&map["classes"]) {
        let ran = count(&class["ran"]);
        let share = if all == 0 { 0.0 } else { ran as f64 / all as f64 };
        let never = percent(class["never_seen_share"].as_f64().unwrap_or(0.0));
        let cells = [text(&class["class"]), class["samples"].to_string(), ran.to_string(), percent(share), never];
        classes.row(cells);
    }
    if classes.is_empty() && count(&map["inherited"]["functions"]) > 0 {
        let from: Vec<String> = list(&map["inherited"]["from"]).map(|name| printable(&text(name))).collect();
        output.note(&format!("no request has been sampled yet; expected by what {} run:", from.join(", ")));
        return output.table(&paths_table(&map["all"], wanted.top), answer, NOT_SAMPLED);
    }
    output.table(&classes, answer, NOT_SAMPLED)?;
    if classes.is_empty() {
        return Ok(());
    }
    for class in list(&map["classes"]) {
        output.note(&format!("\n{}, the most probable:", printable(&text(&class["class"]))));
        output.table(&paths_table(class, wanted.top), answer, NOT_SAMPLED)?;
    }
    for (part, parts) in [("library", "libraries"), ("module", "modules")] {
        output.note(&format!("\nby {part}, all requests:"));
        output.table(&parts_table(&map["all"][parts], part, wanted.top), answer, NOT_SAMPLED)?;
    }
    if let Some(resident) = map["memory"]["resident_bytes_mean"].as_f64() {
        let dirty = map["memory"]["dirty_bytes_mean"].as_f64().unwrap_or(0.0);
        let mebibytes = |bytes: f64| format!("{:.1} MiB", bytes / f64::from(1 << 20));
        output.note(&format!("\na VM touches {} of memory, {} of it written", mebibytes(resident), mebibytes(dirty)));
    }
    let sampling = &map["sampling"];
    output.note(&format!(
        "\n{} of {} requests sampled, which added {} to the time of all",
        sampling["samples"],
        sampling["requests"],
        percent(sampling["cpu_share"].as_f64().unwrap_or(0.0)),
    ));
    Ok(())
}

fn paths_table(class: &Value, top: usize) -> Table {
    let mut table = Table::new(&[
        ("probability", Align::Right),
        ("±", Align::Right),
        ("code", Align::Right),
        ("library", Align::Left),
        ("function", Align::Left),
    ]);
    // What always runs says little: the most telling come first among the equally probable, by size.
    let mut paths: Vec<&Value> = list(&class["paths"]).collect();
    let probability = |path: &Value| (path["probability"].as_f64().unwrap_or(0.0) * 1000.0) as u64;
    paths.sort_by_key(|path| std::cmp::Reverse((probability(path), count(&path["code_bytes"]))));
    for path in paths.into_iter().take(top) {
        table.row([
            percent(path["probability"].as_f64().unwrap_or(0.0)),
            percent(path["error"].as_f64().unwrap_or(0.0)),
            format!("{} B", count(&path["code_bytes"])),
            text(&path["library"]),
            text(&path["name"]),
        ]);
    }
    table
}

fn parts_table(parts: &Value, part: &'static str, top: usize) -> Table {
    let mut table = Table::new(&[
        (part, Align::Left),
        ("functions run", Align::Right),
        ("of", Align::Right),
        ("code run", Align::Right),
        ("used with", Align::Right),
    ]);
    for library in list(parts).take(top) {
        table.row([
            text(&library[part]),
            count(&library["ran"]).to_string(),
            count(&library["functions"]).to_string(),
            format!("{} B", count(&library["code_bytes"])),
            percent(library["probability"].as_f64().unwrap_or(0.0)),
        ]);
    }
    table
}

/// One line for each function of each class: `class;library;function runs`.
fn folded(answer: &Value) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    for class in list(&answer["map"]["classes"]) {
        for path in list(&class["paths"]) {
            let frames = [&class["class"], &path["library"], &path["name"]].map(|frame| text(frame).replace(';', ":"));
            let runs = path["runs"].as_f64().unwrap_or(0.0).ceil() as u64;
            writeln!(stdout, "{} {runs}", frames.map(|frame| printable(&frame)).join(";"))?;
        }
    }
    Ok(())
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or("?").to_owned()
}

fn count(value: &Value) -> u64 {
    value.as_u64().unwrap_or(0)
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}
