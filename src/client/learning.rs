//! `forerun learning`, `forerun expect` and `forerun calls`: what the node learns, what that costs and saves, and how far it may go.

use std::time::{SystemTime, UNIX_EPOCH};

use forerun_types::{FunctionName, LearningMode};
use serde_json::{Value, json};

use super::api::Api;
use super::error::ClientError;
use super::explain::{given_up, percent, prepared};
use super::text;
use crate::cli::output::Output;
use crate::cli::table::{Align, Table};

/// Shows the ledger, after a change of the switches if one is wanted.
pub(super) fn learning(
    output: &Output,
    api: &Api,
    switch: Option<(LearningMode, Option<FunctionName>)>,
) -> Result<(), ClientError> {
    if let Some((mode, function)) = switch {
        let mut wanted = json!({ "mode": mode });
        if let Some(function) = function {
            wanted["function"] = json!(function);
        }
        let setting = api.set("/v1/learning", &wanted)?;
        return output.item(&in_words(&setting["mode"], &setting["functions"]), &setting).map_err(ClientError::Stdout);
    }
    let answer = api.get("/v1/learning")?;
    let arms = arms_at_work(&answer);
    let mut table = ledger_table(&arms);
    for (name, function) in answer["functions"].as_object().into_iter().flatten() {
        row(&mut table, &arms, name, function);
    }
    output.table(&table, &answer, "nothing is learnt yet: no function has been called").map_err(ClientError::Stdout)?;
    for line in given_up_lines(&answer) {
        output.note(&line);
    }
    output.note(&summary(&answer));
    Ok(())
}

/// Says that a call is known to come, `after` seconds from now or up to `within` seconds later.
pub(super) fn expect(
    output: &Output,
    api: &Api,
    function: &FunctionName,
    (after_s, within_s): (u64, u64),
) -> Result<(), ClientError> {
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    let from_ms = u64::try_from(now_ms).unwrap_or(u64::MAX).saturating_add(after_s.saturating_mul(1_000));
    let wanted =
        json!({ "from_unix_ms": from_ms, "until_unix_ms": from_ms.saturating_add(within_s.saturating_mul(1_000)) });
    let answer = api.post(&format!("/v1/functions/{function}/expected"), &wanted)?;
    output.item(&told(function, &answer), &answer).map_err(ClientError::Stdout)
}

fn told(function: &FunctionName, answer: &Value) -> String {
    let moment = |name: &str| text::moment(answer[name].as_u64().unwrap_or(0));
    let held = match answer["learning"].as_str().unwrap_or("?") {
        "full" => "a VM will be held for it".to_owned(),
        mode => format!("no VM will be held for it: learning is {mode}"),
    };
    format!("{function} is expected from {} to {}; {held}", moment("from_unix_ms"), moment("until_unix_ms"))
}

/// A line for each way of preparing VMs that is given up for a while.
fn given_up_lines(answer: &Value) -> Vec<String> {
    let functions = answer["functions"].as_object().into_iter().flatten();
    let arms = functions.flat_map(|(name, function)| {
        let arms = function["arms"].as_object().into_iter().flatten();
        arms.map(move |(arm, figures)| (name, arm, figures))
    });
    arms.filter_map(|(name, arm, figures)| Some(format!("{name}: no {} VMs {}", prepared(arm), given_up(figures)?)))
        .collect()
}

/// The ways of preparing VMs that are judged, by their names in the answer and in the table.
const ARMS: [NamedArm; 3] = [("ready", "ready"), ("rolled_back", "put back"), ("specialized", "warm copy")];

type NamedArm = (&'static str, &'static str);

/// Those of which any function has a figure: the others would be columns of zeros.
fn arms_at_work(answer: &Value) -> Vec<NamedArm> {
    let functions = || answer["functions"].as_object().into_iter().flatten().map(|(_, function)| function);
    let requests = |function: &Value, arm: &str| {
        let of = |group: &str| function["arms"][arm][group]["requests"].as_u64().unwrap_or(0);
        of("prepared").saturating_add(of("control"))
    };
    ARMS.into_iter().filter(|(arm, _)| functions().any(|function| requests(function, arm) > 0)).collect()
}

fn ledger_table(arms: &[NamedArm]) -> Table {
    let mut columns = vec![
        ("function", Align::Left),
        ("hit", Align::Right),
        ("late", Align::Right),
        ("missed", Align::Right),
        ("saved ms", Align::Right),
        ("held GB s", Align::Right),
        ("making ms", Align::Right),
    ];
    for &(_, heading) in arms {
        columns.extend([(heading, Align::Right), ("control", Align::Right), ("verdict", Align::Left)]);
    }
    Table::new(&columns)
}

