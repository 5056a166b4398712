//! What is remembered of one function's timing: under 200 bytes, all of it bounded.

use super::bins::TimeBins;
use super::sketch::Sketch;
use serde::{Deserialize, Serialize};

/// Code for "no idle time known yet" among recent bins; no grid has that many bins.
pub const NO_BIN: u8 = u8::MAX;
/// Recent idle times kept, newest first. Sixteen hold two rounds of an eight-step cycle, enough for the pattern expert
/// to see a daily cron list repeat.
pub const RECENT_LEN: usize = 16;
/// Idle times in the running mean before both sum and count are halved.
const MEAN_COUNT_MAX: u16 = 250;
/// Bound on their sum, above what [`MEAN_COUNT_MAX`] idle times of a thousand years give.
const MEAN_SUM_S_MAX: f32 = 1e13;
/// Observations in a function's own sketch before it is halved: 64 idle times describe a habit; older ones describe
/// a habit it may have left.
const OWN_OBSERVATIONS_MAX: u32 = 64;
/// Number of classes of [`History::calls_class`].
pub const CALLS_CLASSES: usize = 8;
/// Number of classes of [`History::rate_class`].
pub const RATE_CLASSES: usize = 7;
/// Number of classes of [`History::tempo_class`].
pub const TEMPO_CLASSES: usize = 12 * 3 * 3;
/// Number of classes of [`History::clock_class`].
pub const CLOCK_CLASSES: usize = 5 * CALLS_CLASSES * RATE_CLASSES;

/// Timing history of one function (or one application).
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct History {
    /// Time of the last call.
    pub last_us: u64,
    /// Idle times observed, saturating.
    pub idle_count: u32,
    /// First bin whose end the present idle time is not yet known to have passed; a segment start.
    pub crossed: u8,
    /// Whether an entry for this function waits in the timer queue (there is never more than one).
    pub queued: bool,
    /// Histogram of its own idle times.
    pub own: Sketch,
    /// Bins of the most recent idle times, newest first; [`NO_BIN`] where there is none.
    pub recent: [u8; RECENT_LEN],
    mean_sum_s: f32,
    mean_count: u16,
    burst: u8,
}

impl History {
    /// History of a function whose first call was at `at_us`.
    pub fn first(at_us: u64, count: u32) -> Self {
        Self {
            last_us: at_us,
            idle_count: 0,
            crossed: 0,
            queued: false,
            own: Sketch::default(),
            recent: [NO_BIN; RECENT_LEN],
            mean_sum_s: 0.0,
            mean_count: 0,
            burst: burst_class(count),
        }
    }

    /// Records the end of an idle time of `idle_s` seconds in `bin` at `at_us`.
    pub fn record(&mut self, at_us: u64, idle_s: f32, bin: usize, count: u32) {
        self.last_us = at_us;
        self.idle_count = self.idle_count.saturating_add(1);
        self.crossed = 0;
        self.own.add(bin as u8, OWN_OBSERVATIONS_MAX);
        self.recent.copy_within(0..RECENT_LEN - 1, 1);
        self.recent[0] = bin as u8;
        self.mean_sum_s += idle_s;
        self.mean_count += 1;
        if self.mean_count >= MEAN_COUNT_MAX {
            self.mean_sum_s *= 0.5;
            self.mean_count /= 2;
        }
        self.burst = burst_class(count);
    }

    /// Mean idle time in seconds, recent ones weighing more; 0 when there is none.
    pub fn mean_idle_s(&self) -> f32 {
        self.mean_sum_s / f32::from(self.mean_count.max(1))
    }

    /// How well the function is known, by number of idle times seen.
    pub fn calls_class(&self) -> usize {
        match self.idle_count {
            0 => 0,
            1 => 1,
            2..=3 => 2,
            4..=7 => 3,
            8..=15 => 4,
            16..=31 => 5,
            32..=99 => 6,
            100.. => 7,
        }
    }

    /// How busy the function is, by mean idle time, in steps of about four.
    pub fn rate_class(&self) -> usize {
        if self.idle_count == 0 {
            return 0;
        }
        const LIMITS_S: [f32; RATE_CLASSES - 2] = [90.0, 400.0, 1_800.0, 7_200.0, 28_800.0];
        let mean_idle_s = self.mean_idle_s();
        1 + LIMITS_S.iter().filter(|limit_s| mean_idle_s >= **limit_s).count()
    }

