//! One way of preparing VMs for one function, on trial: judged, believed, given up, taken up again.
//!
//! ```text
//!  ┌────────► judging ── better, no worse, or still open after so many requests ──► believed
//!  │      control 1 in 8                                                        control 1 in 1,024
//!  │         ▲    │ worse                                    slower than before   │    │ worse
//!  │ time is │    ▼                          slower or more errors than before  │    │ worse
//!  │    over └ given up ◄──────────────────────────────────┬──────────────────────┘    │
//!  │      10 min, twice as long each time, a day at most   │ ◄─────────────────────────┘
//!  └───────────────────────────────────────────────────────┘        a new revision: everything begins anew
//! ```
//! All invocations of a chain of calls are of the same group (the draw is its root's), or most chains of several functions
//! would meet standard initialization somewhere while judgements are open. So latency is a function's own, without the
//! calls it waits for. Its answers are not: who passes on the errors of what it calls is given up together with that.
//!
//! What control costs is bounded: while a judgement is open, one in [`JUDGING_ONE_IN`] of the requests that could have
//! had a prepared VM does without, for [`JUDGED_WITHIN`] requests at most; after it one in [`BELIEVED_ONE_IN`].
//! When the share of control changes, both groups begin anew: a group that grew at two rates in two different hours
//! cannot be compared with one that did not. Pure: time comes in as an argument.

use forerun_driver::Trust;
use serde::{Deserialize, Serialize};

use super::answers::Answer;
use super::verdict::{Comparison, Fault, Group, Verdict};

/// While a judgement is open, one request in so many is control.
pub(super) const JUDGING_ONE_IN: u32 = 8;
/// After it; so far below one in a hundred that nobody's 99th percentile is moved by it. A change for the worse is found by
/// the recent mean, which takes no control.
pub(super) const BELIEVED_ONE_IN: u32 = 1_024;
/// Requests after which an open judgement is good enough: whatever was not found in so many is small.
pub(super) const JUDGED_WITHIN: u64 = 30_000;
/// How long VMs are given up the first time; then twice as long each time.
pub(super) const GIVEN_UP_MS: u64 = 10 * 60 * 1_000;
const GIVEN_UP_MS_MAX: u64 = 24 * 3_600 * 1_000;
/// Weight of one request in the recent mean: about two hundred count.
const RECENT_SHARE: f64 = 0.005;
/// Believed VMs whose recent requests took so much longer than when they were judged are judged again.
const SUSPICIOUS: f64 = 1.15;
/// But not before so many requests have passed: what control costs is bounded.
const JUDGED_AGAIN_AFTER: u64 = 5_000;
/// So are those whose recent share of errors is larger by this much than when they were judged, and sooner: errors cost
/// more than control.
const MORE_ERRORS: f64 = 0.05;
const ERRORS_LOOKED_AT_AFTER: u64 = 500;
/// Requests of control after which the groups that grow meanwhile begin anew: what is long past says little of today.
const WATCHED_CONTROL_MAX: u64 = 500;

/// Requests of either group after which their difference is taken for what preparing saves.
const KNOWN_AFTER: u64 = 20;

/// How one way of preparing VMs stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Arm {
    comparison: Comparison,
    phase: Phase,
    /// How often it has been given up since it was last believed.
    given_up: u32,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "phase")]
enum Phase {
    #[default]
    Judging,
    Believed(Belief),
    GivenUp(GivenUp),
}

/// What the judgement found, and what came since.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Belief {
    prepared: Group,
    control: Group,
    faster: Faster,
    recent_ln_us: f64,
    recent_errors: f64,
    requests: u64,
}

/// Why VMs are believed in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Faster {
    Yes,
    NotSlower,
    NotKnown,
}

/// Why prepared VMs are left alone, and until when.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct GivenUp {
    pub(crate) fault: Fault,
    pub(crate) until_unix_ms: u64,
    /// How often in a row.
    pub(crate) times: u32,
}

/// What a look at an arm has changed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Change {
    Nothing,
    /// The judgement is over.
    Believed,
    /// It is judged again: recent requests took longer.
    Doubted,
    GivenUp(GivenUp),
    /// The time is over: it is judged again.
    TakenUp,
}

impl Arm {
    /// A request that a prepared VM served.
    pub(super) fn served(&mut self, answer: Answer, latency_us: Option<u64>) {
        self.comparison.served(answer, latency_us);
        if let Phase::Believed(belief) = &mut self.phase {
            belief.see(answer, latency_us);
        }
    }

