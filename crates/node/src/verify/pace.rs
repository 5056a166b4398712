//! Whether a specialized program is slower than the whole one, before it serves: both answer the same requests in turn.
//!
//! ```text
//! slower:  of n pairs, in more than 3 n / 4 the candidate took longer,  and  its median > SLOWER · that of the whole
//! ```
//! The first alone is true of equal programs in two of a thousand trials of 31 pairs (binomial), whatever a pair's noise is
//! like, as long as it is each one's in turn; the second leaves differences alone that do not matter. Live control cannot
//! tell this as well: it is a small share of the requests, whose VMs and code are cold because they are few.
//!
//! Requests for which the candidate lacks code are left out. Made up as they are, they may run what none that comes does; how
//! often those that come lack code is counted as they come.

use std::time::{Duration, Instant};

use serde::Serialize;

use super::{Probe, Subject};

/// Pairs of requests; odd, so that there is a middle one.
const PAIRS: usize = 31;
/// Time in which as many pairs as fit are enough.
const TIME_MAX: Duration = Duration::from_secs(10);
/// Of how many pairs something can be said.
const PAIRS_MIN: usize = 11;
/// A median so much above the other one matters.
const SLOWER: f64 = 1.05;

/// How long requests took.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Pace {
    /// Pairs of requests that were compared.
    pub pairs: usize,
    /// In how many of them the candidate took longer.
    pub longer: usize,
    /// Median of the whole program, in microseconds.
    pub whole_us: u64,
    /// Median of the candidate, in microseconds.
    pub candidate_us: u64,
    /// Requests that say nothing, since the candidate lacks code for them.
    pub left_out: usize,
}

impl Pace {
    /// Whether the candidate is the slower one, by more than chance and by enough to matter.
    pub fn is_slower(&self) -> bool {
        self.pairs >= PAIRS_MIN
            && self.longer * 4 > self.pairs * 3
            && self.candidate_us as f64 > SLOWER * self.whole_us as f64
    }

    fn of(pairs: &[(u64, u64)]) -> Self {
        let median = |mut times_us: Vec<u64>| {
            times_us.sort_unstable();
            times_us.get(times_us.len() / 2).copied().unwrap_or(0)
        };
        Self {
            pairs: pairs.len(),
            longer: pairs.iter().filter(|(whole_us, candidate_us)| candidate_us > whole_us).count(),
            whole_us: median(pairs.iter().map(|(whole_us, _)| *whole_us).collect()),
            candidate_us: median(pairs.iter().map(|(_, candidate_us)| *candidate_us).collect()),
            left_out: 0,
        }
    }
}

/// Has both answer `probes`, which both have answered before, in turn. `misses` is how often the candidate lacked code so far.
pub async fn pace(whole: &Subject, candidate: &Subject, probes: &[Probe], misses: impl Fn() -> u64) -> Pace {
    let began = Instant::now();
    let mut complete = Vec::with_capacity(probes.len());
    for probe in probes {
        let before = misses();
        candidate.see(probe).await;
        complete.extend((misses() == before).then_some(probe));
    }
    let mut pairs = Vec::with_capacity(PAIRS);
    for (number, probe) in complete.iter().cycle().take(PAIRS).enumerate() {
        if began.elapsed() > TIME_MAX {
            break;
        }
        // Each comes first every other time: what one does behind its answer is in the other's.
        let (first, second) = if number % 2 == 0 { (whole, candidate) } else { (candidate, whole) };
        let (Some(first_us), Some(second_us)) = (first.time_us(probe).await, second.time_us(probe).await) else {
            continue;
        };
        pairs.push(if number % 2 == 0 { (first_us, second_us) } else { (second_us, first_us) });
    }
    Pace { left_out: probes.len() - complete.len(), ..Pace::of(&pairs) }
}

impl Subject {
    async fn time_us(&self, probe: &Probe) -> Option<u64> {
        let began = Instant::now();
        self.see(probe).await?;
        u64::try_from(began.elapsed().as_micros()).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pairs of a whole program that takes a millisecond, give or take a tenth, and a candidate with another mean.
    fn paced(candidate_us: u64, dice: impl Iterator<Item = u64>) -> Pace {
        let dice: Vec<u64> = dice.take(2 * PAIRS).collect();
        Pace::of(&dice.chunks(2).map(|two| (900 + two[0] % 200, candidate_us - 100 + two[1] % 200)).collect::<Vec<_>>())
    }

    fn dice(seed: u64) -> impl Iterator<Item = u64> {
        std::iter::successors(Some(seed), |state| {
            Some(state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695))
        })
        .skip(3)
        .map(|state| state >> 33)
    }

    #[test]
    fn what_is_slower_is_said_to_be_and_what_is_equal_hardly_ever() {
        let slower = |candidate_us: u64| (0..1_000).filter(|seed| paced(candidate_us, dice(*seed)).is_slower()).count();
        let (equal, a_tenth, a_fifth) = (slower(1_000), slower(1_100), slower(1_200));
        assert!(equal <= 5 && a_tenth >= 850 && a_fifth >= 999, "{equal} {a_tenth} {a_fifth}");
    }

    #[test]
    fn a_difference_that_does_not_matter_and_a_few_pairs_are_left_alone() {
        let pace = Pace { pairs: 31, longer: 31, whole_us: 1_000, candidate_us: 1_040, left_out: 0 };
        assert!(!pace.is_slower() && Pace { candidate_us: 1_060, ..pace }.is_slower());
        assert!(!Pace { pairs: 7, longer: 7, candidate_us: 2_000, ..pace }.is_slower());
        assert!(!Pace { longer: 23, candidate_us: 2_000, ..pace }.is_slower());
        assert!(!Pace::of(&[]).is_slower());
    }
}
