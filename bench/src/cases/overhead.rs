//! What learning costs warm requests: the same application in nodes with learning on and off; and what of that is the
//! price of sampling which code runs (the case `sampling`).
//!
//! All nodes of a language are up at the same time, each silent while another is loaded, and are measured in turn, in
//! another order each round; ratios are made within a round, to the mean of two nodes without learning. How far those two are
//! from one another is what this machine's noise makes of no difference at all, and no ratio nearer to 1 than that says
//! anything. Two processes of one program differ for as long as they live, by where their memory is, so each is started anew
//! on its data after some rounds.

use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;
use serde_json::json;

use super::check_answer;
use crate::arguments::{Arguments, Case};
use crate::binaries::Binaries;
use crate::load::{Measurement, circumstances, measure};
use crate::metrics::{Metrics, shares};
use crate::ours::{Node, languages};
use crate::report::{Report, Table};
use crate::server::Server;
use crate::spread::Spread;
use crate::subjects::Handler;

/// Loads before the first round: what is learnt about a function is settled by then, and so are the VMs on trial.
const LOADS_BEFORE: u32 = 3;
/// Rounds that one process takes part in: each of three nodes is in each place twice.
const ROUNDS_OF_ONE_PROCESS: usize = 6;
/// Allowed, of the node with learning to the one without.
const P99_MAX: f64 = 1.03;
const THROUGHPUT_MIN: f64 = 0.98;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Way {
    Off,
    On,
    OffAgain,
}

const WAYS: [Way; 3] = [Way::Off, Way::On, Way::OffAgain];

#[derive(Clone, Debug, Serialize)]
struct Sample {
    round: u32,
    handler: Handler,
    way: Way,
    connections: usize,
    #[serde(flatten)]
    measurement: Measurement,
    /// How requests were served, and how many.
    served: std::collections::BTreeMap<String, f64>,
    /// Events that learning did not get: it yields first.
    dropped: f64,
}

impl Way {
    fn label(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::On => "on",
            Self::OffAgain => "off again",
        }
    }

    fn options(self, case: Case) -> &'static [&'static str] {
        match (case, self) {
            // What is learnt is not acted on: an image made of it would be quicker, and this is about the price. The small
            // component is sampled, too, which it would not be for its own sake.
            (Case::Sampling, Self::On) => &["--learning", "observe", "--split-min-kib", "0"],
            (Case::Sampling, Self::Off | Self::OffAgain) => &["--learning", "observe", "--sample-share", "0"],
            (_, Self::Off | Self::OffAgain) => &["--learning", "off", "--sample-share", "0"],
            (_, Self::On) => &[],
        }
    }
}

/// Runs the case.
pub(crate) async fn run(arguments: &Arguments) -> Result<Report> {
    let binaries = Binaries::locate(arguments).await?;
    let mut samples = Vec::new();
    let languages = languages(arguments)?;
    for &handler in &languages {
        measure_language(handler, &binaries, arguments, &mut samples).await?;
    }
    let raw = json!({
        "seconds": arguments.measure.as_secs(),
        "warm_up_seconds": arguments.warm_up.as_secs(),
        "rounds": arguments.rounds,
        "pinned": arguments.pin,
        "samples": samples,
    });
    let tables = vec![
        ratios(&samples, &languages, arguments),
        figures(&samples, &languages, arguments),
        paths(&samples, &languages),
    ];
    Ok(Report::new(what(arguments.case), method(arguments), legend(arguments.case), tables, raw))
}

async fn measure_language(
    handler: Handler,
    binaries: &Binaries,
    arguments: &Arguments,
    samples: &mut Vec<Sample>,
) -> Result<()> {
    let data = tempfile::tempdir().context("no temporary folder can be made")?;
    let rounds: Vec<u32> = (0..arguments.rounds).collect();
    for rounds in rounds.chunks(ROUNDS_OF_ONE_PROCESS) {
        let nodes = start(handler, data.path(), binaries, arguments).await?;
        for &round in rounds {
            for (way, server) in in_turn(&nodes, round) {
                server.settle().await?;
                for &connections in &arguments.connections {
                    samples.push(sample(round, handler, *way, connections, server, binaries, arguments).await?);
                }
            }
        }
        for (_, server) in nodes {
            server.stop().await?;
        }
    }
    Ok(())
}

