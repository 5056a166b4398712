//! Used VMs put back to the state they had when they were made, instead of being thrown away.
//!
//! A VM that has been put back serves the next request of its revision as a fresh one would, at a fraction of the cost:
//! only what the last request changed is restored. Whatever gives rise to doubt has the VM thrown away instead, never
//! repaired ([`VmDiscard`]); a component whose VMs cannot be put back at all is served by fresh ones, with the reason
//! ([`RollbackRefusal`]).
//!
//! ```text
//! policy rollback ──┬─ refused by what it is: kernel, WASI 0.3, instructions, ... ──► fresh VMs
//!                   └─ prepared by the specializer (`calls`)
//!                        │ first VM that has served: two more are made and compared; what they have is the baseline
//!                        ├─ host called at start, not alike, too large ──► fresh VMs
//!                        └─ each VM that has served
//!                             ├─ memory grew ──► thrown away, and soon VMs are made with room in memory (`room`)
//!                             ├─ in doubt ──► thrown away ── so many in a row ──► fresh VMs
//!                             ├─ not as it was made (checked now and then) ──► fresh VMs
//!                             └─ put back ──► idle ──► next request
//! ```
//!
//! A function whose policy is `warm` has its VMs put back to the state after its warm-up requests, once that state has
//! passed its test (`warm`): then each of them is warmed up when it is made, and has its globals saved and its memories
//! compared with those of the state (`Vm::warm`) instead.
//!
//! What is put back: variable globals (by the guest's own code, `calls`), linear memories (`baseline`, `point`), and
//! everything on the host's side of the VM, which is made anew ([`Vm::renew_state`]): randomness, clocks, environment,
//! handles. Tables and segments must not change: the specializer refuses components that could change them, and
//! `admission` tells why. One thing stays: the number of a handle that a guest kept. It leads to nothing (`handles`), and
//! later requests in that VM get other numbers for their handles.
//!
//! # What wasmtime offers for this, and what it does not
//!
//! All of it stands on the public interface, with the pooling allocator and no memory creator of our own
//! (`Config::with_host_memory`). That one would leave the mapping to us, but it comes with the on-demand allocator, which
//! reserves and frees address space for each VM, and takes its copy-on-write images away: 13 MB are copied into each new
//! Python VM, which maps them now. What was wanted of it is had without: a snapshot shared by all VMs of an image, with an
//! overlay for each (the image's own mapping), tracking (`userfaultfd` on the addresses that a memory says it has),
//! residency (`madvise` on the same). Not to be had:
//!
//! - **Huge pages**: the pool's mapping is private to wasmtime, of a file, and these need anonymous or shared memory.
//! - **Tables, passive segments, growth**: they cannot be written from outside. Components that change tables or drop
//!   segments are refused by name, and a VM that has grown is thrown away; room made ahead stands in for most growth.
//! - **Globals that are not exported**: the specializer adds functions that save and restore them.
//! - **The state of the component's own handle tables**: a guest that keeps handles is discarded, or, where it is known that
//!   they can be let go, goes on with other numbers.

pub(super) mod admission;
mod baseline;
mod by_room;
mod calls;
mod counters;
mod habit;
mod handles;
#[cfg(test)]
mod hostile_tests;
#[cfg(test)]
mod leak_tests;
#[cfg(test)]
#[path = "../../../examples/support/nobody.rs"]
mod nobody;
mod point;
mod room;
#[cfg(test)]
mod tests;
mod warm;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use forerun_types::{FunctionSpec, NoRoom, RollbackRefusal, VmDiscard};
use parking_lot::Mutex;
use tokio::sync::OnceCell;
use wasmtime::component::WasmList;

use self::baseline::Baseline;
use self::by_room::{ByRoom, Known};
use self::counters::Counters;
use self::habit::Habit;
use self::warm::Standing;
use super::vm::{Linked, Template, Vm};
use crate::sys::Tracker;

