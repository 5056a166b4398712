//! How much room VMs get in their memory before their state is remembered, so that requests need not make it grow.
//!
//! Memory that has grown cannot be made smaller, so a VM whose memory grew is thrown away. The allocators of Rust and C
//! begin with no memory and have it grow in the first request of each VM: such a function's VMs would all be thrown away.
//! Once that has been seen, the guest's own allocator is asked for a large block while a VM is made, and gets it back at
//! once. A component that manages without is left as it is. VMs that serve once get room by the same rule, counted by
//! whoever throws them away (`habit`): what a request writes can only be populated ahead of it where there is memory.
//!
//! ```text
//! no room ── growth often ──► twice what grew, 1 MiB at least ── growth often ──► doubled ──► doubled once more
//!    ▲                                   │
//!    └── the allocator traps, calls the host or cold code: given up, by name ([`NoRoom`])
//! ```
//!
//! Here it is decided how much; the VM is made elsewhere, and whether it is put back is not known here.

use std::sync::atomic::{AtomicU32, Ordering};

use forerun_types::NoRoom;
use parking_lot::Mutex;

/// The least that is asked for: allocators take 64 KiB at a time, and a small request takes some.
const BYTES_MIN: u64 = 1 << 20;
/// The most: the memory is only touched where requests use it, but every check of a VM reads all of it.
const BYTES_MAX: u64 = 16 << 20;
/// How often it is enlarged: a function that wants more each time is one whose requests differ that much.
const STEPS_MAX: u32 = 3;
/// What a VM counts whose memory grew, where one that was put back counts one less: one in eight may grow for ever.
const GROWTH_WEIGHT: u32 = 8;
/// Two VMs in a row, or as good as that.
const GROWTH_MAX: u32 = 2 * GROWTH_WEIGHT;

/// The room of one revision's VMs.
#[derive(Default)]
pub(in super::super) struct Room {
    /// Asked for in VMs that are made from now on.
    bytes: AtomicU32,
    growth: AtomicU32,
    decided: Mutex<Decided>,
}

#[derive(Default)]
struct Decided {
    steps: u32,
    none: Option<NoRoom>,
}

/// A VM's memory that grew in use, in bytes.
#[derive(Clone, Copy)]
pub(super) struct Growth {
    /// By how much.
    pub(super) bytes: u64,
    /// The room it had.
    pub(super) room_bytes: u32,
    /// Room it may have at most under the function's limit.
    pub(super) room_bytes_max: u64,
}

impl Room {
    /// What VMs get that are made now.
    pub(in super::super) fn bytes(&self) -> u32 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Why there is none, or no more, though it would be of use.
    pub(in super::super) fn refusal(&self) -> Option<NoRoom> {
        self.decided.lock().none
    }

    /// No VM gets any from now on.
    pub(super) fn give_up(&self, why: NoRoom) {
        let mut decided = self.decided.lock();
        self.bytes.store(0, Ordering::Relaxed);
        decided.none.get_or_insert(why);
    }

    /// A VM was put back, or has served once without growing.
    pub(super) fn sufficed(&self) {
        let less = |growth: u32| growth.checked_sub(1);
        // Nothing to take away is the usual case.
        let _ = self.growth.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }

    /// A VM's memory grew. `possible` says whether the component has an allocator to ask.
    pub(super) fn grew(&self, growth: Growth, possible: bool) {
        let mut decided = self.decided.lock();
        if decided.none.is_some()
            || self.growth.fetch_add(GROWTH_WEIGHT, Ordering::Relaxed) + GROWTH_WEIGHT < GROWTH_MAX
        {
            return;
        }
        self.growth.store(0, Ordering::Relaxed);
        match larger(growth, decided.steps) {
            _ if !possible => decided.none = Some(NoRoom::NoAllocator),
            None => decided.none = Some(NoRoom::NotEnough),
            Some(bytes) => {
                decided.steps += 1;
                self.bytes.store(bytes, Ordering::Relaxed);
            }
        }
    }
}

/// The next size: room and growth together, twice, within the bounds; nothing if that is no more than there was.
fn larger(growth: Growth, steps: u32) -> Option<u32> {
    let Growth { bytes, room_bytes, room_bytes_max } = growth;
    let wanted = bytes.saturating_add(u64::from(room_bytes)).saturating_mul(2).max(BYTES_MIN);
    let next = u32::try_from(wanted.min(BYTES_MAX).min(room_bytes_max)).ok()?;
    (steps < STEPS_MAX && next > room_bytes).then_some(next)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn growth(bytes: u64, room: &Room) -> Growth {
        Growth { bytes, room_bytes: room.bytes(), room_bytes_max: u64::MAX }
    }

    #[test]
    fn it_gets_larger_while_memory_grows_and_then_no_more() {
        let room = Room::default();
        let sizes: Vec<_> = (0..8)
            .map(|_| {
                room.grew(growth(3 << 20, &room), true);
                room.bytes() >> 20
            })
            .collect();
        assert_eq!(sizes, [0, 6, 6, 16, 16, 16, 16, 16]);
        assert_eq!(room.refusal(), Some(NoRoom::NotEnough));
    }

    #[test]
    fn growth_now_and_then_is_no_reason() {
        let room = Room::default();
        for _ in 0..10 {
            room.grew(growth(1, &room), true);
            (0..8).for_each(|_| room.sufficed());
        }
        assert_eq!((room.bytes(), room.refusal()), (0, None));
        (0..2).for_each(|_| room.grew(growth(1, &room), true));
        assert_eq!(u64::from(room.bytes()), BYTES_MIN);
    }

    #[test]
    fn what_is_not_possible_has_a_name() {
        let room = Room::default();
        (0..2).for_each(|_| room.grew(growth(1, &room), false));
        assert_eq!((room.bytes(), room.refusal()), (0, Some(NoRoom::NoAllocator)));
        let room = Room::default();
        (0..2).for_each(|_| room.grew(growth(1, &room), true));
        room.give_up(NoRoom::Trapped);
        (0..9).for_each(|_| room.grew(growth(1, &room), true));
        assert_eq!((room.bytes(), room.refusal()), (0, Some(NoRoom::Trapped)), "the first reason stays");
    }

    #[test]
    fn the_functions_limit_is_kept() {
        let room = Room::default();
        (0..2).for_each(|_| room.grew(Growth { bytes: 1, room_bytes: 0, room_bytes_max: 1000 }, true));
        assert_eq!(room.bytes(), 1000);
        (0..2).for_each(|_| room.grew(Growth { bytes: 1, room_bytes: 1000, room_bytes_max: 1000 }, true));
        assert_eq!((room.bytes(), room.refusal()), (1000, Some(NoRoom::NotEnough)));
    }
}
