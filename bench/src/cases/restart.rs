//! From a start to the first answer, with the code on disk: our node with the Python function, and `wasmtime serve` with
//! the same component compiled beforehand.
//!
//! Each process is watched from outside: when its listener takes a connection, when the answer to a request on that very
//! connection is whole, and when a second one is. Files are in the page cache for both, as after the restart of a service
//! and not of a machine.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde::Serialize;
use serde_json::json;
use tokio::process::Command;

use crate::arguments::Arguments;
use crate::binaries::{Binaries, version};
use crate::contenders::{Contender, Launch, Place, peer_serve};
use crate::ours::Node;
use crate::probe::Connection;
use crate::report::{Report, Table};
use crate::server::Server;
use crate::spread::Spread;
use crate::subjects::Handler;

/// Wanted of our node, from its listener to the first answer.
const AFTER_LISTENER_MS_MAX: f64 = 20.0;
/// How often a process is asked for its listener: a fiftieth of what is measured, and little work for the other core.
const LISTENER_POLL: Duration = Duration::from_micros(200);
const LISTENER_MAX: Duration = Duration::from_secs(60);
/// While the answer is not 200, it is asked for again.
const ANSWER_POLL: Duration = Duration::from_millis(1);

/// Starts that count, and one before them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Who {
    Forerun,
    Peer,
}

#[derive(Clone, Debug, Serialize)]
struct Sample {
    who: Who,
    start: u32,
    listener_ms: f64,
    first_answer_ms: f64,
    /// The second request, on the same connection.
    second_ms: f64,
    /// Answers other than 200 before the first with it.
    refused: u32,
    /// How our node served the first.
    path: String,
}

impl Sample {
    fn after_listener_ms(&self) -> f64 {
        self.first_answer_ms - self.listener_ms
    }
}

/// Runs the case.
pub(crate) async fn run(arguments: &Arguments) -> Result<Report> {
    let binaries = Binaries::locate(arguments).await?;
    let handler = Handler::Python;
    ensure!(handler.component().is_file(), "build it first: examples/python/build.sh");
    let folder = tempfile::tempdir().context("no temporary folder can be made")?;
    let data = folder.path().join("data");
    let program = binaries.forerun.as_deref().context("forerun is absent")?;
    let application = handler.application();
    let node = Node { program, application: Some(&application), data: Some(&data), path: handler.path(), options: &[] };
    node.fill(&binaries, arguments).await?;
    let compiled = compile(&binaries, handler, folder.path()).await;
    let mut samples = Vec::new();
    let restarted = Node { application: None, ..node };
    for start in 0..=arguments.starts {
        for who in order(start) {
            let began = Instant::now();
            let server = match (who, &compiled) {
                (Who::Forerun, _) => restarted.spawn("forerun", arguments)?,
                (Who::Peer, Some(compiled)) => peer(&binaries, compiled, arguments)?,
                (Who::Peer, None) => continue,
            };
            let sample = watch(who, start, began, server).await?;
            if start > 0 {
                samples.push(sample);
            }
        }
    }
    let raw = json!({ "starts": arguments.starts, "samples": samples });
    let method = format!(
        "The Python function of `examples/python` ({}), {} starts of each process in turn after one that does not count. \
         Times from outside: until the listener takes a connection, and until the answer on that connection is whole. \
         Code is on disk and in the page cache for both. Medians, with the smallest and the largest in parentheses.",
        handler.path(),
        arguments.starts
    );
    let tables = vec![figures(&samples), verdict(&samples)];
    Ok(Report::new("restart", method, legend(&binaries).await, tables, raw))
}

fn order(start: u32) -> [Who; 2] {
    if start.is_multiple_of(2) { [Who::Forerun, Who::Peer] } else { [Who::Peer, Who::Forerun] }
}

/// By the peer's own compiler; without it there is no peer.
async fn compile(binaries: &Binaries, handler: Handler, folder: &Path) -> Option<PathBuf> {
    let wasmtime = binaries.peer.as_ref()?;
    let compiled = folder.join("app.cwasm");
    crate::say("wasmtime compile");
    let status = Command::new(wasmtime).args(["compile", "-o"]).arg(&compiled).arg(handler.component()).status().await;
    if status.is_ok_and(|status| status.success()) {
        return Some(compiled);
    }
    crate::say("left out: wasmtime cannot compile the component");
    None
}

fn peer(binaries: &Binaries, compiled: &Path, arguments: &Arguments) -> Result<Server> {
    let program = binaries.peer.clone().context("wasmtime is absent")?;
    let path = Handler::Python.path();
    let launch = |place: Place<'_>| {
        let arguments = peer_serve(compiled, place, None, &["--allow-precompiled"]);
        Ok(Launch { program, arguments, path, status: 200, ready: path })
    };
    Server::spawn("wasmtime serve", Contender::Peer, launch, arguments)
}

