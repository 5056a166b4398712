//! Twice as many requests as can be answered, for as long as asked: what is refused, and what is not.
//!
//! What the node can do is measured first, by wrk, which waits for answers; then requests come at twice that rate whatever
//! becomes of them (`open_loop`). Memory must stay bounded, refusals must say why and when to come again, those let in must
//! be answered in bounded time, and learning must yield before serving does. The load runs on the same machine and takes
//! its share of the processors, so that the node is overloaded by more than the factor says.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde::Serialize;
use serde_json::{Value, json};

use crate::arguments::Arguments;
use crate::binaries::Binaries;
use crate::load::measure;
use crate::metrics::{Metrics, shares};
use crate::open_loop::{self, End, Plan, Stretch};
use crate::ours::{self, Node};
use crate::report::{Report, Table, Verdict};
use crate::server::Server;
use crate::spread::quantile;

/// Requests that come, as a multiple of those that can be answered.
const FACTOR: f64 = 2.0;
/// Connections of the measurement before, and how long it takes.
const CAPACITY_CONNECTIONS: usize = 64;
const CAPACITY_TIME: Duration = Duration::from_secs(5);
/// Rows of the report.
const STRETCHES: u32 = 12;
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Memory in the last quarter, as a multiple of the second quarter: it counts as bounded. The first quarter fills queues.
const GROWTH_MAX: f64 = 1.10;
/// Before this queues and idle VMs still grow to their bounds.
const JUDGED_FROM_S: f64 = 120.0;
/// After the load, for what is queued and for learning to go on.
const AFTER: Duration = Duration::from_secs(5);

/// The node at one moment.
#[derive(Clone, Debug, Serialize)]
struct Look {
    at_s: f64,
    resident_bytes: u64,
    queued: f64,
    dropped: f64,
    /// Why learning holds nothing ready, if it does not.
    halt: Option<String>,
}

/// Runs the case.
pub(crate) async fn run(arguments: &Arguments) -> Result<Report> {
    let binaries = Binaries::locate(arguments).await?;
    let program = binaries.forerun.as_deref().context("forerun is absent")?;
    let handler = super::one_handler(arguments)?;
    let folder = tempfile::tempdir().context("no temporary folder can be made")?;
    let data = folder.path().join("data");
    let application = handler.application();
    let node = Node { program, application: Some(&application), data: Some(&data), path: handler.path(), options: &[] };
    let server = node.start("forerun", arguments).await?;
    node.settled(&server).await?;
    let expected = server.ask().await?.body;
    let short = Arguments { measure: CAPACITY_TIME, ..arguments.clone() };
    let capacity = measure(&server, CAPACITY_CONNECTIONS, &binaries, &short).await?;
    let rate_per_s = FACTOR * capacity.throughput_per_s;
    crate::say(&format!("can do {:.0} req/s; {rate_per_s:.0} req/s come", capacity.throughput_per_s));
    let before = Metrics::read(server.admin).await?;
    let stretch = (arguments.measure / STRETCHES).max(LOOK_EVERY);
    let plan = Plan { address: server.address, path: server.path, rate_per_s, time: arguments.measure, stretch };
    let load = tokio::spawn(open_loop::run(plan, expected.clone()));
    let looks = watch(&server, &data, arguments.measure).await?;
    let stretches = load.await.context("the load broke off")?;
    tokio::time::sleep(AFTER).await;
    let answer = server.ask().await.context("after the load it does not answer")?;
    ensure!(answer.status == 200 && answer.body == expected, "after the load it answers {}", answer.status);
    let after = Metrics::read(server.admin).await?;
    let after_bytes = server.usage()?.resident_bytes;
    server.stop().await?;
    let mut all = Stretch::default();
    stretches.iter().for_each(|stretch| all.add(stretch));
    let (verdicts, verdict) = verdicts(&all, &looks, &before, &after);
    let learning = learning_table(&looks, &before, &after, after_bytes);
    let tables = vec![verdicts, course(&stretches, &looks, &plan), ends(&all), learning];
    let method = format!(
        "{} in one node with default settings: {:.0} req/s at {CAPACITY_CONNECTIONS} connections that wait for answers, then \
         {rate_per_s:.0} req/s that do not, for {} s. Times are from when a request was due to its answer's last byte. Load \
         and node share the machine.",
        handler.label(),
        capacity.throughput_per_s,
        arguments.measure.as_secs()
    );
    let raw = json!({
        "capacity": capacity,
        "rate_per_s": rate_per_s,
        "seconds": arguments.measure.as_secs(),
        "ends": all.ends.iter().map(|(end, count)| json!([format!("{end:?}"), count])).collect::<Vec<_>>(),
        "looks": looks,
    });
    let legend = vec!["**refused**: answered with an error before any VM was at work".to_owned()];
    Ok(Report::new("overload", method, legend, tables, raw).with_verdict(verdict))
}