    /// A request that a prepared VM failed; whether a new one then `served` it.
    pub(super) fn served_again(&mut self, served: bool) {
        self.comparison.served_again(served);
        if let Phase::Believed(belief) = &mut self.phase {
            belief.see(Answer::Failed, None);
        }
    }

    /// A request that left a prepared VM alone.
    pub(super) fn control(&mut self, answer: Answer, latency_us: Option<u64>) {
        self.comparison.control.add(answer, latency_us);
    }

    /// Draws the conclusions at `now_unix_ms`.
    pub(super) fn judge(&mut self, now_unix_ms: u64) -> Change {
        match self.phase {
            Phase::GivenUp(GivenUp { until_unix_ms, .. }) if now_unix_ms < until_unix_ms => Change::Nothing,
            Phase::GivenUp(_) => {
                self.begin(Phase::Judging);
                Change::TakenUp
            }
            Phase::Judging => self.judge_open(now_unix_ms),
            Phase::Believed(belief) => self.watch(belief, now_unix_ms),
        }
    }

    fn judge_open(&mut self, now_unix_ms: u64) -> Change {
        let faster = match self.comparison.verdict() {
            Verdict::Worse(fault) => return self.give_up(fault, now_unix_ms),
            Verdict::Better => Faster::Yes,
            Verdict::NoWorse => Faster::NotSlower,
            Verdict::Open if self.comparison.prepared.requests() >= JUDGED_WITHIN => Faster::NotKnown,
            Verdict::Open => return Change::Nothing,
        };
        self.given_up = 0;
        let Comparison { prepared, control, .. } = self.comparison;
        let recent_ln_us = prepared.typical_us().max(1.0).ln();
        let recent_errors = prepared.error_share();
        let belief = Belief { prepared, control, faster, recent_ln_us, recent_errors, requests: 0 };
        self.begin(Phase::Believed(belief));
        Change::Believed
    }

    fn watch(&mut self, belief: Belief, now_unix_ms: u64) -> Change {
        if let Verdict::Worse(fault) = self.comparison.verdict() {
            return self.give_up(fault, now_unix_ms);
        }
        if belief.is_doubtful() {
            self.begin(Phase::Judging);
            return Change::Doubted;
        }
        if self.comparison.control.requests() >= WATCHED_CONTROL_MAX {
            self.comparison = Comparison::default();
        }
        Change::Nothing
    }

    fn give_up(&mut self, fault: Fault, now_unix_ms: u64) -> Change {
        let doubled = GIVEN_UP_MS.saturating_mul(1 << self.given_up.min(16));
        self.given_up += 1;
        let until_unix_ms = now_unix_ms.saturating_add(doubled.min(GIVEN_UP_MS_MAX));
        let given_up = GivenUp { fault, until_unix_ms, times: self.given_up };
        self.begin(Phase::GivenUp(given_up));
        Change::GivenUp(given_up)
    }

    fn begin(&mut self, phase: Phase) {
        (self.comparison, self.phase) = (Comparison::default(), phase);
    }

    /// How far prepared VMs are to be used, where a control group may be held out.
    pub(super) fn trust(&self) -> Trust {
        match self.phase {
            Phase::Judging => Trust::Compared { control_one_in: JUDGING_ONE_IN },
            Phase::Believed(_) => Trust::Compared { control_one_in: BELIEVED_ONE_IN },
            Phase::GivenUp(_) => Trust::Withdrawn,
        }
    }

    /// Why and until when VMs are given up, if they are.
    pub(crate) fn given_up(&self) -> Option<GivenUp> {
        match self.phase {
            Phase::GivenUp(given_up) => Some(given_up),
            Phase::Judging | Phase::Believed(_) => None,
        }
    }

