//! Split components for tests, and a record of what was missed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use forerun_driver::LoadError;
use forerun_runtime::{
    ColdCode, ColdFills, ColdLayout, ColdSource, Interruption, Miss, MissListener, SplitProgram, Tier, compile_module,
};
use forerun_specialize::passes::split::{Known, Split, SplitPlan, split};
use forerun_types::FunctionSpec;

use crate::common::{Guest, code_image, load_split, repository};

/// What a test decides about the cold code, and what it learns.
#[derive(Default)]
pub(crate) struct Cold {
    pub(crate) groups: Vec<Vec<u8>>,
    pub(crate) on_disk: bool,
    pub(crate) missing: bool,
    /// Whether the component looks at flags.
    pub(crate) looks_at_flags: bool,
    /// Groups whose code was asked for.
    pub(crate) asked: Mutex<Vec<u32>>,
    pub(crate) misses: Mutex<Vec<Miss>>,
}

impl ColdSource for Cold {
    fn code(&self, group: u32) -> ColdCode {
        self.asked.lock().unwrap().push(group);
        let source = &self.groups[group as usize];
        match (self.missing, self.on_disk) {
            (true, _) => ColdCode::Missing("it was never published".into()),
            (false, true) => code_image(&compile_module(source, Tier::Quick, self.interruption()).unwrap()),
            (false, false) => ColdCode::Source(Bytes::copy_from_slice(source)),
        }
    }
}

impl MissListener for Cold {
    fn missed(&self, miss: Miss) {
        self.misses.lock().unwrap().push(miss);
    }
}

impl Cold {
    pub(crate) fn of(split: &Split) -> Self {
        Self { groups: split.groups.iter().map(|group| group.module.clone()).collect(), ..Self::default() }
    }

    /// The same of a component that looks at flags.
    pub(crate) fn of_flagged(split: &Split) -> Self {
        Self { looks_at_flags: true, ..Self::of(split) }
    }

    pub(crate) fn interruption(&self) -> Interruption {
        if self.looks_at_flags { Interruption::Flags } else { Interruption::Epochs }
    }

    /// What was missed since the last time.
    pub(crate) fn take_misses(&self) -> Vec<Miss> {
        std::mem::take(&mut *self.misses.lock().unwrap())
    }
}

pub(crate) fn layout(split: &Split) -> ColdLayout {
    let groups = split.groups.iter();
    let fills = groups.map(|group| ColdFills { first_slot: group.first_slot, positions: &group.positions });
    ColdLayout::new(fills, split.report.slots).unwrap()
}

pub(crate) fn load(
    split: &Split,
    cold: &Arc<Cold>,
    groups_per_vm_max: u32,
    spec: &FunctionSpec,
) -> Result<Guest, LoadError> {
    let program = SplitProgram {
        layout: layout(split),
        source: Arc::clone(cold) as _,
        listener: Arc::clone(cold) as _,
        groups_per_vm_max,
        interruption: cold.interruption(),
    };
    load_split(&split.primary, None, program, spec)
}

pub(crate) fn component(path: &str) -> Vec<u8> {
    std::fs::read(repository(path)).unwrap()
}

/// Everything cold that may be, in groups of `functions`.
pub(crate) fn all_cold(source: &[u8], functions: usize) -> Split {
    let mut plan = SplitPlan::new(Known::ByIndex(BTreeMap::new()), 1);
    plan.group_functions_max = functions;
    split(source, &plan).unwrap()
}
