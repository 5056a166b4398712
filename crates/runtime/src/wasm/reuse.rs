//! VMs kept for the next request: of functions whose policy is reuse as they are, of others after they were put back.
//!
//! A VM is kept only when its last request ended without any failure and it has loaded no cold code; the newest is
//! taken first, so that surplus VMs grow old and are retired.

use std::time::{Duration, Instant};

use forerun_types::ReusePolicy;
use parking_lot::Mutex;

use super::vm::Vm;

/// Idle VMs of one function beyond this are dropped at once; more are never busy at the same time by default.
const IDLE_MAX: usize = 256;

/// The idle VMs of one revision.
pub(super) struct IdleVms {
    requests_max: u32,
    idle_max: Duration,
    idle: Mutex<Vec<(Box<Vm>, Instant)>>,
}

impl IdleVms {
    /// `put_back_idle_ms`: how long those wait that are put back, which no policy says.
    pub(super) fn new(policy: ReusePolicy, put_back_idle_ms: u64) -> Self {
        let (requests_max, idle_ms) = match policy {
            ReusePolicy::Fresh => (0, 0),
            ReusePolicy::Rollback | ReusePolicy::Warm => (u32::MAX, put_back_idle_ms),
            ReusePolicy::Reuse { requests_max, idle_ms } => (requests_max, idle_ms),
        };
        Self { requests_max, idle_max: Duration::from_millis(idle_ms), idle: Mutex::new(Vec::new()) }
    }

    /// A VM that may serve another request.
    pub(super) fn take(&self) -> Option<Box<Vm>> {
        self.idle.lock().pop().map(|(vm, _)| vm)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.idle.lock().is_empty()
    }

    /// Keeps `vm` if the policy allows another request; otherwise it is dropped. True if it was kept.
    pub(super) fn put(&self, vm: Box<Vm>, now: Instant) -> bool {
        if vm.requests >= self.requests_max || vm.is_spent() {
            return false;
        }
        let mut idle = self.idle.lock();
        let room = idle.len() < IDLE_MAX;
        if room {
            idle.push((vm, now));
        }
        room
    }

    /// Retires VMs that have been idle for longer than the policy allows; says how many.
    pub(super) fn sweep(&self, now: Instant) -> usize {
        self.retire(|since| now.saturating_duration_since(since) > self.idle_max)
    }

    /// Retires VMs that have been idle since `cutoff` or for longer; says how many.
    pub(super) fn retire_until(&self, cutoff: Instant) -> usize {
        self.retire(|since| since <= cutoff)
    }

    fn retire(&self, is_old: impl Fn(Instant) -> bool) -> usize {
        let retired: Vec<_> = {
            let mut idle = self.idle.lock();
            // Oldest first: VMs are pushed and popped at the end.
            let old = idle.partition_point(|(_, since)| is_old(*since));
            idle.drain(..old).collect()
        };
        // Freed outside the lock: giving memory back takes system calls.
        retired.len()
    }

    /// Since when each VM has been idle, and the bytes that it holds for itself.
    pub(super) fn each(&self) -> Vec<(Instant, u64)> {
        self.idle.lock().iter().map(|(vm, since)| (*since, vm.own_bytes())).collect()
    }

    /// Gives up the older half of the idle VMs, for others that need their place; says how many.
    pub(super) fn give_up_half(&self) -> usize {
        let given_up: Vec<_> = {
            let mut idle = self.idle.lock();
            let half = idle.len().div_ceil(2);
            idle.drain(..half).collect()
        };
        given_up.len()
    }

    /// How many there are, and the bytes they hold for themselves.
    pub(super) fn held(&self) -> (u32, u64) {
        let each = self.each();
        (u32::try_from(each.len()).unwrap_or(u32::MAX), each.iter().map(|(_, bytes)| bytes).sum())
    }
}
