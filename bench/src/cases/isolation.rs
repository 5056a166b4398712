//! What isolation costs: a fresh VM for each request, a used one that was put back, and one that is used again as it is;
//! beside the ways in which `wasmtime serve` can be told to serve the same components.
//!
//! In each round every way is started anew for each workload, left alone until its code is made, checked, warmed up,
//! measured and ended. Ratios are made within a round and then combined. A way that fails at a workload (some language
//! runtimes cannot serve a second request in one VM) is named with its failure and leaves the others alone.
//!
//! ```text
//! examples/python/build.sh && examples/js/build.sh
//! cargo run --release -p forerun-bench -- isolation --peer "$(command -v wasmtime)"
//! ```
//! Workloads whose component is not there are left out, by name. All components are served with the same limit of memory
//! and of time in all of our own ways; the peer has its defaults.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::Serialize;
use serde_json::json;

use super::check_answer;
use crate::arguments::Arguments;
use crate::binaries::{Binaries, repository, version};
use crate::contenders::{Contender, Launch, PEER_TUNING, Place, forerun_up, peer_serve};
use crate::load::{Measurement, circumstances, measure};
use crate::ours::admin;
use crate::report::{Report, Table};
use crate::server::Server;
use crate::spread::Spread;
use crate::subjects::Handler;

/// The peer's documented way to use a VM again: these many requests, and any pause that occurs here.
const PEER_REUSE: [&str; 4] = ["--max-instance-reuse-count", "1000000000", "--idle-instance-timeout", "600s"];

/// Warm-up requests of our node. CPython has specialized what runs again and again by then.
const WARM_UPS: usize = 8;

/// A component, and a request that it answers in all ways alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Workload {
    name: &'static str,
    language: Handler,
    /// In the repository.
    component: &'static str,
    path: &'static str,
    status: u16,
    /// What VMs are warmed up with.
    warm_up: &'static str,
    /// Answered with 200: a node without the function answers 404 to anything.
    ready: &'static str,
}

const PYTHON: &str = "examples/python/dist/app.wasm";
const SEARCH: &str = "/search?q=lamp&limit=2";
const WORKLOADS: [Workload; 5] = [
    // No such path, says the component: next to no work, so that what is measured is the VM.
    Workload {
        name: "Python, /nothing",
        language: Handler::Python,
        component: PYTHON,
        path: "/nothing",
        status: 404,
        warm_up: "/nothing",
        ready: "/report",
    },
    // Counts in a variable of its module. Warmed up with it, VMs would have counted already, and fail the test of that state.
    Workload {
        name: "Python, /visits",
        language: Handler::Python,
        component: PYTHON,
        path: "/visits",
        status: 200,
        warm_up: "/nothing",
        ready: "/report",
    },
    Workload {
        name: "Python, /report",
        language: Handler::Python,
        component: PYTHON,
        path: "/report",
        status: 200,
        warm_up: "/report",
        ready: "/report",
    },
    Workload {
        name: "JavaScript, /search",
        language: Handler::JavaScript,
        component: "examples/js/dist/app.wasm",
        path: SEARCH,
        status: 200,
        warm_up: SEARCH,
        ready: SEARCH,
    },
    Workload {
        name: "Rust, hello",
        language: Handler::Rust,
        component: "examples/hello/components/hello.wasm",
        path: "/",
        status: 200,
        warm_up: "/",
        ready: "/",
    },
];

/// A server with a way to isolate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Way {
    Fresh,
    Rollback,
    Warm,
    Reuse,
    Peer,
    PeerPooled,
    PeerReuse,
}

const WAYS: [Way; 7] = [Way::Fresh, Way::Rollback, Way::Warm, Way::Reuse, Way::Peer, Way::PeerPooled, Way::PeerReuse];

#[derive(Clone, Debug, Serialize)]
struct Sample {
    round: u32,
    workload: &'static str,
    way: Way,
    connections: usize,
    #[serde(flatten)]
    measurement: Measurement,
    /// What our node says of its last requests.
    inside: Option<Inside>,
}

