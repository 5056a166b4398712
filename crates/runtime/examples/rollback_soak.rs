//! Many requests to rolled-back VMs at mixed load: every answer is compared with that of a fresh VM, and what memory the
//! process has is shown at intervals.
//!
//! ```text
//! cargo run --release -p forerun-runtime --example rollback_soak -- --seconds 600 --at-once 8
//! cargo run --release -p forerun-runtime --example rollback_soak -- --requests 12000000 --runtimes-one-in 32 --seed 7
//! ```
//! Several components take part: test guests that keep all they can from request to request, functions of the shop, and the
//! Python example where it is built. Requests are drawn from a seed; which VM serves which is up to the scheduler. The
//! answer of a fresh VM is made once for each different request, before rolled-back VMs are asked. With `--runtimes-one-in`
//! the language runtimes, whose requests take a hundred times as long as others, are asked less often than these. The exit
//! code is 1 if an answer was wrong. It measures no speed: the driver is called in this process, without HTTP.

#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a tool for people at a terminal")]

mod support;

use std::collections::HashMap;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use forerun_driver::Program;
use forerun_runtime::{WasmDriver, WasmSettings};
use forerun_specialize::passes::state::add_state_calls;
use forerun_types::{Outcome, ReusePolicy, ServePath};

/// Between two lines of figures.
const SHOW_EVERY: Duration = Duration::from_secs(15);
/// A component that is larger has a language runtime in it.
const RUNTIME_BYTES_MIN: usize = 5 << 20;
/// Different requests of those that have a number in them.
const VARIANTS: u64 = 64;

/// The components, each with its requests; `{}` is a number. Some of them cost the VM, as growth does; others keep handles.
const LOADS: [(&str, &[&str]); 7] = [
    (
        "tests/guests/components/steady.wasm",
        &[
            "/count",
            "/remember?text=secret-{}",
            "/churn?seed={}",
            "/print?text={}",
            "/flood?bytes={}0000",
            "/nothing",
            "/grow",
            "/keep",
        ],
    ),
    ("examples/hello/components/hello.wasm", &["/", "/{}"]),
    ("tests/guests/components/misbehave.wasm", &["/count", "/big?bytes={}000", "/status?code=404", "/none-{}"]),
    ("examples/shop/components/catalog.wasm", &["/catalog", "/catalog/lamp", "/catalog/{}"]),
    ("examples/shop/components/receipt.wasm", &["/receipt/none-{}"]),
    ("examples/js/dist/app.wasm", &["/search?q=lmap-{}&limit=3", "/relay/none-{}", "/no-such-path-{}"]),
    ("examples/python/dist/app.wasm", &["/report?currency=EUR", "/report?since=2026-01-{}", "/no-such-path-{}"]),
];

/// One component with both of its programs.
struct Subject {
    name: String,
    is_runtime: bool,
    paths: Vec<String>,
    rolled: Arc<dyn Program>,
    /// Status and body that a fresh VM gave, by path.
    expected: HashMap<String, (u16, Vec<u8>)>,
}

#[derive(Default)]
struct Tally {
    requests: AtomicU64,
    rolled_back: AtomicU64,
    wrong: AtomicU64,
    failed: AtomicU64,
}

struct Arguments {
    seconds: u64,
    requests: u64,
    at_once: u64,
    seed: u64,
    /// A language runtime that is drawn is asked one time in so many.
    runtimes_one_in: u64,
}

