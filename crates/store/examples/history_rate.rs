//! Measures what the history costs: CPU and bytes for each event. Run with
//! `cargo run --release -p forerun-store --example history_rate <empty directory>`.

#![allow(clippy::print_stdout, reason = "the figures are its result")]

use std::error::Error;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use forerun_store::{HistorySettings, Store, StoreSettings};
use forerun_telemetry::{EventSink, InvocationEvent, Phases, RequestClass};
use forerun_types::{GenericReason, InvocationId, Outcome, RevisionNumber, ServePath, SpanId, TraceContext, TraceId};

const EVENTS: u64 = 500_000;
const BATCH_EVENTS: u64 = 512;

fn main() -> Result<(), Box<dyn Error>> {
    let directory = PathBuf::from(std::env::args().nth(1).ok_or("usage: history_rate <empty directory>")?);
    let store = Store::open(&directory, StoreSettings::default())?;
    let (mut journal, mut writer, history) = store.history(HistorySettings::default())?;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    let start_us = u64::try_from(now.as_micros())?;
    let begin = Instant::now();
    let mut appending = Duration::ZERO;
    for batch in 0..EVENTS / BATCH_EVENTS {
        let events: Vec<_> = (0..BATCH_EVENTS).map(|number| event(start_us, batch * BATCH_EVENTS + number)).collect();
        let before = Instant::now();
        journal.take(&events);
        appending += before.elapsed();
        writer.settle()?;
    }
    let elapsed = begin.elapsed();
    println!(
        "{:.1} us an event, {:.0} events/s",
        elapsed.as_secs_f64() * 1e6 / EVENTS as f64,
        EVENTS as f64 / elapsed.as_secs_f64()
    );
    println!(
        "of it {:.2} us until it is safe from the death of the process",
        appending.as_secs_f64() * 1e6 / EVENTS as f64
    );
    println!("{:.0} bytes an event", history.size_bytes()? as f64 / EVENTS as f64);
    println!("{} lost", history.lost_events_total());
    Ok(())
}

/// Events of five functions, 10,000 a second, with ids and figures that differ.
fn event(start_us: u64, number: u64) -> InvocationEvent {
    let random = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let id = u128::from(random) << 64 | u128::from(number);
    InvocationEvent {
        id: InvocationId::from_random(id),
        started_unix_us: start_us + number * 100,
        function: format!("function-{}", number % 5).parse().expect("a name"),
        app: "shop".into(),
        revision: RevisionNumber(1),
        class: RequestClass { method: "GET", route: "/cart/...".into(), size_bucket: 0 },
        trace: TraceContext { trace_id: TraceId::from_random(id), span_id: SpanId::from_random(random), sampled: true },
        parent_span: Some(SpanId::from_random(random)),
        caller: None,
        session: None,
        serve_path: ServePath::Generic(GenericReason::NoImage),
        outcome: Outcome::Ok,
        status: 200,
        phases: Phases {
            routed_us: 3,
            admitted_us: 4,
            deployed_us: 150,
            first_byte_us: 900,
            total_us: 1000 + random % 1000,
        },
        busy_us: 700,
        calls_us: 0,
        cpu_us: None,
        memory_bytes_peak: 1 << 20,
        bytes_in: 100,
        bytes_out: 2000,
    }
}
