//! A chain of functions that call each other, none of which is warm: what prediction makes of it.
//!
//! In Rust it is the shop's checkout, which calls cart, stock, payment and receipt, and the cart the catalog: six
//! invocations of six functions for one request. In Python and JavaScript it is five functions of the same component,
//! each of which calls the next. Up to seven nodes run at the same time and are asked in turn, each request after a pause of
//! random length: one that predicts nothing and one that predicts, both of which throw every VM away when it has served, so
//! that each function is idle and evicted before each request; one with default settings, whose VMs are put back and wait
//! for a minute, and one that is the same and learns nothing; where that is of use, one whose VMs are put back to the state
//! after a warm-up request, and one of the same whose idle VMs go before the next request comes; and one that keeps its VMs
//! for ever as they are, which is as warm as it gets.
//!
//! A node that prepares VMs serves one request in eight without until it has judged them, which takes some 160 requests of a
//! function where they differ much, and then one in 1,024. The requests before those that count let most of that pass; how many
//! were control all the same is in the report.
//!
//! Each node is started, left alone until its code is made, and started again with what it has on disk.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;
use serde_json::json;
use tempfile::TempDir;

use crate::arguments::Arguments;
use crate::binaries::{Binaries, repository};
use crate::metrics::{Metrics, shares};
use crate::ours::{self, Function};
use crate::probe::{Answer, Connection};
use crate::report::{Report, Table};
use crate::server::Server;
use crate::spread::quantile;
use crate::subjects::Handler;

/// What is put into the cart.
const PRODUCT: &str = "/cart/lamp";
/// The functions of a chain that is not the shop.
const LINKS: [&str; 5] = ["one", "two", "three", "four", "five"];
const RELAY: &str = "/relay/two/three/four/five";
/// Wanted of prediction, as a ratio to the node that is all warm.
const TO_WARM_MAX: f64 = 1.3;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Way {
    Off,
    Predicted,
    Unlearnt,
    Default,
    WarmedUp,
    WarmedUpEvicted,
    Warm,
}

const WAYS: [Way; 7] =
    [Way::Off, Way::Predicted, Way::Unlearnt, Way::Default, Way::WarmedUp, Way::WarmedUpEvicted, Way::Warm];

#[derive(Clone, Debug, Serialize)]
struct Sample {
    way: Way,
    round: u32,
    total_us: f64,
    /// How the first function of the chain was served.
    path: String,
}

struct Node {
    server: Server,
    _application: TempDir,
    _data: TempDir,
    way: Way,
    chain: Chain,
    connection: Connection,
    cookie: String,
    before: Metrics,
}

/// What is asked for, and what for.
#[derive(Clone, Copy, Debug)]
struct Chain {
    handler: Handler,
}

impl Way {
    fn label(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Predicted => "predicted",
            Self::Unlearnt => "unlearnt",
            Self::Default => "default",
            Self::WarmedUp => "warmed-up",
            Self::WarmedUpEvicted => "warmed-up, evicted",
            Self::Warm => "warm",
        }
    }

    /// The policy of every function and what belongs to it, as TOML.
    fn reuse(self) -> Option<&'static str> {
        match self {
            Self::Off | Self::Predicted => Some("\"fresh\""),
            Self::Unlearnt | Self::Default => None,
            // As one that calls another and as the last one, which calls none.
            Self::WarmedUp | Self::WarmedUpEvicted => Some(
                "\"warm\"\nwarm_up = [{ path = \"/relay/next\", answer_to_calls = { body = '{\"functions\": 1}' } }, { path = \"/relay\" }]",
            ),
            Self::Warm => Some("{ requests_max = 1000000, idle_ms = 600000 }"),
        }
    }

    fn options(self) -> &'static [&'static str] {
        match self {
            Self::Off | Self::Unlearnt | Self::Warm => &["--learning", "off", "--sample-share", "0"],
            Self::Predicted | Self::Default | Self::WarmedUp => &[],
            // Gone at the next look for idle ones, a tenth of a second later.
            Self::WarmedUpEvicted => &["--vm-idle-ms", "1"],
        }
    }
}

impl Chain {
    fn application(self, way: Way) -> Result<TempDir> {
        if self.handler == Handler::Rust {
            return shop(way);
        }
        let functions = LINKS.map(|name| Function {
            name: name.to_owned(),
            component: self.handler.component(),
            route: (name == LINKS[0]).then(|| "/relay/...".to_owned()),
            reuse: way.reuse(),
        });
        ours::application("chain", &functions)
    }