/// Medians over recent requests as the server has noted them: without its clients, their connections and the kernel's part.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
struct Inside {
    /// From the head of the request until a VM was there.
    vm_us: f64,
    /// From the head of the request until the head of the answer.
    first_byte_us: f64,
}

/// What was found.
#[derive(Default)]
struct Found {
    samples: Vec<Sample>,
    /// By workload and way.
    failures: BTreeMap<(&'static str, &'static str), String>,
    commands: BTreeMap<String, String>,
    answers: BTreeMap<&'static str, Option<Vec<u8>>>,
}

/// Runs the case.
pub(crate) async fn run(arguments: &Arguments) -> Result<Report> {
    let binaries = Binaries::locate(arguments).await?;
    let ways: Vec<Way> = WAYS.into_iter().filter(|way| way.program(&binaries, arguments).is_some()).collect();
    let workloads = present(arguments);
    ensure!(!ways.is_empty() && !workloads.is_empty(), "nobody to measure");
    let mut found = Found::default();
    for round in 0..arguments.rounds {
        for workload in &workloads {
            let mut order = ways.clone();
            if !round.is_multiple_of(2) {
                order.reverse();
            }
            for way in order {
                if let Err(failure) = found.measure(round, *workload, way, &binaries, arguments).await {
                    let failure = format!("{failure:#}");
                    crate::say(&format!("round {}: {}: {}: {failure}", round + 1, workload.name, way.label()));
                    let first = failure.lines().next().unwrap_or_default().to_owned();
                    found.failures.insert((workload.name, way.label()), first);
                }
            }
        }
    }
    let mut tables = Vec::new();
    for workload in &workloads {
        tables.push(figures(&found, *workload, &ways, arguments));
    }
    tables.extend(ratios(&found, &workloads, &ways, arguments));
    let failures: Vec<_> = found.failures.iter().map(|((workload, way), why)| json!([workload, way, why])).collect();
    let raw = json!({
        "seconds": arguments.measure.as_secs(),
        "warm_up_seconds": arguments.warm_up.as_secs(),
        "rounds": arguments.rounds,
        "pinned": arguments.pin,
        "commands": found.commands,
        "failures": failures,
        "samples": found.samples,
    });
    Ok(Report::new("isolation", method(arguments), legend(&ways, &found, &binaries).await, tables, raw))
}

/// Workloads asked for whose component is there; those where it is not are named on stderr.
fn present(arguments: &Arguments) -> Vec<Workload> {
    let is_wanted = |workload: &Workload| {
        arguments.languages.as_ref().is_none_or(|languages| languages.contains(&workload.language))
    };
    let (present, absent): (Vec<_>, Vec<_>) =
        WORKLOADS.into_iter().filter(is_wanted).partition(|workload| workload.file().is_file());
    for workload in absent {
        crate::say(&format!("left out, not built: {} ({})", workload.name, workload.component));
    }
    present
}

impl Workload {
    fn file(self) -> PathBuf {
        repository().join(self.component)
    }
}

impl Found {
    async fn measure(
        &mut self,
        round: u32,
        workload: Workload,
        way: Way,
        binaries: &Binaries,
        arguments: &Arguments,
    ) -> Result<()> {
        let program = way.program(binaries, arguments).context("absent")?;
        let launch = |place: Place<'_>| way.launch(program, workload, place);
        let server = Server::start_as(way.label(), way.contender(), launch, arguments).await?;
        self.commands.insert(format!("{}: {}", workload.name, way.label()), server.command_line.clone());
        server.settle().await?;
        check_answer(&server, self.answers.entry(workload.name).or_default()).await?;
        for &connections in &arguments.connections {
            let measurement = measure(&server, connections, binaries, arguments).await?;
            crate::say(&format!(
                "round {}: {:>19}, {:>11} at {connections}: {:>7.0} req/s, p50 {:>6.0} us, p99 {:>6.0} us, {:>6.0} us CPU",
                round + 1,
                workload.name,
                way.label(),
                measurement.throughput_per_s,
                measurement.p50_us,
                measurement.p99_us,
                measurement.server_cpu_us_per_request,
            ));
            let inside = match way.contender() {
                Contender::Forerun => Some(Inside::of(&server).await?),
                Contender::Peer | Contender::PeerTuned | Contender::Limit => None,
            };
            self.samples.push(Sample { round, workload: workload.name, way, connections, measurement, inside });
        }
        server.stop().await
    }

