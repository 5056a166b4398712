//! Sessions over fifty functions, on memory for ten VMs: with prediction, with a fixed keep-alive, and with neither.
//!
//! All functions are the same component under fifty names, so that a cold start costs the same everywhere. No VM serves
//! twice (`reuse = "fresh"`): which VM is there when a call comes is up to the contender alone, and so is the memory that it
//! may take. Each contender gets the same calls at the same times, one contender after the other, on a copy of the same
//! data folder. One more has default settings, whose VMs are put back after use and wait for a minute: what is there without
//! any prediction, and what it takes, since that is not in the budget.
//!
//! Afterwards the calls go through `forerun replay --on-vms`, which follows the same rules in virtual time, and whose cold
//! starts are printed beside reality's.

mod replayed;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde::Serialize;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;
use tokio::task::JoinSet;

use self::replayed::Replayed;
use crate::arguments::Arguments;
use crate::binaries::Binaries;
use crate::ours::{self, Function, Node};
use crate::probe::Connection;
use crate::report::{Report, Table};
use crate::schedule::{Call, Shape, calls};
use crate::server::Server;
use crate::spread::quantile;
use crate::subjects::Handler;

const FUNCTIONS: usize = 50;
/// VMs that the memory is for.
const VMS: u64 = 10;
/// About five calls a second, which one core answers cold or warm.
const SESSIONS_PER_S: f64 = 1.0;
const SEED: u64 = 1;
/// Long enough that memory and not time decides what is kept: then those called last are kept.
const KEEP_ALIVE_S: &str = "600";
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Requests to each of some functions before, to see what a VM takes.
const TRIES: usize = 3;
/// Said by a node that has measured none.
const VM_BYTES_DEFAULT: u64 = 32 << 20;
/// Of one more function, which tells that the node is up and is not called after that.
const READY: &str = "/ready";
/// A VM was there, and left alone to compare with.
const CONTROL: &str = "generic-control";
/// Path of each function.
const PYTHON: &str = "/report";

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Way {
    Prediction,
    KeepAlive,
    Nothing,
    Default,
}

const WAYS: [Way; 4] = [Way::Prediction, Way::KeepAlive, Way::Nothing, Way::Default];

/// One call and its answer.
#[derive(Clone, Debug, Serialize)]
struct Answered {
    at_s: f64,
    took_ms: f64,
    /// How late it was sent.
    late_ms: f64,
    path: String,
}

/// What one contender did.
#[derive(Clone, Debug, Serialize)]
struct Outcome {
    way: Way,
    answered: Vec<Answered>,
    failed: Vec<String>,
    /// VMs ready or idle, and their memory, over time.
    held_vm_s: f64,
    held_gib_s: f64,
    vms_max: u64,
    learning: Value,
}

impl Way {
    fn label(self) -> &'static str {
        match self {
            Self::Prediction => "prediction",
            Self::KeepAlive => "keep-alive",
            Self::Nothing => "nothing",
            Self::Default => "default",
        }
    }

    /// The rule of the replay that is the same.
    fn rule(self) -> Option<&'static str> {
        match self {
            Self::Prediction => Some("expected"),
            Self::KeepAlive => Some("called last"),
            Self::Nothing | Self::Default => None,
        }
    }

    fn reuse(self) -> Option<&'static str> {
        match self {
            Self::Prediction | Self::KeepAlive | Self::Nothing => Some("\"fresh\""),
            Self::Default => None,
        }
    }

    fn options(self, budget_mib: &str) -> Vec<&str> {
        let mut options = vec!["--session", "cookie:sid", "--sample-share", "0", "--ready-memory-mib", budget_mib];
        match self {
            Self::KeepAlive => options.extend(["--keep-alive", KEEP_ALIVE_S]),
            Self::Nothing => options.extend(["--learning", "off"]),
            Self::Prediction | Self::Default => {}
        }
        options
    }
}

/// What all contenders share.
struct Stage<'a> {
    program: &'a Path,
    handler: Handler,
    calls: Vec<Call>,
    arguments: &'a Arguments,
    folder: TempDir,
}

