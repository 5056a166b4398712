//! Which cold functions are loaded together.
//!
//! A function and what it calls, depth first, in the order of the calls: who misses a function will most likely need
//! those next. Functions that some requests run come first, so that the ones seen together in the samples share
//! groups and those that never ran are left among themselves.

use super::choice::SplitPlan;
use super::hot::Temperature;
use super::module::Module;

/// Groups of cold functions; each function is in one of them.
pub(super) type Grouping = Vec<Vec<u32>>;

/// Forms the groups.
pub(super) fn form(
    module: &Module<'_>,
    temperature: &[Temperature],
    probabilities: &[u16],
    plan: &SplitPlan,
) -> Grouping {
    let is_cold = |function: u32| temperature[function as usize] == Temperature::Cold;
    let mut seeds: Vec<u32> = module.defined().map(|(function, _)| function).filter(|f| is_cold(*f)).collect();
    // Stable, so that equally probable functions stay in the order of the module, where neighbours are related.
    seeds.sort_by_key(|function| std::cmp::Reverse(probabilities[*function as usize]));
    let mut former = Former { plan, groups: Vec::new(), bytes: 0 };
    let mut placed = vec![false; module.functions()];
    for seed in seeds {
        let mut open = vec![seed];
        while let Some(function) = open.pop() {
            if !is_cold(function) || std::mem::replace(&mut placed[function as usize], true) {
                continue;
            }
            let Some(body) = module.body(function) else { continue };
            former.place(function, body.size_bytes());
            // What never ran is not pulled into the groups of what did: it follows as a seed of its own.
            let seen = probabilities[function as usize] > 0;
            let follows = |callee: &&u32| !seen || probabilities[**callee as usize] > 0;
            open.extend(body.calls.iter().rev().filter(follows));
        }
    }
    for group in &mut former.groups {
        group.sort_unstable();
    }
    former.groups
}

struct Former<'p> {
    plan: &'p SplitPlan,
    groups: Grouping,
    /// Bytes in the last group.
    bytes: usize,
}

impl Former<'_> {
    fn place(&mut self, function: u32, bytes: usize) {
        let is_full = self.groups.last().is_none_or(|group| {
            group.len() >= self.plan.group_functions_max.max(1)
                || self.bytes.saturating_add(bytes) > self.plan.group_code_bytes_max
        });
        if is_full {
            self.groups.push(Vec::new());
            self.bytes = 0;
        }
        self.bytes = self.bytes.saturating_add(bytes);
        if let Some(group) = self.groups.last_mut() {
            group.push(function);
        }
    }
}
