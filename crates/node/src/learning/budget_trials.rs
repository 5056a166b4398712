//! Which VMs are held where memory is for a few of many functions: what is expected against what was called last.
//!
//! Made-up sessions over fifty functions, on memory for ten VMs: calls such as the benchmark `sessions` makes, without a server.

use std::time::Duration;

use super::rehearsal::{RecordedCall, Rehearsal, Rehearsed, Rule};

const FUNCTIONS: usize = 50;
const VMS: u32 = 10;
const SECONDS: f64 = 600.0;
const START_US: u64 = 1_700_000_000_000_000;
const KEPT_FOR: Duration = Duration::from_secs(600);

/// SplitMix64 (Vigna 2015).
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut value = self.0;
        value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((value ^ (value >> 31)) >> 11) as f64 / (1u64 << 53) as f64 + f64::EPSILON / 2.0
    }

    /// By rank, as often as one in so many.
    fn popular(&mut self) -> usize {
        let all: f64 = (1..=FUNCTIONS).map(|rank| 1.0 / rank as f64).sum();
        let mut left = self.roll() * all;
        (0..FUNCTIONS)
            .find(|rank| {
                left -= 1.0 / (rank + 1) as f64;
                left <= 0.0
            })
            .unwrap_or(FUNCTIONS - 1)
    }

    /// Log-normal, two seconds in the middle.
    fn think_s(&mut self) -> f64 {
        let normal = (-2.0 * self.roll().ln()).sqrt() * (std::f64::consts::TAU * self.roll()).cos();
        (2.0 * (0.85 * normal).exp()).min(60.0)
    }
}

/// Sessions that come at random, one a second, and go on along one of three edges from each function.
fn calls(seed: u64) -> Vec<RecordedCall> {
    let mut dice = Dice(seed);
    let edges: Vec<[usize; 3]> = (0..FUNCTIONS).map(|_| [0; 3].map(|_| dice.popular())).collect();
    let mut calls = Vec::new();
    let (mut begin_s, mut session) = (0.0, 1);
    while begin_s < SECONDS {
        let (mut at_s, mut function) = (begin_s, dice.popular());
        while at_s < SECONDS {
            let at_us = START_US + (at_s * 1e6) as u64;
            calls.push(RecordedCall { at_us, function: function as u32, app: 1, session });
            function = match dice.roll() {
                roll if roll < 0.55 => edges[function][0],
                roll if roll < 0.75 => edges[function][1],
                roll if roll < 0.85 => edges[function][2],
                _ => break,
            };
            at_s += dice.think_s();
        }
        session += 1;
        begin_s -= dice.roll().ln();
    }
    calls.sort_by_key(|call| (call.at_us, call.session));
    calls
}

fn rehearsed(rule: Rule, calls: &[RecordedCall]) -> Rehearsed {
    let mut rehearsal = Rehearsal::new(rule, VMS);
    calls.iter().for_each(|call| rehearsal.call(call));
    rehearsal.finish()
}

#[test]
fn on_a_small_budget_what_is_expected_is_there_more_often_than_what_was_called_last() {
    for seed in 1..4 {
        let calls = calls(seed);
        let expected = rehearsed(Rule::Expected, &calls);
        let kept = rehearsed(Rule::CalledLast(KEPT_FOR), &calls);
        println!("{expected:?}\n{kept:?}");
        assert!(expected.vms_max <= VMS && kept.vms_max <= VMS);
        assert!(expected.cold_percent_late < 0.75 * kept.cold_percent_late, "{expected:?} {kept:?}");
        assert!(expected.made_per_call < 1.1, "VMs come and go: {expected:?}");
    }
}

#[test]
fn where_there_is_room_for_all_hardly_anything_is_cold() {
    let calls = calls(1);
    let mut rehearsal = Rehearsal::new(Rule::Expected, 1_000);
    calls.iter().for_each(|call| rehearsal.call(call));
    let all = rehearsal.finish();
    assert!(all.cold_percent_late < 5.0, "{all:?}");
    assert_eq!(Rehearsal::new(Rule::Expected, 0).finish(), Rehearsed::default());
}
