//! What kinds of answers a group of requests got, and whether two groups got different ones.
//!
//! Of each kind, its share has an interval that holds the true share at *all* times with probability `1 - ALPHA / kinds`;
//! when the intervals of the two groups lie apart, they differ. In words: a share is refuted once a bettor who mixes over
//! all shares (Jeffreys' prior) has made `kinds / ALPHA` out of one by betting against it. In symbols, with `s` answers
//! of the kind among `n`: `B(s + 1/2, n - s + 1/2) / (B(1/2, 1/2) p^s (1 - p)^(n - s)) >= kinds / ALPHA`
//! (Robbins 1970; Darling and Robbins 1967).

use forerun_types::Outcome;
use serde::{Deserialize, Serialize};

/// Probability that any interval of one group ever misses its share.
pub(super) const ALPHA: f64 = 0.0025;
/// Steps of the bisection that looks for an end of an interval: more than a hundredth of a percent nobody needs.
const BISECTIONS: u32 = 14;
/// Shares that lie closer than this are not looked at: no interval gets so narrow within a judgement.
const APART_MIN: f64 = 0.01;

/// A kind of answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Answer {
    /// Statuses below 400.
    Success,
    /// Statuses from 400 to 499.
    ClientError,
    /// Statuses from 500, of the function's own.
    ServerError,
    /// No answer of the function's, or a broken one.
    Failed,
}

const KINDS: [Answer; 4] = [Answer::Success, Answer::ClientError, Answer::ServerError, Answer::Failed];

/// Answers of one group, by kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Answers([u64; 4]);

impl Answer {
    /// What an invocation's end says of the VM that served it; `None` if that is not the VM's doing.
    pub(crate) fn of(outcome: Outcome, status: u16) -> Option<Self> {
        match outcome {
            Outcome::Ok if status < 400 => Some(Self::Success),
            Outcome::Ok if status < 500 => Some(Self::ClientError),
            Outcome::Ok => Some(Self::ServerError),
            Outcome::Trap
            | Outcome::Timeout
            | Outcome::OutOfMemory
            | Outcome::NoResponse
            | Outcome::GuestError
            | Outcome::ResponseTooLarge => Some(Self::Failed),
            Outcome::ClientGone | Outcome::NoVm | Outcome::Rejected => None,
        }
    }

    /// In words.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::ClientError => "client errors",
            Self::ServerError => "server errors",
            Self::Failed => "failures",
        }
    }
}

impl Answers {
    pub(super) fn add(&mut self, answer: Answer) {
        self.0[answer as usize] += 1;
    }

    pub(super) fn of(&self, answer: Answer) -> u64 {
        self.0[answer as usize]
    }

    pub(super) fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    pub(super) fn errors(&self) -> u64 {
        self.of(Answer::ServerError) + self.of(Answer::Failed)
    }

    /// The kind whose share is not the same in both groups; the worst of them first.
    pub(super) fn differ(&self, other: &Self) -> Option<Answer> {
        KINDS.into_iter().rev().find(|answer| match (self.share(*answer), other.share(*answer)) {
            (Some(own), Some(others)) if own.share() > others.share() + APART_MIN => own.is_above(others),
            (Some(own), Some(others)) if others.share() > own.share() + APART_MIN => others.is_above(own),
            (Some(_), Some(_)) | (None, _) | (_, None) => false,
        })
    }

    fn share(&self, answer: Answer) -> Option<Share> {
        let (hits, all) = (self.of(answer) as f64, self.total() as f64);
        (all > 0.0).then_some(Share { hits, misses: all - hits })
    }
}

/// A share among some requests.
#[derive(Clone, Copy)]
struct Share {
    hits: f64,
    misses: f64,
}

impl Share {
    fn share(self) -> f64 {
        self.hits / (self.hits + self.misses)
    }

    /// Whether its whole interval lies above another's. Mostly one look at the other's middle tells that it does not.
    fn is_above(self, other: Self) -> bool {
        self.refutes(other.share()) && other.refutes(self.share()) && self.low() > other.high()
    }

