//! What becomes of a function's VMs when they have served, as the admin API and the metrics show it.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use forerun_driver::{IsolationReport, Program};
use parking_lot::Mutex;
use serde::Serialize;

/// What becomes of a function's VMs when they have served.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct VmsView {
    /// `fresh`, `rollback`, `warm` or `reuse`; empty while the function is being loaded.
    pub policy: &'static str,
    /// Why they are not rolled back though the policy asks for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refusal: Option<RefusalView>,
    /// Why they are not put back to the state after the warm-up requests though the policy asks for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_warm: Option<RefusalView>,
    /// Why new VMs get into that state by answering the warm-up requests, and not by a copy of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub no_copy: Option<RefusalView>,
    /// VMs into which it was copied.
    pub warm_copies: u64,
    /// Room made in the memory of new VMs, so that requests need not have it grow, in bytes.
    pub room_bytes: u32,
    /// Why that is no more though it would be of use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub no_room: Option<RefusalView>,
    /// Memory that a VM made ready has for itself before its request comes, in bytes.
    pub resident_bytes: u64,
    /// VMs that wait for another request.
    pub idle: u32,
    /// Memory they hold, in bytes.
    pub idle_bytes: u64,
    /// VMs put back.
    pub rolled_back: u64,
    /// Memory restored for that, in bytes.
    pub restored_bytes: u64,
    /// VMs thrown away instead, by reason.
    pub discarded: BTreeMap<&'static str, u64>,
}

/// Why something is not done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RefusalView {
    /// Stable label.
    pub reason: &'static str,
    /// A line for people.
    pub detail: String,
}

impl RefusalView {
    fn of(reason: &'static str, why: &impl ToString) -> Self {
        Self { reason, detail: why.to_string() }
    }
}

impl From<IsolationReport> for VmsView {
    fn from(report: IsolationReport) -> Self {
        Self {
            policy: report.policy,
            refusal: report.refusal.map(|why| RefusalView::of(why.label(), &why)),
            not_warm: report.not_warm.map(|why| RefusalView::of(why.label(), &why)),
            no_copy: report.no_copy.map(|why| RefusalView::of(why.label(), &why)),
            warm_copies: report.warm_copies,
            room_bytes: report.room_bytes,
            no_room: report.no_room.map(|why| RefusalView::of(why.label(), &why)),
            resident_bytes: report.resident_bytes,
            idle: report.idle_vms,
            idle_bytes: report.idle_bytes,
            rolled_back: report.rolled_back,
            restored_bytes: report.restored_bytes,
            discarded: report.discarded.into_iter().map(|(why, count)| (why.label(), count)).collect(),
        }
    }
}

/// What became of the VMs of one function since the node's start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct VmCounts {
    pub(crate) warm_copies: u64,
    pub(crate) rolled_back: u64,
    pub(crate) restored_bytes: u64,
    /// By reason.
    pub(crate) discarded: BTreeMap<&'static str, u64>,
}

/// Adds up what programs count, each from zero: a function gets another one with each deployment and with better code.
/// What one counted between the last look and its end is missing.
#[derive(Default)]
pub(crate) struct VmTotals(Mutex<BTreeMap<Arc<str>, Seen>>);

struct Seen {
    /// Not kept alive; its address is not another's while this is there.
    program: Weak<dyn Program>,
    /// Of all programs before.
    before: VmCounts,
    now: VmCounts,
}

impl VmTotals {
    /// Takes note of what `programs` counted; says what that makes. What is not among them is forgotten.
    pub(crate) fn look(&self, programs: Vec<(Arc<str>, Arc<dyn Program>)>) -> Vec<(Arc<str>, VmCounts)> {
        let mut seen = self.0.lock();
        let mut still = BTreeMap::new();
        for (name, program) in programs {
            let now = VmCounts::from(program.isolation());
            let program = Arc::downgrade(&program);
            let before = match seen.remove(&name) {
                None => VmCounts::default(),
                Some(last) if Weak::ptr_eq(&last.program, &program) => last.before,
                Some(last) => last.before.and(&last.now),
            };
            still.insert(name, Seen { program, before, now });
        }
        *seen = still;
        seen.iter().map(|(name, seen)| (Arc::clone(name), seen.before.clone().and(&seen.now))).collect()
    }
}

impl VmCounts {
    fn and(mut self, other: &Self) -> Self {
        self.warm_copies += other.warm_copies;
        self.rolled_back += other.rolled_back;
        self.restored_bytes += other.restored_bytes;
        for (why, count) in &other.discarded {
            *self.discarded.entry(why).or_default() += count;
        }
        self
    }
}

impl From<IsolationReport> for VmCounts {
    fn from(report: IsolationReport) -> Self {
        Self {
            warm_copies: report.warm_copies,
            rolled_back: report.rolled_back,
            restored_bytes: report.restored_bytes,
            discarded: report.discarded.into_iter().map(|(why, count)| (why.label(), count)).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use forerun_driver::{Body, BoxFuture, Invocation, InvokeError, ProgramFacts, Reply};
    use forerun_types::VmDiscard;
    use http::Request;

    use super::*;

    /// Has counted so many rollbacks, and discards of one kind.
    struct Counted(u64, VmDiscard);

    impl Program for Counted {
        fn invoke(self: Arc<Self>, _: Invocation, _: Request<Body>) -> BoxFuture<Result<Reply, InvokeError>> {
            unreachable!("nobody calls it")
        }

        fn facts(&self) -> &ProgramFacts {
            unreachable!("nobody asks")
        }

        fn isolation(&self) -> IsolationReport {
            let discarded = vec![(self.1, self.0)];
            IsolationReport {
                warm_copies: 3 * self.0,
                rolled_back: self.0,
                restored_bytes: 2 * self.0,
                discarded,
                ..IsolationReport::default()
            }
        }
    }

    fn look(totals: &VmTotals, program: &Arc<dyn Program>) -> VmCounts {
        totals.look(vec![("f".into(), Arc::clone(program))]).pop().unwrap().1
    }

    #[test]
    fn another_program_goes_on_where_the_one_before_it_ended() {
        let totals = VmTotals::default();
        let first: Arc<dyn Program> = Arc::new(Counted(5, VmDiscard::Failed));
        for _ in 0..2 {
            assert_eq!(look(&totals, &first).rolled_back, 5, "looking twice counts nothing twice");
        }
        let second: Arc<dyn Program> = Arc::new(Counted(3, VmDiscard::Surplus));
        drop(first);
        let expected = BTreeMap::from([("failed", 5), ("surplus", 3)]);
        for _ in 0..2 {
            let counts = look(&totals, &second);
            assert_eq!((counts.rolled_back, counts.restored_bytes, counts.warm_copies), (8, 16, 24));
            assert_eq!(counts.discarded, expected);
        }
        assert!(totals.look(Vec::new()).is_empty());
        assert_eq!(look(&totals, &second).rolled_back, 3, "a function that was removed begins anew");
    }
}
