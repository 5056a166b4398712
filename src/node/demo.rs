//! Made-up visitors, for `forerun up --demo`: each goes through the application as `demo.toml` says, and what they see
//! of the node's work is said every few seconds.
//!
//! Visitors are threads that send real requests to the gateway, one after the other, and tell themselves apart by a
//! cookie. All they know comes from the answers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use forerun_manifest::{Demo, DemoStep};
use ureq::Agent;
use ureq::http::{HeaderMap, Request};

use crate::cli::output::Output;

/// Name of the cookie that tells visitors apart.
pub(crate) const SESSION_COOKIE: &str = "visitor";
/// Between two lines about how it goes.
const SAY_EVERY: Duration = Duration::from_secs(5);
/// A visitor gives up on an answer after this.
const PATIENCE: Duration = Duration::from_secs(30);
/// Bytes of one answer that are read.
const BODY_BYTES_MAX: u64 = 8 << 20;

/// What a visitor saw of one answer.
struct Seen {
    path: String,
    deploy_us: f64,
    well: bool,
}

/// Visitors at work; they stop when this is dropped.
pub(crate) struct Visitors {
    stop: Arc<AtomicBool>,
}

impl Visitors {
    /// Sends them to `address`, and a thread to say how it goes.
    pub(crate) fn start(demo: Demo, address: &str, output: Output) -> std::io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let (sender, receiver) = mpsc::channel();
        let demo = Arc::new(demo);
        for number in 0..demo.visitors {
            let visitor = Visitor {
                demo: Arc::clone(&demo),
                address: address.to_owned(),
                agent: agent(),
                chance: Chance(u64::from(number) + 1),
                seen: sender.clone(),
                stop: Arc::clone(&stop),
            };
            std::thread::Builder::new().name(format!("visitor-{number}")).spawn(move || visitor.run(number))?;
        }
        std::thread::Builder::new().name("visitors-said".into()).spawn(move || say(&output, &receiver))?;
        Ok(Self { stop })
    }
}

impl Drop for Visitors {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

struct Visitor {
    demo: Arc<Demo>,
    address: String,
    agent: Agent,
    chance: Chance,
    seen: Sender<Seen>,
    stop: Arc<AtomicBool>,
}

impl Visitor {
    fn run(mut self, number: u32) {
        for visit in 0u64.. {
            let mut cookies = BTreeMap::from([(SESSION_COOKIE.to_owned(), format!("{number}-{visit}"))]);
            let mut step = self.demo.steps.first().cloned();
            while let Some(at) = step {
                if self.stop.load(Ordering::Relaxed) || !self.request(&at, &mut cookies) {
                    return;
                }
                self.pause(self.demo.pause_ms);
                step = self.next(&at);
            }
            self.pause(self.demo.rest_ms);
        }
    }

    /// Whether anybody still listens to what is seen.
    fn request(&self, step: &DemoStep, cookies: &mut BTreeMap<String, String>) -> bool {
        let (method, path) = step.request.split_once(' ').unwrap_or(("GET", "/"));
        let cookie: Vec<String> = cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let request = Request::builder().method(method).uri(format!("{}{path}", self.address));
        let Ok(request) = request.header("cookie", cookie.join("; ")).body(()) else { return true };
        let seen = match self.agent.run(request) {
            Ok(mut response) => {
                keep_cookies(response.headers(), cookies);
                let whole = response.body_mut().with_config().limit(BODY_BYTES_MAX).read_to_vec().is_ok();
                let (path, deploy_us) = served(response.headers());
                Seen { path, deploy_us, well: whole && !response.status().is_server_error() }
            }
            Err(_) => Seen { path: String::new(), deploy_us: 0.0, well: false },
        };
        self.seen.send(seen).is_ok()
    }

    fn next(&mut self, step: &DemoStep) -> Option<DemoStep> {
        let mut drawn = self.chance.below(100);
        let next = step.then.iter().find(|(_, chance)| {
            let hit = drawn < u64::from(**chance);
            drawn = drawn.saturating_sub(u64::from(**chance));
            hit
        });
        let (name, _) = next?;
        self.demo.steps.iter().find(|step| step.name == *name).cloned()
    }

