//! A thousand made-up functions on trial: how often good VMs are given up, how soon bad ones are, and what users bear.
//!
//! Everything is drawn from seeds, so every run says the same. `cargo test --workspace trials -- --nocapture` prints the
//! figures. Requests served worse are those of the control group where prepared VMs are good, and those of prepared VMs
//! where they are bad; a request that was served again is late, not lost.

use super::*;
use crate::learning::verdict::FALSE_ALARM_MAX;

/// What is wrong with the prepared VMs.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Wrong {
    Nothing,
    /// They take so many times as long as new ones.
    Slow(f64),
    /// This share of their requests has to be served again.
    Traps(f64),
    /// This share of their answers is an error.
    Status(f64),
}

/// A function whose new VMs take about a millisecond and fail now and then.
#[derive(Clone, Copy)]
struct Scene {
    wrong: Wrong,
    /// Requests that are good before it.
    good_before: u64,
    /// Share of requests that fail whatever VM serves them.
    fails: f64,
}

/// What came of one trial.
#[derive(Clone, Copy, Debug, Default)]
struct Outcome {
    /// Requests until VMs were given up, from when they went wrong.
    given_up_after: Option<u64>,
    believed: bool,
    control: u64,
    slow: u64,
    served_again: u64,
    wrong_answers: u64,
}

/// A small generator (Knuth's MMIX), the top bits of which are good enough here.
struct Draws(u64);

impl Draws {
    fn share(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as f64 / (1u64 << 31) as f64
    }

    /// Spread by a factor of about 1.5, as latencies of a small function are.
    fn latency_us(&mut self, typical_us: f64) -> u64 {
        let sum: f64 = (0..4).map(|_| self.share() - 0.5).sum();
        (typical_us * (sum * 0.7).exp()) as u64
    }
}

impl Scene {
    /// `requests` that could have a prepared VM, a look after each.
    fn play(self, seed: u64, requests: u64) -> Outcome {
        let (mut draws, mut arm, mut outcome) = (Draws(seed), Arm::default(), Outcome::default());
        (0..10).for_each(|_| _ = draws.share());
        for request in 0..self.good_before + requests {
            let wrong = if request < self.good_before { Wrong::Nothing } else { self.wrong };
            self.one(wrong, &mut draws, &mut arm, &mut outcome);
            match arm.judge(0) {
                Change::GivenUp(_) => {
                    outcome.given_up_after = Some(request.saturating_sub(self.good_before) + 1);
                    break;
                }
                Change::Believed => outcome.believed = true,
                Change::Nothing | Change::Doubted | Change::TakenUp => {}
            }
        }
        outcome
    }

    fn one(self, wrong: Wrong, draws: &mut Draws, arm: &mut Arm, outcome: &mut Outcome) {
        let control = match arm.trust() {
            Trust::Compared { control_one_in } => draws.share() < 1.0 / f64::from(control_one_in),
            Trust::Full | Trust::Withdrawn | Trust::SwitchedOff => unreachable!("not on trial"),
        };
        let (fails, strikes) = (draws.share() < self.fails, draws.share());
        if control {
            outcome.control += 1;
            let latency_us = draws.latency_us(1_000.0);
            return if fails {
                arm.control(Answer::Failed, None)
            } else {
                arm.control(Answer::Success, Some(latency_us))
            };
        }
        match wrong {
            _ if fails => arm.served_again(false),
            Wrong::Traps(share) if strikes < share => {
                outcome.served_again += 1;
                arm.served_again(true);
            }
            Wrong::Status(share) if strikes < share => {
                outcome.wrong_answers += 1;
                arm.served(Answer::ServerError, Some(draws.latency_us(1_000.0)));
            }
            Wrong::Slow(factor) => {
                outcome.slow += 1;
                arm.served(Answer::Success, Some(draws.latency_us(1_000.0 * factor)));
            }
            Wrong::Nothing | Wrong::Traps(_) | Wrong::Status(_) => {
                arm.served(Answer::Success, Some(draws.latency_us(1_000.0)));
            }
        }
    }
}

