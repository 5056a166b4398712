//! Functions on trial in a real node: how often good VMs are given up, how soon bad ones are, and what users bear of it.
//!
//! Each function is one trial: its VMs that are put back are compared with new ones, on latencies as they really are. In good
//! ones nothing is wrong. Bad ones are bad by their own doing: the guest tells the age of its VM by its clock, and goes wrong
//! in old ones, which are those that were put back some time before. Nothing in the node knows of it, and nothing is injected.
//!
//! An answer that is wrong and looks right is not among them: nobody can tell while serving, which is why prepared state and
//! code are compared in full before and beside (`SPEC.md`).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::arguments::Arguments;
use crate::binaries::{Binaries, repository};
use crate::ours::{self, Function, Node};
use crate::probe::Connection;
use crate::report::{Report, Table};
use crate::schedule::Dice;
use crate::server::Server;
use crate::spread::quantile;

const GOOD: usize = 1_000;
/// Of each kind.
const BAD: usize = 10;
const CONNECTIONS: usize = 4;
/// Of guest code: about a tenth of a millisecond.
const TURNS: u32 = 100_000;
/// The same where more of it is what is wrong, about five milliseconds: much beside what a new VM costs.
const TURNS_OF_SLOW: u32 = 4_000_000;
/// In old VMs: a fifth more.
const TURNS_OF_SLOW_OLD: u32 = 4_800_000;
/// Good functions called at the same time: all of them together would need more VMs than there are.
const GOOD_AT_ONCE: usize = 200;
/// A VM of this age is bad. New ones are entered within a fraction of it.
const OLD_MS: u64 = 5;
/// Between two requests of a bad function at least, and at most twice that: VMs that wait for the second one are old.
const PAUSE: Duration = Duration::from_millis(30);
/// After these a bad function is left to its fate.
const BAD_REQUESTS_MAX: u64 = 5_000;
const READY: &str = "/ready";
const QUARANTINED: &str = "generic-quarantined";

/// What is wrong with VMs that were put back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Wrong {
    Slow,
    Trap,
    Error,
}

const WRONGS: [Wrong; 3] = [Wrong::Slow, Wrong::Trap, Wrong::Error];

impl Wrong {
    fn label(self) -> &'static str {
        match self {
            Self::Slow => "slow",
            Self::Trap => "trap",
            Self::Error => "error",
        }
    }

    fn in_words(self) -> &'static str {
        match self {
            Self::Slow => "it works a fifth longer",
            Self::Trap => "it traps",
            Self::Error => "it answers 500",
        }
    }

    fn path(self) -> String {
        let turns = if self == Self::Slow { TURNS_OF_SLOW } else { TURNS };
        format!("/?old_ms={OLD_MS}&turns={turns}&slow_turns={TURNS_OF_SLOW_OLD}&then={}", self.label())
    }

    /// Slow ones are tried one after the other: they keep a processor busy, and would be in each other's way.
    fn pause(self) -> Duration {
        if self == Self::Slow { PAUSE / 2 } else { PAUSE }
    }

    fn name(self, number: usize) -> String {
        format!("{}{number:02}", self.label())
    }
}

/// What came of one bad function.
#[derive(Clone, Debug, Serialize)]
struct Trial {
    wrong: Wrong,
    /// Requests until one was told that VMs like these are given up.
    given_up_after: Option<u64>,
    /// Requests by how they were served, and their time at the client.
    served: BTreeMap<String, Vec<f64>>,
    /// Answers that were not what a good VM gives.
    wrong_answers: u64,
}

/// What came of all good functions.
#[derive(Clone, Debug, Serialize)]
struct Good {
    requests: u64,
    given_up: Vec<String>,
    verdicts: BTreeMap<String, usize>,
    served: BTreeMap<String, u64>,
}