    /// The engine of the JavaScript example serves one request and no second one, so that no VM of it can be kept as it is.
    /// The functions of the shop each answer something else, and have nothing to warm up.
    fn ways(self) -> impl Iterator<Item = Way> {
        WAYS.into_iter().filter(move |way| match way {
            Way::Off | Way::Predicted | Way::Unlearnt | Way::Default => true,
            Way::WarmedUp | Way::WarmedUpEvicted => self.handler == Handler::Python,
            Way::Warm => self.handler != Handler::JavaScript,
        })
    }

    fn ready(self) -> &'static str {
        if self.handler == Handler::Rust { "/catalog" } else { RELAY }
    }

    fn method(self) -> String {
        match self.handler {
            Handler::Rust => "`POST /checkout` of `examples/shop`: six functions".to_owned(),
            Handler::JavaScript | Handler::Python => {
                format!("`GET {RELAY}`: five functions of the component {}", self.handler.name())
            }
        }
    }
}

/// Runs the case.
pub(crate) async fn run(arguments: &Arguments) -> Result<Report> {
    let binaries = Binaries::locate(arguments).await?;
    let program = binaries.forerun.context("forerun is absent")?;
    let chain = Chain { handler: language(arguments)? };
    let mut nodes = Vec::new();
    for way in chain.ways() {
        nodes.push(Node::start(way, chain, &program, arguments).await?);
    }
    // Connections that were silent while others started would have been closed.
    for node in &mut nodes {
        (node.connection, node.cookie) = first_connection(node.server.address, chain).await?;
    }
    let samples = ask(&mut nodes, arguments).await?;
    let mut served = Vec::new();
    for node in nodes {
        let after = Metrics::read(node.server.admin).await?;
        served.push((node.way, after.since(&node.before, "forerun_invocations_total", "serve_path")));
        node.server.stop().await?;
    }
    let [shortest, longest] = pauses_ms(arguments);
    let method = format!(
        "{}, one request every {shortest} to {longest} ms, {} requests after {} that do not count; nodes \
         at the same time, asked in turn. Time from the request's first byte to the answer's last. Wanted of those that \
         predict: p50 at most {TO_WARM_MAX} of **warm**.",
        chain.method(),
        arguments.orders,
        arguments.orders_before
    );
    let raw = json!({ "orders": arguments.orders, "language": chain.handler, "samples": samples });
    Ok(Report::new("chain", method, legend(), vec![figures(&samples), paths(&served)], raw))
}

fn language(arguments: &Arguments) -> Result<Handler> {
    let handler = match arguments.languages.as_deref() {
        None => Handler::Rust,
        Some([one]) => *one,
        Some(_) => bail!("--language: one at a time"),
    };
    ensure!(
        handler == Handler::Rust || handler.component().is_file(),
        "build it first: {}/build.sh",
        handler.application().display()
    );
    Ok(handler)
}

async fn ask(nodes: &mut [Node], arguments: &Arguments) -> Result<Vec<Sample>> {
    let mut pauses = Pauses::new(pauses_ms(arguments));
    let mut samples = Vec::new();
    for round in 0..arguments.orders_before + arguments.orders {
        if round.is_multiple_of(20) {
            crate::say(&format!("request {round} of {}", arguments.orders_before + arguments.orders));
        }
        let start = round as usize % nodes.len();
        for offset in 0..nodes.len() {
            // Before each, not before all of them: what one node does behind its answer would be in the next one's time.
            tokio::time::sleep(Duration::from_millis(pauses.next())).await;
            let at = (start + offset) % nodes.len();
            if round == arguments.orders_before {
                nodes[at].before = Metrics::read(nodes[at].server.admin).await?;
            }
            let sample = nodes[at].order(round).await?;
            if round >= arguments.orders_before {
                samples.push(sample);
            }
        }
    }
    Ok(samples)
}

