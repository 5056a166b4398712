//! A synthetic node: many functions, many calls, with the time and memory that the engine takes.
//!
//! `synthetic [functions] [events]`; by default a million functions and ten million events over a day. Functions are
//! called as often as their rank in a Zipf law says, a hundred functions form an application, and half of the calls of an
//! application follow a fixed order. It prints the time per event with everything on, including a forecast and a plan
//! after every call, and the resident memory per function.

use forerun_predict::engine::{Engine, Outlook};
use forerun_predict::event::{Call, Target};
use forerun_predict::hash::mix;
use forerun_predict::plan::{Course, PlanTerms};
use forerun_predict::settings::EngineSettings;
use std::error::Error;
use std::io::Write;
use std::time::Instant;

const APPLICATION: u64 = 100;
const DAY_US: u64 = 86_400_000_000;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let functions: u64 = arguments.next().map_or(Ok(1_000_000), |text| text.parse())?;
    let events: u64 = arguments.next().map_or(Ok(10_000_000), |text| text.parse())?;
    let scoped = arguments.next().as_deref() != Some("unscoped");
    let mut out = std::io::stdout();
    let mut engine = Engine::new(EngineSettings::default());
    let mut outlook = Outlook::default();
    let mut windows = Vec::new();
    let before_bytes = resident_bytes();
    let (start, start_cpu_s, mut last_cpu_s, mut plans) = (Instant::now(), cpu_s(), cpu_s(), 0u64);
    let mut previous = vec![0u64; (functions / APPLICATION + 1) as usize];
    for event in 0..events {
        let function = draw(event, functions, &mut previous);
        let target = Target { scope: scoped.then_some((function / APPLICATION) as u32), kind: function as u32 };
        let at_us = event * (DAY_US / events);
        engine.observe(&Call { at_us, target, session: None, caller: None, class: 0, count: 1 });
        engine.outlook(target, None, &mut outlook);
        let terms = PlanTerms { value: 3_600.0, hold_per_s: 1.0, load: 30.0, held: true };
        let course = Course::new(engine.bins(), &outlook.event.hazards);
        for candidate in &outlook.candidates {
            course.plan(engine.bins(), candidate.probability, terms, &mut windows);
            plans += u64::from(!windows.is_empty());
        }
        if (event + 1).is_multiple_of((events / 10).max(1)) {
            let us = (cpu_s() - last_cpu_s) * 1e6 / (events / 10).max(1) as f64;
            last_cpu_s = cpu_s();
            let used = resident_bytes().saturating_sub(before_bytes);
            let known = engine.timing().len().max(1);
            writeln!(
                out,
                "{:>9} events {:>8} functions {us:>6.2} us CPU/event {:>6} MB {:>5} B/function",
                event + 1,
                known,
                used >> 20,
                used / known as u64
            )?;
        }
    }
    let us = (cpu_s() - start_cpu_s) * 1e6 / events as f64;
    let wall_s = start.elapsed().as_secs_f64();
    writeln!(out, "{events} events, {us:.2} us of CPU each, {wall_s:.1} s in all, {plans} plans")?;
    Ok(())
}

/// The next function: the successor of its application's last call half of the time, else by rank.
fn draw(event: u64, functions: u64, previous: &mut [u64]) -> u64 {
    let noise = mix(event);
    // Every function is called at least once, spread over the run.
    if event.is_multiple_of(10) {
        return (event / 10) % functions;
    }
    let uniform = (noise >> 11) as f64 / (1u64 << 53) as f64;
    let rank = ((functions as f64).powf(uniform) - 1.0) as u64 % functions;
    let application = (mix(rank) % functions / APPLICATION) as usize;
    let first = application as u64 * APPLICATION;
    let size = APPLICATION.min(functions - first);
    let follows = mix(noise).is_multiple_of(2);
    let place = if follows { (previous[application] * 7 + 1) % size } else { mix(noise ^ 1) % size.min(8) };
    previous[application] = place;
    first + place
}

/// CPU time of this process, in seconds; what else runs on the machine does not count.
fn cpu_s() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks: u64 = fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    ticks as f64 / 100.0
}

/// Resident memory of this process, 0 where the system does not say.
fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0);
    pages * 4_096
}