    fn pause(&mut self, [shortest, longest]: [u64; 2]) {
        std::thread::sleep(Duration::from_millis(shortest + self.chance.below(longest - shortest + 1)));
    }
}

fn agent() -> Agent {
    let config = Agent::config_builder().timeout_global(Some(PATIENCE)).http_status_as_error(false);
    config.max_redirects(0).build().into()
}

fn keep_cookies(headers: &HeaderMap, cookies: &mut BTreeMap<String, String>) {
    for value in headers.get_all("set-cookie").iter().filter_map(|value| value.to_str().ok()) {
        let pair = value.split(';').next().unwrap_or_default();
        if let Some((name, value)) = pair.split_once('=') {
            cookies.insert(name.trim().to_owned(), value.trim().to_owned());
        }
    }
}

/// Serve path and time until a VM was there, as the answer has them in `Server-Timing`.
fn served(headers: &HeaderMap) -> (String, f64) {
    let line = headers.get("server-timing").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let path = line.split('"').nth(1).unwrap_or("unknown").to_owned();
    let deploy_ms =
        line.split("deploy;dur=").nth(1).and_then(|rest| rest.split([',', ' ']).next()?.parse::<f64>().ok());
    (path, deploy_ms.unwrap_or(0.0) * 1e3)
}

/// Says every few seconds how the answers of that time were served.
fn say(output: &Output, receiver: &Receiver<Seen>) {
    let began = Instant::now();
    let mut next = began + SAY_EVERY;
    let mut seen = Vec::new();
    loop {
        match receiver.recv_timeout(next.saturating_duration_since(Instant::now())) {
            Ok(one) => seen.push(one),
            Err(RecvTimeoutError::Timeout) => {
                output.note(&line(began.elapsed().as_secs(), &seen));
                seen.clear();
                next += SAY_EVERY;
            }
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

fn line(elapsed_s: u64, seen: &[Seen]) -> String {
    let is_warm = |seen: &&Seen| !seen.path.starts_with("generic");
    let warm: Vec<f64> = seen.iter().filter(is_warm).map(|seen| seen.deploy_us).collect();
    let cold: Vec<f64> = seen.iter().filter(|seen| !is_warm(seen)).map(|seen| seen.deploy_us).collect();
    let failed = seen.iter().filter(|seen| !seen.well).count();
    let share = 100.0 * warm.len() as f64 / seen.len().max(1) as f64;
    let failures = if failed == 0 { String::new() } else { format!(", {failed} failed") };
    format!(
        "demo {elapsed_s:>4} s: {:>3} requests, {share:>3.0} % by a VM that was ready; until a VM was there {} when ready, \
         {} otherwise{failures}",
        seen.len(),
        median(warm),
        median(cold),
    )
}

fn median(mut values_us: Vec<f64>) -> String {
    values_us.sort_by(f64::total_cmp);
    values_us.get(values_us.len() / 2).map_or_else(|| "-".to_owned(), |us| format!("{us:.0} µs"))
}

/// Random enough for visitors, and the same at each start (`SplitMix64`, Steele et al. 2014).
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound.max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_answer_says_is_understood() {
        let mut headers = HeaderMap::new();
        let timing = "path;desc=\"ready\", route;dur=0.010, queue;dur=0.001, deploy;dur=0.012, handler;dur=0.2";
        headers.insert("server-timing", timing.parse().unwrap());
        headers.append("set-cookie", "basket=lamp.2; path=/".parse().unwrap());
        assert_eq!(served(&headers), ("ready".to_owned(), 12.0));
        assert_eq!(served(&HeaderMap::new()), ("unknown".to_owned(), 0.0));
        let mut cookies = BTreeMap::new();
        keep_cookies(&headers, &mut cookies);
        assert_eq!(cookies, BTreeMap::from([("basket".to_owned(), "lamp.2".to_owned())]));
    }

    #[test]
    fn the_line_counts_and_compares() {
        let seen = |path: &str, deploy_us, well| Seen { path: path.into(), deploy_us, well };
        let seen =
            [seen("ready", 10.0, true), seen("generic-no-image", 300.0, true), seen("generic-no-image", 500.0, false)];
        let line = line(5, &seen);
        assert!(line.contains("3 requests") && line.contains(" 33 %") && line.contains("10 µs"), "{line}");
        assert!(line.contains("500 µs") && line.contains("1 failed"), "{line}");
    }
}
