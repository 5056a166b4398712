//! Real worker processes, well-behaved and not: each must end in its named way and leave nothing behind.
//!
//! Not a libtest binary, because it is its own worker: called with `worker` it plays that role. Otherwise
//! it runs the tests one after the other; an argument selects those whose name contains it.

#![allow(clippy::unwrap_used, clippy::print_stderr, clippy::print_stdout, missing_docs)]

#[path = "worker/jobs.rs"]
mod jobs;
#[path = "worker/misbehaviour.rs"]
mod misbehaviour;
#[path = "worker/supervision.rs"]
mod supervision;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use bytes::Bytes;
use forerun_specialize::{Job, JobKind, Scheduling, Supervisor, WorkerSettings, worker_main};
use rustix::process::WaitOptions;

/// That of the real binary: it reserves memory in advance, which the limits must bear.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Test = (&'static str, fn());

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some("worker") => worker_main(jobs::work),
        Some("supervisor-that-dies") => supervision::start_a_job_and_die(),
        Some("--list") => {
            all().for_each(|(name, _)| println!("{name}: test"));
            ExitCode::SUCCESS
        }
        Some(_) | None => run_tests(&arguments),
    }
}

fn all() -> impl Iterator<Item = Test> {
    supervision::TESTS.iter().chain(misbehaviour::TESTS).copied()
}

fn run_tests(arguments: &[String]) -> ExitCode {
    let filter = arguments.iter().find(|argument| !argument.starts_with('-')).map_or("", String::as_str);
    let mut failed = Vec::new();
    let mut count = 0;
    for (name, test) in all().filter(|(name, _)| name.contains(filter)) {
        count += 1;
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            test();
            assert_nothing_left();
        }));
        println!("test {name} ... {}", if outcome.is_ok() { "ok" } else { "FAILED" });
        if outcome.is_err() {
            failed.push(name);
        }
    }
    println!("\ntest result: {} passed; {} failed {failed:?}\n", count - failed.len(), failed.len());
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Neither a process nor a zombie: the kernel knows no child of ours.
fn assert_nothing_left() {
    assert_eq!(rustix::process::wait(WaitOptions::NOHANG).unwrap_err(), rustix::io::Errno::CHILD);
}

/// Small limits. Of normal priority, because a test machine may be busy; the deadline is for a hang of
/// the test only.
fn settings() -> WorkerSettings {
    WorkerSettings {
        memory_bytes_max: 256 << 20,
        cpu_ms_max: 20_000,
        wall_ms_max: 120_000,
        output_bytes_max: 1 << 20,
        threads_max: 16,
        compile_threads: 2,
        scheduling: Scheduling::Normal,
        ..WorkerSettings::default()
    }
}

fn supervisor() -> Supervisor {
    Supervisor::new(settings())
}

/// A job for `jobs::work`.
fn job(what: &str) -> Job {
    let parameters = format!("{{\"what\":\"{what}\"}}").into_bytes();
    Job { kind: JobKind(7), parameters, component: Bytes::from_static(b"component") }
}
