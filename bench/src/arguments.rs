//! The command line: what to measure, for how long, and with which binaries.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use lexopt::prelude::*;

use crate::contenders::Contender;
use crate::subjects::Handler;

/// Help text.
pub(crate) const USAGE: &str = "\
Benchmarks of Forerun beside other servers. Needs wrk.

Usage: cargo run --release -p forerun-bench -- <CASE> [OPTIONS]

Cases:
  serve    Throughput and latency of one small component, a fresh VM for each request
  chain    A request that goes through six idle functions (the shop, in Rust) or five (--language python, javascript:
           components as below), with prediction off, on, and all of them warm
  isolation
           What isolation costs: fresh, rolled-back and reused VMs, beside the peer's ways, for a component in
           Python (build it first: examples/python/build.sh), one in JavaScript (examples/js/build.sh) and one in Rust
  idle     Memory and latency while many keep-alive connections are open and silent
  peers    Start, speed and memory beside workerd and functions-framework with the same handlers (components as above;
           the peers are installed with npm and pip into ~/.cache/forerun/bench)
  overhead What learning costs warm requests: the same node with learning on and off
  sampling What it costs to learn which code runs: the same node with requests sampled and not
  compile  What requests of a small function notice of a large component that is compiled (build it first:
           examples/python/build.sh)
  restart  From a start to the first answer of the Python component, code on disk, beside `wasmtime serve` with a
           .cwasm (build the component first: examples/python/build.sh)
  overload More requests than can be answered, sent whether answered or not: what is refused, and what is not
  soak     Mixed load with every answer checked, while workers and the node are killed and the disk is full; exit
           code 1 if an answer was wrong or an acknowledged deployment lost. The disk is a tmpfs if this is root
  sessions Sessions over fifty functions on memory for ten VMs: prediction, a fixed keep-alive and neither; and what
           `forerun replay` says of the same calls
  trials   A thousand good functions and thirty bad ones on trial: false alarms, requests until bad ones are given up,
           and what clients bear of it

Options:
  --seconds N          Length of one measurement [default: 10; overload, sessions: 600; soak: 3600]
  --warm-up N          Seconds of load before each measurement, not counted [default: 2]
  --rounds N           How often everything is repeated, in alternating order [default: 5; isolation, peers, compile: 3; idle: 1; overhead, sampling: 9]
  --connections LIST   serve, isolation, peers, overhead, sampling, compile: busy connections, as in 1,16 [default: 1,16; isolation: 1]
  --think-ms N         serve, isolation, overhead, sampling, peers: how long each connection waits after an answer before it
                       asks again [default: 0]
  --orders N           chain: requests that count [default: 200]; trials: requests to each good function [default: 1000]
  --orders-before N    chain: requests before those, while the nodes learn and judge what they prepare [default: 240]
  --pause-ms N         chain: longest pause between two requests; the shortest is a quarter of it [default: 650]
  --starts N           peers: starts of each server in each round [default: 3]; restart: of each server [default: 20]
  --language LIST      chain, overload: rust, python or javascript [default: rust; overload: python]; isolation,
                       overhead, sampling: some of them [default: all]
  --idle N             idle: silent connections [default: 10000]
  --only LIST          Some of: forerun, peer, peer-tuned, limit [default: all there are]
  --pin                Server on core 0, load on core 1. By default the system places both,
                       so that a server may use every core the load leaves it
  --peer PATH          wasmtime, for `wasmtime serve`; left out if absent
                       (cargo install wasmtime-cli@48.0.8 --locked)
  --server PATH        forerun [default: built from this repository]
  --limit PATH         The answer without any VM [default: built from this repository]
  -h, --help           Print this";

/// Longest measurement; a typing error should not cost a night.
const SECONDS_MAX: u64 = 3_600;
/// Of the cases that are one measurement: a week.
const SECONDS_MAX_OF_ONE: u64 = 7 * 24 * 3_600;
const ROUNDS_MAX: u32 = 1_000;
/// One client address has fewer ports than this to connect from.
const CONNECTIONS_MAX: usize = 60_000;

/// What to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Case {
    Serve,
    Chain,
    Isolation,
    Idle,
    Peers,
    Overhead,
    Sampling,
    Compile,
    Restart,
    Overload,
    Soak,
    Sessions,
    Trials,
}

