//! The same handler in our node and in what people run functions with otherwise: workerd, functions-framework on Node
//! and on CPython, `wasmtime serve`.
//!
//! ```text
//! examples/python/build.sh && examples/js/build.sh
//! cargo run --release -p forerun-bench -- peers --peer "$(command -v wasmtime)"
//! ```
//! Peers are installed with npm and pip in pinned versions; who cannot be is left out by name, with the reason. In each
//! round every server is started some times (from the start of the process to the first answer), the last start is
//! checked, warmed up, measured at each number of connections, left idle, looked at and ended. Ratios are made within a
//! round and then combined.
//!
//! What can NOT be compared: workerd and functions-framework serve all requests in one process with one heap. A request
//! finds there what an earlier one left, one that loops holds up or ends all, and nothing is undone between them. Our
//! node gives each request a VM of its own, with the state it was made with, and so does `wasmtime serve`. V8 and CPython
//! also run as native code (V8 with its just-in-time compiler, which a WebAssembly component cannot have), so that warm
//! requests which compute are theirs by far, Python's above all. That is the price of the isolation, and it is shown.
//! Ours is started on a data folder in which the function was deployed and has served, as after a restart; the
//! component of `wasmtime serve` is compiled beforehand. All have their defaults; functions-framework for Python has one
//! worker process then.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::Serialize;
use serde_json::json;
use tempfile::TempDir;
use tokio::process::Command;

use super::check_answer;
use crate::arguments::Arguments;
use crate::binaries::{Binaries, version};
use crate::contenders::{Contender, Launch, Place, forerun_up};
use crate::installed::Installed;
use crate::load::{Measurement, circumstances, measure};
use crate::machine::load_average;
use crate::report::{Report, Table};
use crate::server::Server;
use crate::spread::Spread;
use crate::subjects::{Handler, Programs, Subject};

/// From the end of the load until memory is looked at: what is given back at once has been by then.
const IDLE: Duration = Duration::from_secs(3);

/// One server in one round.
#[derive(Clone, Debug, Serialize)]
struct Sample {
    round: u32,
    subject: Subject,
    /// From the start of the process to the first answer, of each start.
    starts_ms: Vec<f64>,
    /// In the order of the numbers of connections.
    loads: Vec<Measurement>,
    /// Resident when idle again.
    idle_bytes: u64,
    load_average: Option<f64>,
}

/// What was found.
#[derive(Default)]
struct Found {
    samples: Vec<Sample>,
    left_out: BTreeMap<Subject, String>,
    commands: BTreeMap<String, String>,
    answers: BTreeMap<Handler, Option<Vec<u8>>>,
}

/// Runs the case.
pub(crate) async fn run(arguments: &Arguments) -> Result<Report> {
    let binaries = Binaries::locate(arguments).await?;
    let installed = Installed::prepare().await;
    let folder = tempfile::tempdir().context("no temporary folder can be made")?;
    let compiled = folder.path().join("hello.cwasm");
    compile(&binaries, &compiled).await;
    let programs = Programs { binaries: &binaries, installed: &installed, compiled: &compiled };
    let mut found = Found::default();
    let data = found.fill(&programs, &folder, arguments).await;
    for round in 0..arguments.rounds {
        for subject in order(round) {
            if found.left_out.contains_key(&subject) {
                continue;
            }
            let outcome = found.measure(round, subject, &programs, data.get(&subject), arguments).await;
            found.note(subject, outcome);
        }
    }
    ensure!(!found.samples.is_empty(), "nobody could be measured");
    found.forget_those_left_out();
    let tables = tables(&found, arguments);
    let left_out: Vec<_> = found.left_out.iter().map(|(subject, why)| json!([subject, why])).collect();
    let raw = json!({
        "seconds": arguments.measure.as_secs(),
        "warm_up_seconds": arguments.warm_up.as_secs(),
        "rounds": arguments.rounds,
        "starts": arguments.starts,
        "connections": arguments.connections,
        "pinned": arguments.pin,
        "commands": found.commands,
        "left_out": left_out,
        "samples": found.samples,
    });
    Ok(Report::new("peers", method(&found, arguments), legend(&found, &programs).await, tables, raw))
}

/// Every other round goes backwards, so that what drifts on the machine hits all alike.
fn order(round: u32) -> Vec<Subject> {
    let mut order = Subject::ALL.to_vec();
    if !round.is_multiple_of(2) {
        order.reverse();
    }
    order
}

