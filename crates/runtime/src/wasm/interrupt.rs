//! How guests are stopped, and made to let others run, in an engine without epochs.
//!
//! The pass `interrupt` has large components look at a flag in their loops and behind their indirect calls. Every tick all
//! flags are raised ([`Flags::raise`]); a guest that sees its own asks for more memory than the flag's memory may ever have,
//! which is the one question that machine code puts to its host anywhere, without leaving its component and without a copy
//! of anything. It is answered here: with an end, if the time is over, or after others had a turn, if they need one
//! ([`turns`](super::turns)).
//!
//! Where the checks are is the pass's business.

use std::sync::Arc;

use forerun_driver::to_the_end_of_the_queue;
use wasmtime::component::{Component, ComponentExportIndex, Instance, WasmList};
use wasmtime::{ResourceLimiter, ResourceLimiterAsync};

use super::lazy;
use super::vm::{VmState, VmStore};
use crate::sys::Flags;

/// Name of the instance that the pass adds.
const INTERFACE: &str = "forerun:vm/interrupt@0.1.0";
/// By how many bytes a guest asks its flag's memory to grow, as `forerun-specialize` writes it.
const GROWTH_BYTES: usize = 0x4000 << 16;
/// What that memory has, and may have.
const FLAG_MEMORY_BYTES: usize = 1 << 16;
/// Flags of one component; the pass adds fewer.
const FLAGS_MAX: usize = 16;

/// Where a component exports its flags, and with which others they are raised.
pub(super) struct FlagExports {
    flags: Vec<ComponentExportIndex>,
    all: Arc<Flags>,
}

impl FlagExports {
    /// Looks for them; nothing if there are none.
    pub(super) fn of(component: &Component, all: &Arc<Flags>) -> Option<Self> {
        let instance = component.get_export_index(None, INTERFACE)?;
        let flag = |number: usize| component.get_export_index(Some(&instance), format!("flag{number}"));
        let flags: Vec<_> = (0..FLAGS_MAX).map_while(flag).collect();
        (!flags.is_empty()).then(|| Self { flags, all: Arc::clone(all) })
    }

    /// Has a VM's flags raised from now on. Until then they are up: nothing that runs when a VM is made runs unseen.
    pub(super) async fn watch(&self, store: &mut VmStore, instance: &Instance) -> wasmtime::Result<()> {
        for flag in &self.flags {
            let flag = instance.get_typed_func::<(), (WasmList<u8>,)>(&mut *store, flag)?;
            let (list,) = flag.call_async(&mut *store, ()).await?;
            store.watch(&list, &self.all);
        }
        store.begin_turn();
        Ok(())
    }
}

/// Whether a guest asks because it has seen its flag. One that has such a memory of its own and asks in the same way is
/// answered in the same way, which harms nobody: such a memory cannot grow.
fn has_seen_flag(current: usize, desired: usize, maximum: Option<usize>) -> bool {
    (current, desired, maximum) == (FLAG_MEMORY_BYTES, FLAG_MEMORY_BYTES + GROWTH_BYTES, Some(FLAG_MEMORY_BYTES))
}

#[async_trait::async_trait]
impl ResourceLimiterAsync for VmState {
    async fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        if !has_seen_flag(current, desired, maximum) {
            return self.limiter.memory_growing(current, desired, maximum);
        }
        if self.tick()? {
            to_the_end_of_the_queue().await;
        }
        // Only now: ticks pass while others have their turns, and a guest that found its flag raised as it goes on would let go
        // at once, over and over for as long as anybody waits.
        self.raised.lower();
        Ok(false)
    }

    async fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        match lazy::asked_for(current, desired, maximum).filter(|_| self.groups.is_split()) {
            Some(slot) => self.groups.get(slot, self.deadline()).await.map(|()| false).map_err(Into::into),
            None => self.limiter.table_growing(current, desired, maximum),
        }
    }
}
