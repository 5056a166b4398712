//! For requests of the recent past: whether they were expected, and why. Bounded; the oldest is forgotten first.

use std::collections::{HashMap, VecDeque};

use forerun_types::InvocationId;
use serde::Serialize;

use super::plans::Cause;

/// Requests remembered; as many as the node remembers invocations by default.
const REQUESTS_MAX: usize = 10_000;

/// What was expected of a request when it came.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Expectation {
    /// When it came, in microseconds since the Unix epoch.
    pub(crate) at_unix_us: u64,
    /// Why it was expected; absent if it was not.
    pub(crate) cause: Option<Cause>,
}

/// What was expected of the latest requests.
#[derive(Default)]
pub(crate) struct Standings {
    by_id: HashMap<u128, Expectation>,
    order: VecDeque<u128>,
}

impl Standings {
    pub(super) fn note(&mut self, id: InvocationId, expectation: Expectation) {
        if self.order.len() >= REQUESTS_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.by_id.remove(&oldest);
        }
        if self.by_id.insert(id.as_u128(), expectation).is_none() {
            self.order.push_back(id.as_u128());
        }
    }

    /// Whether a request was expected; not, if nothing is known of it any more.
    pub(super) fn was_expected(&self, id: InvocationId) -> bool {
        self.by_id.get(&id.as_u128()).is_some_and(|expectation| expectation.cause.is_some())
    }

    pub(super) fn get(&self, id: InvocationId) -> Option<Expectation> {
        self.by_id.get(&id.as_u128()).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_is_forgotten_first() {
        let mut standings = Standings::default();
        let id = |number: usize| InvocationId::from_random(number as u128);
        for number in 0..=REQUESTS_MAX {
            standings.note(id(number), Expectation { at_unix_us: number as u64, cause: None });
        }
        assert!(standings.get(id(0)).is_none());
        assert_eq!(standings.get(id(REQUESTS_MAX)).unwrap().at_unix_us, REQUESTS_MAX as u64);
        assert_eq!(standings.by_id.len(), REQUESTS_MAX);
    }
}
