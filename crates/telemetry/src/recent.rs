//! The last invocations, in memory, for the admin API: what `forerun` shows of a request it is asked about.
//!
//! A bounded ring; what is older is in the history, if that is kept.

use std::collections::VecDeque;
use std::sync::Arc;

use forerun_types::{FunctionName, InvocationId};
use parking_lot::Mutex;

use crate::event::InvocationEvent;
use crate::writer::EventSink;

/// The last invocations. Shared by the writer thread and the admin API.
pub struct RecentInvocations {
    capacity: usize,
    ring: Mutex<Ring>,
}

/// How a visit ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Visited {
    /// The number from which to go on.
    pub next: u64,
    /// Invocations that had left before they were visited.
    pub missed: u64,
}

#[derive(Default)]
struct Ring {
    /// Number of the oldest event in `events`, counted from the start.
    first: u64,
    events: VecDeque<InvocationEvent>,
}

impl RecentInvocations {
    /// Keeps the last `capacity` invocations; about 500 bytes each. 10,000 is a good number.
    pub fn new(capacity: usize) -> Arc<Self> {
        Arc::new(Self { capacity, ring: Mutex::default() })
    }

    /// The invocation with that id, if it is among the last. Looks at all of them, which takes a fraction of a millisecond:
    /// a person asks now and then, and an index would have to be kept up for every event.
    pub fn get(&self, id: InvocationId) -> Option<InvocationEvent> {
        self.ring.lock().events.iter().rev().find(|event| event.id == id).cloned()
    }

    /// The last invocations, newest first, at most `count`; of one function only, if one is given.
    pub fn latest(&self, function: Option<&FunctionName>, count: usize) -> Vec<InvocationEvent> {
        let ring = self.ring.lock();
        let wanted = |event: &&InvocationEvent| function.is_none_or(|function| *function == event.function);
        ring.events.iter().rev().filter(wanted).take(count).cloned().collect()
    }

    /// Shows `look` every invocation from number `next` on, oldest first. It must be quick: who writes waits.
    pub fn visit_since(&self, next: u64, look: impl FnMut(&InvocationEvent)) -> Visited {
        let ring = self.ring.lock();
        let missed = ring.first.saturating_sub(next);
        let skipped = usize::try_from(next.saturating_sub(ring.first)).unwrap_or(usize::MAX);
        ring.events.iter().skip(skipped).for_each(look);
        Visited { next: ring.first + ring.events.len() as u64, missed }
    }

    fn push(&self, ring: &mut Ring, event: &InvocationEvent) {
        ring.events.push_back(event.clone());
        while ring.events.len() > self.capacity {
            ring.events.pop_front();
            ring.first += 1;
        }
    }
}

impl EventSink for Arc<RecentInvocations> {
    fn take(&mut self, events: &[InvocationEvent]) {
        let mut ring = self.ring.lock();
        events.iter().for_each(|event| self.push(&mut ring, event));
    }

    fn flush(&mut self) {}
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::event::tests::event;

    proptest! {
        #[test]
        fn behaves_as_the_end_of_a_list(numbers in proptest::collection::vec(0..20u64, 0..60), capacity in 0..12usize) {
            let recent = RecentInvocations::new(capacity);
            for batch in numbers.chunks(3) {
                let events: Vec<_> = batch.iter().map(|number| event(*number)).collect();
                Arc::clone(&recent).take(&events);
            }
            let end: Vec<u64> = numbers.iter().rev().take(capacity).copied().collect();
            let latest: Vec<_> = recent.latest(None, 100).iter().map(|event| event.id.as_u128()).collect();
            prop_assert_eq!(latest, end.iter().map(|number| u128::from(*number)).collect::<Vec<_>>());
            for number in 0..20 {
                let id = InvocationId::from_random(number.into());
                prop_assert_eq!(recent.get(id).is_some(), end.contains(&number));
            }
            prop_assert!(recent.ring.lock().events.len() <= capacity);
        }
    }

    #[test]
    fn a_visitor_sees_each_invocation_once_and_learns_what_it_missed() {
        let recent = RecentInvocations::new(3);
        let visit = |next| {
            let mut seen = Vec::new();
            let visited = recent.visit_since(next, |event| seen.push(event.id.as_u128()));
            (seen, visited)
        };
        assert_eq!(visit(0), (vec![], Visited { next: 0, missed: 0 }));
        Arc::clone(&recent).take(&[event(1), event(2)]);
        assert_eq!(visit(0), (vec![1, 2], Visited { next: 2, missed: 0 }));
        assert_eq!(visit(2), (vec![], Visited { next: 2, missed: 0 }));
        Arc::clone(&recent).take(&[event(3), event(4), event(5), event(6)]);
        assert_eq!(visit(2), (vec![4, 5, 6], Visited { next: 6, missed: 1 }));
    }

    #[test]
    fn can_be_asked_for_one_function() {
        let recent = RecentInvocations::new(10);
        let mut other = event(2);
        other.function = "other".parse().unwrap();
        Arc::clone(&recent).take(&[event(1), other.clone(), event(3)]);
        let found = recent.latest(Some(&other.function), 10);
        assert_eq!(found.iter().map(|event| event.id).collect::<Vec<_>>(), [other.id]);
        assert_eq!(recent.latest(None, 2).len(), 2);
    }
}