/// Runs the case.
pub(crate) async fn run(arguments: &Arguments) -> Result<Report> {
    let binaries = Binaries::locate(arguments).await?;
    let program = binaries.forerun.as_deref().context("forerun is absent")?;
    let handler = super::one_handler(arguments)?;
    let seconds = arguments.measure.as_secs_f64();
    let shape = Shape { functions: FUNCTIONS, seconds, sessions_per_s: SESSIONS_PER_S, seed: SEED };
    let folder = tempfile::tempdir().context("no temporary folder can be made")?;
    let stage = Stage { program, handler, calls: calls(&shape), arguments, folder };
    ensure!(!stage.calls.is_empty(), "nobody calls in {seconds} s");
    let vm_bytes = stage.prepare().await?;
    let budget_mib = (VMS * vm_bytes).div_ceil(1 << 20).to_string();
    crate::say(&format!(
        "{} calls; a VM takes {} MiB, the budget is {budget_mib} MiB",
        stage.calls.len(),
        vm_bytes >> 20
    ));
    let mut outcomes = Vec::new();
    for way in WAYS {
        match stage.measure(way, &budget_mib).await {
            Ok(outcome) => outcomes.push(outcome),
            Err(error) => crate::say(&format!("left out: {}: {error:#}", way.label())),
        }
    }
    ensure!(!outcomes.is_empty(), "nobody could be measured");
    let replayed = replayed::replay(program, &stage.calls, VMS, name).await?;
    let tables = vec![
        figures(&outcomes),
        latencies(&outcomes),
        paths(&outcomes),
        ledgers(&outcomes),
        beside_replay(&outcomes, &replayed),
    ];
    let method = format!(
        "{} calls of sessions over {FUNCTIONS} functions ({}, one component) in {seconds:.0} s, the same for each contender, \
         one after the other. A VM takes {} MiB; VMs held ready may take {budget_mib} MiB, which is for {VMS}. Cold is what \
         was served by standard initialization for whatever reason, control groups included.",
        stage.calls.len(),
        handler.label(),
        vm_bytes >> 20,
    );
    let raw = json!({ "seconds": seconds, "budget_mib": budget_mib, "outcomes": outcomes });
    Ok(Report::new("sessions", method, legend(), tables, raw))
}

fn name(function: usize) -> String {
    format!("f{function:02}")
}

fn legend() -> Vec<String> {
    vec![
        "**prediction**: `forerun serve`, every function with `reuse = \"fresh\"`".to_owned(),
        format!("**keep-alive**: the same with `--keep-alive {KEEP_ALIVE_S}`: those called last are held, as many as fit"),
        "**nothing**: the same with `--learning off`".to_owned(),
        "**default**: `forerun serve`: VMs are put back after use and wait for a minute, which is NOT within the budget"
            .to_owned(),
    ]
}

