//! Measures what events cost: idle CPU of the writer thread, cost of `record`, and CPU of 50,000 events/s through
//! metrics and recent invocations. Run with `cargo run --release -p forerun-telemetry --example pipe_rate`.

#![allow(clippy::print_stdout, reason = "the figures are its result")]

use std::time::{Duration, Instant};

use forerun_telemetry::{
    EVENT_PIPE_CAPACITY, EventWriter, InvocationEvent, Metrics, Phases, RecentInvocations, RequestClass, event_pipe,
};
use forerun_types::{GenericReason, InvocationId, Outcome, RevisionNumber, ServePath, SpanId, TraceContext, TraceId};
use rustix::time::{ClockId, clock_gettime};

const EVENTS_PER_SECOND: u64 = 50_000;
const SECONDS: u64 = 4;

fn main() {
    let (sender, receiver) = event_pipe(EVENT_PIPE_CAPACITY);
    let metrics = Metrics::new("measured");
    let recent = RecentInvocations::new(10_000);
    let writer = EventWriter::start(receiver, vec![Box::new(metrics), Box::new(recent)], || {}).expect("a thread");
    let idle = cpu_of(|| std::thread::sleep(Duration::from_secs(SECONDS)));
    println!("idle: {:.3} % of a core", share(idle));
    let template = event();
    let mut recording = Duration::ZERO;
    let busy = cpu_of(|| {
        let begin = Instant::now();
        for millisecond in 0..SECONDS * 1000 {
            let due = begin + Duration::from_millis(millisecond);
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            let start = Instant::now();
            for _ in 0..EVENTS_PER_SECOND / 1000 {
                sender.record(template.clone());
            }
            recording += start.elapsed();
        }
    });
    let events = EVENTS_PER_SECOND * SECONDS;
    println!("{EVENTS_PER_SECOND} events/s: {:.1} % of a core in all, {} dropped", share(busy), sender.dropped_total());
    println!("clone and record: {} ns an event", recording.as_nanos() / u128::from(events));
    writer.stop();
}

fn cpu_of(work: impl FnOnce()) -> Duration {
    let now = || {
        let time = clock_gettime(ClockId::ProcessCPUTime);
        Duration::from_secs(time.tv_sec.unsigned_abs()) + Duration::from_nanos(time.tv_nsec.unsigned_abs())
    };
    let begin = now();
    work();
    now() - begin
}

fn share(cpu: Duration) -> f64 {
    cpu.as_secs_f64() / SECONDS as f64 * 100.0
}

fn event() -> InvocationEvent {
    InvocationEvent {
        id: InvocationId::from_random(1),
        started_unix_us: 1,
        function: "cart".parse().expect("a name"),
        app: "shop".into(),
        revision: RevisionNumber(1),
        class: RequestClass { method: "GET", route: "/cart/...".into(), size_bucket: 0 },
        trace: TraceContext { trace_id: TraceId::from_random(1), span_id: SpanId::from_random(1), sampled: true },
        parent_span: None,
        caller: None,
        session: None,
        serve_path: ServePath::Generic(GenericReason::NoImage),
        outcome: Outcome::Ok,
        status: 200,
        phases: Phases { routed_us: 1, admitted_us: 2, deployed_us: 3, first_byte_us: 4, total_us: 5 },
        busy_us: 1,
        calls_us: 0,
        cpu_us: None,
        memory_bytes_peak: 1 << 20,
        bytes_in: 0,
        bytes_out: 10,
    }
}
