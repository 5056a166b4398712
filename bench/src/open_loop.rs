//! Load that does not wait: requests go out at their times, whether earlier ones were answered or not.
//!
//! wrk asks again only when it was answered, so that a slow server is asked less and its slowness is seen less often than
//! users would see it (coordinated omission). Here request `n` is due `n / rate` after the start, and its time is taken
//! from when it was due. What bounds the generator itself is counted, not hidden: requests that found too many under way
//! are *not sent*, and how late others went out is measured.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::task::JoinSet;

use crate::probe::{Answer, Connection};

/// Requests under way at once, each with a connection; a node takes ten thousand.
const UNDER_WAY_MAX: usize = 4_000;
/// How long a connection may have been silent that is used again.
const SILENT_MAX: Duration = Duration::from_secs(30);
/// Longer than a request may wait and a function run by default, together: what takes longer is not coming.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(60);
/// What is due is sent so often.
const TICK: Duration = Duration::from_millis(1);

/// What is sent, where, and for how long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) address: SocketAddr,
    pub(crate) path: &'static str,
    pub(crate) rate_per_s: f64,
    pub(crate) time: Duration,
    /// Figures are kept by stretches of so long.
    pub(crate) stretch: Duration,
}

/// How one request ended.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum End {
    /// The right answer.
    Right,
    /// An answer with status 200 and another body.
    Wrong,
    /// A refusal: its status, the reason that it names, and whether it says when to come again.
    Refused(u16, String, bool),
    /// No whole answer.
    Lost(&'static str),
    /// Too many were under way.
    NotSent,
}

/// The requests that were due in one stretch of time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stretch {
    pub(crate) ends: BTreeMap<End, u64>,
    /// Of the right answers, from when they were due.
    pub(crate) right_ms: Vec<f32>,
    /// Of the refusals.
    pub(crate) refused_ms: Vec<f32>,
    /// The latest that a request went out.
    pub(crate) late_ms_max: f32,
}

impl Stretch {
    pub(crate) fn count(&self, fits: impl Fn(&End) -> bool) -> u64 {
        self.ends.iter().filter(|(end, _)| fits(end)).map(|(_, count)| count).sum()
    }

    /// Both together.
    pub(crate) fn add(&mut self, other: &Self) {
        for (end, count) in &other.ends {
            *self.ends.entry(end.clone()).or_default() += count;
        }
        self.right_ms.extend(&other.right_ms);
        self.refused_ms.extend(&other.refused_ms);
        self.late_ms_max = self.late_ms_max.max(other.late_ms_max);
    }
}

/// What the requests share.
struct Shared {
    plan: Plan,
    expected: Vec<u8>,
    began: Instant,
    stretches: Mutex<Vec<Stretch>>,
    /// Those that wait for a request, and since when; the last one is taken first.
    pool: Mutex<Vec<(Connection, Instant)>>,
}

/// A poisoned lock is that of a task that panicked; the counts are still counts.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Sends it all and waits for what is under way at the end.
pub(crate) async fn run(plan: Plan, expected: Vec<u8>) -> Vec<Stretch> {
    let count = plan.time.as_secs_f64() / plan.stretch.as_secs_f64();
    let stretches = Mutex::new(vec![Stretch::default(); count.round().max(1.0) as usize]);
    let shared = Arc::new(Shared { plan, expected, began: Instant::now(), stretches, pool: Mutex::default() });
    let mut under_way = JoinSet::new();
    let mut ticks = tokio::time::interval(TICK);
    let mut sent = 0;
    while shared.began.elapsed() < plan.time {
        ticks.tick().await;
        while under_way.try_join_next().is_some() {}
        let due_by_now = due_count(shared.began.elapsed().min(plan.time), plan.rate_per_s);
        for number in sent..due_by_now {
            let due = Duration::from_secs_f64(number as f64 / plan.rate_per_s);
            if under_way.len() >= UNDER_WAY_MAX {
                shared.note(due, End::NotSent, Duration::ZERO);
                continue;
            }
            let shared = Arc::clone(&shared);
            under_way.spawn(async move { shared.send(due).await });
        }
        sent = due_by_now;
    }
    while under_way.join_next().await.is_some() {}
    std::mem::take(&mut *locked(&shared.stretches))
}

