//! What prediction is compared with: a VM of each function is held for a fixed time after its last call.
//!
//! An operator may choose it in the place of prediction (`--keep-alive`). Where memory is short, those that were called
//! last keep theirs. Pure: time and sizes come in as arguments.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use forerun_types::FunctionName;

/// Functions and when each was last called.
pub(super) struct KeepAlive {
    time_us: u64,
    called_us: HashMap<FunctionName, u64>,
}

impl KeepAlive {
    /// Holds for `time`.
    pub(super) fn new(time: Duration) -> Self {
        Self { time_us: u64::try_from(time.as_micros()).unwrap_or(u64::MAX), called_us: HashMap::new() }
    }

    /// A call.
    pub(super) fn called(&mut self, function: &FunctionName, at_us: u64) {
        self.called_us.insert(function.clone(), at_us);
    }

    /// Names of the functions of which a VM is held at `now_us`, within `budget_bytes`.
    pub(super) fn due(
        &mut self,
        now_us: u64,
        budget_bytes: u64,
        bytes_of: impl Fn(&FunctionName) -> u64,
    ) -> BTreeMap<String, u32> {
        // A clock that was set back makes a call younger, not older.
        self.called_us.retain(|_, at_us| now_us.saturating_sub(*at_us) < self.time_us);
        let mut latest: Vec<(&FunctionName, u64)> = self.called_us.iter().map(|(name, at_us)| (name, *at_us)).collect();
        latest.sort_by(|one, other| other.1.cmp(&one.1).then_with(|| one.0.cmp(other.0)));
        let mut left = budget_bytes;
        let mut due = BTreeMap::new();
        for (name, _) in latest {
            let Some(rest) = left.checked_sub(bytes_of(name)) else { break };
            left = rest;
            due.insert(name.to_string(), 1);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_held_for_the_time_and_the_latest_where_memory_is_short() {
        let mut kept = KeepAlive::new(Duration::from_micros(100));
        let names = ["a", "b", "c"].map(|name| name.parse::<FunctionName>().unwrap());
        kept.called(&names[0], 30);
        kept.called(&names[1], 10);
        kept.called(&names[2], 20);
        let mut held = |now_us, budget| kept.due(now_us, budget, |_| 5).into_keys().collect::<Vec<_>>();
        assert_eq!(held(40, 100), ["a", "b", "c"]);
        assert_eq!(held(40, 12), ["a", "c"]);
        assert_eq!(held(40, 0), Vec::<String>::new());
        assert_eq!(held(110, 100), ["a", "c"]);
        assert_eq!(held(129, 100), ["a"]);
        assert_eq!(held(130, 100), Vec::<String>::new());
    }
}
