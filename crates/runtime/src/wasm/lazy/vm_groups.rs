//! What one VM has loaded of its program's cold code.

use std::collections::BTreeSet;
use std::sync::Arc;

use wasmtime::Instance;

use super::asked::{Asking, Awaited};
use super::failure::LazyFailure;
use super::find::FindInstance;
use super::groups::ColdGroups;

/// The cold side of a VM; that of a whole component stays as it is by default.
#[derive(Default)]
pub(in crate::wasm) struct VmGroups {
    groups: Option<Arc<ColdGroups>>,
    /// Found at the first miss.
    pub(super) primary: Option<Instance>,
    loaded: BTreeSet<u32>,
    spent: bool,
    /// What the guest waits for where the component may not be left.
    pub(super) awaited: Option<Awaited>,
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

    /// What hears of slots that are asked for without a call.
    pub(in crate::wasm) fn asking(&self) -> Option<Asking> {
        self.groups.as_deref().map(Asking::of)
    }

    /// Takes note that the group of `slot` will be loaded, if it may be.
    pub(super) fn begin(&mut self, slot: u32) -> Result<(Arc<ColdGroups>, u32), LazyFailure> {
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