impl Case {
    /// Whether it has a use for that server: what it has none for need not be built.
    pub(crate) fn measures(self, contender: Contender) -> bool {
        match (self, contender) {
            (_, Contender::Forerun) | (Self::Serve | Self::Idle, _) => true,
            (Self::Isolation, Contender::Peer | Contender::PeerTuned) => true,
            (Self::Peers | Self::Restart, Contender::Peer) => true,
            (Self::Isolation, Contender::Limit) | (Self::Peers, Contender::PeerTuned | Contender::Limit) => false,
            (Self::Restart, Contender::PeerTuned | Contender::Limit) => false,
            (
                Self::Chain
                | Self::Overhead
                | Self::Sampling
                | Self::Compile
                | Self::Overload
                | Self::Soak
                | Self::Sessions
                | Self::Trials,
                Contender::Peer | Contender::PeerTuned | Contender::Limit,
            ) => false,
        }
    }

    fn seconds(self) -> u64 {
        match self {
            Self::Overload | Self::Sessions => 600,
            Self::Soak => 3_600,
            Self::Serve
            | Self::Chain
            | Self::Isolation
            | Self::Idle
            | Self::Peers
            | Self::Overhead
            | Self::Sampling
            | Self::Compile
            | Self::Restart
            | Self::Trials => 10,
        }
    }

    fn seconds_max(self) -> u64 {
        match self {
            Self::Overload | Self::Sessions | Self::Soak => SECONDS_MAX_OF_ONE,
            Self::Serve
            | Self::Chain
            | Self::Isolation
            | Self::Idle
            | Self::Peers
            | Self::Overhead
            | Self::Sampling
            | Self::Compile
            | Self::Restart
            | Self::Trials => SECONDS_MAX,
        }
    }

    fn rounds(self) -> u32 {
        match self {
            Self::Overhead | Self::Sampling => 9,
            Self::Serve => 5,
            Self::Isolation | Self::Peers | Self::Compile => 3,
            Self::Chain | Self::Idle | Self::Restart | Self::Overload | Self::Soak | Self::Sessions | Self::Trials => 1,
        }
    }

    fn connections(self) -> Vec<usize> {
        match self {
            // Isolation is paid for by each request; more at once say more of the machine.
            Self::Isolation => vec![1],
            Self::Serve
            | Self::Chain
            | Self::Idle
            | Self::Peers
            | Self::Overhead
            | Self::Sampling
            | Self::Compile
            | Self::Restart
            | Self::Overload
            | Self::Soak
            | Self::Sessions
            | Self::Trials => vec![1, 16],
        }
    }
}

/// What was asked for, checked.
#[derive(Clone, Debug)]
pub(crate) struct Arguments {
    pub(crate) case: Case,
    pub(crate) measure: Duration,
    pub(crate) warm_up: Duration,
    pub(crate) rounds: u32,
    /// Busy connections of each measurement, in the order in which they are measured.
    pub(crate) connections: Vec<usize>,
    /// How long each of them waits between an answer and its next request.
    pub(crate) think_ms: u64,
    pub(crate) orders: u32,
    pub(crate) orders_before: u32,
    pub(crate) pause_ms: u64,
    pub(crate) starts: u32,
    /// Languages asked for; `None` if none were.
    pub(crate) languages: Option<Vec<Handler>>,
    pub(crate) idle_connections: usize,
    /// Those to be measured, if they are there.
    pub(crate) contenders: Vec<Contender>,
    pub(crate) pin: bool,
    pub(crate) peer: Option<PathBuf>,
    pub(crate) server: Option<PathBuf>,
    pub(crate) limit: Option<PathBuf>,
}

impl Arguments {
    /// `None` if help was asked for.
    pub(crate) fn from_command_line() -> Result<Option<Self>> {
        Self::parse(lexopt::Parser::from_env())
    }