    /// One word for how it stands, stable.
    pub(crate) fn label(&self) -> &'static str {
        match self.phase {
            Phase::Judging => "open",
            Phase::Believed(Belief { faster: Faster::Yes, .. }) => "better",
            Phase::Believed(Belief { faster: Faster::NotSlower, .. }) => "no_worse",
            Phase::Believed(Belief { faster: Faster::NotKnown, .. }) => "undecided",
            Phase::GivenUp(_) => "worse",
        }
    }

    /// Time by which prepared VMs answer sooner than new ones, in microseconds; `None` while too few requests tell.
    pub(crate) fn saves_us(&self) -> Option<f64> {
        let [prepared, control] = self.groups();
        let known = prepared.samples() >= KNOWN_AFTER && control.samples() >= KNOWN_AFTER;
        known.then(|| control.typical_us() - prepared.typical_us())
    }

    /// The groups of the judgement that is under way or was the last one: prepared, control.
    pub(crate) fn groups(&self) -> [&Group; 2] {
        match &self.phase {
            Phase::Judging | Phase::GivenUp(_) => [&self.comparison.prepared, &self.comparison.control],
            Phase::Believed(belief) => [&belief.prepared, &belief.control],
        }
    }
}

impl Belief {
    fn see(&mut self, answer: Answer, latency_us: Option<u64>) {
        self.requests += 1;
        let error = if matches!(answer, Answer::ServerError | Answer::Failed) { 1.0 } else { 0.0 };
        self.recent_errors += RECENT_SHARE * (error - self.recent_errors);
        if let Some(us) = latency_us {
            self.recent_ln_us += RECENT_SHARE * ((us.max(1) as f64).ln() - self.recent_ln_us);
        }
    }

    fn is_doubtful(&self) -> bool {
        let suspicious_ln_us = self.prepared.typical_us().max(1.0).ln() + SUSPICIOUS.ln();
        (self.requests >= ERRORS_LOOKED_AT_AFTER && self.recent_errors > self.prepared.error_share() + MORE_ERRORS)
            || (self.requests >= JUDGED_AGAIN_AFTER && self.recent_ln_us > suspicious_ln_us)
    }
}

#[cfg(test)]
#[path = "arm_trials.rs"]
mod trials;

#[cfg(test)]
mod tests {
    use super::*;

    fn fail(arm: &mut Arm, now_unix_ms: u64) -> GivenUp {
        for _ in 0..20 {
            arm.served_again(true);
            if let Change::GivenUp(given_up) = arm.judge(now_unix_ms) {
                return given_up;
            }
        }
        panic!("not given up: {arm:?}");
    }

    #[test]
    fn what_is_given_up_is_taken_up_when_its_time_is_over_and_later_each_time() {
        let (mut arm, mut now_unix_ms) = (Arm::default(), 1_000);
        for (times, expected_ms) in [(1, GIVEN_UP_MS), (2, 2 * GIVEN_UP_MS), (3, 4 * GIVEN_UP_MS)] {
            let given_up = fail(&mut arm, now_unix_ms);
            assert_eq!((given_up.times, given_up.until_unix_ms), (times, now_unix_ms + expected_ms));
            assert_eq!((arm.trust(), arm.label()), (Trust::Withdrawn, "worse"));
            now_unix_ms = given_up.until_unix_ms;
            assert_eq!(arm.judge(now_unix_ms - 1), Change::Nothing);
            assert_eq!(arm.judge(now_unix_ms), Change::TakenUp);
            assert_eq!(arm.trust(), Trust::Compared { control_one_in: JUDGING_ONE_IN });
        }
        (0..20).for_each(|_| arm = Arm { given_up: arm.given_up + 1, ..arm });
        assert_eq!(fail(&mut arm, 0).until_unix_ms, GIVEN_UP_MS_MAX);
    }

    #[test]
    fn what_is_believed_costs_less_control_and_keeps_its_figures() {
        let mut arm = Arm::default();
        while arm.judge(0) == Change::Nothing {
            arm.served(Answer::Success, Some(300));
            arm.control(Answer::Success, Some(900));
        }
        assert_eq!((arm.label(), arm.trust()), ("better", Trust::Compared { control_one_in: BELIEVED_ONE_IN }));
        assert!(arm.groups()[1].typical_us() > 899.0);
        assert!(!matches!(arm.judge(u64::MAX), Change::GivenUp(_)));
        // What has been good may go bad.
        assert_eq!(fail(&mut arm, 5).times, 1);
    }

    #[test]
    fn what_was_kept_on_disk_is_read_again() {
        let mut arm = Arm::default();
        arm.served(Answer::Success, Some(300));
        fail(&mut arm, 5);
        let text = serde_json::to_string(&arm).unwrap();
        assert_eq!(serde_json::from_str::<Arm>(&text).unwrap(), arm);
    }
}
