//! `forerun explain` and `forerun predict`: why a request was served as it was, and what is expected next.
//!
//! The node says all of it; here it is only put into words.

use std::thread;
use std::time::Duration;

use forerun_types::{FunctionName, InvocationId};
use serde_json::Value;

use super::api::Api;
use super::error::ClientError;
use super::text;
use crate::cli::output::Output;
use crate::cli::table::{Align, Table};

/// Looks for a request that is not known, and the time between two: a second in all, which nobody minds for a mistake.
const RECORD_LOOKS: u32 = 10;
const RECORD_PAUSE: Duration = Duration::from_millis(100);

/// Tells why one request was served as it was.
pub(super) fn explain(output: &Output, api: &Api, id: InvocationId) -> Result<(), ClientError> {
    let answer = recorded(|| api.get(&format!("/v1/invocations/{id}/explain")))?;
    output.item(&explanation(&answer), &answer).map_err(ClientError::Stdout)
}

/// Asks again for a moment if the request is not known: its record is written behind its answer, so whoever asks at once,
/// as a script does, may be faster.
fn recorded(ask: impl Fn() -> Result<Value, ClientError>) -> Result<Value, ClientError> {
    for _ in 0..RECORD_LOOKS {
        match ask() {
            Err(ClientError::Problem { reason, .. }) if reason == "unknown_invocation" => thread::sleep(RECORD_PAUSE),
            answered => return answered,
        }
    }
    ask()
}

/// Tells which call is expected next in the application of a function.
pub(super) fn predict(output: &Output, api: &Api, function: &FunctionName) -> Result<(), ClientError> {
    let answer = api.get(&format!("/v1/functions/{function}/prediction"))?;
    let mut table = Table::new(&[
        ("next", Align::Left),
        ("probability", Align::Right),
        ("within 1 min", Align::Right),
        ("within 1 h", Align::Right),
        ("mostly because of", Align::Left),
    ]);
    for next in answer["prediction"]["next"].as_array().into_iter().flatten() {
        let probability = format!("{} ± {}", percent(&next["probability"]), percent(&next["error"]));
        let name = next["function"].as_str().unwrap_or("?");
        let (minute, hour) = (percent(&next["within"][0][1]), percent(&next["within"][2][1]));
        let expert = next["reasons"][0]["expert"].as_str().unwrap_or("");
        table.row([name, &probability, &minute, &hour, expert]);
    }
    output.table(&table, &answer, "nothing is known of it yet: it has not been called").map_err(ClientError::Stdout)?;
    let next = answer["prediction"]["next"].as_array().into_iter().flatten();
    let of_next = next.filter_map(|next| Some((next["function"].as_str()?, &next["code_paths"])));
    for (name, paths) in of_next {
        within(name, paths).iter().for_each(|line| output.note(line));
    }
    output.note(&format!(
        "{function}: {} VMs held ready, {} bytes; standard path {} until a VM is there, a ready one {}",
        answer["held_ready"]["vms"],
        answer["held_ready"]["memory_bytes"],
        millis(&answer["costs"]["generic_deploy_us"]),
        millis(&answer["costs"]["ready_deploy_us"]),
    ));
    Ok(())
}

/// Which of a function's code its next request is expected to run, if any of its requests was sampled.
pub(super) fn within(function: &str, paths: &Value) -> Option<String> {
    let set = &paths["stays_within"];
    let (functions, all) = (set["functions"].as_u64()?, set["of_functions"].as_u64()?);
    Some(format!(
        "{function}, if it is called, stays within {functions} of its {all} inner functions ({}) with probability {} ± {}",
        text::bytes(set["code_bytes"].as_u64().unwrap_or(0)),
        percent(&set["probability"]),
        percent(&set["error"]),
    ))
}

/// What an invocation waited for what it had called, if it called anything.
fn waiting(calls_us: u64) -> String {
    if calls_us == 0 { String::new() } else { format!(", {:.3} ms of it waiting for what it called", ms(calls_us)) }
}

fn explanation(answer: &Value) -> String {
    let invocation = &answer["invocation"];
    let word = |value: &Value| value.as_str().unwrap_or("?").to_owned();
    let phases = &invocation["phases"];
    let us = |name: &str| phases[name].as_u64().unwrap_or(0);
    let deploy_us = us("deployed_us").saturating_sub(us("admitted_us"));
    let mut lines = vec![
        format!("{} {} {}", word(&invocation["function"]), word(&invocation["class"]["method"]), invocation["status"]),
        format!("path      {}: {}", word(&invocation["serve_path"]), word(&invocation["why"])),
        format!(
            "time      {:.3} ms until a VM was there, {:.3} ms in all{}",
            ms(deploy_us),
            ms(us("total_us")),
            waiting(invocation["calls_us"].as_u64().unwrap_or(0))
        ),
    ];
    lines.push(expectation(answer));
    for (name, arm) in answer["function"]["arms"].as_object().into_iter().flatten() {
        lines.extend(compared(name, arm));
    }
    lines.join("\n")
}

/// How VMs prepared in one way compare with new ones; nothing if none has served.
fn compared(name: &str, arm: &Value) -> Option<String> {
    if let Some(given_up) = given_up(arm) {
        return Some(format!("given up  {} VMs {given_up}", prepared(name)));
    }
    let group = |name: &str| {
        let group = &arm[name];
        format!("{} over {} requests, {} errors", millis(&group["typical_us"]), group["requests"], group["errors"])
    };
    let served = arm["prepared"]["requests"].as_u64().unwrap_or(0) > 0;
    let verdict = arm["verdict"].as_str().unwrap_or("?");
    served.then(|| {
        format!("compared  {} VMs {}; new ones {}: {verdict}", prepared(name), group("prepared"), group("control"))
    })
}