/// Runs the case.
pub(crate) async fn run(arguments: &Arguments) -> Result<Report> {
    let binaries = Binaries::locate(arguments).await?;
    let program = binaries.forerun.as_deref().context("forerun is absent")?;
    let application = ours::application("trials", &functions())?;
    // Which code runs is no matter here, and an image of just that would be one more thing on trial.
    let options = ["--sample-share", "0"];
    let node = Node { program, application: Some(application.path()), data: None, path: READY, options: &options };
    let server = node.start("forerun", arguments).await?;
    node.settled(&server).await?;
    let bad = try_bad(&server).await?;
    let good = try_good(&server, arguments.orders).await?;
    server.stop().await?;
    let method = format!(
        "A function is a trial. {GOOD} good ones got {} requests each, {GOOD_AT_ONCE} in turn at {CONNECTIONS} connections; \
         {BAD} bad ones of each kind got one every {} to {} ms (slow ones half as long, one function after the other), until told that VMs put back are given up, {BAD_REQUESTS_MAX} at most. All are the \
         component `tests/guests/aged`, which works for about a tenth of a millisecond a request, and for five where it may be slow.",
        arguments.orders,
        PAUSE.as_millis(),
        2 * PAUSE.as_millis(),
    );
    let raw = json!({ "bad": bad, "good": good });
    Ok(Report::new("trials", method, Vec::new(), vec![of_bad(&bad), borne(&bad), of_good(&good)], raw))
}

fn good_name(number: usize) -> String {
    format!("good{number:03}")
}

fn functions() -> Vec<Function> {
    let component = repository().join("tests/guests/components/aged.wasm");
    let names =
        (0..GOOD).map(good_name).chain(WRONGS.iter().flat_map(|wrong| (0..BAD).map(|number| wrong.name(number))));
    let function = |name: String| {
        let route = Some(format!("{name}.local/..."));
        Function { name, component: component.clone(), route, reuse: None }
    };
    let ready = Function {
        name: "ready".into(),
        component: ours::hello(),
        route: Some(READY.into()),
        reuse: Some("\"fresh\""),
    };
    names.map(function).chain([ready]).collect()
}

async fn try_bad(server: &Server) -> Result<Vec<Trial>> {
    let mut under_way = JoinSet::new();
    for wrong in [Wrong::Trap, Wrong::Error] {
        for number in 0..BAD {
            under_way.spawn(try_one(server.address, wrong, number));
        }
    }
    let mut trials = Vec::new();
    while let Some(trial) = under_way.join_next().await {
        trials.push(trial.context("a trial broke off")??);
    }
    for number in 0..BAD {
        trials.push(try_one(server.address, Wrong::Slow, number).await?);
    }
    Ok(trials)
}

async fn try_one(address: SocketAddr, wrong: Wrong, number: usize) -> Result<Trial> {
    let mut connection = Connection::open(address).await?.for_host(&format!("{}.local", wrong.name(number)));
    let mut trial = Trial { wrong, given_up_after: None, served: BTreeMap::new(), wrong_answers: 0 };
    let mut dice = Dice(number as u64);
    let path = wrong.path();
    for request in 1..=BAD_REQUESTS_MAX {
        tokio::time::sleep(wrong.pause().mul_f64(1.0 + dice.roll())).await;
        let asked = Instant::now();
        let answer = connection.get(&path).await?;
        let took_us = asked.elapsed().as_secs_f64() * 1e6;
        if answer.status != 200 || answer.body != b"done" {
            trial.wrong_answers += 1;
        }
        if answer.serve_path() == QUARANTINED {
            trial.given_up_after = Some(request);
            break;
        }
        trial.served.entry(answer.serve_path().to_owned()).or_default().push(took_us);
    }
    Ok(trial)
}

async fn try_good(server: &Server, requests_each: u32) -> Result<Good> {
    let mut served = BTreeMap::new();
    for first in (0..GOOD).step_by(GOOD_AT_ONCE) {
        call_some(server.address, first, requests_each as usize, &mut served).await?;
    }
    server.settle().await?;
    let learning = ours::learning(server.admin, &server.state).await?;
    let mut good = Good { requests: served.values().sum(), given_up: Vec::new(), verdicts: BTreeMap::new(), served };
    for number in 0..GOOD {
        let name = good_name(number);
        let arm = &learning["functions"][&name]["arms"]["rolled_back"];
        *good.verdicts.entry(arm["verdict"].as_str().unwrap_or("none").to_owned()).or_default() += 1;
        if arm["given_up"] != Value::Null {
            good.given_up.push(format!("{name}: {}", arm["given_up"]));
        }
    }
    Ok(good)
}

