//! `forerun top`: how a node serves, function by function, as it happens.
//!
//! One frame for each line of the node's live feed, drawn over the one before on a terminal; elsewhere one after the
//! other. Ends when the node does, or by an interrupt.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, IsTerminal, Read, Write};

use serde_json::Value;

use super::api::Api;
use super::error::ClientError;
use super::text;
use crate::cli::output::{Format, Output};

/// Bytes of one line of the feed; it holds a few figures for each serve path.
const LINE_BYTES_MAX: u64 = 1 << 20;
/// Cells of the bar that a share is drawn as.
const BAR_CELLS: usize = 24;
/// Functions shown; a screen has not many more lines.
const FUNCTIONS_MAX: usize = 30;
/// Puts the cursor into the upper left corner and clears what is below.
const CLEAR: &str = "\x1b[H\x1b[J";

/// Shows frames, `count` of them or until the node ends.
pub(super) fn top(output: &Output, api: &Api, count: Option<u32>) -> Result<(), ClientError> {
    let broke_off = |error: io::Error| ClientError::BrokeOff { url: api.url().to_string(), reason: error.to_string() };
    let mut feed = BufReader::new(api.stream("/v1/live")?);
    let (mut line, mut served) = (String::new(), BTreeMap::new());
    let mut shown = 0;
    while count.is_none_or(|count| shown < count) {
        line.clear();
        if feed.by_ref().take(LINE_BYTES_MAX).read_line(&mut line).map_err(broke_off)? == 0 {
            return Ok(());
        }
        // Lines of the past come first, and at once: only the latest of what is there is worth a frame.
        let Some(second) = line.strip_prefix("data: ").and_then(|text| serde_json::from_str::<Value>(text).ok()) else {
            continue;
        };
        if feed.buffer().len() > 2 {
            continue;
        }
        let learning = api.get("/v1/learning")?;
        match output.format {
            Format::Json => {
                let both = serde_json::json!({ "second": second, "learning": learning });
                output.json(&both).map_err(ClientError::Stdout)?;
            }
            Format::Human => draw(&frame(&second, &learning, &mut served)).map_err(ClientError::Stdout)?,
        }
        shown += 1;
    }
    Ok(())
}

fn draw(frame: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    let clear = if stdout.is_terminal() { CLEAR } else { "" };
    writeln!(stdout, "{clear}{frame}")?;
    stdout.flush()
}

/// One screen. `served` holds what each function had served at the frame before, by what was expected.
fn frame(second: &Value, learning: &Value, served: &mut BTreeMap<String, [u64; 3]>) -> String {
    let mut lines = vec![head(second, learning)];
    for (path, figures) in second["paths"].as_object().into_iter().flatten() {
        let share = figures["count"].as_f64().unwrap_or(0.0) / second["invocations"].as_f64().unwrap_or(1.0).max(1.0);
        lines.push(format!(
            "  {path:<24} {} {:>6} requests  p50 {:>9}  p99 {:>9}",
            bar(share),
            figures["count"],
            millis(&figures["p50_us"]),
            millis(&figures["p99_us"]),
        ));
    }
    lines.push(String::new());
    lines.push(format!(
        "  {:<20} {:>9} {:>6} {:>6} {:>7} {:>12} {:>12}  {}",
        "function", "a second", "hit", "late", "missed", "ready", "standard", "verdict"
    ));
    for (name, function) in learning["functions"].as_object().into_iter().flatten().take(FUNCTIONS_MAX) {
        lines.push(row(name, function, served));
    }
    lines.join("\n")
}

fn head(second: &Value, learning: &Value) -> String {
    let (held, ledger) = (&learning["held"], &learning["ledger"]);
    format!(
        "{} requests a second, {} in flight, {} queued, {} errors; {} of memory\n\
         learning {}: {} VMs held ready with {}; {} ms of waiting saved so far\n",
        second["invocations"],
        second["in_flight"],
        second["queued"],
        second["errors"],
        text::bytes(second["memory_bytes"].as_u64().unwrap_or(0)),
        learning["mode"].as_str().unwrap_or("?"),
        held["vms"],
        text::bytes(held["memory_bytes"].as_u64().unwrap_or(0)),
        ledger["saved_ms"],
    )
}

fn row(name: &str, function: &Value, served: &mut BTreeMap<String, [u64; 3]>) -> String {
    let predictions = &function["ledger"]["predictions"];
    let now = ["hit", "late", "missed"].map(|what| predictions[what].as_u64().unwrap_or(0));
    let before = served.insert(name.to_owned(), now).unwrap_or(now);
    let rate = now.iter().sum::<u64>().saturating_sub(before.iter().sum());
    format!(
        "  {name:<20} {rate:>9} {:>6} {:>6} {:>7} {:>12} {:>12}  {}",
        now[0],
        now[1],
        now[2],
        millis(&function["ready_deploy_us"]),
        millis(&function["generic_deploy_us"]),
        verdicts(&function["arms"]),
    )
}

/// Of VMs made ready, put back, and begun with the warm state: the verdicts, where they have served.
fn verdicts(arms: &Value) -> String {
    let served = |arm: &&str| arms[*arm]["prepared"]["requests"] != 0 || !arms[*arm]["given_up"].is_null();
    let verdicts: Vec<&str> = ["ready", "rolled_back", "specialized"].into_iter().filter(served).collect();
    let verdicts = verdicts.iter().map(|arm| format!("{arm} {}", arms[*arm]["verdict"].as_str().unwrap_or("?")));
    verdicts.collect::<Vec<_>>().join(", ")
}

fn bar(share: f64) -> String {
    let full = ((share * BAR_CELLS as f64).round() as usize).min(BAR_CELLS);
    format!("{}{}", "█".repeat(full), "·".repeat(BAR_CELLS - full))
}

fn millis(us: &Value) -> String {
    us.as_f64().map_or_else(|| "-".to_owned(), |us| format!("{:.3} ms", us * 1e-3))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_frame_shows_paths_and_functions() {
        let second = json!({ "invocations": 4, "in_flight": 1, "queued": 0, "errors": 0, "memory_bytes": 1 << 20,
            "paths": { "ready": { "count": 3, "p50_us": 900, "p99_us": 1200 } } });
        let function = |hit: u64| {
            json!({ "functions": { "cart": { "ready_deploy_us": 8, "generic_deploy_us": 900,
            "arms": { "ready": { "verdict": "open", "prepared": { "requests": 3 } } }, "ledger": { "predictions": { "hit": hit, "late": 1, "missed": 2 } } } } })
        };
        let mut served = BTreeMap::new();
        frame(&second, &function(7), &mut served);
        let text = frame(&second, &function(12), &mut served);
        assert!(text.contains("ready") && text.contains("0.900 ms") && text.contains(&"█".repeat(18)), "{text}");
        let cart = text.lines().find(|line| line.contains("cart")).unwrap();
        assert!(cart.contains("ready open"), "{cart}");
        assert!(cart.contains(" 5 ") && cart.contains(" 12 "), "{cart}");
    }

    #[test]
    fn what_is_missing_is_no_panic() {
        frame(&json!({}), &json!({}), &mut BTreeMap::new());
        assert_eq!(bar(7.0), "█".repeat(BAR_CELLS));
    }
}
