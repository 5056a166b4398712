//! Whether VMs prepared ahead serve as well as new ones: requests served by them against a control group, as they come.
//!
//! Requests that find a prepared VM are divided at random: one in so many leaves it alone (control) and shows what the
//! standard path would have given. Three tests look at the two groups. Each may be looked at after every request
//! without losing its guarantee:
//!
//! - **Slower.** Of each group we keep the mean of the logarithm of the time to the first byte, and an interval around it
//!   that holds the true mean at *all* times with probability `1 - ALPHA_LATENCY`; when the two lie apart, the matter is
//!   decided. With `n` samples of variance `s^2` and Robbins' normal mixture of weight `RHO`:
//!   `radius(n) = sqrt((n s^2 + RHO) ln((n s^2 + RHO) / (RHO ALPHA^2))) / n`
//!   (Robbins 1970; with the variance estimated, asymptotic as in Waudby-Smith et al. 2021).
//! - **Answers.** The same for the share of each kind of answer (`answers`): a prepared VM changes how fast an answer
//!   comes, never which.
//! - **Fails.** A request that a prepared VM failed and a new one then served well. Whatever the function does, if its
//!   VMs were alike, that could happen to a quarter of its requests at most: one that fails with probability `q` by
//!   itself fails first and not the second time with `q (1 - q) <= 1/4`. So this test needs no control group, and a few
//!   requests are enough (`second_attempts`).
//!
//! The first two raise a false alarm with a probability below [`FALSE_ALARM_MAX`] in one judgement; how seldom the third
//! does is said there. Nothing here decides what follows: that is `arm`.

use serde::{Deserialize, Serialize};

use super::answers::{Answer, Answers};
use super::second_attempts::SecondAttempts;

/// Probability that VMs that serve as well as new ones are taken for worse, in one judgement: for each of two groups
/// that of latency and that of the answers.
#[cfg_attr(not(test), expect(dead_code, reason = "it is a promise, and the trials hold the code to it"))]
pub(crate) const FALSE_ALARM_MAX: f64 = 2.0 * ALPHA_LATENCY + 2.0 * super::answers::ALPHA;
/// Probability that an interval of one group's latency ever misses the true mean.
const ALPHA_LATENCY: f64 = 0.005;
/// Weight of the mixture: tightest after about `RHO / s^2` samples, about a hundred at the spread of real latencies.
const RHO: f64 = 10.0;
/// Before so many samples of a group its variance is not to be trusted.
const SAMPLES_MIN: u64 = 20;
/// VMs that are at most so much slower are as good as new ones: what is gained by knowing better would cost more
/// requests of the control group than it is worth.
const SLOWER_ALLOWED: f64 = 1.1;
/// Nor are VMs believed in that err more often than the control group by so much: either that is chance and passes, or
/// it is none and will be proved.
const MORE_ERRORS_ALLOWED: f64 = 0.01;

/// One group of requests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Group {
    samples: u64,
    mean_ln_us: f64,
    /// Sum of squared distances from the mean (Welford).
    spread: f64,
    answers: Answers,
}

/// What is known of one function's prepared VMs against standard initialization.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Comparison {
    pub(crate) prepared: Group,
    pub(crate) control: Group,
    second_attempts: SecondAttempts,
}

/// What the comparison says.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Verdict {
    /// Not enough is known yet.
    Open,
    /// Prepared VMs serve faster.
    Better,
    /// They are at most a little slower, and answer the same.
    NoWorse,
    /// They are given up.
    Worse(Fault),
}

/// What is wrong with VMs, and the figures that say so.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub(crate) enum Fault {
    /// They take longer.
    Slower { prepared_us: f64, prepared_requests: u64, control_us: f64, control_requests: u64 },
    /// They answer differently.
    Answers { answer: Answer, prepared: u64, prepared_requests: u64, control: u64, control_requests: u64 },
    /// They fail where new ones do not.
    Fails { failed: u64, requests: u64 },
}

impl Fault {
    /// In words, for people.
    pub(crate) fn in_words(&self) -> String {
        match self {
            Self::Slower { prepared_us, prepared_requests, control_us, control_requests } => format!(
                "slower: {:.3} ms to the first byte over {prepared_requests} requests, new VMs {:.3} ms over \
                 {control_requests}",
                prepared_us * 1e-3,
                control_us * 1e-3,
            ),
            Self::Answers { answer, prepared, prepared_requests, control, control_requests } => format!(
                "answers differ: {} {prepared} times in {prepared_requests} requests, of new VMs {control} in \
                 {control_requests}",
                answer.label(),
            ),
            Self::Fails { failed, requests } => {
                format!("fails: {failed} of {requests} requests had to be served again by a new VM, which served them")
            }
        }
    }
}