pub(super) use self::calls::{RoomFailed, StateExports, renew, renew_export};
pub(super) use self::habit::FreshHabit;
pub(super) use self::handles::{Kept, kinds};
pub(super) use self::point::Point;
pub(super) use self::warm::{Warm, WarmUp, Warmth};

/// Requests one VM serves at most: an upper bound for whatever nobody has thought of, at less than a microsecond a request.
const REQUESTS_MAX: u32 = 1_000;
/// The same for one that was warmed up, which takes a language runtime tens of milliseconds instead of a fraction of one:
/// with the bound above, that was some per cent of all time where a Python function is called without a pause.
const WARM_REQUESTS_MAX: u32 = 20_000;
/// VMs thrown away one after the other after which a function is served by fresh VMs: setting a VM up to be put back is
/// then work for nothing.
const DISCARDS_IN_A_ROW_MAX: u32 = 8;
/// One rollback in so many is checked in full, and the first ones of each function: about a millisecond each time.
const CHECK_ONE_IN: u64 = 1_024;
const CHECK_FIRST: u64 = 4;
/// Time for the start functions of a VM that nobody waits for.
const MAKE_TIME_MAX: Duration = Duration::from_secs(10);

/// What is known of VMs with as much room.
type Alike = Known<AsMade>;

#[derive(Default)]
struct AsMade {
    /// Made for the first of them that has served.
    baseline: OnceCell<Arc<Baseline>>,
    habit: Habit,
    warm: Mutex<Standing>,
}

/// What the VMs of one revision need to be put back.
pub(super) struct Rollback {
    tracker: Arc<Tracker>,
    exports: StateExports,
    alike: ByRoom<AsMade>,
    refused: Mutex<Option<RollbackRefusal>>,
    discards_in_a_row: AtomicU32,
    /// What leads to the state that VMs are to be put back to, if that is not the one in which they are made.
    warm_up: Option<WarmUp>,
    /// What requests write in VMs that are thrown away: in all, or in those that are made for a request and not warm.
    pub(super) fresh: FreshHabit,
    pub(super) counters: Counters,
}

/// Whether a VM is looked at in full, of which `done` were made or put back before it.
fn wants_check(done: u64) -> bool {
    done < CHECK_FIRST || done.is_multiple_of(CHECK_ONE_IN)
}

impl Rollback {
    /// For the VMs of a component that the specializer has prepared.
    pub(super) fn new(tracker: Arc<Tracker>, exports: StateExports, spec: &FunctionSpec) -> Self {
        let fresh = FreshHabit::new(Arc::clone(&tracker), exports.clone());
        Self {
            tracker,
            exports,
            alike: ByRoom::default(),
            refused: Mutex::default(),
            discards_in_a_row: AtomicU32::new(0),
            warm_up: WarmUp::of(spec),
            fresh,
            counters: Counters::default(),
        }
    }

    /// Room that VMs are made with, in bytes, and why it is no more though that would be of use.
    pub(super) fn room(&self) -> (u32, Option<NoRoom>) {
        self.fresh.room()
    }

    /// Memory that a VM made ready has for itself before its request comes, in bytes.
    pub(super) fn resident_bytes(&self) -> u64 {
        if self.is_refused() || self.warm_up.is_some() {
            return self.fresh.resident_bytes();
        }
        self.alike().habit.bytes()
    }

    /// Why it turned out that VMs of this revision are not put back.
    pub(super) fn refusal(&self) -> Option<RollbackRefusal> {
        self.refused.lock().clone()
    }

    /// Whether VMs of this revision are not put back after all.
    pub(super) fn is_refused(&self) -> bool {
        self.refused.lock().is_some()
    }

    /// Puts a VM back whose request has ended well. Takes about 50 µs; some milliseconds the first time for a revision,
    /// half of one for a VM.
    pub(super) async fn roll_back(&self, vm: &mut Vm, template: &Template, linked: &Linked) -> Result<(), VmDiscard> {
        let result = self.try_to_roll_back(vm, template, linked).await;
        match result {
            Ok(()) => {
                self.discards_in_a_row.store(0, Ordering::Relaxed);
                self.exports.room.sufficed();
                self.counters.rolled_back(vm.point.as_ref().map_or(0, |point| point.restored_bytes));
            }
            Err(why) => self.discarded(why),
        }
        result
    }

