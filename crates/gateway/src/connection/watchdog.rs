//! The one timer of a connection, and what it means when it fires.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use tokio::time::Sleep;

use super::state::{ConnectionState, NEVER_MS};
use crate::core::Core;

/// The idle time is checked this many times, so a connection is closed at most a quarter too late.
const IDLE_CHECKS: u32 = 4;

pub(super) struct Watchdog {
    timer: Pin<Box<Sleep>>,
    armed_ms: u64,
    /// When the head that has begun must be complete.
    head_until_ms: u64,
    requests_seen: u64,
    idle_checks: u32,
}

/// Why a connection should be closed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Alarm {
    /// No request for the whole idle time.
    Idle,
    /// A head was begun and not completed in time.
    SlowHead,
    /// A request is not over long after its deadline: its answer is not taken.
    SlowReader,
}

impl Watchdog {
    pub(super) fn new(core: &Core) -> Self {
        let first = Instant::now() + core.settings.idle_timeout / IDLE_CHECKS;
        Self {
            timer: Box::pin(tokio::time::sleep_until(first.into())),
            armed_ms: core.millis(first),
            head_until_ms: NEVER_MS,
            requests_seen: 0,
            idle_checks: 0,
        }
    }

    /// To be polled after the connection, whenever that is.
    pub(super) fn poll(&mut self, context: &mut Context<'_>, core: &Core, state: &ConnectionState) -> Poll<Alarm> {
        self.note_head(core, state);
        let limit_ms = self.limit_ms(state);
        if limit_ms < self.armed_ms {
            self.arm(core, limit_ms);
        }
        while self.timer.as_mut().poll(context).is_ready() {
            let now_ms = core.millis(Instant::now());
            if let Some(alarm) = self.judge(core, state, now_ms) {
                return Poll::Ready(alarm);
            }
        }
        Poll::Pending
    }

    /// A head is under way when bytes came that were no whole head. HTTP/2 has bytes between requests.
    fn note_head(&mut self, core: &Core, state: &ConnectionState) {
        if !state.head_begun() || state.is_http2() {
            self.head_until_ms = NEVER_MS;
        } else if self.head_until_ms == NEVER_MS {
            self.head_until_ms = core.millis(Instant::now() + core.settings.header_read_timeout);
        }
    }

    fn limit_ms(&self, state: &ConnectionState) -> u64 {
        match state.requests_under_way() {
            0 => self.head_until_ms,
            _ => state.busy_until_ms(),
        }
    }

    /// What it means that the timer fired at `now_ms`; sets it again if it means nothing.
    fn judge(&mut self, core: &Core, state: &ConnectionState, now_ms: u64) -> Option<Alarm> {
        let limit_ms = self.limit_ms(state);
        // The timer's own grain is a millisecond.
        if limit_ms <= now_ms.saturating_add(1) {
            let (alarm, counter) = match state.requests_under_way() {
                0 => (Alarm::SlowHead, &core.counters.closed_slow_head),
                _ => (Alarm::SlowReader, &core.counters.closed_slow_reader),
            };
            core.count(counter);
            return Some(alarm);
        }
        let seen = state.requests_total();
        if state.requests_under_way() > 0 || seen != self.requests_seen {
            (self.requests_seen, self.idle_checks) = (seen, 0);
        } else {
            self.idle_checks += 1;
        }
        let check_ms = core.settings.idle_timeout.as_millis() as u64 / u64::from(IDLE_CHECKS);
        self.arm(core, limit_ms.min(now_ms + check_ms.max(1)));
        if self.idle_checks < IDLE_CHECKS {
            return None;
        }
        if self.idle_checks == IDLE_CHECKS {
            core.count(&core.counters.closed_idle);
        }
        Some(Alarm::Idle)
    }

    fn arm(&mut self, core: &Core, at_ms: u64) {
        self.armed_ms = at_ms;
        self.timer.as_mut().reset(core.moment(at_ms).into());
    }
}
