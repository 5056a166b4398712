//! How much of a processor learning may take: a share of it, and a little saved up for when something happens.
//!
//! Time worked is paid from a credit that fills up at the rate of the share. While there is credit the loop answers at
//! once; without any it rests until there is some again, and what comes meanwhile is taken in at one go, counted
//! instead of told one by one. So learning is quick while the node is quiet and yields first when it is not.

use std::time::{Duration, Instant};

/// Work that may be done at one go after a rest. A chain of calls needs some milliseconds of it.
const SAVED_MAX: Duration = Duration::from_millis(50);

/// The credit of one loop.
pub(super) struct Credit {
    /// Share of one processor, above 0.
    share: f32,
    credit: Duration,
    counted: Instant,
    worked: Duration,
}

impl Credit {
    /// Full credit at `now`, for a loop that may take `share` of one processor.
    pub(super) fn new(share: f32, now: Instant) -> Self {
        Self { share: share.clamp(0.001, 1.0), credit: SAVED_MAX, counted: now, worked: Duration::ZERO }
    }

    /// Work was done from `began` until `now`.
    pub(super) fn pay(&mut self, began: Instant, now: Instant) {
        let work = now.saturating_duration_since(began);
        self.worked += work;
        self.fill(now);
        self.credit = self.credit.saturating_sub(work);
    }

    /// How long to rest at `now` before more may be done; nothing while there is credit.
    pub(super) fn rest(&mut self, now: Instant) -> Duration {
        self.fill(now);
        if self.credit > Duration::ZERO {
            return Duration::ZERO;
        }
        // Until a tenth is saved: many small rests would cost more than they save.
        SAVED_MAX.div_f32(10.0 * self.share)
    }

    /// Time worked in all.
    pub(super) fn worked(&self) -> Duration {
        self.worked
    }

    fn fill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.counted);
        self.counted = now;
        self.credit = (self.credit + passed.mul_f32(self.share)).min(SAVED_MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A loop that always has work takes its share and no more.
    #[test]
    fn work_is_bounded_by_the_share() {
        let start = Instant::now();
        let (mut now, mut credit) = (start, Credit::new(0.05, start));
        while now.saturating_duration_since(start) < Duration::from_secs(100) {
            let began = now;
            now += Duration::from_millis(2);
            credit.pay(began, now);
            now += credit.rest(now);
        }
        let share = credit.worked().as_secs_f32() / now.saturating_duration_since(start).as_secs_f32();
        assert!((0.04..0.055).contains(&share), "{share}");
    }

    #[test]
    fn after_a_rest_a_burst_is_free() {
        let start = Instant::now();
        let mut credit = Credit::new(0.05, start);
        credit.pay(start, start + Duration::from_millis(30));
        assert_eq!(credit.rest(start + Duration::from_millis(30)), Duration::ZERO);
        credit.pay(start + Duration::from_millis(30), start + Duration::from_millis(90));
        assert!(credit.rest(start + Duration::from_millis(90)) > Duration::ZERO);
        assert_eq!(credit.rest(start + Duration::from_secs(2)), Duration::ZERO);
    }
}
