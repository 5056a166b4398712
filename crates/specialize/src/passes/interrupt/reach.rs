//! How long code may have run since the last check, at one point of a function: the arithmetic of it.
//!
//! It knows nothing of operators; see `places` for what is counted, and where.

use super::Bounds;

/// The most operators that may have run on any way to a point, of the ways that begin at the function's entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reach {
    /// On ways without a check, since the entry; `None` if there is no such way.
    since_entry: Option<u32>,
    /// On ways with a check, since the last one; `None` if there is no such way.
    since_check: Option<u32>,
}

impl Reach {
    /// At a function's entry.
    pub(super) const ENTRY: Self = Self { since_entry: Some(0), since_check: None };
    /// Directly after a check.
    pub(super) const CHECKED: Self = Self { since_entry: None, since_check: Some(0) };
    /// Where no way leads to.
    pub(super) const NOWHERE: Self = Self { since_entry: None, since_check: None };

    /// What is presumed of ways that nobody followed: a check is due.
    pub(super) fn unknown(bounds: &Bounds) -> Self {
        Self { since_entry: None, since_check: Some(bounds.stretch_max) }
    }

    /// After `operators` more.
    #[must_use]
    pub(super) fn plus(self, operators: u32) -> Self {
        self.then(Self { since_entry: Some(operators), since_check: None })
    }

    /// After a piece of code which is left with `next` when it is entered with [`Self::ENTRY`].
    #[must_use]
    pub(super) fn then(self, next: Self) -> Self {
        let is_reached = self != Self::NOWHERE;
        Self {
            since_entry: sum(self.since_entry, next.since_entry),
            since_check: sum(self.since_check, next.since_entry).max(next.since_check.filter(|_| is_reached)),
        }
    }

    /// Where ways meet.
    #[must_use]
    pub(super) fn or(self, other: Self) -> Self {
        Self {
            since_entry: self.since_entry.max(other.since_entry),
            since_check: self.since_check.max(other.since_check),
        }
    }

    /// Whether `operators` more can run before the next check.
    pub(super) fn has_room(self, operators: u32, bounds: &Bounds) -> bool {
        let fits = |so_far: Option<u32>, max: u32| so_far.is_none_or(|so_far| so_far.saturating_add(operators) <= max);
        fits(self.since_entry, bounds.entry_max()) && fits(self.since_check, bounds.stretch_max)
    }

    /// The most operators since the entry, 0 if no way comes from there.
    pub(super) fn since_entry(self) -> u32 {
        self.since_entry.unwrap_or(0)
    }
}

fn sum(a: Option<u32>, b: Option<u32>) -> Option<u32> {
    Some(a?.saturating_add(b?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_follows_where_no_way_leads_and_a_check_forgets_what_was_before() {
        assert_eq!(Reach::NOWHERE.plus(3).then(Reach::CHECKED), Reach::NOWHERE);
        assert_eq!(Reach::ENTRY.plus(3).then(Reach::CHECKED), Reach::CHECKED);
        assert_eq!(Reach::CHECKED.then(Reach::ENTRY.plus(2)).plus(3), Reach::CHECKED.plus(5));
    }

    #[test]
    fn where_ways_meet_the_longest_of_each_kind_counts() {
        let bounds = Bounds { stretch_max: 16 };
        let met = Reach::ENTRY.plus(5).or(Reach::CHECKED.plus(9)).or(Reach::ENTRY.plus(2)).or(Reach::NOWHERE);
        assert_eq!(met, Reach { since_entry: Some(5), since_check: Some(9) });
        assert!(met.has_room(3, &bounds) && !met.has_room(4, &bounds));
        assert_eq!(met.then(met), Reach { since_entry: Some(10), since_check: Some(14) });
    }
}
