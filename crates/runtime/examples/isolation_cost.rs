//! What a request costs with a fresh VM, with a fresh one that was made ready before, with one that is rolled back, and with
//! one that is reused as it is: the driver alone, in one process, without HTTP, all in turn so that whatever else the
//! machine does meets all of them.
//!
//! ```text
//! cargo run --release -p forerun-runtime --example isolation_cost -- examples/python/dist/app.wasm /report
//! ```
//! *Latency* is from the call to the last byte of the response, and *faults* are the pages that the kernel had to provide
//! in that time; *CPU* is that of the one thread that works, what is done before and behind the response included. One
//! request at a time.

#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a tool for people at a terminal")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use forerun_driver::{InvokeError, Program};
use forerun_runtime::{WasmDriver, WasmSettings};
use forerun_specialize::passes::state::add_state_calls;
use forerun_types::ReusePolicy;

/// Rounds of all contenders, each with this many requests.
const ROUNDS: usize = 12;
const REQUESTS_PER_ROUND: usize = 100;

/// One way of serving, with what was measured of it.
struct Contender {
    name: &'static str,
    program: Arc<dyn Program>,
    /// A VM is made before each request.
    is_made_ready: bool,
    latencies_us: Vec<f64>,
    faults: Vec<f64>,
    cpu_us: Vec<f64>,
    answer: Option<Vec<u8>>,
    /// Why it does not answer: some runtimes have no second request in them.
    failed: Option<String>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let component = arguments.next().unwrap_or_else(|| "examples/python/dist/app.wasm".into());
    let path = arguments.next().unwrap_or_else(|| "/report".into());
    let source = std::fs::read(&component).unwrap();
    let prepared = add_state_calls(&source).unwrap();
    println!(
        "{component} {path}: {} memories, {} variable globals in {} modules",
        prepared.memories, prepared.globals, prepared.modules
    );
    let driver = WasmDriver::new(&WasmSettings { vms_max: 32, ..WasmSettings::default() }).unwrap();
    let reuse = ReusePolicy::Reuse { requests_max: u32::MAX, idle_ms: 3_600_000 };
    let mut contenders = [
        contender("fresh", &driver, &prepared.component, ReusePolicy::Fresh),
        Contender {
            is_made_ready: true,
            ..contender("fresh, made ready", &driver, &prepared.component, ReusePolicy::Fresh)
        },
        contender("rolled back", &driver, &prepared.component, ReusePolicy::Rollback),
        contender("reused, not isolated", &driver, &source, reuse),
    ];
    for round in 0..=ROUNDS {
        for contender in &mut contenders {
            contender.measure(&path, round > 0).await;
        }
    }
    for contender in &mut contenders {
        contender.show();
    }
    println!("{:?}", contenders[2].program.isolation());
}

fn contender(name: &'static str, driver: &WasmDriver, source: &[u8], reuse: ReusePolicy) -> Contender {
    let program = support::load(driver, source, reuse);
    Contender {
        name,
        program,
        is_made_ready: false,
        latencies_us: Vec::new(),
        faults: Vec::new(),
        cpu_us: Vec::new(),
        answer: None,
        failed: None,
    }
}

impl Contender {
    async fn measure(&mut self, path: &str, counts: bool) {
        if self.failed.is_some() {
            return;
        }
        let before = cpu();
        for _ in 0..REQUESTS_PER_ROUND {
            if self.is_made_ready {
                Arc::clone(&self.program).hold_ready(1).await.unwrap();
            }
            match self.request(path).await {
                Ok((took, faults)) if counts => {
                    self.latencies_us.push(took.as_secs_f64() * 1e6);
                    self.faults.push(faults as f64);
                }
                Ok(_) => {}
                Err(error) => {
                    self.failed = Some(error.to_string());
                    return;
                }
            }
        }
        if counts {
            self.cpu_us.push((cpu() - before).as_secs_f64() * 1e6 / REQUESTS_PER_ROUND as f64);
        }
    }

    /// How long it took, and how many pages had to be provided.
    async fn request(&mut self, path: &str) -> Result<(Duration, u64), InvokeError> {
        let before = faults();
        let support::Answered { status, body, took, ended } = support::try_get(&self.program, path).await?;
        let faults = faults() - before;
        assert!([200, 404].contains(&status), "{status}");
        // What is done behind the response belongs to this request, and is not to be in the way of the next.
        while ended.try_recv().is_err() {
            tokio::task::yield_now().await;
        }
        let same = self.answer.get_or_insert_with(|| body.clone());
        assert_eq!(*same, body, "every request has the same answer");
        Ok((took, faults))
    }

    fn show(&mut self) {
        if let Some(failed) = &self.failed {
            println!("{:22} does not go on answering: {failed}", self.name);
            return;
        }
        let (latencies, cpu) = (sorted(&mut self.latencies_us), sorted(&mut self.cpu_us));
        let of = |values: &[f64], share: f64| values[((values.len() - 1) as f64 * share) as usize];
        println!(
            "{:22} latency us p50 {:7.1} p99 {:7.1}   faults {:6.0}   CPU us a request {:7.1} (rounds {:.1} to {:.1})",
            self.name,
            of(latencies, 0.5),
            of(latencies, 0.99),
            of(sorted(&mut self.faults), 0.5),
            of(cpu, 0.5),
            of(cpu, 0.0),
            of(cpu, 1.0),
        );
    }
}

fn sorted(values: &mut [f64]) -> &[f64] {
    values.sort_by(f64::total_cmp);
    values
}

/// CPU time of this process's first thread, which does all of the work.
fn cpu() -> Duration {
    let text = std::fs::read_to_string("/proc/self/schedstat").unwrap();
    let nanos = text.split(' ').next().unwrap().parse().unwrap();
    Duration::from_nanos(nanos)
}

/// Pages that the kernel had to provide to this process so far.
fn faults() -> u64 {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap();
    // The name, in brackets, may have spaces in it.
    let behind_name = text.rsplit(')').next().unwrap();
    behind_name.split_whitespace().nth(7).unwrap().parse().unwrap()
}