/// By the peer's own compiler. Without the file the peer is left out, with that reason.
async fn compile(binaries: &Binaries, compiled: &Path) {
    let Some(wasmtime) = &binaries.peer else { return };
    let component = Handler::Rust.application().join("components/hello.wasm");
    let status = Command::new(wasmtime).args(["compile", "-o"]).arg(compiled).arg(component).status().await;
    if !status.is_ok_and(|status| status.success()) {
        crate::say("wasmtime compile failed");
    }
}

impl Found {
    /// Our nodes serve once and end in order, so that each data folder is as before a restart.
    async fn fill(
        &mut self,
        programs: &Programs<'_>,
        folder: &TempDir,
        arguments: &Arguments,
    ) -> BTreeMap<Subject, PathBuf> {
        let mut folders = BTreeMap::new();
        for subject in Subject::ALL.into_iter().filter(|subject| subject.is_ours()) {
            let data = folder.path().join(format!("{:?}", subject.handler()));
            let outcome = fill(subject, programs, &data, arguments).await;
            self.note(subject, outcome);
            folders.insert(subject, data);
        }
        folders
    }

    async fn measure(
        &mut self,
        round: u32,
        subject: Subject,
        programs: &Programs<'_>,
        data: Option<&PathBuf>,
        arguments: &Arguments,
    ) -> Result<()> {
        let data = data.map(PathBuf::as_path);
        let mut starts_ms = Vec::new();
        let mut server = start(subject, programs, data, arguments).await?;
        starts_ms.push(milliseconds(server.first_answer));
        for _ in 1..arguments.starts {
            server.stop().await?;
            server = start(subject, programs, data, arguments).await?;
            starts_ms.push(milliseconds(server.first_answer));
        }
        check_answer(&server, self.answers.entry(subject.handler()).or_default()).await?;
        self.commands
            .insert(format!("{}: {}", subject.handler().label(), subject.label()), server.command_line.clone());
        let mut loads = Vec::new();
        for &connections in &arguments.connections {
            loads.push(measure(&server, connections, programs.binaries, arguments).await?);
        }
        tokio::time::sleep(IDLE).await;
        let idle_bytes = server.usage()?.resident_bytes;
        server.stop().await?;
        let sample = Sample { round, subject, starts_ms, loads, idle_bytes, load_average: load_average() };
        say_progress(&sample);
        self.samples.push(sample);
        Ok(())
    }

    /// Who fails once is not tried again.
    fn note(&mut self, subject: Subject, outcome: Result<()>) {
        let Err(failure) = outcome else { return };
        let failure = format!("{failure:#}");
        crate::say(&format!("left out: {}, {}: {failure}", subject.label(), subject.handler().label()));
        let first = failure.lines().next().unwrap_or_default().to_owned();
        self.left_out.entry(subject).or_insert(first);
    }

    /// Medians over fewer rounds than others have would not be beside theirs.
    fn forget_those_left_out(&mut self) {
        self.samples.retain(|sample| !self.left_out.contains_key(&sample.subject));
    }

    fn subjects(&self, handler: Handler) -> Vec<Subject> {
        let measured: BTreeSet<Subject> = self.samples.iter().map(|sample| sample.subject).collect();
        Subject::ALL.into_iter().filter(|subject| subject.handler() == handler && measured.contains(subject)).collect()
    }

    fn of(&self, subject: Subject) -> impl Iterator<Item = &Sample> {
        self.samples.iter().filter(move |sample| sample.subject == subject)
    }
}

async fn start(
    subject: Subject,
    programs: &Programs<'_>,
    data: Option<&Path>,
    arguments: &Arguments,
) -> Result<Server> {
    let launch = |place: Place<'_>| subject.launch(programs, place, data);
    Server::start_as(subject.label(), subject.contender(), launch, arguments).await
}

async fn fill(subject: Subject, programs: &Programs<'_>, data: &Path, arguments: &Arguments) -> Result<()> {
    let path = subject.handler().path();
    let launch = |place: Place<'_>| {
        let Launch { program, .. } = subject.launch(programs, place, Some(data))?;
        let arguments = forerun_up(&subject.handler().application(), Place { data, ..place });
        Ok(Launch { program, arguments, path, status: 200, ready: path })
    };
    let server = Server::start_as(subject.label(), Contender::Forerun, launch, arguments).await?;
    crate::say(&format!("{}: first answer ever after {:.0?}", subject.handler().label(), server.first_answer));
    server.settle().await?;
    measure(&server, 1, programs.binaries, arguments).await?;
    server.settle().await?;
    server.stop_gently().await
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1_000.0
}

fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

fn say_progress(sample: &Sample) {
    let Sample { round, subject, starts_ms, loads, idle_bytes, .. } = sample;
    let speeds: Vec<String> = loads.iter().map(|load| format!("{:.0}", load.throughput_per_s)).collect();
    crate::say(&format!(
        "round {}: {}, {}: first answer {:.0} ms, {} req/s, {:.0} MiB",
        round + 1,
        subject.handler().label(),
        subject.label(),
        Spread::of(starts_ms.iter().copied()).median,
        speeds.join(" and "),
        mebibytes(*idle_bytes),
    ));
}

fn method(found: &Found, arguments: &Arguments) -> String {
    let place = circumstances("server", arguments);
    let loads: Vec<f64> = found.samples.iter().filter_map(|sample| sample.load_average).collect();
    let load = if loads.is_empty() { "unknown".to_owned() } else { Spread::of(loads).show(1) };
    format!(
        "The same handler in our node and in its peers. {} rounds in alternating order, servers started anew in each, \
         {} times; {} s of load each after {} s of warm-up, {place}. Load average of the machine meanwhile, ours \
         included: {load}. Figures are medians, with the smallest and the largest in parentheses. workerd and \
         functions-framework have one process with one heap for all requests; Forerun and `wasmtime serve` have a VM \
         for each. Warm figures of those with and without are not for the same service.",
        arguments.rounds,
        arguments.starts,
        arguments.measure.as_secs(),
        arguments.warm_up.as_secs(),
    )
}

async fn legend(found: &Found, programs: &Programs<'_>) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(program) = &programs.binaries.forerun {
        lines.push(format!("**Forerun**: {}; {}", version(program, "--version").await, FORERUN));
    }
    if let Ok(folder) = &programs.installed.javascript {
        let workerd = version(&folder.join("node_modules/workerd/bin/workerd"), "--version").await;
        let node = version(Path::new("node"), "--version").await;
        lines.push(format!("**workerd**: {workerd}; **functions-framework (Node)**: on Node {node}"));
    }
    if let Ok(folder) = &programs.installed.python {
        let python = version(&folder.join("bin/python"), "--version").await;
        lines.push(format!("**functions-framework (CPython)**: gunicorn with one worker, on {python}"));
    }
    if let Some(program) = &programs.binaries.peer {
        let version = version(program, "--version").await;
        lines.push(format!("**wasmtime serve**: {version}, component compiled beforehand, default settings"));
    }
    for (subject, reason) in &found.left_out {
        lines.push(format!("left out: **{}** with {}: {reason}", subject.label(), subject.handler().label()));
    }
    lines.push(format!("load: {}", version(&programs.binaries.wrk, "--version").await));
    lines
}

/// How our node is started.
const FORERUN: &str = "`forerun serve` on the data folder of a node that served before, default settings";

fn tables(found: &Found, arguments: &Arguments) -> Vec<Table> {
    let mut tables = vec![starts(found), figures(found, arguments)];
    tables.extend(comparison(found, arguments));
    tables
}

/// Everyone that was measured, by handler.
fn everyone(found: &Found) -> Vec<Subject> {
    Handler::ALL.into_iter().flat_map(|handler| found.subjects(handler)).collect()
}

fn starts(found: &Found) -> Table {
    let row = |subject: Subject| {
        let starts = Spread::of(found.of(subject).flat_map(|sample| sample.starts_ms.iter().copied()));
        let idle = Spread::of(found.of(subject).map(|sample| mebibytes(sample.idle_bytes)));
        let name = subject.handler().label().to_owned();
        vec![name, subject.label().to_owned(), subject.isolation().to_owned(), starts.show(0), idle.show(0)]
    };
    Table {
        title: "Start and memory".to_owned(),
        header: vec!["handler", "server", "between requests", "first answer ms", "idle MiB after load"],
        rows: everyone(found).into_iter().map(row).collect(),
    }
}