/// Requests that are due after so long; the first at once.
fn due_count(elapsed: Duration, rate_per_s: f64) -> u64 {
    (elapsed.as_secs_f64() * rate_per_s) as u64
}

impl Shared {
    async fn send(&self, due: Duration) {
        let late = self.began.elapsed().saturating_sub(due);
        let pooled = self.pooled();
        let end = match pooled {
            Some(connection) => self.ask(connection).await,
            None => match Connection::open(self.plan.address).await {
                Ok(connection) => self.ask(connection).await,
                Err(_) => End::Lost("no connection"),
            },
        };
        self.note(due, end, late);
    }

    /// A connection that has been used before. One that was silent for long is left alone, as by other clients: the node
    /// closes it after 75 s, and might do so just then.
    fn pooled(&self) -> Option<Connection> {
        let mut pool = locked(&self.pool);
        let (connection, since) = pool.pop()?;
        if since.elapsed() < SILENT_MAX {
            return Some(connection);
        }
        // All others have been silent for longer.
        pool.clear();
        None
    }

    async fn ask(&self, mut connection: Connection) -> End {
        let began = Instant::now();
        match connection.get_within(self.plan.path, ANSWER_TIME_MAX).await {
            Ok(answer) => {
                locked(&self.pool).push((connection, Instant::now()));
                end_of(&answer, &self.expected)
            }
            Err(_) if began.elapsed() >= ANSWER_TIME_MAX => End::Lost("no answer in time"),
            Err(_) => End::Lost("connection broken"),
        }
    }

    fn note(&self, due: Duration, end: End, late: Duration) {
        let took_ms = (self.began.elapsed().saturating_sub(due).as_secs_f64() * 1e3) as f32;
        let mut stretches = locked(&self.stretches);
        let last = stretches.len() - 1;
        let at = (due.as_secs_f64() / self.plan.stretch.as_secs_f64()) as usize;
        let stretch = &mut stretches[at.min(last)];
        match &end {
            End::Right => stretch.right_ms.push(took_ms),
            End::Refused(..) => stretch.refused_ms.push(took_ms),
            End::Wrong | End::Lost(_) | End::NotSent => {}
        }
        stretch.late_ms_max = stretch.late_ms_max.max((late.as_secs_f64() * 1e3) as f32);
        *stretch.ends.entry(end).or_default() += 1;
    }
}

/// What an answer counts as.
pub(crate) fn end_of(answer: &Answer, expected: &[u8]) -> End {
    if answer.status == 200 {
        return if answer.body == expected { End::Right } else { End::Wrong };
    }
    let problem: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let reason = problem["reason"].as_str().unwrap_or("no reason").to_owned();
    End::Refused(answer.status, reason, answer.retry_after)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &[u8]) -> Answer {
        Answer { status, timing: String::new(), retry_after: true, cookie: String::new(), body: body.to_vec() }
    }

    #[test]
    fn requests_are_due_by_the_clock() {
        assert_eq!(due_count(Duration::ZERO, 100.0), 0);
        assert_eq!(due_count(Duration::from_millis(1_005), 100.0), 100);
    }

    #[test]
    fn a_refusal_is_told_by_its_reason_and_a_wrong_answer_is_none() {
        assert_eq!(end_of(&answer(200, b"a"), b"a"), End::Right);
        assert_eq!(end_of(&answer(200, b"b"), b"a"), End::Wrong);
        let problem = br#"{"reason":"queue_timeout"}"#;
        assert_eq!(end_of(&answer(503, problem), b"a"), End::Refused(503, "queue_timeout".to_owned(), true));
        assert_eq!(end_of(&answer(502, b"<html>"), b"a"), End::Refused(502, "no reason".to_owned(), true));
    }

    #[tokio::test]
    async fn a_server_that_is_not_there_loses_every_request() {
        let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let time = Duration::from_millis(50);
        let plan = Plan { address, path: "/", rate_per_s: 1_000.0, time, stretch: time };
        let stretches = run(plan, Vec::new()).await;
        let all = stretches.iter().map(|stretch| stretch.count(|_| true)).sum::<u64>();
        assert_eq!(
            stretches.iter().map(|stretch| stretch.count(|end| *end == End::Lost("no connection"))).sum::<u64>(),
            all
        );
        assert!(all > 0);
    }
}
