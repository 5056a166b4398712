//! Which pages the requests of a revision usually write, so that VMs held ready can have them before their request comes.
//!
//! A page of a new VM is the image file's, or nobody's, until it is written; then the kernel copies or clears one, about
//! half a microsecond each in the request's own time. What one VM has written in its first requests is what others will:
//! those pages are made the VM's own ([`make_own`](crate::sys::make_own)) while it is made ready, which is nobody's time.
//!
//! Only where the pages are is kept; what was in them is not looked at.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use forerun_types::NoRoom;
use parking_lot::Mutex;

use super::super::vm::Vm;
use super::by_room::{ByRoom, Known};
use super::calls::StateExports;
use super::point::OWN_RUNS_MAX;
use crate::sys::{PAGE_BYTES, Span, Tracker, make_own, with_bytes};

/// Pages of one VM that are made its own at most: 8 MiB. A function that writes more has a request in which faults are the least.
const PAGES_MAX: usize = 2_048;
/// Requests of one VM that are looked at: what it wrote in all of them is nearly the same after a few.
const REQUESTS_MAX: u32 = 16;

/// Runs of pages, a list for each memory, as bytes from its start.
pub(super) type Runs = Vec<Vec<Range<usize>>>;

/// What VMs with as much room wrote.
#[derive(Default)]
pub(super) struct Habit(Mutex<Arc<Runs>>);

impl Habit {
    /// Whether a VM that has served so many requests is worth a look: the first, second, fourth, and so on.
    pub(super) fn wants(requests: u32) -> bool {
        requests <= REQUESTS_MAX && requests.is_power_of_two()
    }

    /// Takes note of all that a VM ever wrote. A flood of pages is not a habit.
    pub(super) fn note(&self, runs: Runs) {
        if bytes(&runs) <= PAGES_MAX * PAGE_BYTES {
            *self.0.lock() = Arc::new(runs);
        }
    }

    /// Where to touch a VM's memories.
    pub(super) fn runs(&self) -> Arc<Runs> {
        Arc::clone(&self.0.lock())
    }

    /// Memory that a VM has for itself when that was done, in bytes.
    pub(super) fn bytes(&self) -> u64 {
        bytes(&self.runs()) as u64
    }
}

fn bytes(runs: &Runs) -> usize {
    runs.iter().flatten().map(Range::len).sum()
}

/// The pages that a VM has for itself; `None` if the kernel or the guest does not tell.
async fn own_runs(vm: &mut Vm, exports: &StateExports, tracker: &Tracker) -> Option<Runs> {
    let memories = exports.memories(&mut vm.store, &vm.entered?).await.ok()?;
    let own = memories.iter().map(|memory| {
        let span = with_bytes(&mut vm.store, memory, |data| Span::of(data))?;
        tracker.own_pages(span, OWN_RUNS_MAX).ok()
    });
    own.collect()
}

/// Has a VM that has just been made own the pages at `runs`. A VM of which that cannot be done is as good, and slower
/// once.
pub(super) async fn populate(vm: &mut Vm, exports: &StateExports, runs: &Runs) {
    let Some(entered) = vm.entered.filter(|_| !runs.is_empty()) else { return };
    let Ok(memories) = exports.memories(&mut vm.store, &entered).await else { return };
    for (memory, runs) in memories.iter().zip(runs) {
        with_bytes(&mut vm.store, memory, |data| make_own(data, runs));
    }
}

/// The habit of a function whose VMs are thrown away after each request, by choice or since they cannot be put back.
pub(in super::super) struct FreshHabit {
    tracker: Arc<Tracker>,
    exports: StateExports,
    alike: ByRoom<FreshAlike>,
}

#[derive(Default)]
struct FreshAlike {
    served: AtomicU32,
    habit: Habit,
}

impl FreshHabit {
    pub(in super::super) fn new(tracker: Arc<Tracker>, exports: StateExports) -> Self {
        Self { tracker, exports, alike: ByRoom::default() }
    }

    /// Takes note of what a request has written whose VM is about to be thrown away. Looks at a few only.
    pub(in super::super) async fn note(&self, vm: &mut Vm) {
        let alike = self.alike();
        if alike.room_bytes != vm.room_bytes {
            return;
        }
        let served = alike.served.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        if Habit::wants(served)
            && let Some(runs) = own_runs(vm, &self.exports, &self.tracker).await
        {
            alike.habit.note(runs);
        }
    }

    /// Takes note of whether a request had memory grow: then VMs get room, so that their pages can be there before the
    /// request, and growing is no part of it.
    pub(in super::super) fn note_growth(&self, vm: &Vm) {
        if !self.exports.note_growth(vm) {
            self.exports.room.sufficed();
        }
    }

    pub(in super::super) async fn populate(&self, vm: &mut Vm) {
        let alike = self.alike();
        if alike.room_bytes == vm.room_bytes {
            populate(vm, &self.exports, &alike.habit.runs()).await;
        }
    }

    /// Memory that a VM made ready has for itself, in bytes.
    pub(in super::super) fn resident_bytes(&self) -> u64 {
        self.alike().habit.bytes()
    }

    /// Room that VMs are made with, in bytes, and why it is no more though that would be of use.
    pub(in super::super) fn room(&self) -> (u32, Option<NoRoom>) {
        (self.exports.room.bytes(), self.exports.room.refusal())
    }

    /// What is known of VMs that are made now.
    fn alike(&self) -> Arc<Known<FreshAlike>> {
        self.alike.of(self.exports.room.bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_not_noted() {
        let habit = Habit::default();
        let pages = |first: usize, end: usize| first * PAGE_BYTES..end * PAGE_BYTES;
        let usual = vec![vec![pages(0, 2), pages(4, 5)], vec![]];
        habit.note(usual.clone());
        habit.note(vec![vec![pages(0, 1), pages(2, PAGES_MAX + 2)]]);
        assert_eq!(*habit.runs(), usual);
        assert_eq!(habit.bytes(), 3 * PAGE_BYTES as u64);
        assert_eq!([1, 2, 3, 4, 16, 17, 32].map(Habit::wants), [true, true, false, true, true, false, false]);
    }
}
