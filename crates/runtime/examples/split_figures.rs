//! What a split of one component costs and saves on this machine, with one compile thread:
//!
//! ```text
//! cargo run --release -p forerun-runtime --example split_figures -- component.wasm / /another
//! ```
//!
//! The first path is the predicted one: what it runs is found out by a split in which everything that may be is cold,
//! one function a group. The second is one that nobody predicted. Times of compiling are processor time. Not a test: figures
//! depend on the machine.

#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs, reason = "a tool for measuring")]

#[path = "../tests/common/mod.rs"]
mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use common::{Guest, code_image, get, image, load_image, load_split, spec};
use forerun_driver::AuthenticImage;
use forerun_runtime::{
    ColdCode, ColdFills, ColdLayout, ColdSource, Interruption, Miss, MissListener, SplitProgram, Tier, compile,
    compile_module,
};
use forerun_specialize::passes::split::{Known, Split, SplitPlan, split};

const REQUESTS: usize = 200;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [component, predicted, other] = &arguments[..] else {
        println!("usage: split_figures <component> <predicted path> <another path>");
        return;
    };
    let source = std::fs::read(component).unwrap();
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(measure(&source, predicted, other));
}

async fn measure(source: &[u8], predicted: &str, other: &str) {
    let hot = learn(source, predicted).await;
    println!("{} functions run for {predicted} beside the pinned and tiny ones", hot.len());

    let (code, whole_ms) = timed(|| compile(source, Tier::Full, false).unwrap());
    println!("whole    compile {whole_ms:>7} ms  machine code file {:>9} bytes", code.len());
    let whole = load_image(source, &code, &spec()).unwrap();

    let known = hot.into_iter().map(|function| (function, 1000)).collect();
    let plan = SplitPlan::new(Known::ByIndex(known), 1);
    let (parts, split_ms) = timed(|| split(source, &plan).unwrap());
    let (primary, primary_ms) = timed(|| compile(&parts.primary, Tier::Full, false).unwrap());
    println!(
        "primary  compile {primary_ms:>7} ms  machine code file {:>9} bytes  (split {split_ms} ms)",
        primary.len()
    );
    for tier in [Tier::Quick, Tier::Full] {
        let (groups, ms) = timed(|| compile_groups(&parts, tier));
        let bytes: usize = groups.iter().map(Vec::len).sum();
        println!(
            "groups   compile {ms:>7} ms  machine code file {bytes:>9} bytes  ({} groups, {tier:?})",
            groups.len()
        );
    }
    println!("{:?}, {} ‰ hot", parts.report, parts.report.hot_permille());

    let cold = Arc::new(Cold::new(&parts, Some(compile_groups(&parts, Tier::Full))));
    let split = load(&parts, &cold, Some(image(&primary)));
    for path in [predicted, other] {
        for (name, guest) in [("whole", &whole), ("split", &split)] {
            let times = requests(guest, path).await;
            let misses = cold.take().len();
            println!(
                "{path:<10} {name}  median {:>6} µs  fastest {:>6} µs  {:.1} misses a request",
                times[REQUESTS / 2].as_micros(),
                times[0].as_micros(),
                misses as f64 / REQUESTS as f64
            );
        }
    }
    let _ = split.call(get(other)).await;
    for miss in cold.take() {
        println!("miss {miss:?}");
    }
}

/// The functions that a request for `path` enters, of those that can be cold. A guest may run other code when it is slow,
/// as it is while it is compiled function by function; so the path is taken several times.
async fn learn(source: &[u8], path: &str) -> BTreeSet<u32> {
    let mut plan = SplitPlan::new(Known::ByIndex(BTreeMap::new()), 1);
    plan.group_functions_max = 1;
    let parts = split(source, &plan).unwrap();
    let cold = Arc::new(Cold::new(&parts, None));
    let mut guest = load(&parts, &cold, None);
    guest.timeout = Duration::from_secs(300);
    for _ in 0..5 {
        let (status, _, end) = guest.call(get(path)).await;
        assert!(status != 0, "{end:?}");
    }
    cold.take().iter().map(|miss| parts.groups[miss.group as usize].functions[0]).collect()
}

fn load(parts: &Split, cold: &Arc<Cold>, image: Option<AuthenticImage>) -> Guest {
    let groups = parts.groups.iter();
    let fills = groups.map(|group| ColdFills { first_slot: group.first_slot, positions: &group.positions });
    let program = SplitProgram {
        layout: ColdLayout::new(fills, parts.report.slots).unwrap(),
        source: Arc::clone(cold) as _,
        listener: Arc::clone(cold) as _,
        groups_per_vm_max: 1_000_000,
        interruption: Interruption::Epochs,
    };
    load_split(&parts.primary, image, program, &spec()).unwrap()
}

fn compile_groups(parts: &Split, tier: Tier) -> Vec<Vec<u8>> {
    parts.groups.iter().map(|group| compile_module(&group.module, tier, Interruption::Epochs).unwrap()).collect()
}

/// Times of requests, fastest first.
async fn requests(guest: &Guest, path: &str) -> Vec<Duration> {
    let mut times = Vec::with_capacity(REQUESTS);
    for _ in 0..REQUESTS {
        let began = Instant::now();
        let _ = guest.call(get(path)).await;
        times.push(began.elapsed());
    }
    times.sort_unstable();
    times
}

fn timed<T>(work: impl FnOnce() -> T) -> (T, u128) {
    let began_ms = cpu_ms();
    let result = work();
    (result, cpu_ms() - began_ms)
}

/// Processor time of this thread, as Linux counts it.
fn cpu_ms() -> u128 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    text.split(' ').next().unwrap().parse::<u128>().unwrap() / 1_000_000
}

struct Cold {
    sources: Vec<Bytes>,
    compiled: Option<Vec<Vec<u8>>>,
    misses: Mutex<Vec<Miss>>,
}

impl Cold {
    fn new(parts: &Split, compiled: Option<Vec<Vec<u8>>>) -> Self {
        let sources = parts.groups.iter().map(|group| Bytes::copy_from_slice(&group.module)).collect();
        Self { sources, compiled, misses: Mutex::default() }
    }

    fn take(&self) -> Vec<Miss> {
        std::mem::take(&mut self.misses.lock().unwrap())
    }
}

impl ColdSource for Cold {
    fn code(&self, group: u32) -> ColdCode {
        match &self.compiled {
            Some(compiled) => code_image(&compiled[group as usize]),
            None => ColdCode::Source(self.sources[group as usize].clone()),
        }
    }
}

impl MissListener for Cold {
    fn missed(&self, miss: Miss) {
        self.misses.lock().unwrap().push(miss);
    }
}
