//! Calls that are known to come: schedules and queues, once someone tells of them, are perfect predictors.

use crate::event::Target;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Known calls kept; a schedule should be told a few steps ahead, not for a year.
pub const KNOWN_MAX: usize = 100_000;

/// Known calls by their time.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct KnownCalls {
    by_time: BTreeMap<(u64, Target), u64>,
}

impl KnownCalls {
    /// A call of `target` will come between `from_us` and `until_us`. Says whether there was room to remember it.
    pub fn add(&mut self, target: Target, from_us: u64, until_us: u64) -> bool {
        if self.by_time.len() >= KNOWN_MAX {
            return false;
        }
        self.by_time.insert((from_us, target), until_us.max(from_us));
        true
    }

    /// Forgets what is over.
    pub fn expire(&mut self, now_us: u64) {
        while let Some(entry) = self.by_time.first_entry() {
            if *entry.get() >= now_us {
                return;
            }
            entry.remove();
        }
    }

    /// Calls that begin before `until_us`: target, start, end.
    pub fn before(&self, until_us: u64) -> impl Iterator<Item = (Target, u64, u64)> + '_ {
        let due = self.by_time.iter().take_while(move |((from_us, _), _)| *from_us < until_us);
        due.map(|((from_us, target), until_us)| (*target, *from_us, *until_us))
    }

    pub(crate) fn is_sound(&self) -> bool {
        self.by_time.len() <= KNOWN_MAX && self.by_time.iter().all(|((from_us, _), until_us)| from_us <= until_us)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.by_time.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.by_time.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_over_is_forgotten() {
        let mut known = KnownCalls::default();
        let target = Target { scope: None, kind: 1 };
        assert!(known.add(target, 10, 20) && known.add(target, 30, 40));
        known.expire(25);
        assert_eq!(known.before(100).collect::<Vec<_>>(), [(target, 30, 40)]);
        assert_eq!(known.before(30).count(), 0);
    }
}