/// All nodes, each on its own folder in `data`, with all code there and warm.
async fn start(
    handler: Handler,
    data: &Path,
    binaries: &Binaries,
    arguments: &Arguments,
) -> Result<Vec<(Way, Server)>> {
    let program = binaries.forerun.as_deref().context("forerun is absent")?;
    let application = handler.application();
    let mut nodes = Vec::new();
    let mut expected = None;
    for way in WAYS {
        let data = data.join(way.label());
        let (application, data) = (Some(application.as_path()), Some(data.as_path()));
        let options = way.options(arguments.case);
        let node = Node { program, application, data, path: handler.path(), options };
        let server = node.start(way.label(), arguments).await?;
        check_answer(&server, &mut expected).await?;
        node.settled(&server).await?;
        nodes.push((way, server));
    }
    for _ in 0..LOADS_BEFORE {
        for (_, server) in &nodes {
            server.settle().await?;
            measure(server, arguments.connections_at_once(), binaries, arguments).await?;
        }
    }
    Ok(nodes)
}

/// Every other round goes backwards, and after two rounds another one is the first: three nodes are in each place equally often
/// in six rounds. (While the one in the middle was always the same, it had its place in its ratio.)
fn in_turn<T>(nodes: &[T], round: u32) -> Vec<&T> {
    let mut order: Vec<&T> = nodes.iter().collect();
    order.rotate_left((round / 2) as usize % nodes.len().max(1));
    if !round.is_multiple_of(2) {
        order.reverse();
    }
    order
}

async fn sample(
    round: u32,
    handler: Handler,
    way: Way,
    connections: usize,
    server: &Server,
    binaries: &Binaries,
    arguments: &Arguments,
) -> Result<Sample> {
    let before = Metrics::read(server.admin).await?;
    let measurement = measure(server, connections, binaries, arguments).await?;
    let after = Metrics::read(server.admin).await?;
    let dropped = "forerun_events_dropped_total";
    crate::say(&format!(
        "round {}: {}, learning {:>9}, {connections:>2}: {:>7.0} req/s, p50 {:>7.0} us, p99 {:>7.0} us",
        round + 1,
        handler.label(),
        way.label(),
        measurement.throughput_per_s,
        measurement.p50_us,
        measurement.p99_us,
    ));
    Ok(Sample {
        round,
        handler,
        way,
        connections,
        measurement,
        served: after.since(&before, "forerun_invocations_total", "serve_path"),
        dropped: after.sum(dropped) - before.sum(dropped),
    })
}

fn method(arguments: &Arguments) -> String {
    let place = circumstances("node", arguments);
    format!(
        "The same warm function in nodes with learning (or sampling alone) on and off, all up at the same time and loaded in turn: {} rounds in \
         alternating order, {} s each after {} s of warm-up, {place}; processes are started anew every {ROUNDS_OF_ONE_PROCESS} \
         rounds, with {LOADS_BEFORE} such loads before those. \
         Figures are medians, with the smallest and the largest round in parentheses, or, of twenty rounds or more, \
         the 95 % interval of the median in brackets; ratios are made within a round, of *on* to the mean of both without. \
         Wanted: p99 at most {P99_MAX}, req/s at least {THROUGHPUT_MIN} of those without.",
        arguments.rounds,
        arguments.measure.as_secs(),
        arguments.warm_up.as_secs(),
    )
}

fn what(case: Case) -> &'static str {
    if case == Case::Sampling { "sampling" } else { "overhead" }
}

fn legend(case: Case) -> Vec<String> {
    let command = |way: Way| ["forerun up"].iter().chain(way.options(case)).copied().collect::<Vec<_>>().join(" ");
    vec![
        format!("**on**: `{}`", command(Way::On)),
        format!("**off**: `{}`", command(Way::Off)),
        "**off again**: another such node; its ratio to the first is the noise of this machine".to_owned(),
    ]
}

fn find(samples: &[Sample], round: u32, handler: Handler, way: Way, connections: usize) -> Option<&Measurement> {
    let fits = |s: &&Sample| s.round == round && s.handler == handler && s.way == way && s.connections == connections;
    samples.iter().find(fits).map(|sample| &sample.measurement)
}

