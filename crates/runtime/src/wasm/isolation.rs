//! What becomes of a revision's VMs when they have served: its policy, as far as it can be followed.

use std::sync::Arc;

use forerun_driver::IsolationReport;
use forerun_types::{FunctionSpec, ReusePolicy, RollbackRefusal, ServePath, VmDiscard};

use super::engine::Concurrency;
use super::rollback::{FreshHabit, Rollback, StateExports, Warmth, admission};
use super::vm::{Linked, Template, Vm};
use crate::sys::Tracker;

/// One per revision.
pub(super) enum Isolation {
    /// Thrown away.
    Fresh {
        /// Why they cannot be put back; `None` if that is by choice.
        why: Option<RollbackRefusal>,
        /// What their requests write, where it can be seen.
        habit: Option<Box<FreshHabit>>,
    },
    /// Put back.
    Rollback(Arc<Rollback>),
    /// Kept as they are.
    Reuse,
}

impl Isolation {
    /// Follows the policy of `spec` as far as machine and component allow. `exports` are what the specializer has given it.
    pub(super) fn new(
        spec: &FunctionSpec,
        concurrency: Concurrency,
        tracker: &Result<Arc<Tracker>, String>,
        exports: Option<StateExports>,
        source: &[u8],
    ) -> Self {
        let refused = |why| Self::Fresh { why: Some(why), habit: None };
        match spec.reuse {
            ReusePolicy::Fresh => {
                let habit = tracker.as_ref().ok().zip(exports);
                let habit = habit.map(|(tracker, exports)| Box::new(FreshHabit::new(Arc::clone(tracker), exports)));
                Self::Fresh { why: None, habit }
            }
            ReusePolicy::Reuse { .. } => Self::Reuse,
            ReusePolicy::Rollback | ReusePolicy::Warm => match (concurrency, tracker, exports) {
                (Concurrency::Tasks, _, _) => refused(RollbackRefusal::Tasks),
                (_, Err(detail), _) => refused(RollbackRefusal::Kernel { detail: detail.clone() }),
                (_, _, None) => refused(why_unprepared(source)),
                (_, Ok(tracker), Some(exports)) => {
                    Self::Rollback(Arc::new(Rollback::new(Arc::clone(tracker), exports, spec)))
                }
            },
        }
    }

    /// How a request is served by a VM that was kept.
    pub(super) fn kept_path(&self) -> ServePath {
        match self {
            Self::Rollback(_) => ServePath::RolledBack,
            Self::Reuse | Self::Fresh { .. } => ServePath::Reused,
        }
    }

    /// Does for a VM that waits for its first request what can be done ahead of it.
    pub(super) async fn populate(&self, vm: &mut Vm) {
        match self {
            Self::Rollback(rollback) => rollback.populate(vm).await,
            Self::Fresh { habit: Some(habit), .. } => habit.populate(vm).await,
            // What their requests write is not looked at.
            Self::Fresh { habit: None, .. } | Self::Reuse => {}
        }
    }

    /// Finds out whether VMs can be warmed up, if that is wanted and not known. Takes its time.
    pub(super) async fn decide_warmth(&self, template: &Template, linked: &Linked) {
        match self {
            Self::Rollback(rollback) => rollback.decide_warmth(template, linked).await,
            Self::Fresh { .. } | Self::Reuse => {}
        }
    }

    /// A new VM that has answered the function's warm-up requests; nothing where VMs are not warmed up.
    pub(super) async fn warm_vm(&self, template: &Template, linked: &Linked) -> Option<Box<Vm>> {
        match self {
            Self::Rollback(rollback) => rollback.warm_vm(template, linked).await,
            Self::Fresh { .. } | Self::Reuse => None,
        }
    }

    /// Takes note of a VM that was thrown away.
    pub(super) fn discarded(&self, why: VmDiscard) {
        match self {
            Self::Rollback(rollback) => rollback.discarded(why),
            Self::Fresh { .. } | Self::Reuse => {}
        }
    }

    /// For display, with the VMs that are idle and the bytes they hold.
    pub(super) fn report(&self, (idle_vms, idle_bytes): (u32, u64)) -> IsolationReport {
        let warmth = match self {
            Self::Rollback(rollback) => rollback.warmth(),
            Self::Fresh { .. } | Self::Reuse => Warmth::AsMade(None),
        };
        let (policy, refusal) = match self {
            Self::Fresh { why, .. } => ("fresh", why.clone()),
            Self::Reuse => ("reuse", None),
            Self::Rollback(rollback) => match (rollback.refusal(), &warmth) {
                (None, Warmth::Warm(_)) => ("warm", None),
                (None, Warmth::AsMade(_)) => ("rollback", None),
                (refused, _) => ("fresh", refused),
            },
        };
        let (not_warm, no_copy) = match warmth {
            Warmth::AsMade(not_warm) => (not_warm, None),
            Warmth::Warm(no_copy) => (None, no_copy),
        };
        let counters = match self {
            Self::Rollback(rollback) => Some(&rollback.counters),
            Self::Fresh { .. } | Self::Reuse => None,
        };
        let (room_bytes, no_room) = match self {
            Self::Rollback(rollback) => rollback.room(),
            Self::Fresh { habit: Some(habit), .. } => habit.room(),
            Self::Fresh { habit: None, .. } | Self::Reuse => (0, None),
        };
        let resident_bytes = match self {
            Self::Rollback(rollback) => rollback.resident_bytes(),
            Self::Fresh { habit: Some(habit), .. } => habit.resident_bytes(),
            Self::Fresh { habit: None, .. } | Self::Reuse => 0,
        };
        IsolationReport {
            resident_bytes,
            room_bytes,
            no_room,
            policy,
            refusal,
            not_warm,
            no_copy,
            warm_copies: counters.map_or(0, |counters| counters.warm_copies()),
            idle_vms,
            idle_bytes,
            rolled_back: counters.map_or(0, |counters| counters.rollbacks()),
            restored_bytes: counters.map_or(0, |counters| counters.restored_bytes()),
            discarded: counters.map_or_else(Vec::new, |counters| counters.discards()),
        }
    }
}

/// Larger components are not walked through for a reason: that would hold up a restart.
const SOURCE_BYTES_MAX: usize = 4 << 20;

fn why_unprepared(source: &[u8]) -> RollbackRefusal {
    if source.len() > SOURCE_BYTES_MAX {
        return RollbackRefusal::Unprepared;
    }
    admission::admit(source).err().unwrap_or(RollbackRefusal::Unprepared)
}
