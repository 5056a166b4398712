//! What one VM has loaded of its program's cold code.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use wasmtime::{Instance, Module};

use super::failure::LazyFailure;
use super::find::FindInstance;
use super::groups::{CodeFrom, ColdGroups, micros};

/// The cold side of a VM; that of a whole component stays as it is by default.
#[derive(Default)]
pub(in crate::wasm) struct VmGroups {
    groups: Option<Arc<ColdGroups>>,
    /// Found at the first miss.
    pub(super) primary: Option<Instance>,
    loaded: BTreeSet<u32>,
    spent: bool,
    /// What the guest waits for, once its code is there.
    pub(super) arrived: Option<Arrived>,
}

/// The code of a group that a guest waits for.
pub(super) struct Arrived {
    pub(super) groups: Arc<ColdGroups>,
    pub(super) slot: u32,
    pub(super) group: u32,
    pub(super) module: Module,
    pub(super) from: CodeFrom,
    pub(super) code_us: u64,
}

impl VmGroups {
    pub(in crate::wasm) fn new(groups: Option<Arc<ColdGroups>>) -> Self {
        Self { groups, ..Self::default() }
    }

    /// Whether the store must not be entered again.
    pub(in crate::wasm) fn is_spent(&self) -> bool {
        self.spent
    }

    /// Said before the store is spent, so that no way out can forget it.
    pub(super) fn spend(&mut self) {
        self.spent = true;
    }

    pub(super) fn finder(&self) -> Result<Arc<dyn FindInstance>, LazyFailure> {
        self.groups.as_ref().map(|groups| groups.finder()).ok_or(LazyFailure::NotSplit)
    }

    /// Whether the VM's component is a split one.
    pub(in crate::wasm) fn is_split(&self) -> bool {
        self.groups.is_some()
    }

    /// Gets the code of the group of `slot`; the VM loads it as soon as its store can be changed.
    pub(in crate::wasm) async fn get(&mut self, slot: u32, deadline: Instant) -> Result<(), LazyFailure> {
        let (groups, group) = self.begin(slot)?;
        let began = Instant::now();
        let (module, from) = groups.module(group, deadline).await?;
        self.arrived = Some(Arrived { groups, slot, group, module, from, code_us: micros(began.elapsed()) });
        Ok(())
    }

    /// Takes note that the group of `slot` will be loaded, if it may be.
    fn begin(&mut self, slot: u32) -> Result<(Arc<ColdGroups>, u32), LazyFailure> {
        let groups = self.groups.clone().ok_or(LazyFailure::NotSplit)?;
        let group = groups.layout().group_of(slot).ok_or(LazyFailure::UnknownSlot(slot))?;
        if self.loaded.contains(&group) {
            return Err(LazyFailure::NotFilled(slot));
        }
        let groups_max = groups.groups_per_vm_max();
        if self.loaded.len() >= groups_max as usize {
            return Err(LazyFailure::TooManyGroups(groups_max));
        }
        self.loaded.insert(group);
        Ok((groups, group))
    }
}