    /// Takes note of a VM that was thrown away.
    pub(super) fn discarded(&self, why: VmDiscard) {
        self.counters.discarded(why);
        let says_something_of_the_function = match why {
            VmDiscard::Failed
            | VmDiscard::Stopped
            | VmDiscard::WornOut
            | VmDiscard::Surplus
            | VmDiscard::PlaceNeeded
            | VmDiscard::IdleMemory
            | VmDiscard::MemoryPressure
            | VmDiscard::RoomChanged
            | VmDiscard::NotWarm
            | VmDiscard::StaleHandles
            // Of the image, which is given up by itself.
            | VmDiscard::ColdCode => false,
            VmDiscard::BodyOpen
            | VmDiscard::MemoryGrew
            | VmDiscard::TableGrew
            | VmDiscard::HandlesLeft
            | VmDiscard::StreamLost
            | VmDiscard::WorkPending
            | VmDiscard::TooManyPages
            | VmDiscard::ScanFailed
            | VmDiscard::RestoreTrapped
            | VmDiscard::RenewTrapped
            | VmDiscard::Unlike => true,
        };
        if says_something_of_the_function {
            let in_a_row = self.discards_in_a_row.fetch_add(1, Ordering::Relaxed) + 1;
            if in_a_row >= DISCARDS_IN_A_ROW_MAX {
                self.refuse(RollbackRefusal::AlwaysDiscarded { last: why });
            }
        }
    }

    async fn try_to_roll_back(&self, vm: &mut Vm, template: &Template, linked: &Linked) -> Result<(), VmDiscard> {
        self.put_back(vm, template, linked).await?;
        self.renew(vm).await
    }

    async fn put_back(&self, vm: &mut Vm, template: &Template, linked: &Linked) -> Result<(), VmDiscard> {
        let kept = self.doubts(vm)?;
        let alike = self.alike();
        if alike.room_bytes != vm.room_bytes {
            return Err(VmDiscard::RoomChanged);
        }
        let warm = vm.warm.clone();
        let as_made;
        let baseline = match &warm {
            Some(warm) => &warm.baseline,
            None => {
                as_made = self.baseline_as_made(&alike, template, linked).await?;
                &*as_made
            }
        };
        vm.renew_state(template, Instant::now() + MAKE_TIME_MAX, &kept)?;
        match &mut vm.point {
            Some(point) => point.again(&mut vm.store, baseline).await?,
            None => {
                let instance = vm.entered.ok_or(VmDiscard::Unlike)?;
                let first = Point::first(&mut vm.store, &instance, &self.exports, baseline, &self.tracker);
                vm.point = Some(first.await?);
            }
        }
        if let Some(point) = vm.point.as_ref().filter(|_| Habit::wants(vm.requests)) {
            warm.as_ref().map_or(&alike.habit, |warm| &warm.habit).note(point.written());
        }
        self.check(vm, baseline).await
    }

    /// Has a VM that has just been made, and is not warm, own the pages that requests usually write, so that its first request need not
    /// wait for them. A VM of which that cannot be done is as good, and slower once.
    pub(super) async fn populate(&self, vm: &mut Vm) {
        if self.is_refused() || self.warm_up.is_some() {
            return self.fresh.populate(vm).await;
        }
        let alike = self.alike();
        if alike.room_bytes == vm.room_bytes {
            habit::populate(vm, &self.exports, &alike.habit.runs()).await;
        }
    }

    async fn check(&self, vm: &mut Vm, baseline: &Baseline) -> Result<(), VmDiscard> {
        let done = self.counters.rollbacks();
        let Some(point) = vm.point.as_ref().filter(|_| wants_check(done)) else {
            return Ok(());
        };
        if point.is_clean(&mut vm.store, baseline).await {
            return Ok(());
        }
        tracing::error!(function = %vm.store.data().function(), "a rolled-back VM was not as it had been when it was made");
        self.refuse(RollbackRefusal::CheckFailed);
        Err(VmDiscard::Unlike)
    }