    fn of(&self, workload: Workload, way: Way, connections: usize) -> impl Iterator<Item = &Sample> {
        let fits = move |s: &&Sample| s.workload == workload.name && s.way == way && s.connections == connections;
        self.samples.iter().filter(fits)
    }
}

impl Inside {
    /// Asks a node of ours.
    async fn of(server: &Server) -> Result<Self> {
        let recent = admin(server.admin, &server.state, "/v1/invocations?count=1000").await?;
        let recent = recent.as_array().context("the node lists no invocations")?;
        let median = |phase: &str| {
            let all = recent.iter().filter_map(|one| one["phases"][phase].as_u64()).map(|us| us as f64);
            Spread::of(all).median
        };
        Ok(Self { vm_us: median("deployed_us"), first_byte_us: median("first_byte_us") })
    }
}

impl Way {
    fn label(self) -> &'static str {
        match self {
            Self::Fresh => "fresh",
            Self::Rollback => "rollback",
            Self::Warm => "warm",
            Self::Reuse => "reuse",
            Self::Peer => "peer",
            Self::PeerPooled => "peer-pooled",
            Self::PeerReuse => "peer-reuse",
        }
    }

    fn description(self) -> &'static str {
        match self {
            Self::Fresh => "`forerun up`, `reuse = \"fresh\"`: a new VM for each request",
            Self::Rollback => {
                "`forerun up`, `reuse = \"rollback\"`, the default: used VMs put back to a new one's state"
            }
            Self::Warm => {
                "`forerun up`, `reuse = \"warm\"`: used VMs put back to the state after eight such requests, which has passed \
                 its test; where it has not, as rollback"
            }
            Self::Reuse => "`forerun up`, `reuse = { ... }`: used VMs as they are, *not isolated*",
            Self::Peer => "`wasmtime serve`, default settings: a new VM for each request",
            Self::PeerPooled => {
                "`wasmtime serve`, settings documented for fast instantiation: a new VM for each request"
            }
            Self::PeerReuse => "`wasmtime serve --max-instance-reuse-count`: used VMs as they are, *not isolated*",
        }
    }

    fn contender(self) -> Contender {
        match self {
            Self::Fresh | Self::Rollback | Self::Warm | Self::Reuse => Contender::Forerun,
            Self::Peer | Self::PeerReuse => Contender::Peer,
            Self::PeerPooled => Contender::PeerTuned,
        }
    }

    /// The program, if it is there and wanted.
    fn program<'a>(self, binaries: &'a Binaries, arguments: &Arguments) -> Option<&'a Path> {
        let contender = self.contender();
        arguments.contenders.contains(&contender).then(|| contender.program(binaries)).flatten()
    }

    fn launch(self, program: &Path, workload: Workload, place: Place<'_>) -> Result<Launch> {
        let component = workload.file();
        let arguments = match self {
            Self::Fresh => up("\"fresh\"", workload, place)?,
            Self::Rollback => up("\"rollback\"", workload, place)?,
            Self::Warm => up("\"warm\"", workload, place)?,
            Self::Reuse => up("{ requests_max = 1000000000, idle_ms = 600000 }", workload, place)?,
            Self::Peer => peer_serve(&component, place, None, &[]),
            Self::PeerPooled => peer_serve(&component, place, Some(PEER_TUNING), &[]),
            Self::PeerReuse => peer_serve(&component, place, None, &PEER_REUSE),
        };
        let Workload { path, status, ready, .. } = workload;
        Ok(Launch { program: program.to_owned(), arguments, path, status, ready })
    }
}