impl Stage<'_> {
    fn application(&self, way: Way) -> Result<TempDir> {
        let function = |number: usize| Function {
            name: name(number),
            component: if self.handler == Handler::Rust { ours::hello() } else { self.handler.component() },
            route: Some(self.route(number)),
            reuse: way.reuse(),
        };
        let ready = Function {
            name: "ready".to_owned(),
            component: ours::hello(),
            route: Some(READY.to_owned()),
            reuse: Some("\"fresh\""),
        };
        let functions: Vec<Function> = (0..FUNCTIONS).map(function).chain([ready]).collect();
        ours::application("sessions", &functions)
    }

    /// Of a function, below a host of its own: the examples look at the whole path.
    fn route(&self, number: usize) -> String {
        format!("{}.local{}", name(number), self.path())
    }

    fn path(&self) -> &'static str {
        match self.handler {
            Handler::Python => PYTHON,
            Handler::JavaScript => "/search",
            Handler::Rust => "/hello",
        }
    }

    /// Leaves a data folder for each kind of application, and says what a VM takes.
    async fn prepare(&self) -> Result<u64> {
        let mut vm_bytes = 0;
        for way in [Way::Nothing, Way::Default] {
            let application = self.application(way)?;
            let data = self.prepared(way);
            crate::say(&format!("{FUNCTIONS} functions, {}: makes the code", way.label()));
            let node = Node {
                program: self.program,
                application: Some(application.path()),
                data: Some(&data),
                path: READY,
                options: &["--learning", "off", "--sample-share", "0"],
            };
            let server = node.start("forerun", self.arguments).await?;
            node.settled(&server).await?;
            for number in 0..TRIES {
                ask(server.address, number, 0, self.path()).await?;
            }
            tokio::time::sleep(LOOK_EVERY).await;
            vm_bytes = vm_bytes.max(vm_bytes_of(&ours::learning(server.admin, &data).await?));
            server.stop_gently().await?;
        }
        Ok(if vm_bytes == 0 { VM_BYTES_DEFAULT } else { vm_bytes })
    }

    fn prepared(&self, way: Way) -> PathBuf {
        self.folder.path().join(if way.reuse().is_some() { "prepared-fresh" } else { "prepared-default" })
    }

    async fn measure(&self, way: Way, budget_mib: &str) -> Result<Outcome> {
        let data = self.folder.path().join(way.label());
        let copied = Command::new("cp").arg("-a").arg(self.prepared(way)).arg(&data).status().await?;
        ensure!(copied.success(), "the data folder cannot be copied");
        // What was learnt while the code was made is nobody's.
        let _ = std::fs::remove_dir_all(data.join("learning"));
        let options = way.options(budget_mib);
        let node = Node { program: self.program, application: None, data: Some(&data), path: READY, options: &options };
        let server = node.start(way.label(), self.arguments).await?;
        server.settle().await?;
        crate::say(&format!("{}: {} calls", way.label(), self.calls.len()));
        let (looking, stop) = (Arc::new(Mutex::new(Held::default())), Arc::new(Mutex::new(false)));
        let looker = tokio::spawn(look(server.admin, data.clone(), Arc::clone(&looking), Arc::clone(&stop)));
        let (answered, failed) = self.call_all(&server).await?;
        *stop.lock().unwrap_or_else(PoisonError::into_inner) = true;
        looker.await.context("looking broke off")?;
        let held = *looking.lock().unwrap_or_else(PoisonError::into_inner);
        let learning = ours::learning(server.admin, &data).await?;
        server.stop().await?;
        let learning = json!({ "ledger": learning["ledger"], "prices": learning["prices"] });
        let outcome = Outcome {
            way,
            answered,
            failed,
            held_vm_s: held.vm_s,
            held_gib_s: held.byte_s / f64::from(1 << 30),
            vms_max: held.vms_max,
            learning,
        };
        crate::say(&format!("{}: {:.1} % cold", way.label(), 100.0 * cold_share(&outcome.answered)));
        Ok(outcome)
    }

    /// Every call at its time, whatever becomes of the others.
    async fn call_all(&self, server: &Server) -> Result<(Vec<Answered>, Vec<String>)> {
        let began = Instant::now();
        let mut under_way = JoinSet::new();
        let (mut answered, mut failed) = (Vec::new(), Vec::new());
        let mut sort = |outcome: Result<Answered>| match outcome {
            Ok(one) => answered.push(one),
            Err(error) => failed.push(format!("{error:#}")),
        };
        let path = if self.handler == Handler::JavaScript { Handler::JavaScript.path() } else { self.path() };
        for call in &self.calls {
            let due = Duration::from_secs_f64(call.at_s);
            tokio::time::sleep(due.saturating_sub(began.elapsed())).await;
            let (address, call) = (server.address, *call);
            under_way.spawn(async move {
                let late_ms = began.elapsed().saturating_sub(due).as_secs_f64() * 1e3;
                let answer = ask(address, call.function, call.session, path).await?;
                let took_ms = began.elapsed().saturating_sub(due).as_secs_f64() * 1e3;
                Ok(Answered { at_s: call.at_s, took_ms, late_ms, path: answer })
            });
            while let Some(done) = under_way.try_join_next() {
                sort(done.context("a call broke off")?);
            }
        }
        while let Some(done) = under_way.join_next().await {
            sort(done.context("a call broke off")?);
        }
        Ok((answered, failed))
    }
}

/// Calls a function in a session; how it was served.
async fn ask(address: SocketAddr, function: usize, session: u32, path: &str) -> Result<String> {
    let mut connection = Connection::open(address).await?.for_host(&format!("{}.local", name(function)));
    let answer = connection.send("GET", path, &format!("sid=s{session}")).await?;
    ensure!(answer.status == 200, "{} answers {}", name(function), answer.status);
    Ok(answer.serve_path().to_owned())
}

/// VMs that nobody used, over time.
#[derive(Clone, Copy, Debug, Default)]
struct Held {
    vm_s: f64,
    byte_s: f64,
    vms_max: u64,
}

