//! Measures what 50,000 events a second cost whoever serves requests: threads that work as requests do, and record an
//! event each, with and without that flood through the whole pipe: metrics, recent invocations and the history on disk.
//! Run with `cargo run --release -p forerun-store --example events_beside_requests -- <empty directory> [rounds]`.
//!
//! Both are measured in turn, in slices of half a second; the ratio is made within a pair of slices, and the median
//! counts. A node on two cores answers some 20,000 requests a second, each of which makes one event: the flood is more
//! than requests can cause. Ends with exit code 1 where the target was not met or a loss was not counted.

#![allow(clippy::print_stdout, reason = "the figures are its result")]

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use forerun_store::{HistorySettings, Store, StoreSettings};
use forerun_telemetry::{
    Detached, EVENT_PIPE_CAPACITY, EventSender, EventSink, EventWriter, InvocationEvent, Metrics, Phases,
    RecentInvocations, RequestClass, event_pipe, stand_back,
};
use forerun_types::{GenericReason, InvocationId, Outcome, RevisionNumber, ServePath, SpanId, TraceContext, TraceId};

const EVENTS_PER_SECOND: u64 = 50_000;
/// Threads that serve, one for each of two cores.
const SERVERS: u64 = 2;
const SLICE: Duration = Duration::from_millis(500);
const ROUNDS: usize = 20;
/// Throughput beside the flood, as a share of that without it.
const TARGET: f64 = 0.98;
/// Steps of a request's work, one after the other: some 50 µs, about what a small request takes in a fresh VM.
const STEPS_OF_A_REQUEST: u64 = 40_000;

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let directory = PathBuf::from(arguments.next().ok_or("usage: events_beside_requests <empty directory> [rounds]")?);
    let rounds = arguments.next().map_or(Ok(ROUNDS), |text| text.parse())?;
    let store = Store::open(&directory, StoreSettings::default())?;
    let (journal, writer, history) = store.history(HistorySettings::default())?;
    let journal = journal.settled_by(writer, stand_back)?;
    let (sender, receiver) = event_pipe(EVENT_PIPE_CAPACITY);
    let detached = Detached::start("forerun-journal", EVENT_PIPE_CAPACITY, Box::new(journal), || {})?;
    let counts = detached.counts();
    let sinks: Vec<Box<dyn EventSink>> =
        vec![Box::new(Metrics::new("measured")), Box::new(RecentInvocations::new(10_000)), Box::new(detached)];
    let writer = EventWriter::start(receiver, sinks, stand_back)?;

    let (served, flooding, stop) = (AtomicU64::new(0), AtomicBool::new(false), AtomicBool::new(false));
    let flooded = AtomicU64::new(0);
    let mut ratios = Vec::new();
    thread::scope(|scope| {
        for number in 0..SERVERS {
            let (sender, served, stop) = (sender.clone(), &served, &stop);
            scope.spawn(move || serve(&sender, number, served, stop));
        }
        scope.spawn(|| flood(&sender, &flooding, &stop, &flooded));
        let slice = |with: bool| {
            flooding.store(with, Ordering::Relaxed);
            // What the slice before has left behind is worked off.
            thread::sleep(SLICE / 2);
            let (before, began) = (served.load(Ordering::Relaxed), Instant::now());
            thread::sleep(SLICE);
            (served.load(Ordering::Relaxed) - before) as f64 / began.elapsed().as_secs_f64()
        };
        for round in 0..rounds {
            // Every other pair goes backwards, so that what drifts on the machine hits both alike.
            let (with, without) = if round % 2 == 0 {
                let without = slice(false);
                (slice(true), without)
            } else {
                (slice(true), slice(false))
            };
            println!("{without:.0} requests/s, {with:.0} beside the flood: {:.3}", with / without);
            ratios.push(with / without);
        }
        stop.store(true, Ordering::Relaxed);
    });
    writer.stop();
    let recorded = flooded.load(Ordering::Relaxed) + served.load(Ordering::Relaxed);
    let lost = counts.dropped_total() + history.lost_events_total();
    let written = recorded - sender.dropped_total() - lost;
    ratios.sort_by(f64::total_cmp);
    let median = ratios[ratios.len() / 2];
    let is_met = median >= TARGET;
    println!(
        "{recorded} events: {} dropped by the pipe, {lost} by the history, {written} kept",
        sender.dropped_total()
    );
    println!(
        "requests beside {EVENTS_PER_SECOND} events/s: {median:.3} of those without ({:.3}-{:.3})",
        ratios[0],
        ratios[ratios.len() - 1]
    );
    println!("wanted: at least {TARGET}: {}", if is_met { "met" } else { "not met" });
    // What is on disk, and not what somebody remembers.
    drop((history, store));
    let rows = rows(&directory)?;
    println!("the history has {rows} of them");
    Ok(if is_met && rows == written { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Works as a thread that answers requests does, and records each.
fn serve(sender: &EventSender, number: u64, served: &AtomicU64, stop: &AtomicBool) {
    let mut state = number + 1;
    let mut requests = 0;
    let template = template();
    while !stop.load(Ordering::Relaxed) {
        for _ in 0..STEPS_OF_A_REQUEST {
            // Kept from the compiler, which would do several steps at once.
            state = std::hint::black_box(state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1));
        }
        sender.record(event(&template, number << 60 | requests));
        requests += 1;
        served.fetch_add(1, Ordering::Relaxed);
    }
}

/// Records events at their rate, a millisecond's at a time, while that is asked for.
fn flood(sender: &EventSender, flooding: &AtomicBool, stop: &AtomicBool, flooded: &AtomicU64) {
    let mut due = Instant::now();
    let template = template();
    while !stop.load(Ordering::Relaxed) {
        due = due.max(Instant::now() - Duration::from_millis(100)) + Duration::from_millis(1);
        thread::sleep(due.saturating_duration_since(Instant::now()));
        if flooding.load(Ordering::Relaxed) {
            for _ in 0..EVENTS_PER_SECOND / 1000 {
                sender.record(event(&template, 8 << 60 | flooded.fetch_add(1, Ordering::Relaxed)));
            }
        }
    }
}

/// Rows of the history, by its own count.
fn rows(directory: &std::path::Path) -> Result<u64, Box<dyn Error>> {
    let store = Store::open(directory, StoreSettings::default())?;
    let (_journal, mut writer, history) = store.history(HistorySettings::default())?;
    writer.settle()?;
    let query = forerun_store::ExportQuery::all(forerun_store::ExportTable::Loads);
    let mut text = Vec::new();
    history.export(&query, forerun_store::ExportFormat::JsonLines, &mut text)?;
    let calls = |line: &str| serde_json::from_str::<serde_json::Value>(line).ok()?["calls"].as_u64();
    Ok(String::from_utf8_lossy(&text).lines().filter_map(calls).sum())
}

/// An event like others, with ids of its own.
fn event(template: &InvocationEvent, number: u64) -> InvocationEvent {
    let random = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let id = u128::from(random) << 64 | u128::from(number);
    let trace =
        TraceContext { trace_id: TraceId::from_random(id), span_id: SpanId::from_random(random), sampled: true };
    InvocationEvent { id: InvocationId::from_random(id), trace, ..template.clone() }
}

fn template() -> InvocationEvent {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    InvocationEvent {
        id: InvocationId::from_random(0),
        started_unix_us: u64::try_from(now.as_micros()).unwrap_or(u64::MAX),
        function: "cart".parse().expect("a name"),
        app: "shop".into(),
        revision: RevisionNumber(1),
        class: RequestClass { method: "GET", route: "/cart/...".into(), size_bucket: 0 },
        trace: TraceContext { trace_id: TraceId::from_random(0), span_id: SpanId::from_random(0), sampled: true },
        parent_span: None,
        caller: None,
        session: None,
        serve_path: ServePath::Generic(GenericReason::NoImage),
        outcome: Outcome::Ok,
        status: 200,
        phases: Phases { routed_us: 3, admitted_us: 4, deployed_us: 150, first_byte_us: 900, total_us: 1000 },
        busy_us: 700,
        calls_us: 0,
        cpu_us: None,
        memory_bytes_peak: 1 << 20,
        bytes_in: 0,
        bytes_out: 10,
    }
}