fn figures(found: &Found, arguments: &Arguments) -> Table {
    let mut rows = Vec::new();
    for subject in everyone(found) {
        for (at, connections) in arguments.connections.iter().enumerate() {
            let spread =
                |figure: fn(&Measurement) -> f64| Spread::of(found.of(subject).map(|sample| figure(&sample.loads[at])));
            rows.push(vec![
                subject.handler().label().to_owned(),
                connections.to_string(),
                subject.label().to_owned(),
                spread(|m| m.throughput_per_s).show(0),
                spread(|m| m.p50_us / 1000.0).show(2),
                spread(|m| m.p99_us / 1000.0).show(1),
                spread(|m| m.server_cpu_us_per_request).show(0),
            ]);
        }
    }
    rows.sort_by_key(|row| Handler::ALL.iter().position(|handler| handler.label() == row[0]));
    Table {
        title: "Warm".to_owned(),
        header: vec!["handler", "connections", "server", "req/s", "p50 ms", "p99 ms", "CPU µs/request"],
        rows,
    }
}

/// Ours beside each peer, round by round.
fn comparison(found: &Found, arguments: &Arguments) -> Option<Table> {
    let mut rows = Vec::new();
    for peer in everyone(found).into_iter().filter(|subject| !subject.is_ours()) {
        let ours: Vec<&Sample> = found.of(Subject::Forerun(peer.handler())).collect();
        if ours.is_empty() {
            continue;
        }
        let ratio = |better: &dyn Fn(&Sample, &Sample) -> f64| {
            let rounds = ours.iter().filter_map(|ours| {
                let theirs = found.of(peer).find(|theirs| theirs.round == ours.round)?;
                Some(better(ours, theirs))
            });
            Spread::of(rounds).show(2)
        };
        let start = |sample: &Sample| Spread::of(sample.starts_ms.iter().copied()).median;
        let mut row = vec![peer.handler().label().to_owned(), peer.label().to_owned()];
        row.push(ratio(&|ours, theirs| start(theirs) / start(ours)));
        row.push(ratio(&|ours, theirs| theirs.idle_bytes as f64 / ours.idle_bytes as f64));
        let last = arguments.connections.len() - 1;
        for at in [0, last] {
            row.push(ratio(&|ours, theirs| ours.loads[at].throughput_per_s / theirs.loads[at].throughput_per_s));
        }
        row.push(ratio(&|ours, theirs| theirs.loads[0].p50_us / ours.loads[0].p50_us));
        row.push(ratio(&|ours, theirs| theirs.loads[0].p99_us / ours.loads[0].p99_us));
        row.push(ratio(&|ours, theirs| {
            theirs.loads[0].server_cpu_us_per_request / ours.loads[0].server_cpu_us_per_request
        }));
        rows.push(row);
    }
    (!rows.is_empty()).then(|| Table {
        title: "How many times better Forerun is (compared round by round; below 1 it is worse)".to_owned(),
        header: vec![
            "handler",
            "beside",
            "first answer",
            "idle memory",
            "req/s, fewest connections",
            "req/s, most connections",
            "p50, fewest",
            "p99, fewest",
            "CPU/request, fewest",
        ],
        rows,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(subject: Subject, start_ms: f64, throughput_per_s: f64) -> Sample {
        let load = Measurement {
            throughput_per_s,
            p50_us: 1.0,
            p90_us: 1.0,
            p99_us: 1.0,
            max_us: 1.0,
            server_cpu_us_per_request: 10.0,
            server_resident_bytes: 1 << 20,
        };
        let loads = vec![load, load];
        Sample { round: 0, subject, starts_ms: vec![start_ms], loads, idle_bytes: 1 << 20, load_average: None }
    }

    #[test]
    fn a_loss_is_below_one_and_who_is_left_out_has_no_row() {
        let ours = Subject::Forerun(Handler::Python);
        let samples = vec![
            sample(ours, 100.0, 50.0),
            sample(Subject::PythonFunctions, 300.0, 500.0),
            sample(Subject::Workerd, 1.0, 1.0),
        ];
        let mut found = Found { samples, ..Found::default() };
        found.note(Subject::Workerd, Err(anyhow::anyhow!("it ended\nwith a long log")));
        found.forget_those_left_out();
        let arguments = Arguments::for_tests("peers --rounds 1");
        let table = comparison(&found, &arguments).unwrap();
        let expected = [
            "Python, /report",
            "functions-framework (CPython)",
            "3.00",
            "1.00",
            "0.10",
            "0.10",
            "1.00",
            "1.00",
            "1.00",
        ];
        assert_eq!(table.rows, [expected]);
        assert_eq!(starts(&found).rows.len(), 2);
        assert_eq!(figures(&found, &arguments).rows.len(), 4);
        assert_eq!(found.left_out[&Subject::Workerd], "it ended");
    }
}