fn main() -> ExitCode {
    let arguments = arguments();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let wrong = runtime.block_on(soak(&arguments));
    if wrong == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn arguments() -> Arguments {
    let mut arguments = Arguments { seconds: 60, requests: u64::MAX, at_once: 4, seed: 1, runtimes_one_in: 1 };
    let mut words = std::env::args().skip(1);
    while let (Some(name), Some(value)) = (words.next(), words.next()) {
        let value = value.parse().unwrap();
        match name.as_str() {
            "--seconds" => arguments.seconds = value,
            "--requests" => (arguments.requests, arguments.seconds) = (value, u64::MAX / 1_000),
            "--at-once" => arguments.at_once = value,
            "--seed" => arguments.seed = value,
            "--runtimes-one-in" => arguments.runtimes_one_in = value,
            other => panic!("no option {other}: --seconds, --requests, --at-once, --seed, --runtimes-one-in"),
        }
    }
    arguments
}

/// Says how many answers were wrong.
async fn soak(arguments: &Arguments) -> u64 {
    let driver = WasmDriver::new(&WasmSettings { vms_max: 128, ..WasmSettings::default() }).unwrap();
    let mut subjects = Vec::new();
    for (component, paths) in LOADS {
        subjects.extend(subject(&driver, component, paths).await);
    }
    let (subjects, tally, began) = (Arc::new(subjects), Arc::new(Tally::default()), Instant::now());
    let mut lanes = tokio::task::JoinSet::new();
    for lane in 0..arguments.at_once {
        let (subjects, tally) = (Arc::clone(&subjects), Arc::clone(&tally));
        let (requests, until) = (arguments.requests, began + Duration::from_secs(arguments.seconds));
        let runtimes_one_in = usize::try_from(arguments.runtimes_one_in).unwrap();
        let mut numbers = Numbers(arguments.seed.wrapping_add(lane << 32));
        lanes.spawn(async move {
            while tally.requests.fetch_add(1, Ordering::Relaxed) < requests && Instant::now() < until {
                ask(draw(&subjects, runtimes_one_in, &mut numbers), &tally, &mut numbers).await;
            }
        });
    }
    loop {
        tokio::select! {
            ended = lanes.join_next() => match ended {
                Some(lane) => lane.unwrap(),
                None => break,
            },
            () = tokio::time::sleep(SHOW_EVERY) => show(&tally, began),
        }
    }
    show(&tally, began);
    for subject in subjects.iter() {
        let report = subject.rolled.isolation();
        println!("{}: {report:?}", subject.name);
    }
    tally.wrong.load(Ordering::Relaxed)
}

/// `None` for a component that is not built.
async fn subject(driver: &WasmDriver, component: &str, paths: &[&str]) -> Option<Subject> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(component);
    let Ok(source) = std::fs::read(&file) else {
        println!("left out, not built: {component}");
        return None;
    };
    let prepared = add_state_calls(&source).unwrap().component;
    let fresh = support::load(driver, &prepared, ReusePolicy::Fresh);
    let rolled = support::load(driver, &prepared, ReusePolicy::Rollback);
    let variants = |path: &&str| -> Vec<String> {
        let count = if path.contains("{}") { VARIANTS } else { 1 };
        (0..count).map(|number| path.replace("{}", &format!("{number:02}"))).collect()
    };
    let paths: Vec<String> = paths.iter().flat_map(variants).collect();
    let mut expected = HashMap::new();
    for path in &paths {
        let answered = support::get(&fresh, path).await;
        expected.insert(path.clone(), (answered.status, answered.body));
    }
    println!("{component}: {} different requests", paths.len());
    let is_runtime = source.len() > RUNTIME_BYTES_MIN;
    Some(Subject { name: component.to_owned(), is_runtime, paths, rolled, expected })
}

/// The component of the next request.
fn draw<'s>(subjects: &'s [Subject], runtimes_one_in: usize, numbers: &mut Numbers) -> &'s Subject {
    loop {
        let subject = &subjects[numbers.below(subjects.len())];
        if !subject.is_runtime || numbers.below(runtimes_one_in) == 0 {
            return subject;
        }
    }
}

async fn ask(subject: &Subject, tally: &Tally, numbers: &mut Numbers) {
    let path = &subject.paths[numbers.below(subject.paths.len())];
    let answered = support::get(&subject.rolled, path).await;
    if subject.expected[path] != (answered.status, answered.body.clone()) {
        tally.wrong.fetch_add(1, Ordering::Relaxed);
        println!("WRONG: {} {path}: {} {}", subject.name, answered.status, String::from_utf8_lossy(&answered.body));
    }
    // The end comes a moment after the last byte; a client would have sent its next request by then.
    let ended = loop {
        match answered.ended.try_recv() {
            Ok(end) => break end,
            Err(_) => tokio::task::yield_now().await,
        }
    };
    tally.rolled_back.fetch_add(u64::from(ended.serve_path == ServePath::RolledBack), Ordering::Relaxed);
    tally.failed.fetch_add(u64::from(ended.outcome != Outcome::Ok), Ordering::Relaxed);
}

fn show(tally: &Tally, began: Instant) {
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    println!(
        "{:>6} s: {:>10} requests, {:>10} by rolled-back VMs, {} wrong, {} failed, {:>6.1} MiB resident",
        began.elapsed().as_secs(),
        count(&tally.requests),
        count(&tally.rolled_back),
        count(&tally.wrong),
        count(&tally.failed),
        resident_bytes() as f64 / f64::from(1 << 20),
    );
}

fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches("kB").trim().parse::<u64>().unwrap() * 1024
}

/// A small generator of numbers, so that a seed tells what is asked.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % bound as u64).unwrap()
    }
}
