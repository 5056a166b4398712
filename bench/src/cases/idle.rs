//! Many keep-alive connections that say nothing: what they cost in memory, and what they do to a request meanwhile.
//!
//! Each connection asks once and is then left open, as browsers and load balancers do. Latency is measured on one busy
//! connection before they come and while they are there; at the end it is counted how many the server still holds.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::Serialize;
use serde_json::json;
use tokio::task::JoinSet;

use super::{check_answer, legend, order, present};
use crate::arguments::Arguments;
use crate::binaries::Binaries;
use crate::contenders::Contender;
use crate::load::{Measurement, measure};
use crate::probe::{Connection, Held};
use crate::report::{Report, Table};
use crate::server::{Server, Usage};
use crate::spread::Spread;

/// Connections made at a time; more would wait in the listener's queue, which is not what is measured.
const OPENED_AT_A_TIME: usize = 64;
/// Files that are open beside the connections.
const OTHER_FILES: u64 = 256;
/// Time without any request in which the server's own doings show.
const QUIET: Duration = Duration::from_secs(5);

#[derive(Clone, Debug, Serialize)]
struct Sample {
    round: u32,
    contender: Contender,
    alone: Measurement,
    meanwhile: Measurement,
    /// Before the connections came, after the first load.
    before: Usage,
    /// While they were there, before the second load.
    with_idle: Usage,
    /// CPU time of the server while nobody asked anything.
    quiet_cpu_us_per_s: f64,
    still_open: usize,
}

/// Runs the case.
pub(crate) async fn run(arguments: &Arguments) -> Result<Report> {
    allow_open_files(arguments.idle_connections as u64 + OTHER_FILES)?;
    let binaries = Binaries::locate(arguments).await?;
    let contenders = present(&binaries, arguments)?;
    let mut samples = Vec::new();
    let mut expected = None;
    for round in 0..arguments.rounds {
        for contender in order(&contenders, round) {
            let server = Server::start(contender, &binaries, arguments).await?;
            check_answer(&server, &mut expected).await?;
            let sample = sample(round, &server, &binaries, arguments).await;
            samples.push(sample.with_context(|| format!("{} failed", contender.label()))?);
            server.stop().await?;
        }
    }
    let tables = vec![figures(&samples, &contenders, arguments)];
    let raw = json!({
        "idle_connections": arguments.idle_connections,
        "seconds": arguments.measure.as_secs(),
        "rounds": arguments.rounds,
        "pinned": arguments.pin,
        "samples": samples,
    });
    let method = format!(
        "{} keep-alive connections, each silent after one request; latency of requests on one other connection before \
         and meanwhile ({} s each, rounds: {}). `wasmtime serve` takes 1,000 connections by default and is told to take \
         more.",
        arguments.idle_connections,
        arguments.measure.as_secs(),
        arguments.rounds
    );
    Ok(Report::new("idle", method, legend(&contenders, &binaries).await, tables, raw))
}

async fn sample(round: u32, server: &Server, binaries: &Binaries, arguments: &Arguments) -> Result<Sample> {
    let contender = server.contender;
    crate::say(&format!("round {}: {}: alone", round + 1, contender.label()));
    let alone = measure(server, 1, binaries, arguments).await?;
    let before = server.usage()?;
    let connections = open_all(server, arguments.idle_connections).await?;
    let with_idle = server.usage()?;
    crate::say(&format!("round {}: {}: with {} idle", round + 1, contender.label(), connections.len()));
    tokio::time::sleep(QUIET).await;
    let quiet_cpu_us = server.usage()?.cpu_us - with_idle.cpu_us;
    let meanwhile = measure(server, 1, binaries, arguments).await?;
    let still_open = connections.iter().filter(|connection| connection.held() == Held::Open).count();
    let quiet_cpu_us_per_s = quiet_cpu_us as f64 / QUIET.as_secs_f64();
    Ok(Sample { round, contender, alone, meanwhile, before, with_idle, quiet_cpu_us_per_s, still_open })
}

/// Opens the connections and has each answered once.
async fn open_all(server: &Server, count: usize) -> Result<Vec<Connection>> {
    let mut opening = JoinSet::new();
    let mut open = Vec::with_capacity(count);
    for number in 0..count {
        if opening.len() >= OPENED_AT_A_TIME {
            open.push(joined(&mut opening).await?);
        }
        let (address, path) = (server.address, server.path);
        opening.spawn(async move {
            let mut connection = Connection::open(address).await?;
            let answer = connection.get(path).await.with_context(|| format!("connection {number}"))?;
            if answer.status != 200 {
                bail!("connection {number} was answered {}", answer.status);
            }
            Ok(connection)
        });
    }
    while !opening.is_empty() {
        open.push(joined(&mut opening).await?);
    }
    Ok(open)
}

async fn joined(opening: &mut JoinSet<Result<Connection>>) -> Result<Connection> {
    opening.join_next().await.context("nothing is being opened")?.context("opening was given up")?
}

/// Raises the soft limit of open files as far as needed; servers inherit it.
fn allow_open_files(needed: u64) -> Result<()> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= needed) {
        return Ok(());
    }
    if limit.maximum.is_some_and(|maximum| maximum < needed) {
        bail!("{needed} open files are needed, the limit is {:?}: raise it, or use --idle", limit.maximum);
    }
    let raised = Rlimit { current: limit.maximum.or(Some(needed)), maximum: limit.maximum };
    setrlimit(Resource::Nofile, raised).context("the limit of open files cannot be raised")
}

fn figures(samples: &[Sample], contenders: &[Contender], arguments: &Arguments) -> Table {
    let row = |contender: &Contender| {
        let spread = |figure: &dyn Fn(&Sample) -> f64| {
            Spread::of(samples.iter().filter(|sample| sample.contender == *contender).map(figure))
        };
        let mebibytes = f64::from(1 << 20);
        let idle = arguments.idle_connections as f64;
        let grown = |sample: &Sample| sample.with_idle.resident_bytes as f64 - sample.before.resident_bytes as f64;
        vec![
            contender.label().to_owned(),
            spread(&|sample| sample.still_open as f64).show(0),
            spread(&|sample| sample.before.resident_bytes as f64 / mebibytes).show(0),
            spread(&|sample| sample.with_idle.resident_bytes as f64 / mebibytes).show(0),
            spread(&|sample| grown(sample) / idle / 1024.0).show(1),
            spread(&|sample| sample.quiet_cpu_us_per_s / 1000.0).show(1),
            spread(&|sample| sample.alone.p50_us / 1000.0).show(3),
            spread(&|sample| sample.meanwhile.p50_us / 1000.0).show(3),
            spread(&|sample| sample.alone.p99_us / 1000.0).show(3),
            spread(&|sample| sample.meanwhile.p99_us / 1000.0).show(3),
        ]
    };
    Table {
        title: "Figures".to_owned(),
        header: vec![
            "server",
            "still open",
            "memory MiB before",
            "memory MiB with",
            "KiB a connection",
            "CPU ms/s while silent",
            "p50 ms before",
            "p50 ms with",
            "p99 ms before",
            "p99 ms with",
        ],
        rows: contenders.iter().map(row).collect(),
    }
}