/// `began` when the process was about to be started.
async fn watch(who: Who, start: u32, began: Instant, server: Server) -> Result<Sample> {
    let mut connection = loop {
        if let Ok(connection) = Connection::open(server.address).await {
            break connection;
        }
        server.usage().with_context(|| format!("start {start}"))?;
        ensure!(began.elapsed() < LISTENER_MAX, "{} has no listener after {LISTENER_MAX:?}", server.label);
        tokio::time::sleep(LISTENER_POLL).await;
    };
    let listener_ms = milliseconds(began);
    let mut refused = 0;
    let answer = loop {
        let answer = connection.get(server.path).await?;
        if answer.status == 200 {
            break answer;
        }
        refused += 1;
        ensure!(began.elapsed() < LISTENER_MAX, "{} answers {}", server.label, answer.status);
        tokio::time::sleep(ANSWER_POLL).await;
    };
    let first_answer_ms = milliseconds(began);
    let second = Instant::now();
    ensure!(connection.get(server.path).await?.body == answer.body, "two answers of {} differ", server.label);
    let second_ms = milliseconds(second);
    let path = answer.serve_path().to_owned();
    server.stop_gently().await?;
    let sample = Sample { who, start, listener_ms, first_answer_ms, second_ms, refused, path };
    crate::say(&format!(
        "start {start}: {who:?}: listener after {listener_ms:.1} ms, first answer {:.1} ms later, second {second_ms:.1} ms",
        sample.after_listener_ms()
    ));
    Ok(sample)
}

fn milliseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1_000.0
}

async fn legend(binaries: &Binaries) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(program) = &binaries.forerun {
        let version = version(program, "--version").await;
        lines.push(format!("**forerun**: {version}, `forerun serve` on the data folder of a node that served before"));
    }
    if let Some(program) = &binaries.peer {
        let version = version(program, "--version").await;
        lines.push(format!(
            "**wasmtime serve**: {version}, `--allow-precompiled` with the component compiled beforehand"
        ));
    }
    lines
}

fn figures(samples: &[Sample]) -> Table {
    let row = |(who, label): (Who, &str)| {
        let ours: Vec<&Sample> = samples.iter().filter(|sample| sample.who == who).collect();
        if ours.is_empty() {
            return None;
        }
        let spread = |figure: fn(&Sample) -> f64| Spread::of(ours.iter().map(|sample| figure(sample))).show(1);
        Some(vec![
            label.to_owned(),
            spread(|s| s.listener_ms),
            spread(Sample::after_listener_ms),
            spread(|s| s.first_answer_ms),
            spread(|s| s.second_ms),
            ours.iter().map(|sample| sample.refused).sum::<u32>().to_string(),
            paths(&ours),
        ])
    };
    Table {
        title: "Starts".to_owned(),
        header: vec![
            "server",
            "start to listener ms",
            "listener to first answer ms",
            "start to first answer ms",
            "second answer ms",
            "refused before the first",
            "first served",
        ],
        rows: [(Who::Forerun, "forerun"), (Who::Peer, "wasmtime serve")].into_iter().filter_map(row).collect(),
    }
}

/// How often the first answer came which way, where the server says so.
fn paths(samples: &[&Sample]) -> String {
    let mut counts: BTreeMap<&str, u32> = BTreeMap::new();
    samples.iter().filter(|sample| !sample.path.is_empty()).for_each(|s| *counts.entry(&s.path).or_default() += 1);
    counts.into_iter().map(|(path, count)| format!("{path} {count}")).collect::<Vec<_>>().join(", ")
}

fn verdict(samples: &[Sample]) -> Table {
    let ours: Vec<f64> = samples.iter().filter(|s| s.who == Who::Forerun).map(Sample::after_listener_ms).collect();
    let within = ours.iter().filter(|ms| **ms <= AFTER_LISTENER_MS_MAX).count();
    let met = Spread::of(ours.iter().copied()).median <= AFTER_LISTENER_MS_MAX;
    let row = vec![
        format!("at most {AFTER_LISTENER_MS_MAX} ms from the listener to the first answer"),
        format!("{within} of {} starts", ours.len()),
        if met { "met by the median" } else { "not met" }.to_owned(),
    ];
    Table { title: "Wanted".to_owned(), header: vec!["of forerun", "within", "verdict"], rows: vec![row] }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_after_the_listener_is_what_is_judged() {
        let sample = |who, listener_ms, first_answer_ms| Sample {
            who,
            start: 1,
            listener_ms,
            first_answer_ms,
            second_ms: 1.0,
            refused: 0,
            path: String::new(),
        };
        let samples = [sample(Who::Forerun, 100.0, 115.0), sample(Who::Peer, 10.0, 60.0)];
        assert_eq!(figures(&samples).rows[0][2], "15.0");
        assert_eq!(figures(&samples[..1]).rows.len(), 1, "an absent peer has no row");
        assert_eq!(verdict(&samples).rows[0][1..], ["1 of 1 starts", "met by the median"]);
    }
}
