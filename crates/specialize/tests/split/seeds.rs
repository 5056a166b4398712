//! Cases that a number reproduces.

use std::collections::BTreeMap;

use forerun_specialize::passes::split::{Known, SplitPlan};

/// Runs `check` for seeds 0 to `cases`, or for the one that `FORERUN_SPLIT_SEED` names.
pub(crate) fn for_seeds(cases: u64, check: impl Fn(u64)) {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    if let Some(seed) = number("FORERUN_SPLIT_SEED") {
        return check(seed);
    }
    for seed in 0..number("FORERUN_SPLIT_CASES").unwrap_or(cases) {
        check(seed);
    }
}

/// A stream of numbers (splitmix64).
pub(crate) struct Numbers(u64);

impl Numbers {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    pub(crate) fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.next().to_le_bytes()[0]).collect()
    }

    /// A plan with a random hot set of functions with indices below `functions`, and groups of a random size.
    pub(crate) fn plan(&mut self, functions: u32) -> SplitPlan {
        let hot_percent = self.below(101);
        let known: BTreeMap<u32, u16> = (0..functions)
            .filter_map(|function| {
                let permille = if self.below(100) < hot_percent { 500 + self.below(500) } else { self.below(400) };
                (permille > 100).then(|| (function, u16::try_from(permille).unwrap()))
            })
            .collect();
        let mut plan = SplitPlan::new(Known::ByIndex(known), 500);
        plan.group_functions_max = usize::try_from(1 + self.below(6)).unwrap();
        plan.group_code_bytes_max = usize::try_from(64 + self.below(1000)).unwrap();
        plan
    }
}

#[test]
fn the_same_seed_gives_the_same_case() {
    let mut first = Numbers::new(3);
    let mut second = Numbers::new(3);
    assert_eq!(first.plan(100), second.plan(100));
    assert_eq!(first.bytes(10), second.bytes(10));
    assert_ne!(Numbers::new(3).plan(100), Numbers::new(4).plan(100));
}