/// Looks at the node once a second.
async fn watch(server: &Server, data: &std::path::Path, time: Duration) -> Result<Vec<Look>> {
    let began = Instant::now();
    let mut looks = Vec::new();
    while began.elapsed() < time {
        // An admin port that does not answer in time is no crash; a process that has ended is.
        let resident_bytes = server.usage()?.resident_bytes;
        let metrics = Metrics::read(server.admin).await.unwrap_or_default();
        let learning = ours::learning(server.admin, data).await.unwrap_or(Value::Null);
        looks.push(Look {
            at_s: began.elapsed().as_secs_f64(),
            resident_bytes,
            queued: metrics.sum("forerun_invocations_queued"),
            dropped: metrics.sum("forerun_events_dropped_total"),
            halt: learning["prices"]["halt"].as_str().map(str::to_owned),
        });
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok(looks)
}

fn is_refusal(end: &End) -> bool {
    matches!(end, End::Refused(429 | 503, ..))
}

/// Refused in a way that no overload explains.
fn is_error(end: &End) -> bool {
    matches!(end, End::Wrong | End::Lost(_)) || (matches!(end, End::Refused(..)) && !is_refusal(end))
}

fn quantile_of(values: &[f32], share: f64) -> String {
    if values.is_empty() {
        return "–".to_owned();
    }
    let mut sorted: Vec<f64> = values.iter().copied().map(f64::from).collect();
    sorted.sort_by(f64::total_cmp);
    format!("{:.1}", quantile(&sorted, share))
}

fn verdicts(all: &Stretch, looks: &[Look], before: &Metrics, after: &Metrics) -> (Table, Verdict) {
    let growth = growth(looks);
    let is_long = looks.last().is_some_and(|look| look.at_s >= JUDGED_FROM_S);
    let grown = is_long.then_some(growth <= GROWTH_MAX);
    let errors = all.count(is_error);
    let unspoken = all.count(|end| matches!(end, End::Refused(429 | 503, _, false)));
    let dropped = after.sum("forerun_events_dropped_total") - before.sum("forerun_events_dropped_total");
    let halted = looks.iter().filter(|look| look.halt.is_some()).count();
    let shed = all.count(is_refusal);
    let rows = [
        ("memory bounded: last quarter to second", format!("{growth:.2}"), grown),
        ("no wrong answer, broken connection or other error", errors.to_string(), Some(errors == 0)),
        ("overload was refused", shed.to_string(), Some(shed > 0)),
        ("every refusal says when to come again", format!("{unspoken} do not"), Some(unspoken == 0)),
        (
            "learning yields: seconds in which nothing is made ready, events dropped",
            format!("{halted} of {}, {dropped:.0}", looks.len()),
            Some(halted > 0 || dropped > 0.0),
        ),
    ];
    let verdict = Verdict::of(rows.iter().all(|(.., met)| met.unwrap_or(true)));
    let row = |(what, figure, met): (&str, String, Option<bool>)| {
        let met = met.map_or("too short to say", |met| if met { "yes" } else { "NO" });
        vec![what.to_owned(), figure, met.to_owned()]
    };
    let rows = rows.into_iter().map(row).collect();
    (Table { title: "Wanted".to_owned(), header: vec!["what", "figure", "met"], rows }, verdict)
}

/// Median memory of the last quarter of the looks to that of the second.
fn growth(looks: &[Look]) -> f64 {
    let median = |looks: &[Look]| {
        let mut bytes: Vec<f64> = looks.iter().map(|look| look.resident_bytes as f64).collect();
        bytes.sort_by(f64::total_cmp);
        quantile(&bytes, 0.5)
    };
    let quarter = looks.len() / 4;
    if quarter == 0 {
        return 1.0;
    }
    median(&looks[looks.len() - quarter..]) / median(&looks[quarter..2 * quarter])
}

fn course(stretches: &[Stretch], looks: &[Look], plan: &Plan) -> Table {
    let seconds = plan.stretch.as_secs_f64();
    let row = |(at, stretch): (usize, &Stretch)| {
        let (from, to) = (at as f64 * seconds, (at + 1) as f64 * seconds);
        let meanwhile: Vec<&Look> = looks.iter().filter(|look| (from..to).contains(&look.at_s)).collect();
        let most = |figure: fn(&Look) -> f64| meanwhile.iter().map(|look| figure(look)).fold(0.0, f64::max);
        vec![
            format!("{from:.0}–{to:.0}"),
            format!("{:.0}", stretch.count(|end| *end == End::Right) as f64 / seconds),
            format!("{:.0}", stretch.count(is_refusal) as f64 / seconds),
            stretch.count(is_error).to_string(),
            stretch.count(|end| *end == End::NotSent).to_string(),
            quantile_of(&stretch.right_ms, 0.5),
            quantile_of(&stretch.right_ms, 0.99),
            quantile_of(&stretch.refused_ms, 0.99),
            format!("{:.0}", stretch.late_ms_max),
            format!("{:.0}", most(|look| look.queued)),
            format!("{:.0}", most(|look| look.resident_bytes as f64 / f64::from(1 << 20))),
        ]
    };
    Table {
        title: "Over time".to_owned(),
        header: vec![
            "seconds",
            "answered/s",
            "refused/s",
            "errors",
            "not sent",
            "p50 of answered ms",
            "p99 of answered ms",
            "p99 of refused ms",
            "sent late ms at most",
            "queued at most",
            "memory MiB at most",
        ],
        rows: stretches.iter().enumerate().map(row).collect(),
    }
}

fn ends(all: &Stretch) -> Table {
    let total = all.count(|_| true).max(1) as f64;
    let row = |(end, count): (&End, &u64)| {
        let (name, reason, again) = match end {
            End::Right => ("200, the right answer".to_owned(), String::new(), "–"),
            End::Wrong => ("200, A WRONG ANSWER".to_owned(), String::new(), "–"),
            End::Refused(status, reason, again) => {
                (status.to_string(), reason.clone(), if *again { "yes" } else { "no" })
            }
            End::Lost(why) => ("no answer".to_owned(), (*why).to_owned(), "–"),
            End::NotSent => ("not sent".to_owned(), "too many under way".to_owned(), "–"),
        };
        vec![name, reason, again.to_owned(), count.to_string(), format!("{:.2}", 100.0 * *count as f64 / total)]
    };
    Table {
        title: "How requests ended".to_owned(),
        header: vec!["answer", "reason", "retry-after", "requests", "%"],
        rows: all.ends.iter().map(row).collect(),
    }
}

fn learning_table(looks: &[Look], before: &Metrics, after: &Metrics, after_bytes: u64) -> Table {
    let dropped = after.since(before, "forerun_events_dropped_total", "at");
    let dropped: Vec<String> = dropped.into_iter().map(|(at, count)| format!("{at} {count:.0}")).collect();
    let halted = looks.iter().filter(|look| look.halt.is_some()).count();
    let reasons: std::collections::BTreeSet<&str> = looks.iter().filter_map(|look| look.halt.as_deref()).collect();
    let reasons = reasons.into_iter().collect::<Vec<_>>().join(", ");
    let rows = vec![
        vec![
            "seconds in which nothing was made ready".to_owned(),
            format!("{halted} of {}{}{reasons}", looks.len(), if halted > 0 { ": " } else { "" }),
        ],
        vec!["events dropped".to_owned(), if dropped.is_empty() { "none".to_owned() } else { dropped.join(", ") }],
        vec!["served".to_owned(), shares(&after.since(before, "forerun_invocations_total", "serve_path"))],
        vec!["memory after the load".to_owned(), format!("{} MiB", after_bytes >> 20)],
    ];
    Table { title: "What learning did meanwhile".to_owned(), header: vec!["what", "figure"], rows }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(at_s: f64, mebibytes: u64) -> Look {
        Look { at_s, resident_bytes: mebibytes << 20, queued: 0.0, dropped: 0.0, halt: None }
    }

    #[test]
    fn growth_leaves_out_the_first_quarter() {
        let looks: Vec<Look> = [10, 10, 100, 100, 100, 100, 110, 110].iter().map(|size| look(0.0, *size)).collect();
        assert!((growth(&looks) - 1.1).abs() < 1e-9);
        assert_eq!(growth(&looks[..3]), 1.0);
    }

    #[test]
    fn refusals_are_no_errors_and_everything_else_is_one() {
        let refused = |status, again| End::Refused(status, "why".to_owned(), again);
        let ends =
            [End::Right, refused(503, true), refused(429, false), refused(500, true), End::Lost("x"), End::NotSent];
        let all = Stretch { ends: ends.into_iter().map(|end| (end, 1)).collect(), ..Stretch::default() };
        assert_eq!((all.count(is_refusal), all.count(is_error)), (2, 2));
        let (table, verdict) = verdicts(&all, &[], &Metrics::default(), &Metrics::default());
        assert_eq!(verdict, Verdict::Failed);
        let met: Vec<&str> = table.rows.iter().map(|row| row[2].as_str()).collect();
        assert_eq!(met, ["too short to say", "NO", "yes", "NO", "NO"]);
    }
}
