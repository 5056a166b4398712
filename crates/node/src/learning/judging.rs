//! Judging prepared VMs as their requests end, and telling programs how far they may be used.
//!
//! At each look of the loop those functions are looked at of which something has come, and those that are given up for a
//! while. What is concluded is `arm`'s; here programs are told of it, a new one too, and the log. VMs that fail or serve
//! worse are given up whatever the switches say; a control group is held out only where learning is on in full, because
//! nothing else is worth making some requests wait for. Where it is not, VMs are not made ready, and requests are told so.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use forerun_driver::{Trust, Trusts};
use forerun_types::{FunctionName, LearningMode};

use super::arm::{Arm, Change};
use super::costs::{Arms, Costs};
use super::switches::Switches;
use crate::functions::Functions;

/// The functions that were told something.
pub(super) struct Judging {
    functions: Arc<Functions>,
    costs: Costs,
    told: HashMap<FunctionName, (usize, Trusts)>,
    /// Functions some of whose VMs are given up: their time passes without requests, too.
    given_up: BTreeSet<FunctionName>,
    /// What was switched and published at the last look: a switch is heard by all, and a new program hears where it stands.
    seen: Option<(u64, u64)>,
}

impl Judging {
    pub(super) fn new(functions: Arc<Functions>, costs: Costs) -> Self {
        Self { functions, costs, told: HashMap::new(), given_up: BTreeSet::new(), seen: None }
    }

    /// Judges what has come, and tells the programs.
    pub(super) fn judge(&mut self, switches: &Switches, now_unix_ms: u64) {
        let seen = (switches.set_count(), self.functions.published());
        let everyone = self.seen.replace(seen) != Some(seen);
        let mut concluded = BTreeMap::new();
        for (name, cost) in self.costs.lock().iter_mut() {
            if everyone || cost.arms.unjudged || self.given_up.contains(name) {
                cost.arms.unjudged = false;
                judge_arms(name, &mut cost.arms, now_unix_ms);
                concluded.insert(name.clone(), cost.arms);
            }
        }
        if everyone {
            // Those that have not been called yet.
            for name in self.functions.names() {
                concluded.entry(name).or_default();
            }
        }
        for (name, arms) in concluded {
            self.tell(name, &arms, switches);
        }
    }

    fn tell(&mut self, name: FunctionName, arms: &Arms, switches: &Switches) {
        if arms.all().into_iter().any(|(_, arm)| arm.given_up().is_some()) {
            self.given_up.insert(name.clone());
        } else {
            self.given_up.remove(&name);
        }
        let Some(program) = self.functions.program(&name) else {
            self.told.remove(&name);
            return;
        };
        let is_on = switches.of(&name) == LearningMode::Full;
        // Nothing that is not compared: a copy need not be quicker than what the request would do itself.
        let [ready, specialized] =
            [&arms.ready, &arms.specialized].map(|arm| if is_on { arm.trust() } else { Trust::SwitchedOff });
        let trusts = Trusts { ready, rolled_back: trust(&arms.rolled_back, is_on), specialized };
        let address = Arc::as_ptr(&program).cast::<()>() as usize;
        if self.told.insert(name, (address, trusts)) != Some((address, trusts)) {
            program.trust(trusts);
        }
    }
}

fn trust(arm: &Arm, compares: bool) -> Trust {
    match arm.trust() {
        Trust::Compared { .. } if !compares => Trust::Full,
        trust @ (Trust::Full | Trust::Compared { .. } | Trust::Withdrawn | Trust::SwitchedOff) => trust,
    }
}

fn judge_arms(function: &FunctionName, arms: &mut Arms, now_unix_ms: u64) {
    let Arms { ready, rolled_back, specialized, .. } = arms;
    for (prepared, arm) in [("ready", ready), ("rolled-back", rolled_back), ("specialized", specialized)] {
        match arm.judge(now_unix_ms) {
            Change::Nothing => {}
            Change::Believed => {
                tracing::info!(%function, prepared, verdict = arm.label(), "prepared VMs have been judged");
            }
            Change::Doubted => {
                tracing::info!(%function, prepared, "prepared VMs serve worse than they did and are judged again");
            }
            Change::GivenUp(given_up) => tracing::warn!(
                %function, prepared, fault = given_up.fault.in_words(), until_unix_ms = given_up.until_unix_ms,
                times = given_up.times, "prepared VMs serve worse than new ones and are left alone"
            ),
            Change::TakenUp => tracing::info!(%function, prepared, "prepared VMs are tried again"),
        }
    }
}