    fn parse(mut parser: lexopt::Parser) -> Result<Option<Self>> {
        let mut case = None;
        let (mut rounds, mut busy, mut seconds_given, mut starts, mut orders) = (None, None, None, None, None);
        let mut arguments = Self::with_defaults();
        while let Some(argument) = parser.next()? {
            match argument {
                Short('h') | Long("help") => return Ok(None),
                Long("seconds") => seconds_given = Some(number(&mut parser, "--seconds", 1, SECONDS_MAX_OF_ONE)?),
                Long("warm-up") => {
                    arguments.warm_up = Duration::from_secs(number(&mut parser, "--warm-up", 0, SECONDS_MAX)?);
                }
                Long("rounds") => rounds = Some(number(&mut parser, "--rounds", 1, u64::from(ROUNDS_MAX))? as u32),
                Long("connections") => busy = Some(connections(&parser.value()?.string()?)?),
                Long("idle") => {
                    arguments.idle_connections = number(&mut parser, "--idle", 1, CONNECTIONS_MAX as u64)? as usize;
                }
                Long("orders-before") => {
                    arguments.orders_before = number(&mut parser, "--orders-before", 1, 100_000)? as u32;
                }
                Long("orders") => orders = Some(number(&mut parser, "--orders", 10, 100_000)? as u32),
                Long("pause-ms") => arguments.pause_ms = number(&mut parser, "--pause-ms", 8, 600_000)?,
                Long("think-ms") => arguments.think_ms = number(&mut parser, "--think-ms", 0, 10_000)?,
                Long("starts") => starts = Some(number(&mut parser, "--starts", 1, 1_000)? as u32),
                Long("language") => arguments.languages = Some(languages(&parser.value()?.string()?)?),
                Long("only") => arguments.contenders = contenders(&parser.value()?.string()?)?,
                Long("pin") => arguments.pin = true,
                Long("peer") => arguments.peer = Some(parser.value()?.into()),
                Long("server") => arguments.server = Some(parser.value()?.into()),
                Long("limit") => arguments.limit = Some(parser.value()?.into()),
                Value(name) if case.is_none() => case = Some(case_of(&name.string()?)?),
                Short(_) | Long(_) | Value(_) => return Err(argument.unexpected().into()),
            }
        }
        let case = case.with_context(|| format!("no case given: {}", CASES.map(|(name, _)| name).join(", ")))?;
        let seconds = seconds_given.unwrap_or(case.seconds());
        ensure!(seconds <= case.seconds_max(), "--seconds: {seconds} is more than {}", case.seconds_max());
        arguments.case = case;
        arguments.measure = Duration::from_secs(seconds);
        arguments.rounds = rounds.unwrap_or(case.rounds());
        arguments.connections = busy.unwrap_or_else(|| case.connections());
        arguments.orders = orders.unwrap_or(if case == Case::Trials { 1_000 } else { 200 });
        arguments.starts = starts.unwrap_or(if case == Case::Restart { 20 } else { 3 });
        Ok(Some(arguments))
    }

    /// Connections that a server has to hold at once.
    pub(crate) fn connections_at_once(&self) -> usize {
        match self.case {
            Case::Chain | Case::Restart | Case::Soak | Case::Sessions | Case::Overload | Case::Trials => 1,
            Case::Serve | Case::Isolation | Case::Peers | Case::Overhead | Case::Sampling | Case::Compile => {
                self.connections.iter().copied().max().unwrap_or(1)
            }
            // Some more for the load meanwhile and for looking.
            Case::Idle => self.idle_connections + 100,
        }
    }

    /// Arguments as typed, for tests of the cases.
    #[cfg(test)]
    pub(crate) fn for_tests(line: &str) -> Self {
        Self::parse(lexopt::Parser::from_args(line.split_whitespace())).expect("a correct line").expect("not help")
    }

    fn with_defaults() -> Self {
        Self {
            case: Case::Serve,
            measure: Duration::from_secs(10),
            warm_up: Duration::from_secs(2),
            rounds: 5,
            connections: vec![1, 16],
            think_ms: 0,
            orders: 200,
            orders_before: 240,
            pause_ms: 650,
            starts: 3,
            languages: None,
            idle_connections: 10_000,
            contenders: Contender::ALL.to_vec(),
            pin: false,
            peer: None,
            server: None,
            limit: None,
        }
    }
}

/// The cases by their names.
const CASES: [(&str, Case); 13] = [
    ("serve", Case::Serve),
    ("chain", Case::Chain),
    ("isolation", Case::Isolation),
    ("idle", Case::Idle),
    ("peers", Case::Peers),
    ("overhead", Case::Overhead),
    ("sampling", Case::Sampling),
    ("compile", Case::Compile),
    ("restart", Case::Restart),
    ("overload", Case::Overload),
    ("soak", Case::Soak),
    ("sessions", Case::Sessions),
    ("trials", Case::Trials),
];

