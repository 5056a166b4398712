//! A chain of functions that call each other, none of which is warm: what prediction makes of it.
//!
//! The shop's checkout calls cart, stock, payment and receipt, and two of them the catalog: seven invocations of six
//! functions for one request. Three nodes run at the same time and are asked in turn, each order after a pause of
//! random length, so that no VM of the order before is left: one that predicts nothing, one that predicts, and one
//! that keeps its VMs for ever, which is as warm as it gets.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde::Serialize;
use serde_json::json;
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::arguments::Arguments;
use crate::binaries::{Binaries, repository};
use crate::probe::{Answer, Connection};
use crate::report::{Report, Table};
use crate::server::free_ports;

/// Orders before those that count: the nodes learn, and everyone's caches fill.
const ORDERS_BEFORE: u32 = 40;
/// Shortest and longest pause before an order.
const PAUSE_MS: [u64; 2] = [150, 650];
/// A node in this repository's release build is up in a second.
const START_MAX: Duration = Duration::from_secs(60);
const START_POLL: Duration = Duration::from_millis(50);
/// What is put into the cart.
const PRODUCT: &str = "/cart/lamp";

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Way {
    Off,
    On,
    Warm,
}

const WAYS: [Way; 3] = [Way::Off, Way::On, Way::Warm];

#[derive(Clone, Debug, Serialize)]
struct Sample {
    way: Way,
    round: u32,
    total_us: f64,
    /// How the first function of the chain was served.
    path: String,
}

struct Node {
    _child: Child,
    _folder: TempDir,
    way: Way,
    connection: Connection,
    cookie: String,
}

/// Runs the case.
pub(crate) async fn run(arguments: &Arguments) -> Result<Report> {
    let binaries = Binaries::locate(arguments).await?;
    let program = binaries.forerun.context("forerun is absent")?;
    let mut nodes = Vec::new();
    for way in WAYS {
        nodes.push(Node::start(way, &program).await?);
    }
    let mut pauses = Pauses(1);
    let mut samples = Vec::new();
    for round in 0..ORDERS_BEFORE + arguments.orders {
        if round.is_multiple_of(20) {
            crate::say(&format!("order {round} of {}", ORDERS_BEFORE + arguments.orders));
        }
        tokio::time::sleep(Duration::from_millis(pauses.next())).await;
        let start = round as usize % WAYS.len();
        for offset in 0..WAYS.len() {
            let node = &mut nodes[(start + offset) % WAYS.len()];
            let sample = node.order(round).await?;
            if round >= ORDERS_BEFORE {
                samples.push(sample);
            }
        }
    }
    let method = format!(
        "`POST /checkout` of `examples/shop`: seven invocations of six functions, one order every {} to {} ms, {} orders \
         after {ORDERS_BEFORE} that do not count; three nodes at the same time, asked in turn. Time from the request's \
         first byte to the answer's last.",
        PAUSE_MS[0], PAUSE_MS[1], arguments.orders
    );
    let legend = vec![
        "**off**: `forerun up --learning off`, every function with `reuse = \"fresh\"`: a new VM for each invocation"
            .to_owned(),
        "**on**: `forerun up`: VMs are put back after use, and made ready where they are expected".to_owned(),
        "**warm**: `forerun up --learning off`, every function with `reuse`: VMs are kept and not isolated".to_owned(),
    ];
    let raw = json!({ "orders": arguments.orders, "samples": samples });
    Ok(Report::new("chain", method, legend, vec![figures(&samples)], raw))
}

impl Node {
    async fn start(way: Way, program: &Path) -> Result<Self> {
        let folder = tempfile::tempdir().context("no temporary folder can be made")?;
        let shop = repository().join("examples/shop");
        let mut manifest = std::fs::read_to_string(shop.join("forerun.toml"))?;
        manifest = manifest.replace("\"components/", &format!("\"{}/components/", shop.display()));
        manifest = match way {
            Way::Off => with_reuse(&manifest, "\"fresh\""),
            Way::On => manifest,
            Way::Warm => with_reuse(&manifest, "{ requests_max = 1000000, idle_ms = 600000 }"),
        };
        std::fs::write(folder.path().join("forerun.toml"), manifest)?;
        let [port, admin] = free_ports()?;
        let mut command = Command::new(program);
        command.arg("up").arg(folder.path()).args(["--no-watch", "--ephemeral"]);
        command.args(["--listen", &format!("127.0.0.1:{port}"), "--admin", &format!("127.0.0.1:{admin}")]);
        if way != Way::On {
            command.args(["--learning", "off"]);
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
        let child = command.spawn().context("forerun cannot be started")?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let (connection, cookie) = wait_until_ready(address).await?;
        Ok(Self { _child: child, _folder: folder, way, connection, cookie })
    }

    async fn order(&mut self, round: u32) -> Result<Sample> {
        let began = Instant::now();
        let Answer { status, timing, body, .. } = self.connection.send("POST", "/checkout", &self.cookie).await?;
        let total_us = began.elapsed().as_secs_f64() * 1e6;
        ensure!(status == 201, "an order is answered {status}: {}", String::from_utf8_lossy(&body));
        let path = timing.split('"').nth(1).unwrap_or("unknown").to_owned();
        Ok(Sample { way: self.way, round, total_us, path })
    }
}

/// Waits until something is in the cart.
async fn wait_until_ready(address: SocketAddr) -> Result<(Connection, String)> {
    let began = Instant::now();
    loop {
        if let Ok(mut connection) = Connection::open(address).await
            && let Ok(answer) = connection.send("POST", PRODUCT, "").await
            && answer.status == 200
        {
            return Ok((connection, answer.cookie));
        }
        ensure!(began.elapsed() < START_MAX, "the shop is not open after {START_MAX:?}");
        tokio::time::sleep(START_POLL).await;
    }
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
    let quantile = |values: &[f64], share: f64| values[((values.len() - 1) as f64 * share).round() as usize];
    let warm = of(Way::Warm);
    let row = |way: Way| {
        let values = of(way);
        let (p50, p90, p99) = (quantile(&values, 0.5), quantile(&values, 0.9), quantile(&values, 0.99));
        vec![
            format!("{way:?}").to_lowercase(),
            format!("{p50:.3}"),
            format!("{p90:.3}"),
            format!("{p99:.3}"),
            format!("{:.2}", p50 / quantile(&warm, 0.5)),
            format!("{:.2}", p99 / quantile(&warm, 0.99)),
        ]
    };
    Table {
        title: "Time of an order".to_owned(),
        header: vec!["node", "p50 ms", "p90 ms", "p99 ms", "p50 to warm", "p99 to warm"],
        rows: WAYS.into_iter().map(row).collect(),
    }
}

/// Pauses of random length, the same in every run (a linear congruential generator, Knuth's MMIX constants).
struct Pauses(u64);

impl Pauses {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        PAUSE_MS[0] + (self.0 >> 33) % (PAUSE_MS[1] - PAUSE_MS[0])
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
    fn ratios_are_to_the_warm_one() {
        let sample = |way, total_us| Sample { way, round: 0, total_us, path: String::new() };
        let table = figures(&[sample(Way::Off, 4_000.0), sample(Way::On, 2_200.0), sample(Way::Warm, 2_000.0)]);
        assert_eq!(table.rows[1], ["on", "2.200", "2.200", "2.200", "1.10", "1.10"]);
    }
}