/// Functions from `first` on, in turn, so that each waits while the others are called.
async fn call_some(
    address: SocketAddr,
    first: usize,
    requests_each: usize,
    served: &mut BTreeMap<String, u64>,
) -> Result<()> {
    let next = Arc::new(AtomicUsize::new(0));
    let mut under_way = JoinSet::new();
    for _ in 0..CONNECTIONS {
        let next = Arc::clone(&next);
        under_way.spawn(async move {
            let mut connection = Connection::open(address).await?;
            let mut served: BTreeMap<String, u64> = BTreeMap::new();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= GOOD_AT_ONCE * requests_each {
                    return Ok::<_, anyhow::Error>(served);
                }
                connection = connection.for_host(&format!("{}.local", good_name(first + number % GOOD_AT_ONCE)));
                let answer = connection.get(&format!("/?turns={TURNS}")).await?;
                ensure!(answer.status == 200 && answer.body == b"done", "a good function answers otherwise");
                *served.entry(answer.serve_path().to_owned()).or_default() += 1;
            }
        });
    }
    while let Some(of_one) = under_way.join_next().await {
        for (path, count) in of_one.context("a connection broke off")?? {
            *served.entry(path).or_default() += count;
        }
    }
    Ok(())
}

fn of_bad(trials: &[Trial]) -> Table {
    let row = |wrong: &Wrong| {
        let own: Vec<&Trial> = trials.iter().filter(|trial| trial.wrong == *wrong).collect();
        let mut after: Vec<f64> =
            own.iter().filter_map(|trial| trial.given_up_after).map(|after| after as f64).collect();
        after.sort_by(f64::total_cmp);
        let show = |share| if after.is_empty() { "–".to_owned() } else { format!("{:.0}", quantile(&after, share)) };
        vec![
            wrong.in_words().to_owned(),
            own.len().to_string(),
            after.len().to_string(),
            show(0.0),
            show(0.5),
            show(1.0),
        ]
    };
    Table {
        title: "Bad ones: requests until given up".to_owned(),
        header: vec!["what is wrong with a VM that was put back", "trials", "given up", "fewest", "median", "most"],
        rows: WRONGS.iter().map(row).collect(),
    }
}

/// What clients had of it until then, for each function.
fn borne(trials: &[Trial]) -> Table {
    let row = |wrong: &Wrong| {
        let own: Vec<&Trial> = trials.iter().filter(|trial| trial.wrong == *wrong).collect();
        let times = |fits: &dyn Fn(&str) -> bool| {
            let mut times: Vec<f64> = own
                .iter()
                .flat_map(|trial| &trial.served)
                .filter(|(path, _)| fits(path))
                .flat_map(|(_, us)| us.clone())
                .collect();
            times.sort_by(f64::total_cmp);
            times
        };
        let put_back = times(&|path| path == "rolled-back");
        let again = times(&|path| path.starts_with("generic-retried"));
        let new = times(&|path| path.starts_with("generic") && !path.starts_with("generic-retried"));
        let middle =
            |times: &[f64]| if times.is_empty() { "–".to_owned() } else { format!("{:.0}", quantile(times, 0.5)) };
        let each = |count: usize| format!("{:.1}", count as f64 / own.len().max(1) as f64);
        vec![
            wrong.in_words().to_owned(),
            each(put_back.len()),
            each(again.len()),
            each(new.len()),
            each(own.iter().map(|trial| trial.wrong_answers as usize).sum()),
            middle(&put_back),
            middle(&again),
            middle(&new),
        ]
    };
    Table {
        title: "What clients bore until then, a function".to_owned(),
        header: vec![
            "what is wrong",
            "requests in VMs put back",
            "served again in a new VM",
            "in a new VM at once",
            "wrong answers",
            "p50 µs put back",
            "p50 µs served again",
            "p50 µs new",
        ],
        rows: WRONGS.iter().map(row).collect(),
    }
}

fn of_good(good: &Good) -> Table {
    let verdicts: Vec<String> = good.verdicts.iter().map(|(verdict, count)| format!("{verdict} {count}")).collect();
    let served: Vec<String> = good
        .served
        .iter()
        .map(|(path, count)| format!("{path} {:.2} %", 100.0 * *count as f64 / good.requests.max(1) as f64))
        .collect();
    Table {
        title: "Good ones".to_owned(),
        header: vec!["trials", "requests", "given up (false alarms)", "verdicts", "served"],
        rows: vec![vec![
            GOOD.to_string(),
            good.requests.to_string(),
            good.given_up.len().to_string(),
            verdicts.join(", "),
            served.join(", "),
        ]],
    }
}