fn legend() -> Vec<String> {
    vec![
        "**off**: `forerun up --learning off --sample-share 0`, every function with `reuse = \"fresh\"`: a new VM for each invocation"
            .to_owned(),
        "**predicted**: `forerun up`, every function with `reuse = \"fresh\"`: no VM serves twice, and those that were made \
         ready ahead were expected"
            .to_owned(),
        "**unlearnt**: `forerun up --learning off --sample-share 0`: as **default**, and nothing is learnt".to_owned(),
        "**default**: `forerun up`: VMs are put back after use and wait for a minute, and others are made ready".to_owned(),
        "**warmed-up**: the same with `reuse = \"warm\"`: VMs are put back to the state after two requests, one that calls a \
         function, of which the manifest has the answer, and one that calls none; the state has passed its test"
            .to_owned(),
        "**warmed-up, evicted**: the same with `--vm-idle-ms 1`: VMs are gone before the next request, and what is there was \
         expected"
            .to_owned(),
        "**warm**: `forerun up --learning off --sample-share 0`, every function with `reuse`: VMs are kept and not isolated".to_owned(),
    ]
}

impl Node {
    async fn start(way: Way, chain: Chain, program: &Path, arguments: &Arguments) -> Result<Self> {
        let application = chain.application(way)?;
        let data = tempfile::tempdir().context("no temporary folder can be made")?;
        let state = data.path().join("state");
        let node = ours::Node {
            program,
            application: Some(application.path()),
            data: Some(&state),
            path: chain.ready(),
            options: way.options(),
        };
        crate::say(&format!("{}: makes its code", way.label()));
        let first = node.start(way.label(), arguments).await?;
        node.settled(&first).await?;
        first.stop_gently().await?;
        let server = node.start(way.label(), arguments).await?;
        let (connection, cookie) = first_connection(server.address, chain).await?;
        let before = Metrics::default();
        Ok(Self { server, _application: application, _data: data, way, chain, connection, cookie, before })
    }

    async fn order(&mut self, round: u32) -> Result<Sample> {
        let (method, path, expected) = match self.chain.handler {
            Handler::Rust => ("POST", "/checkout", 201),
            Handler::JavaScript | Handler::Python => ("GET", RELAY, 200),
        };
        let began = Instant::now();
        let answer = self.connection.send(method, path, &self.cookie).await?;
        let total_us = began.elapsed().as_secs_f64() * 1e6;
        let path = answer.serve_path().to_owned();
        let Answer { status, body, .. } = answer;
        let body = String::from_utf8_lossy(&body);
        let label = self.way.label();
        ensure!(status == expected, "{label}: a request is answered {status}: {body}");
        ensure!(expected == 201 || body.contains("\"functions\": 5"), "not all took part: {body}");
        Ok(Sample { way: self.way, round, total_us, path })
    }
}

/// With something in the cart, if there is a cart.
async fn first_connection(address: SocketAddr, chain: Chain) -> Result<(Connection, String)> {
    let mut connection = Connection::open(address).await?;
    if chain.handler != Handler::Rust {
        return Ok((connection, String::new()));
    }
    let answer = connection.send("POST", PRODUCT, "").await?;
    ensure!(answer.status == 200, "the cart answers {}", answer.status);
    Ok((connection, answer.cookie))
}

/// The shop, with a policy for every function.
fn shop(way: Way) -> Result<TempDir> {
    let folder = tempfile::tempdir().context("no temporary folder can be made")?;
    let shop = repository().join("examples/shop");
    let manifest = std::fs::read_to_string(shop.join("forerun.toml"))?;
    let mut manifest = manifest.replace("\"components/", &format!("\"{}/components/", shop.display()));
    if let Some(policy) = way.reuse() {
        manifest = with_reuse(&manifest, policy);
    }
    std::fs::write(folder.path().join("forerun.toml"), manifest)?;
    Ok(folder)
}

/// The manifest with a policy for every function: after the head of each one's table.
fn with_reuse(manifest: &str, policy: &str) -> String {
    let is_function = |line: &str| line.starts_with("[function.") && line.matches('.').count() == 1;
    let lines = manifest.lines().map(|line| {
        let reuse = if is_function(line) { format!("\nreuse = {policy}") } else { String::new() };
        format!("{line}{reuse}\n")
    });
    lines.collect()
}