#[test]
fn trials_of_good_vms_raise_hardly_any_false_alarm() {
    const TRIALS: u64 = 1_000;
    const REQUESTS: u64 = 8_000;
    for fails in [0.0, 0.02] {
        let scene = Scene { wrong: Wrong::Nothing, good_before: 0, fails };
        let outcomes: Vec<Outcome> = (0..TRIALS).map(|seed| scene.play(seed, REQUESTS)).collect();
        let alarms = outcomes.iter().filter(|one| one.given_up_after.is_some()).count();
        let believed = outcomes.iter().filter(|one| one.believed).count();
        let control = outcomes.iter().map(|one| one.control).sum::<u64>() as f64 / (TRIALS * REQUESTS) as f64;
        println!(
            "good VMs, {:.0} % of requests fail anyway: {alarms} false alarms in {TRIALS} trials of {REQUESTS} requests \
             ({:.2} %, promised below {:.2} %); {believed} believed; harm: {:.1} % of requests were control",
            fails * 100.0,
            alarms as f64 * 100.0 / TRIALS as f64,
            FALSE_ALARM_MAX * 100.0,
            control * 100.0,
        );
        assert!(alarms as f64 <= FALSE_ALARM_MAX * TRIALS as f64, "{alarms} of {TRIALS}");
        assert!(control <= 1.0 / f64::from(JUDGING_ONE_IN) + 0.002, "{control}");
        assert!(believed as u64 > TRIALS * 9 / 10, "{believed}");
    }
}

/// All of a hundred trials must end within so many requests.
fn found_within(name: &str, wrong: Wrong, good_before: u64, requests_max: u64) {
    const TRIALS: u64 = 100;
    let scene = Scene { wrong, good_before, fails: 0.0 };
    let outcomes: Vec<Outcome> = (0..TRIALS).map(|seed| scene.play(seed, requests_max)).collect();
    let mut after: Vec<u64> = outcomes.iter().map(|one| one.given_up_after.unwrap_or(u64::MAX)).collect();
    after.sort_unstable();
    let mean = |figure: fn(&Outcome) -> u64| outcomes.iter().map(figure).sum::<u64>() as f64 / TRIALS as f64;
    println!(
        "{name}: given up after {} requests (median), {} (worst of {TRIALS}); harm on average: {:.0} slow, {:.0} served \
         again, {:.0} answered wrongly, {:.0} control",
        after[after.len() / 2],
        after[after.len() - 1],
        mean(|one| one.slow),
        mean(|one| one.served_again),
        mean(|one| one.wrong_answers),
        mean(|one| one.control),
    );
    assert!(after[after.len() - 1] <= requests_max, "{name}: not always found within {requests_max}: {after:?}");
}

#[test]
fn trials_of_bad_vms_end_soon() {
    found_within("a fifth slower", Wrong::Slow(1.2), 0, 5_000);
    found_within("twice as slow", Wrong::Slow(2.0), 0, 600);
    found_within("every request traps", Wrong::Traps(1.0), 0, 20);
    found_within("half of the requests trap", Wrong::Traps(0.5), 0, 200);
    found_within("one request in twenty traps", Wrong::Traps(0.05), 0, 10_000);
    found_within("every status wrong", Wrong::Status(1.0), 0, 200);
    found_within("one status in ten wrong", Wrong::Status(0.1), 0, 2_500);
}

#[test]
fn trials_of_vms_that_go_bad_late_end_too() {
    found_within("a fifth slower after 20,000 good ones", Wrong::Slow(1.2), 20_000, 12_000);
    found_within("every request traps after 20,000 good ones", Wrong::Traps(1.0), 20_000, 20);
    found_within("every status wrong after 20,000 good ones", Wrong::Status(1.0), 20_000, 200);
}