/// Writes a manifest with that policy beside the data, and gives the command line for it.
fn up(policy: &str, workload: Workload, place: Place<'_>) -> Result<Vec<std::ffi::OsString>> {
    let folder = place.data.with_extension("app");
    std::fs::create_dir_all(&folder)?;
    let warm_ups = format!("[[function.measured.warm_up]]\npath = {:?}\n", workload.warm_up).repeat(WARM_UPS);
    let manifest = format!(
        "forerun = 1\n[app]\nname = \"measured\"\n[function.measured]\nsource = {:?}\nroutes = [\"/...\"]\n\
         reuse = {policy}\n[function.measured.limits]\nmemory_bytes = \"256 MiB\"\ntimeout_ms = 30000\n{warm_ups}",
        workload.file().display().to_string(),
    );
    std::fs::write(folder.join("forerun.toml"), manifest)?;
    Ok(forerun_up(&folder, place))
}

fn method(arguments: &Arguments) -> String {
    let place = circumstances("server", arguments);
    format!(
        "The same components in all ways. {} rounds in alternating order, {} s each after {} s of warm-up, servers started \
         anew in each round and left alone until their code is made, {place}. Figures are medians, with the smallest and \
         the largest round in parentheses; *inside* is what our node has noted of its last thousand requests, from \
         the head of the request on, p50.",
        arguments.rounds,
        arguments.measure.as_secs(),
        arguments.warm_up.as_secs(),
    )
}

async fn legend(ways: &[Way], found: &Found, binaries: &Binaries) -> Vec<String> {
    let mut lines: Vec<String> = ways.iter().map(|way| format!("**{}**: {}", way.label(), way.description())).collect();
    for program in [&binaries.forerun, &binaries.peer].into_iter().flatten() {
        lines.push(version(program, "--version").await);
    }
    lines.push(format!("load: {}", version(&binaries.wrk, "--version").await));
    lines.extend(found.failures.iter().map(|((workload, way), why)| format!("failed: {workload}, {way}: {why}")));
    lines
}

fn figures(found: &Found, workload: Workload, ways: &[Way], arguments: &Arguments) -> Table {
    let mut rows = Vec::new();
    for &connections in &arguments.connections {
        for &way in ways {
            if found.of(workload, way, connections).next().is_none() {
                continue;
            }
            let spread = |figure: fn(&Measurement) -> f64| {
                Spread::of(found.of(workload, way, connections).map(|sample| figure(&sample.measurement)))
            };
            let inside = |figure: fn(&Inside) -> f64| {
                let all: Vec<f64> =
                    found.of(workload, way, connections).filter_map(|s| s.inside.as_ref()).map(figure).collect();
                if all.is_empty() { "–".to_owned() } else { Spread::of(all).show(0) }
            };
            rows.push(vec![
                connections.to_string(),
                way.label().to_owned(),
                spread(|m| m.throughput_per_s).show(0),
                spread(|m| m.p50_us / 1000.0).show(3),
                spread(|m| m.p99_us / 1000.0).show(3),
                spread(|m| m.server_cpu_us_per_request).show(0),
                spread(|m| m.server_resident_bytes as f64 / f64::from(1 << 20)).show(0),
                inside(|inside| inside.vm_us),
                inside(|inside| inside.first_byte_us),
            ]);
        }
    }
    let header = vec![
        "connections",
        "way",
        "req/s",
        "p50 ms",
        "p99 ms",
        "server CPU µs/request",
        "memory MiB",
        "inside: VM there µs",
        "inside: first byte µs",
    ];
    Table { title: workload.name.to_owned(), header, rows }
}

