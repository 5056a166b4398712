//! Throughput and latency of the smallest component, a fresh VM for each request.
//!
//! In each round every server is started anew, checked, warmed up, measured at each number of connections, and ended,
//! before the next one starts. Figures are medians over rounds; comparisons are made within a round and then combined,
//! so that what changes on the machine between rounds does not count for or against anyone.

use std::collections::BTreeMap;

use anyhow::Result;
use serde::Serialize;
use serde_json::json;

use super::{check_answer, legend, order, present};
use crate::arguments::Arguments;
use crate::binaries::Binaries;
use crate::contenders::Contender;
use crate::load::{Measurement, circumstances, measure};
use crate::report::{Report, Table};
use crate::server::Server;
use crate::spread::Spread;

#[derive(Clone, Debug, Serialize)]
struct Sample {
    round: u32,
    contender: Contender,
    connections: usize,
    #[serde(flatten)]
    measurement: Measurement,
}

/// Runs the case.
pub(crate) async fn run(arguments: &Arguments) -> Result<Report> {
    let binaries = Binaries::locate(arguments).await?;
    let contenders = present(&binaries, arguments)?;
    let mut samples = Vec::new();
    let mut expected = None;
    let mut commands = BTreeMap::new();
    for round in 0..arguments.rounds {
        for contender in order(&contenders, round) {
            let server = Server::start(contender, &binaries, arguments).await?;
            check_answer(&server, &mut expected).await?;
            commands.insert(contender.label(), server.command_line.clone());
            for &connections in &arguments.connections {
                let measurement = measure(&server, connections, &binaries, arguments).await?;
                say_progress(round, contender, connections, &measurement);
                samples.push(Sample { round, contender, connections, measurement });
            }
            server.stop().await?;
        }
    }
    let mut tables = vec![figures(&samples, &contenders, arguments)];
    tables.extend(comparison(&samples, &contenders, arguments));
    let raw = json!({
        "seconds": arguments.measure.as_secs(),
        "warm_up_seconds": arguments.warm_up.as_secs(),
        "rounds": arguments.rounds,
        "pinned": arguments.pin,
        "commands": commands,
        "samples": samples,
    });
    let legend = legend(&contenders, &binaries).await;
    Ok(Report::new("serve", method(arguments), legend, tables, raw))
}

fn method(arguments: &Arguments) -> String {
    let place = circumstances("server", arguments);
    format!(
        "The same small Rust component, a fresh VM for each request. {} rounds in alternating order, {} s each after \
         {} s of warm-up, servers started anew in each round, {place}. Figures are medians, with the smallest and the \
         largest round in parentheses.",
        arguments.rounds,
        arguments.measure.as_secs(),
        arguments.warm_up.as_secs(),
    )
}

fn say_progress(round: u32, contender: Contender, connections: usize, measurement: &Measurement) {
    crate::say(&format!(
        "round {}: {:>10} at {connections:>3}: {:>9.0} req/s, p50 {:>6.0} us, p99 {:>6.0} us, {:>6.1} us CPU a request",
        round + 1,
        contender.label(),
        measurement.throughput_per_s,
        measurement.p50_us,
        measurement.p99_us,
        measurement.server_cpu_us_per_request,
    ));
}

fn figures(samples: &[Sample], contenders: &[Contender], arguments: &Arguments) -> Table {
    let mut rows = Vec::new();
    for &connections in &arguments.connections {
        for &contender in contenders {
            let spread = |figure: fn(&Measurement) -> f64| {
                let ours = samples.iter().filter(|s| s.contender == contender && s.connections == connections);
                Spread::of(ours.map(|sample| figure(&sample.measurement)))
            };
            rows.push(vec![
                connections.to_string(),
                contender.label().to_owned(),
                spread(|m| m.throughput_per_s).show(0),
                spread(|m| m.p50_us / 1000.0).show(3),
                spread(|m| m.p99_us / 1000.0).show(3),
                spread(|m| m.server_cpu_us_per_request).show(1),
                spread(|m| m.server_resident_bytes as f64 / f64::from(1 << 20)).show(0),
            ]);
        }
    }
    Table {
        title: "Figures".to_owned(),
        header: vec!["connections", "server", "req/s", "p50 ms", "p99 ms", "server CPU µs/request", "memory MiB"],
        rows,
    }
}

/// Forerun beside each of the others: above 1 Forerun is the better one, in every column.
fn comparison(samples: &[Sample], contenders: &[Contender], arguments: &Arguments) -> Option<Table> {
    let others = contenders.iter().filter(|contender| **contender != Contender::Forerun);
    let others: Vec<Contender> = others.copied().collect();
    if others.len() == contenders.len() || others.is_empty() {
        return None;
    }
    let mut rows = Vec::new();
    for &connections in &arguments.connections {
        for &other in &others {
            let ratio = |better: fn(&Measurement, &Measurement) -> f64| {
                let rounds = (0..arguments.rounds).filter_map(|round| {
                    let find = |contender| {
                        let fits =
                            |s: &&Sample| s.round == round && s.contender == contender && s.connections == connections;
                        samples.iter().find(fits).map(|sample| &sample.measurement)
                    };
                    Some(better(find(Contender::Forerun)?, find(other)?))
                });
                Spread::of(rounds).show(2)
            };
            rows.push(vec![
                connections.to_string(),
                format!("{} / {}", Contender::Forerun.label(), other.label()),
                ratio(|ours, theirs| ours.throughput_per_s / theirs.throughput_per_s),
                ratio(|ours, theirs| theirs.p50_us / ours.p50_us),
                ratio(|ours, theirs| theirs.p99_us / ours.p99_us),
                ratio(|ours, theirs| theirs.server_cpu_us_per_request / ours.server_cpu_us_per_request),
            ]);
        }
    }
    Some(Table {
        title: "How many times better (compared round by round)".to_owned(),
        header: vec!["connections", "servers", "req/s", "p50", "p99", "CPU/request"],
        rows,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(round: u32, contender: Contender, throughput_per_s: f64, p50_us: f64) -> Sample {
        let measurement = Measurement {
            throughput_per_s,
            p50_us,
            p90_us: 1.0,
            p99_us: 1.0,
            max_us: 1.0,
            server_cpu_us_per_request: 1.0,
            server_resident_bytes: 1 << 20,
        };
        Sample { round, contender, connections: 1, measurement }
    }

    #[test]
    fn comparisons_are_made_within_a_round() {
        // The machine is half as fast in round 1; the ratio is 2 all the same.
        let samples = [
            sample(0, Contender::Forerun, 200.0, 10.0),
            sample(0, Contender::Peer, 100.0, 20.0),
            sample(1, Contender::Peer, 50.0, 40.0),
            sample(1, Contender::Forerun, 100.0, 20.0),
        ];
        let arguments = Arguments::for_tests("serve --rounds 2 --connections 1");
        let table = comparison(&samples, &[Contender::Forerun, Contender::Peer], &arguments).unwrap();
        assert_eq!(table.rows, [["1", "forerun / peer", "2.00", "2.00", "1.00", "1.00"]]);
        assert!(comparison(&samples, &[Contender::Peer], &arguments).is_none());
        let figures = figures(&samples, &[Contender::Peer], &arguments);
        assert_eq!(figures.rows[0][2], "75 (50–100)");
    }
}