fn figures(samples: &[Sample]) -> Table {
    let of = |way: Way| {
        let mut values: Vec<f64> = samples.iter().filter(|one| one.way == way).map(|one| one.total_us * 1e-3).collect();
        values.sort_by(f64::total_cmp);
        values
    };
    let warm = of(Way::Warm);
    let to_warm = |value: f64, share: f64| (!warm.is_empty()).then(|| value / quantile(&warm, share));
    let show = |ratio: Option<f64>| ratio.map_or_else(|| "–".to_owned(), |ratio| format!("{ratio:.2}"));
    let row = |way: Way| {
        let values = of(way);
        if values.is_empty() {
            return None;
        }
        let (p50, p90, p99) = (quantile(&values, 0.5), quantile(&values, 0.9), quantile(&values, 0.99));
        let verdict = match (way, to_warm(p50, 0.5)) {
            (Way::Off | Way::Unlearnt | Way::Warm, _) => "",
            (_, Some(ratio)) if ratio <= TO_WARM_MAX => "met",
            (_, Some(_)) => "not met",
            (_, None) => "no VM can be kept",
        };
        Some(vec![
            way.label().to_owned(),
            format!("{p50:.3}"),
            format!("{p90:.3}"),
            format!("{p99:.3}"),
            show(to_warm(p50, 0.5)),
            show(to_warm(p99, 0.99)),
            verdict.to_owned(),
        ])
    };
    Table {
        title: "Time of a request".to_owned(),
        header: vec!["node", "p50 ms", "p90 ms", "p99 ms", "p50 to warm", "p99 to warm", "wanted"],
        rows: WAYS.into_iter().filter_map(row).collect(),
    }
}

/// A node that is as fast as the warm one and predicted nothing was not measured for what it is called.
fn paths(served: &[(Way, BTreeMap<String, f64>)]) -> Table {
    let row = |(way, counts): &(Way, BTreeMap<String, f64>)| {
        vec![way.label().to_owned(), format!("{:.0}", counts.values().sum::<f64>()), shares(counts)]
    };
    Table {
        title: "How the invocations were served".to_owned(),
        header: vec!["node", "invocations", "served"],
        rows: served.iter().map(row).collect(),
    }
}

/// The longest pause asked for, and a quarter of it.
fn pauses_ms(arguments: &Arguments) -> [u64; 2] {
    [(arguments.pause_ms / 4).max(1), arguments.pause_ms.max(2)]
}

/// Pauses of random length, the same in every run (a linear congruential generator, Knuth's MMIX constants).
struct Pauses {
    state: u64,
    limits_ms: [u64; 2],
}

impl Pauses {
    fn new(limits_ms: [u64; 2]) -> Self {
        Self { state: 1, limits_ms }
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let [shortest, longest] = self.limits_ms;
        shortest + (self.state >> 33) % (longest - shortest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_function_gets_the_policy_and_no_limits_do() {
        let text = with_reuse(
            "[app]\nname = \"a\"\n[function.x]\nsource = \"x\"\n[function.x.limits]\ntimeout_ms = 1\n",
            "\"fresh\"",
        );
        assert_eq!(text.matches("reuse = ").count(), 1);
        assert!(text.contains("[function.x]\nreuse = \"fresh\"\n"), "{text}");
    }

    #[test]
    fn pauses_stay_within_their_limits_and_are_the_same_in_every_run() {
        let arguments = Arguments::for_tests("chain --pause-ms 8");
        let take = || {
            let mut pauses = Pauses::new(pauses_ms(&arguments));
            (0..100).map(|_| pauses.next()).collect::<Vec<u64>>()
        };
        assert_eq!(take(), take());
        assert!(take().iter().all(|pause| (2..8).contains(pause)));
    }

    #[test]
    fn ratios_are_to_the_warm_one() {
        let sample = |way, total_us| Sample { way, round: 0, total_us, path: String::new() };
        let table = figures(&[
            sample(Way::Off, 4_000.0),
            sample(Way::Predicted, 2_200.0),
            sample(Way::Default, 2_800.0),
            sample(Way::Warm, 2_000.0),
        ]);
        assert_eq!(table.rows[1], ["predicted", "2.200", "2.200", "2.200", "1.10", "1.10", "met"]);
        assert_eq!(table.rows[2][4..], ["1.40", "1.40", "not met"]);
        assert_eq!(table.rows[0][4..], ["2.00", "2.00", ""]);
        let table = figures(&[sample(Way::Predicted, 2_200.0)]);
        assert_eq!(table.rows, [["predicted", "2.200", "2.200", "2.200", "–", "–", "no VM can be kept"]]);
    }
}