fn case_of(name: &str) -> Result<Case> {
    let found = CASES.into_iter().find(|(known, _)| *known == name);
    let (_, case) = found.with_context(|| format!("no case {name:?}: {}", CASES.map(|(name, _)| name).join(", ")))?;
    Ok(case)
}

fn languages(list: &str) -> Result<Vec<Handler>> {
    let find = |name: &str| {
        let found = Handler::ALL.into_iter().find(|handler| handler.name() == name.trim());
        found.with_context(|| format!("--language: {name:?} is none of rust, python, javascript"))
    };
    list.split(',').map(find).collect()
}

fn number(parser: &mut lexopt::Parser, what: &str, min: u64, max: u64) -> Result<u64> {
    let number: u64 = parser.value()?.parse()?;
    if !(min..=max).contains(&number) {
        bail!("{what}: {number} is not between {min} and {max}");
    }
    Ok(number)
}

fn connections(list: &str) -> Result<Vec<usize>> {
    let parse = |text: &str| text.trim().parse().with_context(|| format!("--connections: {text:?} is no number"));
    let list: Vec<usize> = list.split(',').map(parse).collect::<Result<_>>()?;
    if list.iter().any(|count| !(1..=CONNECTIONS_MAX).contains(count)) {
        bail!("--connections: between 1 and {CONNECTIONS_MAX}");
    }
    Ok(list)
}

fn contenders(list: &str) -> Result<Vec<Contender>> {
    let find = |name: &str| {
        let found = Contender::ALL.into_iter().find(|contender| contender.label() == name.trim());
        found.with_context(|| format!("--only: {name:?} is none of forerun, peer, peer-tuned, limit"))
    };
    list.split(',').map(find).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Option<Arguments>> {
        Arguments::parse(lexopt::Parser::from_args(line.split_whitespace()))
    }

    #[test]
    fn defaults_follow_the_case() {
        let serve = parse("serve").unwrap().unwrap();
        assert_eq!((serve.rounds, serve.connections.as_slice()), (5, [1, 16].as_slice()));
        let isolation = parse("isolation").unwrap().unwrap();
        assert_eq!((isolation.rounds, isolation.connections.as_slice()), (3, [1].as_slice()));
        let idle = parse("idle").unwrap().unwrap();
        assert_eq!((idle.rounds, idle.idle_connections), (1, 10_000));
        let peers = parse("peers --starts 5").unwrap().unwrap();
        assert_eq!((peers.rounds, peers.starts, peers.connections_at_once()), (3, 5, 16));
        let restart = parse("restart").unwrap().unwrap();
        assert_eq!((restart.starts, restart.rounds, restart.languages), (20, 1, None));
        let soak = parse("soak").unwrap().unwrap();
        assert_eq!(soak.measure, Duration::from_secs(3_600));
        let overhead = parse("overhead --language python,rust").unwrap().unwrap();
        assert_eq!(overhead.languages, Some(vec![Handler::Python, Handler::Rust]));
        assert_eq!((serve.connections_at_once(), idle.connections_at_once()), (16, 10_100));
        assert!(parse("serve --help").unwrap().is_none());
    }

    #[test]
    fn options_are_taken_in_any_order() {
        let given = parse("--seconds 3 serve --rounds=2 --only limit,peer --connections 1,64 --pin --peer w").unwrap();
        let given = given.unwrap();
        assert_eq!(given.measure, Duration::from_secs(3));
        assert_eq!(given.contenders, [Contender::Limit, Contender::Peer]);
        assert_eq!((given.rounds, given.connections, given.pin), (2, vec![1, 64], true));
        assert_eq!(given.peer, Some(PathBuf::from("w")));
    }

    #[test]
    fn nonsense_is_refused() {
        assert!(parse("soak --seconds 86400").is_ok());
        let wrong = [
            "",
            "sing",
            "serve --seconds 86400",
            "chain --language c",
            "serve serve",
            "serve --seconds 0",
            "serve --only me",
            "serve --connections 0",
            "serve --x",
        ];
        for line in wrong {
            assert!(parse(line).is_err(), "{line:?}");
        }
    }
}
