//! How much of a processor learning may take: a share of it, and a little saved up for when something happens.
//!
//! Time worked is paid from a credit that fills up at the rate of the share. While there is credit the loop answers at
//! once; without any it rests until there is some again, and what comes meanwhile is taken in at one go, counted
//! instead of told one by one. So learning is quick while the node is quiet and yields first when it is not.

use std::time::{Duration, Instant};

/// Work that may be done at one go after a rest. A chain of calls needs some milliseconds of it.
const SAVED_MAX: Duration = Duration::from_millis(50);

/// Longest rest, so that a switch or the node's end is noticed, in seconds.
const REST_MAX_S: f64 = 1.0;

/// The credit of one loop.
pub(super) struct Credit {
    /// Share of one processor, above 0.
    share: f64,
    /// In seconds; below nothing, it is a debt.
    credit_s: f64,
    counted: Instant,
    worked: Duration,
}

impl Credit {
    /// Full credit at `now`, for a loop that may take `share` of one processor.
    pub(super) fn new(share: f32, now: Instant) -> Self {
        let share = f64::from(share.clamp(0.001, 1.0));
        Self { share, credit_s: SAVED_MAX.as_secs_f64(), counted: now, worked: Duration::ZERO }
    }

    /// Work was done from `began` until `now`.
    pub(super) fn pay(&mut self, began: Instant, now: Instant) {
        let work = now.saturating_duration_since(began);
        self.worked += work;
        self.fill(now);
        self.credit_s -= work.as_secs_f64();
    }

    /// How long to rest at `now` before more may be done; nothing while there is credit.
    pub(super) fn rest(&mut self, now: Instant) -> Duration {
        self.fill(now);
        if self.credit_s > 0.0 {
            return Duration::ZERO;
        }
        // Until a tenth is saved: many small rests would cost more than they save.
        let missing_s = 0.1 * SAVED_MAX.as_secs_f64() - self.credit_s;
        Duration::from_secs_f64((missing_s / self.share).min(REST_MAX_S))
    }

    /// Time worked in all.
    pub(super) fn worked(&self) -> Duration {
        self.worked
    }

    fn fill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.counted);
        self.counted = now;
        self.credit_s = (self.credit_s + self.share * passed.as_secs_f64()).min(SAVED_MAX.as_secs_f64());
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