impl Group {
    /// A request that got an answer of this kind, after so long if it was answered at all.
    pub(crate) fn add(&mut self, answer: Answer, latency_us: Option<u64>) {
        self.answers.add(answer);
        let Some(latency_us) = latency_us else { return };
        let value = (latency_us.max(1) as f64).ln();
        self.samples += 1;
        let distance = value - self.mean_ln_us;
        self.mean_ln_us += distance / self.samples as f64;
        self.spread += distance * (value - self.mean_ln_us);
    }

    /// Requests, whether answered or not.
    pub(crate) fn requests(&self) -> u64 {
        self.answers.total()
    }

    /// Requests that failed or were answered with a server's error.
    pub(crate) fn errors(&self) -> u64 {
        self.answers.errors()
    }

    pub(super) fn error_share(&self) -> f64 {
        self.errors() as f64 / self.requests().max(1) as f64
    }

    /// Requests whose time is known.
    pub(super) fn samples(&self) -> u64 {
        self.samples
    }

    /// The geometric mean, in microseconds.
    pub(crate) fn typical_us(&self) -> f64 {
        if self.samples == 0 { 0.0 } else { self.mean_ln_us.exp() }
    }

    fn radius(&self) -> Option<f64> {
        if self.samples < SAMPLES_MIN {
            return None;
        }
        let n = self.samples as f64;
        let total = n * (self.spread / (n - 1.0)) + RHO;
        Some((total * (total / (RHO * ALPHA_LATENCY * ALPHA_LATENCY)).ln()).sqrt() / n)
    }
}

impl Comparison {
    /// A request that a prepared VM served, for better or worse.
    pub(crate) fn served(&mut self, answer: Answer, latency_us: Option<u64>) {
        self.prepared.add(answer, latency_us);
        self.second_attempts.served();
    }

    /// A request that a prepared VM failed; a new one served it or failed, too.
    pub(crate) fn served_again(&mut self, served: bool) {
        self.prepared.add(Answer::Failed, None);
        if served {
            self.second_attempts.served_again();
        } else {
            self.second_attempts.served();
        }
    }

    pub(crate) fn verdict(&self) -> Verdict {
        if let Some((failed, requests)) = self.second_attempts.alarm() {
            return Verdict::Worse(Fault::Fails { failed, requests });
        }
        let (prepared, control) = (&self.prepared, &self.control);
        if let Some(answer) = prepared.answers.differ(&control.answers) {
            return Verdict::Worse(Fault::Answers {
                answer,
                prepared: prepared.answers.of(answer),
                prepared_requests: prepared.requests(),
                control: control.answers.of(answer),
                control_requests: control.requests(),
            });
        }
        let (Some(prepared_radius), Some(control_radius)) = (prepared.radius(), control.radius()) else {
            return Verdict::Open;
        };
        let slower = prepared.mean_ln_us - control.mean_ln_us;
        let radius = prepared_radius + control_radius;
        if slower > radius {
            Verdict::Worse(Fault::Slower {
                prepared_us: prepared.typical_us(),
                prepared_requests: prepared.requests(),
                control_us: control.typical_us(),
                control_requests: control.requests(),
            })
        } else if prepared.error_share() > control.error_share() + MORE_ERRORS_ALLOWED {
            Verdict::Open
        } else if -slower > radius {
            Verdict::Better
        } else if slower + radius < SLOWER_ALLOWED.ln() {
            Verdict::NoWorse
        } else {
            Verdict::Open
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_decided_on_a_handful() {
        let mut comparison = Comparison::default();
        (0..15).for_each(|_| comparison.served(Answer::Success, Some(1_000_000)));
        (0..15).for_each(|_| comparison.control.add(Answer::Success, Some(1)));
        assert_eq!(comparison.verdict(), Verdict::Open);
        comparison.served(Answer::Success, Some(0));
        assert!(comparison.prepared.typical_us().is_finite());
    }

    #[test]
    fn a_function_that_fails_by_itself_is_not_the_vms_fault() {
        let mut comparison = Comparison::default();
        for request in 0..2_000 {
            // Every fifth fails, and so does the second attempt.
            if request % 5 == 0 {
                comparison.served_again(false)
            } else {
                comparison.served(Answer::Success, Some(900))
            }
            let control = if request % 5 == 0 { Answer::Failed } else { Answer::Success };
            comparison.control.add(control, (control == Answer::Success).then_some(900));
            assert!(!matches!(comparison.verdict(), Verdict::Worse(_)), "after {request}: {:?}", comparison.verdict());
        }
    }

    #[test]
    fn faults_are_told_with_their_figures() {
        let mut comparison = Comparison::default();
        (0..30).for_each(|_| comparison.control.add(Answer::Success, Some(900)));
        (0..30).for_each(|_| comparison.served(Answer::ServerError, Some(900)));
        let Verdict::Worse(fault) = comparison.verdict() else { panic!("{:?}", comparison.verdict()) };
        assert!(fault.in_words().contains("server errors 30 times in 30"), "{}", fault.in_words());
        assert!(Fault::Fails { failed: 8, requests: 9 }.in_words().contains("8 of 9"));
    }
}