/// Rollback beside each other way: above 1 rollback is the better one, in every column.
fn ratios(found: &Found, workloads: &[Workload], ways: &[Way], arguments: &Arguments) -> Option<Table> {
    let mut rows = Vec::new();
    for &workload in workloads {
        for &connections in &arguments.connections {
            for &other in ways.iter().filter(|way| **way != Way::Rollback) {
                let pairs: Vec<(&Measurement, &Measurement)> = found
                    .of(workload, Way::Rollback, connections)
                    .filter_map(|ours| {
                        let theirs = found.of(workload, other, connections).find(|s| s.round == ours.round)?;
                        Some((&ours.measurement, &theirs.measurement))
                    })
                    .collect();
                if pairs.is_empty() {
                    continue;
                }
                let ratio = |better: fn(&Measurement, &Measurement) -> f64| {
                    Spread::of(pairs.iter().map(|(ours, theirs)| better(ours, theirs))).show(2)
                };
                rows.push(vec![
                    workload.name.to_owned(),
                    connections.to_string(),
                    format!("rollback / {}", other.label()),
                    ratio(|ours, theirs| ours.throughput_per_s / theirs.throughput_per_s),
                    ratio(|ours, theirs| theirs.p50_us / ours.p50_us),
                    ratio(|ours, theirs| theirs.p99_us / ours.p99_us),
                    ratio(|ours, theirs| theirs.server_cpu_us_per_request / ours.server_cpu_us_per_request),
                ]);
            }
        }
    }
    let title = "How many times better rollback is (compared round by round)".to_owned();
    let header = vec!["workload", "connections", "ways", "req/s", "p50", "p99", "CPU/request"];
    (!rows.is_empty()).then_some(Table { title, header, rows })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(round: u32, way: Way, throughput_per_s: f64) -> Sample {
        let measurement = Measurement {
            throughput_per_s,
            p50_us: 1e6 / throughput_per_s,
            p90_us: 1.0,
            p99_us: 1.0,
            max_us: 1.0,
            server_cpu_us_per_request: 1.0,
            server_resident_bytes: 1 << 20,
        };
        Sample { round, workload: WORKLOADS[0].name, way, connections: 1, measurement, inside: None }
    }

    #[test]
    fn ratios_are_made_within_a_round_and_what_failed_is_left_out() {
        let samples = vec![
            sample(0, Way::Fresh, 100.0),
            sample(0, Way::Rollback, 400.0),
            sample(1, Way::Rollback, 200.0),
            sample(1, Way::Fresh, 50.0),
        ];
        let found = Found { samples, ..Found::default() };
        let arguments = Arguments::for_tests("isolation --rounds 2");
        let ways = [Way::Fresh, Way::Rollback, Way::Peer];
        let table = ratios(&found, &WORKLOADS, &ways, &arguments).unwrap();
        let expected = [WORKLOADS[0].name, "1", "rollback / fresh", "4.00", "4.00", "1.00", "1.00"];
        assert_eq!(table.rows, [expected]);
        assert_eq!(figures(&found, WORKLOADS[0], &ways, &arguments).rows.len(), 2);
        assert!(figures(&found, WORKLOADS[1], &ways, &arguments).rows.is_empty());
    }

    #[test]
    fn our_ways_differ_in_their_policy_only() {
        let folder = tempfile::tempdir().unwrap();
        let manifest = |way: Way| {
            let data = folder.path().join(way.label());
            let place = Place { port: 1, second_port: 2, data: &data, connections: 1 };
            way.launch(Path::new("forerun"), WORKLOADS[3], place).unwrap();
            std::fs::read_to_string(data.with_extension("app").join("forerun.toml")).unwrap()
        };
        let policies = [Way::Fresh, Way::Rollback, Way::Reuse].map(|way| {
            let text = manifest(way);
            let (policy, rest): (Vec<_>, Vec<_>) = text.lines().partition(|line| line.starts_with("reuse"));
            (policy.join(""), rest.join("\n"))
        });
        assert!(policies[0].1 == policies[1].1 && policies[1].1 == policies[2].1);
        assert!(policies[0].0 != policies[1].0 && policies[1].0 != policies[2].0);
    }
}
