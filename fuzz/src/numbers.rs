//! For `passes` and `generated`: numbers that bytes decide, and the plans of splits that are made of them.

use forerun_specialize::passes::body_hash::body_hashes;
use forerun_specialize::passes::split::{Known, SplitPlan};
use std::collections::BTreeMap;
use wasmparser::{Parser, Payload};

/// A stream of numbers (splitmix64).
pub struct Numbers(u64);

impl Numbers {
    /// The stream of a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The stream that bytes decide: every one of them counts.
    pub fn of(bytes: &[u8]) -> Self {
        Self(
            bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
                (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
            }),
        )
    }

    /// The next number.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`; 0 if that is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.draw() % bound.max(1)
    }

    /// Bytes.
    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.draw().to_le_bytes()[0]).collect()
    }

    /// A plan for `component`: some share of its functions is known, by index or as the worker does it, by body; the
    /// threshold and the size of groups are any.
    pub fn plan(&mut self, component: &[u8]) -> SplitPlan {
        let share = self.below(101);
        let modules = Parser::new(0).parse_all(component).filter_map(|payload| match payload {
            Ok(Payload::ModuleSection { unchecked_range, .. }) => component.get(unchecked_range),
            Ok(_) | Err(_) => None,
        });
        let known = if self.below(2) == 0 {
            let bodies = modules.filter_map(|module| body_hashes(module).ok()).flatten();
            Known::ByBody(bodies.filter_map(|body| Some((body, self.permille(share)?))).collect())
        } else {
            // More than most modules have: indices that are not there must do no harm.
            let functions: BTreeMap<u32, u16> =
                (0..3_000).filter_map(|function| Some((function, self.permille(share)?))).collect();
            Known::ByIndex(functions)
        };
        let mut plan = SplitPlan::new(known, self.below(1_200) as u16);
        if self.below(2) == 0 {
            plan.group_functions_max = 1 + self.below(200) as usize;
            plan.group_code_bytes_max = self.below(20_000) as usize;
        }
        plan
    }

    fn permille(&mut self, share: u64) -> Option<u16> {
        (self.below(100) < share).then(|| self.below(1_001) as u16)
    }
}
