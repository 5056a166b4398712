//! The live feed: once a second, one line of figures for everyone who watches.
//!
//! Figures come from the recent invocations and the gateway's counters, and are computed once, however many watch. A
//! reader that does not keep up is dropped and counted: it holds a short queue, never the feed. The last minutes are
//! kept, so that a page that has just been opened has something to draw.

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::body::Body;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use forerun_gateway::Gateway;
use forerun_telemetry::{InvocationEvent, RecentInvocations};
use forerun_types::Outcome;
use futures::stream::{self, StreamExt};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::time::MissedTickBehavior;

/// Between two lines.
const PERIOD: Duration = Duration::from_secs(1);
/// Lines kept for those who come: five minutes, a screen's width.
const HISTORY_LINES_MAX: usize = 300;
/// Who watches at once: a few people with a few tabs each.
const READERS_MAX: usize = 32;
/// Lines that may wait for one reader. Further behind, it does not show what happens now.
const BEHIND_LINES_MAX: usize = 10;

/// The feed and those who read it.
pub(crate) struct Feed {
    shared: Mutex<Shared>,
}

#[derive(Default)]
struct Shared {
    history: VecDeque<Bytes>,
    readers: Vec<Sender<Bytes>>,
    /// Readers that were dropped because they did not keep up.
    dropped_total: u64,
}

/// As many read the feed as may.
#[derive(Debug)]
pub(crate) struct TooMany {
    pub(crate) readers_max: usize,
}

impl Feed {
    pub(crate) fn new() -> Self {
        Self { shared: Mutex::default() }
    }

    /// Computes and sends lines until it is dropped.
    pub(crate) async fn run(&self, recent: &RecentInvocations, gateway: &Gateway) {
        let mut ticks = tokio::time::interval(PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut next = recent.visit_since(0, |_| {}).next;
        loop {
            ticks.tick().await;
            let mut second = Second::default();
            let visited = recent.visit_since(next, |event| second.add(event));
            next = visited.next;
            let mut line = second.figures(visited.missed);
            add_node(&mut line, gateway);
            self.send(line);
        }
    }

    /// The last minutes, then every line to come, as server-sent events.
    pub(crate) fn subscribe(&self) -> Result<Response, TooMany> {
        let (past, reader) = self.join()?;
        let past = stream::iter(past);
        let to_come = stream::unfold(reader, |mut reader| async { reader.recv().await.map(|line| (line, reader)) });
        let body = Body::from_stream(past.chain(to_come).map(Ok::<_, Infallible>));
        Ok(([(CONTENT_TYPE, "text/event-stream"), (CACHE_CONTROL, "no-store")], body).into_response())
    }

    fn join(&self) -> Result<(Vec<Bytes>, Receiver<Bytes>), TooMany> {
        let mut shared = self.shared.lock();
        shared.readers.retain(|reader| !reader.is_closed());
        if shared.readers.len() >= READERS_MAX {
            return Err(TooMany { readers_max: READERS_MAX });
        }
        let (sender, receiver) = mpsc::channel(BEHIND_LINES_MAX);
        shared.readers.push(sender);
        Ok((shared.history.iter().cloned().collect(), receiver))
    }

    fn send(&self, mut line: Value) {
        let mut shared = self.shared.lock();
        line["feed"] = json!({ "readers": shared.readers.len(), "dropped_total": shared.dropped_total });
        let line = Bytes::from(format!("data: {line}\n\n"));
        if shared.history.len() == HISTORY_LINES_MAX {
            shared.history.pop_front();
        }
        shared.history.push_back(line.clone());
        let mut dropped = 0;
        shared.readers.retain(|reader| match reader.try_send(line.clone()) {
            Ok(()) => true,
            Err(mpsc::error::TrySendError::Closed(_)) => false,
            Err(mpsc::error::TrySendError::Full(_)) => {
                dropped += 1;
                false
            }
        });
        shared.dropped_total += dropped;
    }
}

/// What ended within one period.
#[derive(Default)]
struct Second {
    total_us_by_path: BTreeMap<&'static str, Vec<u64>>,
    errors: u64,
}

impl Second {
    fn add(&mut self, event: &InvocationEvent) {
        self.total_us_by_path.entry(event.serve_path.label()).or_default().push(event.phases.total_us);
        if event.outcome != Outcome::Ok || event.status >= 500 {
            self.errors += 1;
        }
    }

    /// `missed` invocations came and went between two looks: they are counted, but nothing else is known of them.
    fn figures(mut self, missed: u64) -> Value {
        let seen: usize = self.total_us_by_path.values().map(Vec::len).sum();
        let mut paths = serde_json::Map::new();
        for (path, total_us) in &mut self.total_us_by_path {
            total_us.sort_unstable();
            let (p50_us, p99_us) = (quantile(total_us, 50), quantile(total_us, 99));
            paths.insert((*path).into(), json!({ "count": total_us.len(), "p50_us": p50_us, "p99_us": p99_us }));
        }
        json!({ "invocations": seen as u64 + missed, "missed": missed, "errors": self.errors, "paths": paths })
    }
}

/// The smallest value that `percent` of all do not exceed; of a sorted, non-empty list.
fn quantile(sorted: &[u64], percent: usize) -> u64 {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or_default()
}

fn add_node(line: &mut Value, gateway: &Gateway) {
    let counters = gateway.counters();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    line["unix_ms"] = json!(u64::try_from(now.as_millis()).unwrap_or(u64::MAX));
    line["connections"] = json!(counters.connections);
    line["in_flight"] = json!(counters.in_flight);
    line["queued"] = json!(counters.queued_node);
    line["refused_total"] = json!(counters.refused_total.iter().map(|(_, count)| *count).sum::<u64>());
    line["memory_bytes"] = json!(resident_bytes());
}

/// Memory of this process; absent where the system does not say.
fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values_that_were_there() {
        assert_eq!(quantile(&[7], 50), 7);
        assert_eq!(quantile(&[7], 99), 7);
        assert_eq!(quantile(&[1, 2, 3, 4], 50), 2);
        let hundred: Vec<u64> = (1..=100).collect();
        assert_eq!((quantile(&hundred, 50), quantile(&hundred, 99)), (50, 99));
    }

    #[test]
    fn a_slow_reader_is_dropped_and_counted_and_the_others_go_on() {
        let feed = Feed::new();
        let (_, slow) = feed.join().unwrap();
        let (_, mut quick) = feed.join().unwrap();
        for number in 0..=BEHIND_LINES_MAX {
            feed.send(json!({ "number": number }));
            quick.try_recv().unwrap();
        }
        assert_eq!(slow.len(), BEHIND_LINES_MAX);
        assert!(slow.is_closed());
        let shared = feed.shared.lock();
        assert_eq!((shared.readers.len(), shared.dropped_total), (1, 1));
    }

    #[test]
    fn readers_and_history_are_bounded() {
        let feed = Feed::new();
        for number in 0..HISTORY_LINES_MAX + 5 {
            feed.send(json!({ "number": number }));
        }
        let readers: Vec<_> = (0..READERS_MAX).map(|_| feed.join().unwrap()).collect();
        assert!(feed.join().is_err());
        assert_eq!(readers[0].0.len(), HISTORY_LINES_MAX);
        assert!(readers[0].0[0].starts_with(b"data: {") && readers[0].0[0].ends_with(b"}\n\n"));
        drop(readers);
        assert!(feed.join().is_ok(), "those who left make room");
    }
}
