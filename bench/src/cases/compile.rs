//! What requests notice of a compiler: a small function of our node under load, while nothing else happens and while a large
//! component is deployed and compiled.
//!
//! The Python component is deployed anew each time, with a number in it, so that all of it is compiled: in a hurry first, and
//! fully behind that, in a process of the lowest scheduling class. Both measurements of a pair are on the same node, one right
//! after the other.

use anyhow::{Context, Result, ensure};
use serde::Serialize;
use serde_json::json;

use crate::arguments::Arguments;
use crate::binaries::{Binaries, version};
use crate::deployer::Deployer;
use crate::load::{Measurement, circumstances, measure};
use crate::ours::Node;
use crate::report::{Report, Table};
use crate::spread::Spread;
use crate::subjects::Handler;

/// Its name, where it is found, and the digits shown of it.
type Figure = (&'static str, fn(&Measurement) -> f64, usize);

#[derive(Clone, Debug, Serialize)]
struct Pair {
    round: u32,
    connections: usize,
    alone: Measurement,
    beside_compiler: Measurement,
    /// Whether the compiler was still at work when the measurement had ended.
    to_the_end: bool,
}

/// Runs the case.
pub(crate) async fn run(arguments: &Arguments) -> Result<Report> {
    let binaries = Binaries::locate(arguments).await?;
    let program = binaries.forerun.as_deref().context("forerun is absent")?;
    ensure!(Handler::Python.component().is_file(), "build it first: examples/python/build.sh");
    let folder = tempfile::tempdir().context("no temporary folder can be made")?;
    let data = folder.path().join("data");
    let application = Handler::Rust.application();
    let path = Handler::Rust.path();
    let node = Node { program, application: Some(&application), data: Some(&data), path, options: &[] };
    let server = node.start("forerun", arguments).await?;
    node.settled(&server).await?;
    let component = std::fs::read(Handler::Python.component())?;
    let mut pairs = Vec::new();
    for round in 0..arguments.rounds {
        for &connections in &arguments.connections {
            let alone = measure(&server, connections, &binaries, arguments).await?;
            let deployer = Deployer {
                name: format!("deployed-{round}-{connections}"),
                program: program.to_owned(),
                data: data.clone(),
                folder: folder.path().to_owned(),
                component: component.clone(),
            };
            let (number, admin) = (pair_number(round, connections), server.admin);
            let deploying = tokio::spawn(async move { deployer.deploy(number, admin).await });
            let beside_compiler = measure(&server, connections, &binaries, arguments).await?;
            let to_the_end = !deploying.is_finished() || !node.is_settled(&server).await?;
            deploying.await.context("deploying broke off")??;
            let pair = Pair { round, connections, alone, beside_compiler, to_the_end };
            crate::say(&line(&pair));
            pairs.push(pair);
            node.settled(&server).await?;
        }
    }
    server.stop().await?;
    let raw = json!({ "seconds": arguments.measure.as_secs(), "rounds": arguments.rounds, "pairs": pairs });
    let legend = vec![version(program, "--version").await];
    Ok(Report::new("compile", method(arguments), legend, vec![table(&pairs, arguments)], raw))
}

/// A number that no other pair has.
fn pair_number(round: u32, connections: usize) -> u64 {
    u64::from(round) * 1_000_000 + connections as u64
}

fn line(pair: &Pair) -> String {
    let Pair { round, connections, alone, beside_compiler: beside, to_the_end } = pair;
    format!(
        "round {}: {connections:>2} connections, alone {:.0} req/s, p99 {:.0} us; beside the compiler {:.0} req/s, p99 {:.0} us{}",
        round + 1,
        alone.throughput_per_s,
        alone.p99_us,
        beside.throughput_per_s,
        beside.p99_us,
        if *to_the_end { "" } else { " (it had ended before)" }
    )
}

fn method(arguments: &Arguments) -> String {
    format!(
        "`examples/hello` in `forerun up` with default settings, {} s alone and {} s while the Python component is deployed and compiled \
         in a worker, {} rounds, {} s of warm-up before each, {}. Medians, with the smallest and the largest in parentheses.",
        arguments.measure.as_secs(),
        arguments.measure.as_secs(),
        arguments.rounds,
        arguments.warm_up.as_secs(),
        circumstances("node", arguments),
    )
}

fn table(pairs: &[Pair], arguments: &Arguments) -> Table {
    let mut rows = Vec::new();
    for &connections in &arguments.connections {
        let of = || pairs.iter().filter(|pair| pair.connections == connections);
        let both = |figure: fn(&Measurement) -> f64, digits| {
            let show = |part: fn(&Pair) -> &Measurement| Spread::of(of().map(|pair| figure(part(pair)))).show(digits);
            let ratio = Spread::of(of().map(|pair| figure(&pair.beside_compiler) / figure(&pair.alone)));
            [show(|pair| &pair.alone), show(|pair| &pair.beside_compiler), ratio.show(2)]
        };
        let to_the_end = of().filter(|pair| pair.to_the_end).count();
        let figures: [Figure; 4] = [
            ("req/s", |m| m.throughput_per_s, 0),
            ("p50 ms", |m| m.p50_us / 1000.0, 3),
            ("p99 ms", |m| m.p99_us / 1000.0, 3),
            ("longest ms", |m| m.max_us / 1000.0, 1),
        ];
        for (name, figure, digits) in figures {
            let [alone, beside, ratio] = both(figure, digits);
            let at_work = format!("{to_the_end} of {}", of().count());
            rows.push(vec![connections.to_string(), name.to_owned(), alone, beside, ratio, at_work]);
        }
    }
    Table {
        title: "Alone and beside the compiler".to_owned(),
        header: vec!["connections", "figure", "alone", "beside the compiler", "ratio", "compiler at work to the end"],
        rows,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measurement(p99_us: f64) -> Measurement {
        Measurement {
            throughput_per_s: 100.0,
            p50_us: 1000.0,
            p90_us: 1000.0,
            p99_us,
            max_us: 9000.0,
            server_cpu_us_per_request: 1.0,
            server_resident_bytes: 1,
        }
    }

    #[test]
    fn ratios_are_those_of_pairs_and_each_pair_is_another_component() {
        let pair = |round, alone, beside| Pair {
            round,
            connections: 1,
            alone: measurement(alone),
            beside_compiler: measurement(beside),
            to_the_end: round == 0,
        };
        let arguments = Arguments::for_tests("compile --rounds 2 --connections 1");
        let rows = table(&[pair(0, 1000.0, 2000.0), pair(1, 4000.0, 4000.0)], &arguments).rows;
        assert_eq!(
            rows[2][1..],
            ["p99 ms", "2.500 (1.000–4.000)", "3.000 (2.000–4.000)", "1.50 (1.00–2.00)", "1 of 2"]
        );
        assert_ne!(pair_number(0, 16), pair_number(1, 16));
        assert_ne!(pair_number(0, 1), pair_number(0, 16));
    }
}
