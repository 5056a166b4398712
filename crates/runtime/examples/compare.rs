//! Two components that should do the same, side by side: the same answers, and what each costs.
//!
//! They take turns, so that whatever else the machine does happens to both alike. Each request has a fresh VM, and for
//! throughput also one that is rolled back.
//!
//! `cargo run --release -p forerun-runtime --example compare -- a.wasm b.wasm 300 'GET /report' 'POST /analyse some text'`

#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "an example talks to its user, and may fail by panicking")]

mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use forerun_driver::{Chain, EndHook, Invocation, Program, full_body};
use forerun_runtime::{WasmDriver, WasmSettings};
use forerun_specialize::passes::state::add_state_calls;
use forerun_types::{InvocationId, ReusePolicy, TraceContext};
use http::Request;
use http_body_util::BodyExt;

/// Requests at the same time, for the comparison of answers.
const AT_ONCE: usize = 16;
const TIMEOUT: Duration = Duration::from_secs(20);
/// Throughput: slices of this length, each component's in turn, with this many requests under way.
const SLICES: usize = 7;
const SLICE: Duration = Duration::from_secs(1);
const UNDER_WAY: usize = 4;

type Answer = Result<(u16, Result<Bytes, String>), String>;

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [first, second, rounds, requests @ ..] = arguments.as_slice() else {
        println!("usage: compare a.wasm b.wasm ROUNDS 'METHOD PATH [BODY]'...");
        return;
    };
    let rounds: usize = rounds.parse().unwrap();
    let driver = WasmDriver::new(&WasmSettings::default()).unwrap();
    let programs = [first, second].map(|path| load_fresh(&driver, path));
    for program in &programs {
        let facts = program.facts();
        println!("compiled in {} ms, {} bytes of machine code and data", facts.compile_ms, facts.code_bytes);
    }
    for request in requests {
        let (one, other) = (answers(&programs[0], request).await, answers(&programs[1], request).await);
        let verdict = if one == other { "the same" } else { "DIFFERENT" };
        println!("{request:60.60} {verdict}, {}", shown(&one[0]));
    }
    let mut make_us = [Vec::new(), Vec::new()];
    for _ in 0..rounds {
        for (program, taken) in programs.iter().zip(&mut make_us) {
            Arc::clone(program).hold_ready(1).await.unwrap();
            taken.push(program.held_ready().make_us);
            Arc::clone(program).hold_ready(0).await.unwrap();
        }
    }
    println!("instantiate, µs: {}", figures(&mut make_us));
    for request in requests {
        let mut taken_us = [Vec::new(), Vec::new()];
        for _ in 0..rounds {
            for (program, taken) in programs.iter().zip(&mut taken_us) {
                let began = Instant::now();
                let _ = answer(program, request).await;
                taken.push(u64::try_from(began.elapsed().as_micros()).unwrap());
            }
        }
        println!("{request:60.60} µs: {}", figures(&mut taken_us));
    }
    let rolled_back = [first, second].map(|path| load_rolled_back(&driver, path));
    for (name, programs) in [("fresh", &programs), ("rolled back", &rolled_back)] {
        for request in requests {
            let mut per_second = [Vec::new(), Vec::new()];
            for slice in 0..=SLICES {
                for (program, rates) in programs.iter().zip(&mut per_second) {
                    let rate = throughput(program, request).await;
                    // The first is not counted.
                    rates.extend((slice > 0).then_some(rate));
                }
            }
            println!("{request:60.60} {name}, requests/s: {}", rates(&mut per_second));
        }
    }
}

/// Requests that were answered in a second.
async fn throughput(program: &Arc<dyn Program>, request: &str) -> u64 {
    let until = Instant::now() + SLICE;
    let clients = (0..UNDER_WAY).map(|_| {
        let (program, request) = (Arc::clone(program), request.to_owned());
        tokio::spawn(async move {
            let mut answered = 0;
            while Instant::now() < until {
                let (_status, body) = answer(&program, &request).await.unwrap();
                body.unwrap();
                answered += 1;
            }
            answered
        })
    });
    futures::future::join_all(clients).await.into_iter().map(Result::unwrap).sum()
}

fn load_fresh(driver: &WasmDriver, path: &str) -> Arc<dyn Program> {
    support::load(driver, &std::fs::read(path).unwrap(), ReusePolicy::Fresh)
}

fn load_rolled_back(driver: &WasmDriver, path: &str) -> Arc<dyn Program> {
    let prepared = add_state_calls(&std::fs::read(path).unwrap()).unwrap();
    support::load(driver, &prepared.component, ReusePolicy::Rollback)
}

/// The answers to several of one request at once.
async fn answers(program: &Arc<dyn Program>, request: &str) -> Vec<Answer> {
    let all = (0..AT_ONCE).map(|_| answer(program, request));
    futures::future::join_all(all).await
}

async fn answer(program: &Arc<dyn Program>, request: &str) -> Answer {
    let mut words = request.splitn(3, ' ');
    let (method, path) = (words.next().unwrap(), words.next().unwrap());
    let body = full_body(words.next().unwrap_or_default().to_owned());
    let request = Request::builder().method(method).uri(path).header("host", "example.test").body(body).unwrap();
    let invocation = Invocation {
        id: InvocationId::from_random(7),
        trace: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".parse::<TraceContext>().unwrap(),
        chain: Chain::begins(InvocationId::from_random(7), None),
        https: false,
        deadline: Instant::now() + TIMEOUT,
        end: EndHook::new(|_| {}),
    };
    let reply =
        Arc::clone(program).invoke(invocation, request).await.map_err(|error| format!("{:?}", error.outcome))?;
    let (head, body) = reply.response.into_parts();
    let body = body.collect().await.map(http_body_util::Collected::to_bytes).map_err(|error| error.to_string());
    Ok((head.status.as_u16(), body))
}

fn shown(answer: &Answer) -> String {
    match answer {
        Ok((status, Ok(body))) => format!("status {status}, {} bytes", body.len()),
        Ok((status, Err(broken))) => format!("status {status}, then {broken}"),
        Err(outcome) => outcome.clone(),
    }
}

/// Medians with the least and the most, and the ratio of the medians: the second's to the first's.
fn rates(per_second: &mut [Vec<u64>; 2]) -> String {
    per_second.iter_mut().for_each(|rates| rates.sort_unstable());
    let [a, b] = per_second.each_ref().map(|sorted| (sorted[sorted.len() / 2], sorted[0], sorted[sorted.len() - 1]));
    let ratio = b.0 as f64 / a.0.max(1) as f64;
    format!("p50 {} ({}-{}) and {} ({}-{}), {ratio:.2}x", a.0, a.1, a.2, b.0, b.1, b.2)
}

/// Medians and 99th percentiles, and the ratio of the medians.
fn figures(taken: &mut [Vec<u64>; 2]) -> String {
    let of = |sorted: &[u64], percent: usize| sorted[(sorted.len() - 1) * percent / 100];
    taken.iter_mut().for_each(|taken| taken.sort_unstable());
    let [a, b] = taken;
    let ratio = of(a, 50) as f64 / of(b, 50).max(1) as f64;
    format!("p50 {} and {} ({ratio:.1}x), p99 {} and {}", of(a, 50), of(b, 50), of(a, 99), of(b, 99))
}
