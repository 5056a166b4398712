//! Arrivals on their way from the request path to those who predict: of each function a few one by one, the rest counted.
//!
//! Of a function that is called all the time only the pace is learnt, and telling of each call would cost each call: two
//! counted references and a place in a queue that all processors share, and whoever looks at it some microseconds more. So no
//! more than [`TOLD_ONE_BY_ONE_MAX`] of a function are ever under way, and no more than one after there were more than that;
//! who comes meanwhile is one more in a number that is read behind them. None is lost, but where the pipe itself is full,
//! which counts what it drops.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use crate::event::Arrival;

/// Arrivals of one function that are under way one by one.
pub const TOLD_ONE_BY_ONE_MAX: u32 = 8;

/// Where the arrivals of one function are counted.
#[derive(Debug, Default)]
pub struct ArrivalTally {
    under_way: AtomicU32,
    untold: AtomicU32,
    /// Whether there were some of which nothing was told, when that was last asked.
    is_busy: AtomicBool,
}

/// An arrival that is told of; as long as it is held, it counts as under way.
#[derive(Debug)]
pub struct Announced {
    /// What is told.
    pub arrival: Arrival,
    turn: Turn,
}

/// Leave to tell of one arrival.
#[derive(Debug)]
pub struct Turn(Arc<ArrivalTally>);

impl ArrivalTally {
    /// Leave to tell of an arrival; nothing if enough are under way, and then it is counted. Callers on several processors
    /// may pass the bound together, by as many as they are.
    pub fn admit(self: &Arc<Self>) -> Option<Turn> {
        let told_max = if self.is_busy.load(Ordering::Relaxed) { 1 } else { TOLD_ONE_BY_ONE_MAX };
        if self.under_way.load(Ordering::Relaxed) < told_max {
            self.under_way.fetch_add(1, Ordering::Relaxed);
            return Some(Turn(Arc::clone(self)));
        }
        self.untold.fetch_add(1, Ordering::Relaxed);
        None
    }

    /// How many came since this was last asked of which nothing was told.
    pub fn take_untold(&self) -> u32 {
        let untold = self.untold.swap(0, Ordering::Relaxed);
        self.is_busy.store(untold > 0, Ordering::Relaxed);
        untold
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Announced {
    /// What is put into the pipe.
    pub fn new(arrival: Arrival, turn: Turn) -> Self {
        Self { arrival, turn }
    }

    /// Where those of its function are counted of which nothing is told.
    pub fn tally(&self) -> &Arc<ArrivalTally> {
        &self.turn.0
    }
}

#[cfg(test)]
mod tests {
    use forerun_types::InvocationId;

    use super::*;
    use crate::pipe::event_pipe;

    fn announced(number: u128, turn: Turn) -> Announced {
        let (id, function) = (InvocationId::from_random(number), "cart".parse().unwrap());
        Announced::new(Arrival { id, at_unix_us: 7, function, app: "shop".into(), session: None, caller: None }, turn)
    }

    #[test]
    fn each_is_told_of_or_counted_and_room_comes_back() {
        let tally = Arc::new(ArrivalTally::default());
        let told: Vec<Turn> = (0..20).filter_map(|_| tally.admit()).collect();
        assert_eq!((told.len() as u32, tally.take_untold(), tally.take_untold()), (TOLD_ONE_BY_ONE_MAX, 12, 0));
        drop(told);
        assert!(tally.admit().is_some());
        assert_eq!(tally.take_untold(), 0);
    }

    #[test]
    fn of_a_busy_function_one_is_told_of_until_it_is_busy_no_more() {
        let tally = Arc::new(ArrivalTally::default());
        let come = |calls: u32| (0..calls).filter_map(|_| tally.admit()).collect::<Vec<_>>().len() as u32;
        let rounds = [20, 20, 1, 20, 8, 8].map(|calls| (come(calls), tally.take_untold()));
        assert_eq!(rounds, [(8, 12), (1, 19), (1, 0), (8, 12), (1, 7), (1, 7)]);
    }

    #[test]
    fn what_a_full_pipe_drops_is_not_under_way() {
        let tally = Arc::new(ArrivalTally::default());
        let (sender, mut receiver) = event_pipe(2);
        for number in 0..100 {
            let turn = tally.admit().expect("two are under way at most");
            sender.record(announced(number, turn));
        }
        assert_eq!((receiver.dropped_total(), tally.take_untold()), (98, 0));
        let first = receiver.try_next().unwrap();
        assert_eq!((first.arrival.id.as_u128(), Arc::ptr_eq(first.tally(), &tally)), (0, true));
    }

    #[test]
    fn those_of_many_threads_add_up() {
        let tally = Arc::new(ArrivalTally::default());
        let (sender, mut receiver) = event_pipe(64);
        let (mut told, mut untold) = (0_u32, 0_u32);
        std::thread::scope(|scope| {
            let call = |_| {
                (0..10_000).for_each(|number| {
                    if let Some(turn) = tally.admit() {
                        sender.record(announced(number, turn));
                    }
                });
            };
            let callers: Vec<_> = (0..4).map(|caller| scope.spawn(move || call(caller))).collect();
            while callers.iter().any(|caller| !caller.is_finished()) {
                told += u32::from(receiver.try_next().is_some());
                untold += tally.take_untold();
            }
        });
        told += std::iter::from_fn(|| receiver.try_next()).count() as u32;
        assert_eq!(told + untold + tally.take_untold() + receiver.dropped_total() as u32, 40_000);
    }
}