fn row(table: &mut Table, arms: &[NamedArm], name: &str, function: &Value) {
    let ledger = &function["ledger"];
    let predictions = &ledger["predictions"];
    let mut cells = vec![
        name.to_owned(),
        predictions["hit"].to_string(),
        predictions["late"].to_string(),
        predictions["missed"].to_string(),
        ledger["saved_ms"].to_string(),
        format!("{:.3}", ledger["held_gb_s"].as_f64().unwrap_or(0.0)),
        ledger["making_cpu_ms"].to_string(),
    ];
    for &(arm, _) in arms {
        let arm = &function["arms"][arm];
        cells.extend([group(&arm["prepared"]), group(&arm["control"]), verdict(arm)]);
    }
    table.row(cells);
}

fn verdict(arm: &Value) -> String {
    arm["verdict"].as_str().unwrap_or("?").to_owned()
}

/// Latency and size of one side of the comparison.
fn group(group: &Value) -> String {
    let typical_us = group["typical_us"].as_f64().unwrap_or(0.0);
    format!("{:.2} ms/{}", typical_us * 1e-3, group["requests"])
}

fn summary(answer: &Value) -> String {
    let held = &answer["held"];
    format!(
        "{}; {} VMs held now with {}, of {} that may be used; learning itself took {} ms of processor time",
        in_words(&answer["mode"], &answer["function_modes"]),
        held["vms"],
        text::bytes(held["memory_bytes"].as_u64().unwrap_or(0)),
        text::bytes(answer["budget"]["memory_bytes"].as_u64().unwrap_or(0)),
        answer["learning_ms_total"],
    )
}

fn in_words(mode: &Value, functions: &Value) -> String {
    let apart = functions.as_object().into_iter().flatten();
    let apart: Vec<String> = apart.map(|(name, mode)| format!("{name} {}", mode.as_str().unwrap_or("?"))).collect();
    let mode = mode.as_str().unwrap_or("?");
    if apart.is_empty() {
        format!("learning is {mode}")
    } else {
        format!("learning is {mode}, of {}", apart.join(", "))
    }
}

/// Lists the calls that functions make of each other.
pub(super) fn calls(output: &Output, api: &Api) -> Result<(), ClientError> {
    let answer = api.get("/v1/calls")?;
    let mut table = Table::new(&[
        ("caller", Align::Left),
        ("calls", Align::Left),
        ("probability", Align::Right),
        ("after", Align::Right),
        ("95 % within", Align::Right),
        ("seen", Align::Right),
    ]);
    for edge in answer["calls"].as_array().into_iter().flatten() {
        let millis = |name: &str| format!("{:.2} ms", edge[name].as_f64().unwrap_or(0.0) * 1e-3);
        table.row([
            edge["caller"].as_str().unwrap_or("?").to_owned(),
            edge["callee"].as_str().unwrap_or("?").to_owned(),
            format!("{} ± {}", percent(&edge["probability"]), percent(&edge["error"])),
            millis("lag_us"),
            millis("lag_late_us"),
            edge["calls"].to_string(),
        ]);
    }
    output.table(&table, &answer, "no function has called another one yet").map_err(ClientError::Stdout)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_that_stay_behind_are_named() {
        assert_eq!(in_words(&json!("full"), &json!({})), "learning is full");
        let text = in_words(&json!("full"), &json!({ "cart": "observe", "pay": "off" }));
        assert_eq!(text, "learning is full, of cart observe, pay off");
    }

    #[test]
    fn ways_that_nothing_is_prepared_in_have_no_columns() {
        let group = |requests: u64| json!({ "requests": requests, "typical_us": 1_000.0 });
        let arms = json!({
            "ready": { "prepared": group(0), "control": group(2) },
            "rolled_back": { "prepared": group(7), "control": group(0) },
            "specialized": { "prepared": group(0), "control": group(0) },
        });
        let answer = json!({ "functions": { "cart": { "arms": arms }, "stock": {} } });
        assert_eq!(arms_at_work(&answer), ARMS[..2]);
    }

    #[test]
    fn what_is_missing_is_no_panic() {
        let mut table = ledger_table(&ARMS);
        assert!(given_up_lines(&json!({ "functions": { "cart": { "arms": { "ready": {} } } } })).is_empty());
        row(&mut table, &ARMS, "cart", &json!({}));
        assert!(arms_at_work(&json!({})).is_empty());
        assert!(summary(&json!({})).contains("0 B"));
    }
}
