//! VMs that have served and wait to be put back or freed: when is a matter of the function's [`pace`](super::pace).
//!
//! A request that finds nothing better takes a VM that waits and has it put back first: less work than making one.

use std::collections::VecDeque;

use forerun_types::ServePath;
use parking_lot::Mutex;

use super::vm::Vm;

/// Those of one revision.
#[derive(Default)]
pub(super) struct UsedVms(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    next: u64,
    vms: VecDeque<(Ticket, Box<Vm>, ServePath)>,
}

/// Names one that waits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Ticket(u64);

impl UsedVms {
    pub(super) fn add(&self, vm: Box<Vm>, serve_path: ServePath) -> Ticket {
        let mut waiting = self.0.lock();
        let ticket = Ticket(waiting.next);
        waiting.next += 1;
        waiting.vms.push_back((ticket, vm, serve_path));
        ticket
    }

    /// The VM of `ticket`, if it still waits.
    pub(super) fn take(&self, ticket: Ticket) -> Option<(Box<Vm>, ServePath)> {
        let mut waiting = self.0.lock();
        let at = waiting.vms.iter().position(|(waits, ..)| *waits == ticket)?;
        waiting.vms.remove(at).map(|(_, vm, serve_path)| (vm, serve_path))
    }

    /// The one that has waited longest.
    pub(super) fn take_any(&self) -> Option<(Box<Vm>, ServePath)> {
        self.0.lock().vms.pop_front().map(|(_, vm, serve_path)| (vm, serve_path))
    }

    pub(super) fn count(&self) -> u32 {
        u32::try_from(self.0.lock().vms.len()).unwrap_or(u32::MAX)
    }
}