async fn look(admin: SocketAddr, data: PathBuf, held: Arc<Mutex<Held>>, stop: Arc<Mutex<bool>>) {
    let mut looked = Instant::now();
    while !*stop.lock().unwrap_or_else(PoisonError::into_inner) {
        tokio::time::sleep(LOOK_EVERY).await;
        // A look that fails leaves a gap, which the next one fills.
        let Ok((vms, bytes)) = held_now(admin, &data).await else { continue };
        let passed = looked.elapsed().as_secs_f64();
        looked = Instant::now();
        let mut held = held.lock().unwrap_or_else(PoisonError::into_inner);
        held.vm_s += vms as f64 * passed;
        held.byte_s += bytes as f64 * passed;
        held.vms_max = held.vms_max.max(vms);
    }
}

/// VMs held ready, and those that were put back and wait; and their memory.
async fn held_now(admin: SocketAddr, data: &Path) -> Result<(u64, u64)> {
    let learning = ours::learning(admin, data).await?;
    let functions = ours::admin(admin, data, "/v1/functions").await?;
    let functions = functions.as_array().or_else(|| functions["functions"].as_array()).cloned().unwrap_or_default();
    let idle = |member: &str| functions.iter().filter_map(|function| function["vms"][member].as_u64()).sum::<u64>();
    let ready = |member: &str| learning["held"][member].as_u64().unwrap_or(0);
    Ok((ready("vms") + idle("idle"), ready("memory_bytes") + idle("idle_bytes")))
}

/// What a VM takes, by what the node has measured.
fn vm_bytes_of(learning: &Value) -> u64 {
    let functions = learning["functions"].as_object();
    let bytes = functions.into_iter().flatten().filter_map(|(_, cost)| cost["memory_bytes"].as_f64());
    bytes.fold(0.0, f64::max) as u64
}

fn is_cold(answered: &Answered) -> bool {
    answered.path.starts_with("generic")
}

fn cold_share(answered: &[Answered]) -> f64 {
    answered.iter().filter(|one| is_cold(one)).count() as f64 / answered.len().max(1) as f64
}

fn figures(outcomes: &[Outcome]) -> Table {
    let kept = outcomes.iter().find(|outcome| outcome.way == Way::KeepAlive).map(|o| cold_share(&o.answered));
    let row = |outcome: &Outcome| {
        let middle_s = outcome.answered.iter().map(|one| one.at_s).fold(0.0, f64::max) / 2.0;
        let late: Vec<Answered> = outcome.answered.iter().filter(|one| one.at_s >= middle_s).cloned().collect();
        let cold = cold_share(&outcome.answered);
        vec![
            outcome.way.label().to_owned(),
            outcome.answered.len().to_string(),
            outcome.failed.len().to_string(),
            format!("{:.1}", 100.0 * cold),
            format!("{:.1}", 100.0 * cold_share(&late)),
            kept.map_or_else(|| "–".to_owned(), |kept| format!("{:.2}", cold / kept.max(f64::MIN_POSITIVE))),
            format!("{:.0}", outcome.held_vm_s),
            format!("{:.1}", outcome.held_gib_s),
            outcome.vms_max.to_string(),
        ]
    };
    Table {
        title: "Cold starts, and what was held for them".to_owned(),
        header: vec![
            "contender",
            "answered",
            "failed",
            "cold %",
            "cold % in the second half",
            "cold to keep-alive",
            "VM-seconds held",
            "GiB-seconds held",
            "VMs at most",
        ],
        rows: outcomes.iter().map(row).collect(),
    }
}

fn latencies(outcomes: &[Outcome]) -> Table {
    let row = |outcome: &Outcome| {
        let show = |fits: &dyn Fn(&Answered) -> bool, figure: fn(&Answered) -> f64, share: f64| {
            let mut values: Vec<f64> = outcome.answered.iter().filter(|one| fits(one)).map(figure).collect();
            values.sort_by(f64::total_cmp);
            if values.is_empty() { "–".to_owned() } else { format!("{:.1}", quantile(&values, share)) }
        };
        let took = |one: &Answered| one.took_ms;
        vec![
            outcome.way.label().to_owned(),
            show(&|_| true, took, 0.5),
            show(&|_| true, took, 0.99),
            show(&|one| !is_cold(one), took, 0.5),
            show(&|one| is_cold(one), took, 0.5),
            show(&|_| true, |one| one.late_ms, 0.99),
        ]
    };
    Table {
        title: "Time from when a call was due to its answer".to_owned(),
        header: vec!["contender", "p50 ms", "p99 ms", "p50 of warm ms", "p50 of cold ms", "p99 of sent late ms"],
        rows: outcomes.iter().map(row).collect(),
    }
}

