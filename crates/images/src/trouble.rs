//! When a build that failed may be tried again. Pure arithmetic; the clock is an argument.
//!
//! ```text
//! 1st failure: 30 s    2nd: 60 s    3rd: quarantine 1 h, 4th: 2 h, ... at most 7 days
//! discarded for cause: quarantine 1 h, the next time 2 h, ... at most 7 days
//! no room on the disk: 60 s, and not counted: it is not the image's fault
//! ```
//!
//! A clock set back never makes a wait longer than it was meant: a wait whose begin lies in the future begins now.

use serde::{Deserialize, Serialize};

/// From this failure on it is a quarantine.
pub const QUARANTINE_FAILURES: u32 = 3;
/// After the first failure: long enough that a build of 10 s that always fails takes a quarter of a core at most.
const BACK_OFF_MS: u64 = 30_000;
/// Long enough for an operator to see it, short enough to pass by itself over lunch.
const QUARANTINE_MS: u64 = 3_600_000;
/// A new release or new data may have changed what was wrong.
const QUARANTINE_MS_MAX: u64 = 7 * 24 * 3_600_000;
/// An operator who makes room need not tell us.
const NO_ROOM_MS: u64 = 60_000;
/// Longest explanation kept, in bytes; it is kept for each key in trouble.
const DETAIL_BYTES_MAX: usize = 200;

/// What went wrong with a key, and until when it is left alone.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Trouble {
    /// Builds that failed since the last one that did not.
    pub(crate) failures: u32,
    /// Times its image was discarded for cause, since the last pardon.
    pub(crate) discards: u32,
    since_unix_ms: u64,
    wait_ms: u64,
    /// What was said about the last of them.
    pub(crate) detail: String,
}

/// Whether a key may be built.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Wait {
    Over,
    BackingOff { until_unix_ms: u64 },
    Quarantined { until_unix_ms: u64 },
}

impl Trouble {
    pub(crate) fn note_failure(&mut self, now_unix_ms: u64, detail: &str) {
        self.failures = self.failures.saturating_add(1);
        let wait_ms = match self.failures.checked_sub(QUARANTINE_FAILURES) {
            Some(more) => quarantine_ms(more),
            None => BACK_OFF_MS << (self.failures - 1),
        };
        self.wait(now_unix_ms, wait_ms, detail);
    }

    pub(crate) fn note_discard(&mut self, now_unix_ms: u64, detail: &str) {
        self.discards = self.discards.saturating_add(1);
        self.wait(now_unix_ms, quarantine_ms(self.discards - 1), detail);
    }

    pub(crate) fn note_no_room(&mut self, now_unix_ms: u64, detail: &str) {
        self.wait(now_unix_ms, NO_ROOM_MS, detail);
    }

    /// A build went well. What was discarded for cause is remembered: the same image may come back.
    pub(crate) fn note_success(&mut self) {
        self.failures = 0;
        self.wait_ms = 0;
    }

    /// Whether there is nothing to remember.
    pub(crate) fn is_none(&self) -> bool {
        self.failures == 0 && self.discards == 0 && self.wait_ms == 0
    }

    /// How it stands now. Takes `&mut self` because a clock that was set back begins the wait anew.
    pub(crate) fn at(&mut self, now_unix_ms: u64) -> Wait {
        self.since_unix_ms = self.since_unix_ms.min(now_unix_ms);
        let until_unix_ms = self.since_unix_ms.saturating_add(self.wait_ms);
        if now_unix_ms >= until_unix_ms {
            Wait::Over
        } else if self.wait_ms >= QUARANTINE_MS {
            Wait::Quarantined { until_unix_ms }
        } else {
            Wait::BackingOff { until_unix_ms }
        }
    }

    /// Failures and discards together, for people.
    pub(crate) fn count(&self) -> u32 {
        self.failures.saturating_add(self.discards)
    }

    fn wait(&mut self, now_unix_ms: u64, wait_ms: u64, detail: &str) {
        self.since_unix_ms = now_unix_ms;
        // What came from a file may be anything; a wait is never longer than this.
        self.wait_ms = wait_ms.min(QUARANTINE_MS_MAX);
        self.detail = bounded(detail);
    }

    /// As [`Trouble`] but with every bound kept, for what was read from a file.
    pub(crate) fn checked(mut self) -> Self {
        self.wait_ms = self.wait_ms.min(QUARANTINE_MS_MAX);
        self.detail = bounded(&self.detail);
        self
    }
}

fn quarantine_ms(earlier: u32) -> u64 {
    let factor = 1u64.checked_shl(earlier).unwrap_or(u64::MAX);
    QUARANTINE_MS.saturating_mul(factor).min(QUARANTINE_MS_MAX)
}

/// The start of a text, at most [`DETAIL_BYTES_MAX`] bytes.
pub(crate) fn bounded(text: &str) -> String {
    text[..text.floor_char_boundary(DETAIL_BYTES_MAX)].to_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: u64 = 1_000_000_000;

    #[test]
    fn waits_double_and_end_in_quarantine() {
        let mut trouble = Trouble::default();
        let mut waits = Vec::new();
        for _ in 0..20 {
            trouble.note_failure(NOW, "trap");
            waits.push(trouble.at(NOW));
        }
        let hour = 3_600_000;
        assert_eq!(waits[0], Wait::BackingOff { until_unix_ms: NOW + 30_000 });
        assert_eq!(waits[1], Wait::BackingOff { until_unix_ms: NOW + 60_000 });
        assert_eq!(waits[2], Wait::Quarantined { until_unix_ms: NOW + hour });
        assert_eq!(waits[3], Wait::Quarantined { until_unix_ms: NOW + 2 * hour });
        assert_eq!(waits[19], Wait::Quarantined { until_unix_ms: NOW + 7 * 24 * hour });
    }

    #[test]
    fn a_success_forgets_failures_but_not_discards() {
        let mut trouble = Trouble::default();
        trouble.note_failure(NOW, "trap");
        trouble.note_success();
        assert!(trouble.is_none());
        trouble.note_discard(NOW, "slower");
        trouble.note_success();
        assert_eq!(trouble.at(NOW), Wait::Over);
        trouble.note_discard(NOW, "slower");
        assert_eq!(trouble.at(NOW), Wait::Quarantined { until_unix_ms: NOW + 7_200_000 });
    }

    #[test]
    fn a_full_disk_is_not_counted() {
        let mut trouble = Trouble::default();
        (0..10).for_each(|_| trouble.note_no_room(NOW, "full"));
        assert_eq!((trouble.at(NOW), trouble.count()), (Wait::BackingOff { until_unix_ms: NOW + 60_000 }, 0));
    }

    proptest! {
        #[test]
        fn no_jump_of_the_clock_makes_a_wait_longer(
            failures in 1..80u32, noted in any::<u64>(), later in any::<u64>(), detail in ".{0,300}"
        ) {
            let mut trouble = Trouble::default();
            (0..failures).for_each(|_| trouble.note_failure(noted, &detail));
            prop_assert!(trouble.detail.len() <= DETAIL_BYTES_MAX);
            match trouble.at(later) {
                Wait::Over => {}
                Wait::BackingOff { until_unix_ms } | Wait::Quarantined { until_unix_ms } => {
                    prop_assert!(until_unix_ms > later && until_unix_ms - later <= QUARANTINE_MS_MAX);
                }
            }
            let end = noted.min(later).saturating_add(QUARANTINE_MS_MAX);
            prop_assert_eq!(trouble.at(end), Wait::Over);
        }
    }
}