fn ratios(samples: &[Sample], languages: &[Handler], arguments: &Arguments) -> Table {
    let mut rows = Vec::new();
    for &handler in languages {
        for &connections in &arguments.connections {
            for way in [Way::On, Way::OffAgain] {
                let ratio = |figure: fn(&Measurement) -> f64| {
                    Spread::of((0..arguments.rounds).filter_map(|round| {
                        let of = |way| Some(figure(find(samples, round, handler, way, connections)?));
                        let off = of(Way::Off)?;
                        // The two without are compared with one another.
                        let beside = if way == Way::On {
                            of(Way::OffAgain).map_or(off, |again| (off + again) / 2.0)
                        } else {
                            off
                        };
                        Some(of(way)? / beside)
                    }))
                };
                let (p99, throughput) = (ratio(|m| m.p99_us), ratio(|m| m.throughput_per_s));
                let met = if p99.median <= P99_MAX && throughput.median >= THROUGHPUT_MIN { "met" } else { "not met" };
                rows.push(vec![
                    handler.label().to_owned(),
                    connections.to_string(),
                    way.label().to_owned(),
                    ratio(|m| m.p50_us).show_sure(3),
                    p99.show_sure(3),
                    throughput.show_sure(3),
                    ratio(|m| m.server_cpu_us_per_request).show_sure(3),
                    if way == Way::On { met.to_owned() } else { "(noise)".to_owned() },
                ]);
            }
        }
    }
    Table {
        title: "Ratio to the node without learning".to_owned(),
        header: vec!["handler", "connections", "learning", "p50", "p99", "req/s", "CPU/request", "wanted"],
        rows,
    }
}

fn figures(samples: &[Sample], languages: &[Handler], arguments: &Arguments) -> Table {
    let mut rows = Vec::new();
    for &handler in languages {
        for &connections in &arguments.connections {
            for way in WAYS {
                let spread = |figure: fn(&Measurement) -> f64| {
                    let rounds =
                        (0..arguments.rounds).filter_map(|round| find(samples, round, handler, way, connections));
                    Spread::of(rounds.map(figure))
                };
                rows.push(vec![
                    handler.label().to_owned(),
                    connections.to_string(),
                    way.label().to_owned(),
                    spread(|m| m.throughput_per_s).show(0),
                    spread(|m| m.p50_us / 1000.0).show(3),
                    spread(|m| m.p99_us / 1000.0).show(3),
                    spread(|m| m.server_cpu_us_per_request).show(1),
                ]);
            }
        }
    }
    Table {
        title: "Figures".to_owned(),
        header: vec!["handler", "connections", "learning", "req/s", "p50 ms", "p99 ms", "CPU µs/request"],
        rows,
    }
}

/// A p99 says nothing of learning if every hundredth request was not served as the others were.
fn paths(samples: &[Sample], languages: &[Handler]) -> Table {
    let mut rows = Vec::new();
    for &handler in languages {
        for way in WAYS {
            let mut all = std::collections::BTreeMap::new();
            let mut dropped = 0.0;
            for sample in samples.iter().filter(|sample| sample.handler == handler && sample.way == way) {
                sample.served.iter().for_each(|(path, count)| *all.entry(path.clone()).or_insert(0.0) += count);
                dropped += sample.dropped;
            }
            rows.push(vec![handler.label().to_owned(), way.label().to_owned(), shares(&all), format!("{dropped:.0}")]);
        }
    }
    Table {
        title: "How requests were served (by the node's metrics, warm-up included)".to_owned(),
        header: vec!["handler", "learning", "served", "events not learnt from"],
        rows,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_node_is_in_each_place_equally_often() {
        let orders: Vec<_> = (0..6).map(|round| in_turn(&[0, 1, 2], round)).collect();
        for place in 0..3 {
            for node in 0..3 {
                assert_eq!(orders.iter().filter(|order| *order[place] == node).count(), 2, "{node} at {place}");
            }
        }
    }

    #[test]
    fn ratios_are_made_within_a_round_and_judged_by_their_median() {
        let sample = |round, way, p99_us| Sample {
            round,
            handler: Handler::Rust,
            way,
            connections: 1,
            measurement: Measurement {
                throughput_per_s: 100.0,
                p50_us: 1.0,
                p90_us: 1.0,
                p99_us,
                max_us: 1.0,
                server_cpu_us_per_request: 1.0,
                server_resident_bytes: 1,
            },
            served: [("rolled-back".to_owned(), 3.0)].into(),
            dropped: 1.0,
        };
        let samples = [
            sample(0, Way::Off, 10.0),
            sample(0, Way::On, 11.0),
            sample(1, Way::Off, 100.0),
            sample(1, Way::On, 104.0),
            sample(0, Way::OffAgain, 12.0),
        ];
        let arguments = Arguments::for_tests("overhead --rounds 2 --connections 1");
        let rows = ratios(&samples, &[Handler::Rust], &arguments).rows;
        // 11 beside the mean of 10 and 12, and 104 beside 100.
        assert_eq!(rows[0][4..6], ["1.020 (1.000–1.040)", "1.000"]);
        assert_eq!(rows[1][4], "1.200");
        assert_eq!((rows[0][7].as_str(), rows[1][7].as_str()), ("met", "(noise)"));
        assert_eq!(paths(&samples, &[Handler::Rust]).rows[1][2..], ["rolled-back 100.00 %", "2"]);
    }
}