    /// Lower end of its interval.
    fn low(self) -> f64 {
        self.end(0.0)
    }

    /// Upper end of its interval.
    fn high(self) -> f64 {
        self.end(1.0)
    }

    /// The share nearest to `outside`, which is 0 or 1, that is not refuted.
    fn end(self, outside: f64) -> f64 {
        let (mut refuted, mut held) = (outside, self.share());
        if !self.refutes(refuted) {
            return outside;
        }
        for _ in 0..BISECTIONS {
            let middle = f64::midpoint(refuted, held);
            if self.refutes(middle) { refuted = middle } else { held = middle }
        }
        refuted
    }

    fn refutes(self, share: f64) -> bool {
        // Neither 0 nor 1 is possible once the other has been seen.
        let against = |count: f64, share: f64| if count == 0.0 { 0.0 } else { count * share.ln() };
        let likelihood = against(self.hits, share) + against(self.misses, 1.0 - share);
        let mixture = ln_beta(self.hits + 0.5, self.misses + 0.5) - std::f64::consts::PI.ln();
        mixture - likelihood >= (KINDS.len() as f64 / ALPHA).ln()
    }
}

fn ln_beta(a: f64, b: f64) -> f64 {
    ln_gamma(a) + ln_gamma(b) - ln_gamma(a + b)
}

/// Stirling's series, after the argument has been moved to where four terms are exact to ten digits.
fn ln_gamma(mut x: f64) -> f64 {
    let mut moved = 0.0;
    while x < 8.0 {
        moved += x.ln();
        x += 1.0;
    }
    let inverse = 1.0 / (x * x);
    let series = (1.0 / 12.0 - inverse * (1.0 / 360.0 - inverse * (1.0 / 1260.0 - inverse / 1680.0))) / x;
    (x - 0.5) * x.ln() - x + 0.5 * (2.0 * std::f64::consts::PI).ln() + series - moved
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(success: u64, failed: u64) -> Answers {
        Answers([success, 0, 0, failed])
    }

    #[test]
    fn the_logarithm_of_factorials_is_right() {
        for (x, factorial) in [(1.0, 1.0_f64), (2.0, 1.0), (5.0, 24.0), (11.0, 3_628_800.0)] {
            assert!((ln_gamma(x) - factorial.ln()).abs() < 1e-9, "{x}");
        }
        assert!((ln_gamma(0.5) - std::f64::consts::PI.sqrt().ln()).abs() < 1e-9);
    }

    #[test]
    fn alike_is_not_different_and_opposites_are() {
        assert_eq!(answers(900, 100).differ(&answers(90, 10)), None);
        assert_eq!(answers(3, 0).differ(&answers(0, 3)), None, "three requests say nothing");
        assert_eq!(answers(0, 40).differ(&answers(20, 0)), Some(Answer::Failed));
        assert_eq!(answers(40, 0).differ(&answers(0, 20)), Some(Answer::Failed), "not failing is different, too");
        assert_eq!(answers(0, 0).differ(&answers(20, 0)), None);
    }

    #[test]
    fn an_interval_holds_what_was_seen() {
        for (hits, misses) in [(0.0, 5.0), (5.0, 0.0), (50.0, 50.0), (1.0, 999.0)] {
            let share = Share { hits, misses };
            assert!(share.low() <= share.share() && share.share() <= share.high(), "{hits} of {}", hits + misses);
            assert!(share.high() - share.low() < 1.0 || hits + misses < 10.0);
        }
    }

    #[test]
    fn what_is_not_the_vms_doing_is_no_answer() {
        assert_eq!(Answer::of(Outcome::ClientGone, 499), None);
        assert_eq!(Answer::of(Outcome::NoVm, 503), None);
        assert_eq!(Answer::of(Outcome::Trap, 502), Some(Answer::Failed));
        let of = |status| Answer::of(Outcome::Ok, status);
        assert_eq!(
            [of(200), of(302), of(404), of(500)].map(Option::unwrap),
            [Answer::Success, Answer::Success, Answer::ClientError, Answer::ServerError]
        );
    }
}
