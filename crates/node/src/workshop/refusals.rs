//! What passes and jobs of the workshop refused, counted by name for the metrics.
//!
//! Names come from a worker, which is not trusted: however many it makes up, few are kept.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

/// Pairs of a pass and a reason that are told apart; those that this build knows are fewer.
const PAIRS_MAX: usize = 64;
/// Stands for all beyond.
const OTHER: &str = "other";

/// The name of a pass or a job, and that of a reason.
type Pair = (Arc<str>, Arc<str>);

/// Refusals since the node's start.
#[derive(Default)]
pub(crate) struct Refusals(Mutex<BTreeMap<Pair, u64>>);

impl Refusals {
    pub(super) fn count(&self, pass: &str, reason: &str) {
        let mut counts = self.0.lock();
        let key = (Arc::from(pass), Arc::from(reason));
        let is_kept = counts.len() < PAIRS_MAX || counts.contains_key(&key);
        let key = if is_kept { key } else { (OTHER.into(), OTHER.into()) };
        *counts.entry(key).or_default() += 1;
    }

    /// Pass, reason, how often.
    pub(crate) fn all(&self) -> Vec<(Arc<str>, Arc<str>, u64)> {
        let counts = self.0.lock();
        counts.iter().map(|((pass, reason), count)| (Arc::clone(pass), Arc::clone(reason), *count)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_up_names_are_one() {
        let refusals = Refusals::default();
        refusals.count("prelink", "many_memories");
        for number in 0..1_000 {
            refusals.count("state", &number.to_string());
        }
        refusals.count("prelink", "many_memories");
        let all = refusals.all();
        assert_eq!(all.len(), PAIRS_MAX + 1);
        assert_eq!(all.iter().map(|(_, _, count)| count).sum::<u64>(), 1_002);
        assert!(all.contains(&("prelink".into(), "many_memories".into(), 2)));
        assert!(all.iter().any(|(pass, _, count)| &**pass == OTHER && *count > 900));
    }
}
