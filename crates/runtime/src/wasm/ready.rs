//! VMs made before their request comes, for functions that are expected to be called.
//!
//! How many there should be is decided elsewhere ([`Program::hold_ready`](forerun_driver::Program::hold_ready)); here
//! they are made, handed out once each, and freed. A VM that waits has served nobody: taking it is as good as making
//! one. Some requests leave it alone, as control (`trust`): what they take is what a ready VM saves.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use forerun_driver::HeldReady;
use forerun_types::{GenericReason, InvocationId};
use parking_lot::Mutex;

use super::trust::{TrustCell, Use};
use super::vm::Vm;

/// VMs of one function held ready at most; a burst larger than this is served by standard initialization.
pub(super) const READY_MAX: u32 = 64;

/// The VMs of one revision that wait for requests.
#[derive(Default)]
pub(super) struct ReadyVms {
    state: Mutex<State>,
    /// How far they may be used.
    pub(super) trust: TrustCell,
    make_us: AtomicU64,
}

#[derive(Default)]
struct State {
    #[expect(clippy::vec_box, reason = "requests take and give VMs boxed; unboxing one here would copy it twice")]
    waiting: Vec<Box<Vm>>,
    /// How many there should be; `None` until somebody has decided.
    wanted: Option<u32>,
}

/// What a request finds.
pub(super) enum Taken {
    Vm(Box<Vm>),
    Nothing(GenericReason),
}

impl ReadyVms {
    /// A VM for a request of the chain that began with `root`, or why there is none for it.
    pub(super) fn take(&self, root: InvocationId) -> Taken {
        let mut state = self.state.lock();
        match (state.wanted, self.trust.of(root)) {
            (_, Use::SwitchedOff) => Taken::Nothing(GenericReason::Disabled),
            (None, _) => Taken::Nothing(GenericReason::NoImage),
            (Some(_), Use::Withdrawn) => Taken::Nothing(GenericReason::Quarantined),
            (Some(_), Use::LeftAlone) if !state.waiting.is_empty() => Taken::Nothing(GenericReason::Control),
            (Some(wanted), Use::LeftAlone | Use::Allowed) => match state.waiting.pop() {
                Some(vm) => Taken::Vm(vm),
                None if wanted == 0 => Taken::Nothing(GenericReason::BelowThreshold),
                None => Taken::Nothing(GenericReason::AllTaken),
            },
        }
    }

    /// Takes note of how many there should be, frees what is too much, and says how many are missing.
    pub(super) fn want(&self, vms: u32) -> u32 {
        let vms = vms.min(READY_MAX);
        let surplus = {
            let mut state = self.state.lock();
            state.wanted = Some(vms);
            let keep = state.waiting.len().min(vms as usize);
            state.waiting.split_off(keep)
        };
        // Freed outside the lock: giving memory back takes system calls.
        drop(surplus);
        vms.saturating_sub(self.held().vms)
    }

    /// Adds a VM whose making began at `began`, if it is still wanted.
    pub(super) fn add(&self, vm: Box<Vm>, began: Instant) {
        let make_us = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.make_us.store(make_us, Ordering::Relaxed);
        let mut state = self.state.lock();
        if state.waiting.len() < state.wanted.unwrap_or(0) as usize {
            state.waiting.push(vm);
        }
    }

    pub(super) fn held(&self) -> HeldReady {
        let state = self.state.lock();
        let memory_bytes = state.waiting.iter().map(|vm| vm.store.data().limiter.bytes_peak()).sum();
        let vms = u32::try_from(state.waiting.len()).unwrap_or(u32::MAX);
        HeldReady { vms, memory_bytes, make_us: self.make_us.load(Ordering::Relaxed) }
    }
}

#[cfg(test)]
mod tests {
    use forerun_driver::Trust;

    use super::*;

    #[test]
    fn without_a_vm_there_is_a_reason() {
        let off = ReadyVms::default();
        off.trust.set(Trust::SwitchedOff);
        assert!(matches!(off.take(InvocationId::from_random(1)), Taken::Nothing(GenericReason::Disabled)));
        let ready = ReadyVms::default();
        ready.trust.set(Trust::Compared { control_one_in: 2 });
        let id = InvocationId::from_random(1);
        assert!(matches!(ready.take(id), Taken::Nothing(GenericReason::NoImage)));
        assert_eq!(ready.want(2), 2);
        assert!(matches!(ready.take(id), Taken::Nothing(GenericReason::AllTaken)));
        assert_eq!(ready.want(u32::MAX), READY_MAX);
        assert_eq!(ready.want(0), 0);
        assert!(matches!(ready.take(id), Taken::Nothing(GenericReason::BelowThreshold)));
        assert_eq!(ready.held(), HeldReady::default());
        ready.trust.set(Trust::SwitchedOff);
        assert!(matches!(ready.take(id), Taken::Nothing(GenericReason::Disabled)));
        ready.trust.set(Trust::Withdrawn);
        assert!(matches!(ready.take(id), Taken::Nothing(GenericReason::Quarantined)));
    }
}
