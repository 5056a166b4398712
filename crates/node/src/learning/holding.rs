//! Having VMs held ready: every function is told how many, when that changes, and what is held is accounted for.
//!
//! Programs are told in tasks of the runtime, since making a VM takes milliseconds. How many, and of which function, is
//! decided elsewhere.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use forerun_types::FunctionName;
use tokio::runtime::Handle;

use super::costs::Costs;
use crate::functions::Functions;

/// VMs of one function held ready at most.
const VMS_MAX: u32 = 32;
/// VMs held ready in all, a quarter of those a node can have: serving on the standard path must never lack one.
const VMS_ALL_MAX: u32 = 250;

/// The functions that were told something.
pub(super) struct Holding {
    functions: Arc<Functions>,
    costs: Costs,
    runtime: Handle,
    told: HashMap<FunctionName, Told>,
}

/// What the last request to make or free VMs of a function was.
struct Told {
    vms: u32,
    /// The program it was told, by address: a new revision knows nothing of it.
    program: usize,
    work: tokio::task::JoinHandle<()>,
}

/// What is held, all functions together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) vms: u64,
    pub(super) memory_bytes: u64,
    /// VMs that a program was asked to make just now.
    pub(super) asked: u64,
}

impl Holding {
    /// Must be called within a runtime.
    pub(super) fn new(functions: Arc<Functions>, costs: Costs) -> Self {
        Self { functions, costs, runtime: Handle::current(), told: HashMap::new() }
    }

    /// Lets each function hold as many VMs as `wanted` says, and every other none. `passed` since this was last called.
    /// Where `may_replace` is not set, functions of which as many are wanted as before are left alone: what requests have
    /// taken of theirs is made anew another time.
    pub(super) fn hold(&mut self, wanted: &BTreeMap<FunctionName, u32>, passed: Duration, may_replace: bool) -> Held {
        let mut left = VMS_ALL_MAX;
        let mut held = Held::default();
        let mut names: Vec<FunctionName> = wanted.keys().cloned().collect();
        // Those that were told of before and are wanted no more.
        names.extend(self.told.keys().filter(|name| !wanted.contains_key(*name)).cloned());
        for name in names {
            let vms = wanted.get(&name).copied().unwrap_or(0).min(VMS_MAX).min(left);
            left -= vms;
            self.tell(name, (vms, may_replace), passed, &mut held);
        }
        held
    }

    fn tell(&mut self, name: FunctionName, (vms, may_replace): (u32, bool), passed: Duration, all: &mut Held) {
        let Some(program) = self.functions.program(&name) else {
            self.told.remove(&name);
            return;
        };
        let address = Arc::as_ptr(&program).cast::<()>() as usize;
        let held = program.held_ready();
        all.vms += u64::from(held.vms);
        all.memory_bytes += held.memory_bytes;
        self.account(&name, held.memory_bytes, passed);
        if let Some(told) = self.told.get(&name)
            && told.program == address
            && (!told.work.is_finished() || (told.vms == vms && (held.vms == vms || !may_replace)))
        {
            return;
        }
        if vms == 0 && held.vms == 0 && self.told.get(&name).is_some_and(|told| told.vms == 0) {
            self.told.remove(&name);
            return;
        }
        all.asked += u64::from(vms.saturating_sub(held.vms));
        let (function, costs) = (name.clone(), Arc::clone(&self.costs));
        let missing = vms.saturating_sub(held.vms);
        let work = self.runtime.spawn(async move {
            match Arc::clone(&program).hold_ready(vms).await {
                Ok(()) => {
                    let make_us = program.held_ready().make_us;
                    costs.lock().entry(function).or_default().made(missing, make_us);
                }
                Err(failure) => tracing::warn!(%function, %failure, "no VM could be made ready"),
            }
        });
        self.told.insert(name, Told { vms, program: address, work });
    }

    fn account(&self, name: &FunctionName, memory_bytes: u64, passed: Duration) {
        if memory_bytes > 0 {
            self.costs.lock().entry(name.clone()).or_default().held(memory_bytes, passed);
        }
    }
}