    /// The tempo: the mean of the last four idle times, whether the last one was longer or shorter, and how many calls
    /// came together last. This is the short-memory counterpart of the rate class: a function in a burst, or one that
    /// falls asleep.
    pub fn tempo_class(&self, bins: &TimeBins) -> usize {
        let known = self.recent.iter().take(4).take_while(|bin| **bin != NO_BIN);
        let (sum, count) = known.fold((0u32, 0u32), |(sum, count), bin| (sum + u32::from(*bin), count + 1));
        let last = u32::from(self.recent[0]);
        if count == 0 {
            return usize::from(self.burst);
        }
        let mean = sum / count;
        let level = 1 + (mean as usize * 11 / bins.len()).min(10);
        // Two bins apart is the noise of a bin edge on each side.
        let trend = if last + 2 < mean {
            1
        } else if last > mean + 2 {
            2
        } else {
            0
        };
        (level * 3 + trend) * 3 + usize::from(self.burst)
    }

    /// Where the last call fell on the clock. People write schedules in round numbers: a function called on the full
    /// hour is more likely to be on a timer than one called at 10:07.
    pub fn clock_class(&self, calls_class: usize, rate_class: usize) -> usize {
        let minute = self.last_us / 60_000_000 % 60;
        let roundness = if minute == 0 {
            4
        } else if minute == 30 {
            3
        } else if minute.is_multiple_of(15) {
            2
        } else if minute.is_multiple_of(5) {
            1
        } else {
            0
        };
        (roundness * CALLS_CLASSES + calls_class) * RATE_CLASSES + rate_class
    }

    /// How concentrated its idle times are, from 0 (spread out) to 3 (nearly always the same).
    pub fn peakedness(&self) -> usize {
        let share = self.own.peak() as f32 / (self.own.total().max(1)) as f32;
        [0.3, 0.6, 0.9].iter().filter(|limit| share > **limit).count()
    }

    /// Whether restored state is in range for a grid of `bins` bins.
    pub(crate) fn is_sound(&self, bins: usize) -> bool {
        let known = |bin: &u8| *bin == NO_BIN || usize::from(*bin) < bins;
        self.recent.iter().all(known)
            && self.own.is_sound(bins)
            && usize::from(self.crossed) < bins
            && (0.0..=MEAN_SUM_S_MAX).contains(&self.mean_sum_s)
            && self.mean_count <= MEAN_COUNT_MAX
            && self.burst < 3
            && self.last_us <= crate::engine::TIME_US_MAX
    }

    /// Whether the function keeps a rhythm of its own: most of at least three idle times were the same.
    pub fn has_rhythm(&self) -> bool {
        self.idle_count >= 3 && self.peakedness() >= 2
    }

    /// Whether the last two idle times were the same.
    pub fn repeats(&self) -> bool {
        self.recent[0] != NO_BIN && self.recent[0] == self.recent[1]
    }
}

fn burst_class(count: u32) -> u8 {
    match count {
        0..=1 => 0,
        2..=5 => 1,
        6.. => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::timing::bins::Resolution;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn classes_stay_in_range(idles in prop::collection::vec((0f32..1e7, 0u32..1000), 0..300)) {
            for resolution in [Resolution::Second, Resolution::Minute] {
                let bins = TimeBins::new(resolution);
                let mut history = History::first(0, 1);
                let mut at_us = 0;
                for (idle_s, count) in &idles {
                    at_us += (*idle_s * 1e6) as u64;
                    history.record(at_us, *idle_s, bins.bin_of(*idle_s), *count);
                    prop_assert!(history.calls_class() < CALLS_CLASSES);
                    prop_assert!(history.rate_class() < RATE_CLASSES);
                    prop_assert!(history.tempo_class(&bins) < TEMPO_CLASSES);
                    prop_assert!(history.clock_class(history.calls_class(), history.rate_class()) < CLOCK_CLASSES);
                    prop_assert!(history.peakedness() < 4);
                }
            }
        }
    }

    #[test]
    fn a_record_is_small() {
        assert!(size_of::<History>() <= 112, "{} bytes", size_of::<History>());
    }
}
