//! VMs kept for the next request, for functions whose reuse policy asks for it.
//!
//! A VM is kept only when its last request ended without any failure; the newest is taken first,
//! so that surplus VMs grow old and are retired.

use std::time::{Duration, Instant};

use forerun_types::ReusePolicy;
use parking_lot::Mutex;

use super::vm::Vm;

/// Idle VMs of one function beyond this are dropped at once; more are never busy at the same time by default.
const IDLE_MAX: usize = 256;

/// The idle VMs of one revision.
pub(super) struct IdleVms {
    policy: ReusePolicy,
    idle: Mutex<Vec<(Box<Vm>, Instant)>>,
}

impl IdleVms {
    pub(super) fn new(policy: ReusePolicy) -> Self {
        Self { policy, idle: Mutex::new(Vec::new()) }
    }

    /// A VM that may serve another request.
    pub(super) fn take(&self) -> Option<Box<Vm>> {
        match self.policy {
            ReusePolicy::Fresh => None,
            ReusePolicy::Reuse { .. } => self.idle.lock().pop().map(|(vm, _)| vm),
        }
    }

    /// Keeps `vm` if the policy allows another request; otherwise it is dropped.
    pub(super) fn put(&self, vm: Box<Vm>, now: Instant) {
        let ReusePolicy::Reuse { requests_max, idle_ms: _ } = self.policy else {
            return;
        };
        if vm.requests >= requests_max {
            return;
        }
        let mut idle = self.idle.lock();
        if idle.len() < IDLE_MAX {
            idle.push((vm, now));
        }
    }

    /// Retires VMs that have been idle for longer than the policy allows.
    pub(super) fn sweep(&self, now: Instant) {
        let ReusePolicy::Reuse { idle_ms, .. } = self.policy else {
            return;
        };
        let idle_max = Duration::from_millis(idle_ms);
        let retired: Vec<_> = {
            let mut idle = self.idle.lock();
            // Oldest first: VMs are pushed and popped at the end.
            let old = idle.partition_point(|(_, since)| now.saturating_duration_since(*since) > idle_max);
            idle.drain(..old).collect()
        };
        // Freed outside the lock: giving memory back takes system calls.
        drop(retired);
    }
}