/// Why and until when VMs are left alone, if they are.
pub(super) fn given_up(arm: &Value) -> Option<String> {
    let given_up = &arm["given_up"];
    let until = text::moment(given_up["until_unix_ms"].as_u64()?);
    Some(format!("until {until}: {}", given_up["why"].as_str().unwrap_or("?")))
}

/// A way of preparing VMs, in words.
pub(super) fn prepared(arm: &str) -> &str {
    match arm {
        "rolled_back" => "rolled-back",
        other => other,
    }
}

fn expectation(answer: &Value) -> String {
    if answer["learning_enabled"] == false {
        return "expected  nobody knows: learning is switched off".to_owned();
    }
    let cause = &answer["expectation"]["cause"];
    if cause.is_null() {
        return "expected  no".to_owned();
    }
    let before_us = answer["expectation"]["at_unix_us"].as_u64().unwrap_or(0);
    let before_us = before_us.saturating_sub(cause["after_unix_us"].as_u64().unwrap_or(before_us));
    let terms = &cause["terms"];
    let figure = |value: &Value| value.as_f64().unwrap_or(0.0);
    let through = cause["through"].as_str().map(|name| format!(" through {name}")).unwrap_or_default();
    format!(
        "expected  yes, {} before, after {}{through} ({}), with probability {} ± {}; threshold {}\n\
         terms     {:.3} ms of value (rarity weighs {:.2}) x confidence {:.2}, against {:.6} ms for each second held and {:.3} ms to make",
        lead(before_us),
        cause["after_function"].as_str().unwrap_or("?"),
        ground(cause["by"].as_str().unwrap_or("?")),
        percent(&cause["probability"]),
        percent(&cause["error"]),
        percent(&terms["threshold"]),
        figure(&terms["value_ms"]),
        figure(&terms["weight"]),
        figure(&terms["confidence_factor"]),
        figure(&terms["hold_ms_per_s"]),
        figure(&terms["load_ms"]),
    )
}

/// What speaks for a call, in words.
fn ground(by: &str) -> &str {
    match by {
        "session" => "the calls of the session",
        "sequence" => "the sequence of calls",
        "rhythm" => "its own rhythm",
        "call" => "a function that calls it",
        "told" => "someone told the node",
        other => other,
    }
}

/// How long before: chains are milliseconds, sessions seconds.
fn lead(us: u64) -> String {
    if us < 1_000_000 { format!("{:.1} ms", ms(us)) } else { format!("{:.1} s", us as f64 * 1e-6) }
}

pub(super) fn percent(value: &Value) -> String {
    value.as_f64().map_or_else(|| "?".to_owned(), |share| format!("{:.1} %", share * 100.0))
}

fn millis(value: &Value) -> String {
    value.as_f64().map_or_else(|| "? ms".to_owned(), |us| format!("{:.3} ms", us * 1e-3))
}

fn ms(us: u64) -> f64 {
    us as f64 * 1e-3
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn says_after_which_call_a_request_was_expected() {
        let answer = json!({
            "learning_enabled": true,
            "expectation": { "at_unix_us": 5_000_000, "cause": {
                "after_function": "cart", "after_unix_us": 3_000_000, "by": "sequence",
                "probability": 0.9, "error": 0.05, "terms": { "threshold": 0.2 } } },
        });
        let text = expectation(&answer);
        assert!(
            text.starts_with(
                "expected  yes, 2.0 s before, after cart (the sequence of calls), with probability 90.0 %"
            ),
            "{text}"
        );
    }

    #[test]
    fn a_record_that_comes_late_is_waited_for_and_other_errors_are_not() {
        let problem =
            |reason: &str| ClientError::Problem { detail: String::new(), reason: reason.to_owned(), status: 404 };
        let asked = std::cell::Cell::new(0);
        let third_time = || {
            asked.set(asked.get() + 1);
            if asked.get() < 3 { Err(problem("unknown_invocation")) } else { Ok(json!({})) }
        };
        assert!(recorded(third_time).is_ok() && asked.get() == 3);
        asked.set(0);
        let never = || {
            asked.set(asked.get() + 1);
            Err(problem("unauthorized"))
        };
        assert!(recorded(never).is_err() && asked.get() == 1);
    }

    #[test]
    fn says_what_is_given_up_and_until_when() {
        let groups = |requests| json!({ "requests": requests, "errors": 0, "typical_us": 900 });
        let answer = json!({ "function": { "arms": {
            "ready": { "verdict": "better", "prepared": groups(40), "control": groups(7) },
            "rolled_back": { "given_up": { "until_unix_ms": 0, "why": "fails: 8 of 9 requests" } },
        } } });
        let text = explanation(&answer);
        assert!(text.contains("compared  ready VMs 0.900 ms over 40 requests, 0 errors; new ones"), "{text}");
        let line = "given up  rolled-back VMs until 1970-01-01 00:00:00Z: fails: 8 of 9 requests";
        assert!(text.contains(line), "{text}");
    }

    #[test]
    fn what_is_missing_is_no_panic() {
        assert!(explanation(&json!({})).contains("expected  no"));
        assert_eq!(
            expectation(&json!({ "learning_enabled": false })),
            "expected  nobody knows: learning is switched off"
        );
    }
}
