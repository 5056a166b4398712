//! How far prepared VMs may be used, as one program is told: read for each request, changed now and then.
//!
//! Who is told what, and why, is decided elsewhere.

use std::sync::atomic::{AtomicU32, Ordering};

use forerun_driver::Trust;
use forerun_types::InvocationId;

/// Everybody may use them.
const FULL: u32 = 0;
/// Nobody may.
const WITHDRAWN: u32 = 1;
/// Nobody is meant to.
const SWITCHED_OFF: u32 = u32::MAX;

/// A trust that may change at any time.
#[derive(Default)]
pub(super) struct TrustCell(AtomicU32);

/// What one request may do with a prepared VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    Allowed,
    /// It is control.
    LeftAlone,
    Withdrawn,
    SwitchedOff,
}

impl TrustCell {
    pub(super) fn set(&self, trust: Trust) {
        let packed = match trust {
            Trust::Full => FULL,
            Trust::Compared { control_one_in } => control_one_in.clamp(2, SWITCHED_OFF - 1),
            Trust::Withdrawn => WITHDRAWN,
            Trust::SwitchedOff => SWITCHED_OFF,
        };
        self.0.store(packed, Ordering::Relaxed);
    }

    /// What requests of the chain that began with `root` may do: all of them the same, or most chains of several functions
    /// would have one of control in them. Ids are random, so that a share of them is a random share of the chains.
    pub(super) fn of(&self, root: InvocationId) -> Use {
        match self.0.load(Ordering::Relaxed) {
            FULL => Use::Allowed,
            WITHDRAWN => Use::Withdrawn,
            SWITCHED_OFF => Use::SwitchedOff,
            one_in if root.as_u128().is_multiple_of(u128::from(one_in)) => Use::LeftAlone,
            _ => Use::Allowed,
        }
    }

    pub(super) fn is_withdrawn(&self) -> bool {
        self.0.load(Ordering::Relaxed) == WITHDRAWN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_the_requests_leaves_vms_alone() {
        let trust = TrustCell::default();
        let of = |trust: &TrustCell, number: u128| trust.of(InvocationId::from_random(number));
        let left_alone = |trust: &TrustCell| (0..64).filter(|number| of(trust, *number) == Use::LeftAlone).count();
        assert_eq!(left_alone(&trust), 0);
        trust.set(Trust::Compared { control_one_in: 8 });
        assert_eq!(left_alone(&trust), 8);
        trust.set(Trust::Withdrawn);
        assert!((0..64).all(|number| of(&trust, number) == Use::Withdrawn) && trust.is_withdrawn());
        trust.set(Trust::SwitchedOff);
        assert!((0..64).all(|number| of(&trust, number) == Use::SwitchedOff) && !trust.is_withdrawn());
        trust.set(Trust::Full);
        assert!((0..64).all(|number| of(&trust, number) == Use::Allowed));
    }
}