/// What a way of being served is worth: where the one that is called warm is no faster, cold starts say little.
fn paths(outcomes: &[Outcome]) -> Table {
    let mut rows = Vec::new();
    for outcome in outcomes {
        let mut times: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
        outcome.answered.iter().for_each(|one| times.entry(&one.path).or_default().push(one.took_ms));
        for (path, mut times) in times {
            times.sort_by(f64::total_cmp);
            rows.push(vec![
                outcome.way.label().to_owned(),
                path.to_owned(),
                times.len().to_string(),
                format!("{:.1}", 100.0 * times.len() as f64 / outcome.answered.len() as f64),
                format!("{:.1}", quantile(&times, 0.5)),
                format!("{:.1}", quantile(&times, 0.99)),
            ]);
        }
    }
    Table {
        title: "How calls were served, and what that was worth".to_owned(),
        header: vec!["contender", "served", "calls", "%", "p50 ms", "p99 ms"],
        rows,
    }
}

fn ledgers(outcomes: &[Outcome]) -> Table {
    let row = |outcome: &Outcome| {
        let ledger = &outcome.learning["ledger"];
        let predictions = &ledger["predictions"];
        let mut row = vec![outcome.way.label().to_owned()];
        row.extend(["hit", "late", "missed"].map(|member| predictions[member].to_string()));
        row.extend(["saved_ms", "making_cpu_ms"].map(|member| ledger[member].to_string()));
        row.push(outcome.learning["prices"]["cpu_ms_per_ms"].to_string());
        row
    };
    Table {
        title: "What the node says of it: it holds what saves more time than it costs".to_owned(),
        header: vec!["contender", "hit", "late", "missed", "saved ms", "making, CPU ms", "price of CPU at the end"],
        rows: outcomes.iter().map(row).collect(),
    }
}

fn beside_replay(outcomes: &[Outcome], replayed: &Replayed) -> Table {
    let row = |outcome: &Outcome| {
        let rule = outcome.way.rule()?;
        let replayed = replayed.cold_percent(rule)?;
        let control = outcome.answered.iter().filter(|one| one.path == CONTROL).count();
        let reality = 100.0 * (cold_share(&outcome.answered) - control as f64 / outcome.answered.len().max(1) as f64);
        Some(vec![
            outcome.way.label().to_owned(),
            rule.to_owned(),
            format!("{replayed:.1}"),
            format!("{reality:.1}"),
            format!("{:+.1}", reality - replayed),
        ])
    };
    Table {
        title: "Beside `forerun replay --on-vms` of the same calls; control groups, for which a VM was there, are not cold here"
            .to_owned(),
        header: vec!["contender", "held", "cold % in the replay", "cold % in reality", "margin, points"],
        rows: outcomes.iter().filter_map(row).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(way: Way, paths: &[&str]) -> Outcome {
        let answered = paths.iter().enumerate().map(|(at, path)| Answered {
            at_s: at as f64,
            took_ms: 1.0,
            late_ms: 0.0,
            path: (*path).to_owned(),
        });
        let (held_vm_s, held_gib_s) = (1.0, 1.0);
        let learning = Value::Null;
        Outcome { way, answered: answered.collect(), failed: Vec::new(), held_vm_s, held_gib_s, vms_max: 1, learning }
    }

    #[test]
    fn control_is_cold_too_and_the_second_half_is_told_apart() {
        let outcomes = [
            outcome(Way::Prediction, &["generic-no-image", "generic-control", "ready", "ready"]),
            outcome(Way::KeepAlive, &["generic-no-image", "generic-no-image", "generic-no-image", "rolled-back"]),
        ];
        let rows = figures(&outcomes).rows;
        assert_eq!(rows[0][3..6], ["50.0", "0.0", "0.67"]);
    }

    #[test]
    fn the_budget_is_by_what_a_vm_was_seen_to_take() {
        let learning = json!({ "functions": { "a": { "memory_bytes": 5.0 }, "b": { "memory_bytes": 7.0 } } });
        assert_eq!((vm_bytes_of(&learning), vm_bytes_of(&Value::Null)), (7, 0));
    }
}