    /// Of VMs as they are made now.
    fn alike(&self) -> Arc<Alike> {
        self.alike.of(self.exports.room.bytes())
    }

    async fn baseline_as_made(
        &self,
        alike: &Alike,
        template: &Template,
        linked: &Linked,
    ) -> Result<Arc<Baseline>, VmDiscard> {
        let make = || self.make_baseline(template, linked, alike.room_bytes);
        let made = alike.baseline.get_or_try_init(make).await;
        made.map(Arc::clone).map_err(|refusal| self.without_baseline(refusal))
    }

    fn without_baseline(&self, refusal: Option<RollbackRefusal>) -> VmDiscard {
        if let Some(refusal) = refusal {
            self.refuse(refusal);
        }
        VmDiscard::Unlike
    }

    /// Makes two VMs and copies their state, or says why not; nothing if there was no place for them just now, or they
    /// are to have other room by now.
    async fn make_baseline(
        &self,
        template: &Template,
        linked: &Linked,
        room_bytes: u32,
    ) -> Result<Arc<Baseline>, Option<RollbackRefusal>> {
        let deadline = Instant::now() + MAKE_TIME_MAX;
        let mut first = template.vm(linked, deadline).await.map_err(|_| None)?;
        let mut second = template.vm(linked, deadline).await.map_err(|_| None)?;
        if [first.room_bytes, second.room_bytes] != [room_bytes; 2] {
            return Err(None);
        }
        if first.host_called_at_start || second.host_called_at_start {
            return Err(Some(RollbackRefusal::HostCalledAtStart));
        }
        let memories = self.memories(&mut first).await?;
        let baseline = Baseline::of(&mut first.store, &memories)?;
        let memories = self.memories(&mut second).await?;
        if !baseline.equals(&second.store, &memories) {
            return Err(Some(RollbackRefusal::StartsDiffer));
        }
        Ok(Arc::new(baseline))
    }

    async fn memories(&self, vm: &mut Vm) -> Result<Vec<WasmList<u8>>, RollbackRefusal> {
        let unreadable = |detail: String| RollbackRefusal::Unreadable { detail };
        let instance = vm.entered.ok_or_else(|| unreadable("it has no instance".into()))?;
        let memories = self.exports.memories(&mut vm.store, &instance).await;
        memories.map_err(|error| unreadable(error.root_cause().to_string()))
    }

    fn refuse(&self, why: RollbackRefusal) {
        let mut refused = self.refused.lock();
        if refused.is_none() {
            tracing::info!(reason = %why, "a function's VMs are no longer rolled back");
            // Fresh VMs do well without.
            self.exports.room.give_up(NoRoom::NotRolledBack);
            *refused = Some(why);
        }
    }

    /// What forbids to put a VM back, seen without touching its parts; else the handles that its guest kept.
    fn doubts(&self, vm: &mut Vm) -> Result<Kept, VmDiscard> {
        let requests_max = if vm.warm.is_some() { WARM_REQUESTS_MAX } else { REQUESTS_MAX };
        if vm.requests >= requests_max {
            return Err(VmDiscard::WornOut);
        }
        if vm.is_spent() {
            return Err(VmDiscard::ColdCode);
        }
        if vm.host_called_at_start {
            return Err(VmDiscard::Unlike);
        }
        if vm.room_bytes != self.exports.room.bytes() {
            return Err(VmDiscard::RoomChanged);
        }
        if self.exports.note_growth(vm) {
            return Err(VmDiscard::MemoryGrew);
        }
        let state = vm.store.data_mut();
        if state.limiter.table_grew() {
            return Err(VmDiscard::TableGrew);
        }
        let warm = vm.warm.as_deref();
        state.kept(warm.map_or(&[], |warm| &warm.streams))
    }
}
