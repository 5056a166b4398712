//! The way of a group into a VM.
//!
//! The guest has told its table of cold functions, which is full, to grow by the slot that it means and [`ASKING`]. That is
//! possible everywhere, also where the component may not be left: while arguments are lowered, after a return, in a
//! destructor. The engine asks the limiter first, which may wait, and here gets the code; but the limiter has no hold of the
//! store. On the way back to the guest the engine calls its hook, which has: there the group is instantiated.

use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use wasmtime::{AsContextMut, CallHook, Extern, Instance, Module, StoreContextMut};

use super::failure::LazyFailure;
use super::groups::{Miss, micros};
use crate::wasm::vm::{VmState, VmStore};

/// What is added to the number, as `forerun-specialize` writes it: no table of a guest's own grows by so much.
const ASKING: usize = 1 << 30;

/// Epochs that loading may take, where they are counted; it runs the few instructions of a probe and of a module's segments.
const LOADING_TICKS: u64 = 1_000;

/// What a split component asks for when it tells a table to grow: a slot, or a position behind the slots.
pub(in crate::wasm) fn asked_for(current: usize, desired: usize, maximum: Option<usize>) -> Option<u32> {
    let number = desired.checked_sub(current)?.checked_sub(ASKING)?;
    if maximum == Some(current) { u32::try_from(number).ok() } else { None }
}

/// Has a VM load what its guest has asked for.
pub(in crate::wasm) fn load_when_asked(store: &mut VmStore) {
    store.on_calls(|store, call| match call {
        CallHook::ReturningFromHost => Ok(load_arrived(store)?),
        CallHook::CallingHost | CallHook::CallingWasm | CallHook::ReturningFromWasm => Ok(()),
    });
}

/// Loads the group whose code has arrived, if there is one.
fn load_arrived(mut store: StoreContextMut<'_, VmState>) -> Result<(), LazyFailure> {
    let Some(arrived) = store.data_mut().groups.arrived.take() else { return Ok(()) };
    let began = Instant::now();
    // The engine would have a guest wait at the end of an epoch, and here nobody can.
    store.set_epoch_deadline(LOADING_TICKS);
    let entering = at_once(enter(&mut store, &arrived.module, arrived.group));
    entering.unwrap_or(Err(LazyFailure::WouldWait(arrived.group)))?;
    store.set_epoch_deadline(1);
    let link_us = micros(began.elapsed());
    let (slot, group, from, code_us) = (arrived.slot, arrived.group, arrived.from, arrived.code_us);
    arrived.groups.missed(Miss { slot, group, from, code_us, link_us });
    Ok(())
}

/// Makes a group part of the VM. Waits for nothing outside of the engine.
async fn enter(store: &mut StoreContextMut<'_, VmState>, module: &Module, group: u32) -> Result<(), LazyFailure> {
    let primary = primary(store).await?;
    link(store, module, primary, group).await
}

/// The instance that cold code belongs to; looked for once in each VM.
async fn primary(store: &mut StoreContextMut<'_, VmState>) -> Result<Instance, LazyFailure> {
    let vm_groups = &mut store.data_mut().groups;
    if let Some(primary) = vm_groups.primary {
        return Ok(primary);
    }
    let finder = vm_groups.finder()?;
    if finder.spends_store() {
        vm_groups.spend();
    }
    let primary = finder.find(store.as_context_mut()).await?;
    store.data_mut().groups.primary = Some(primary);
    Ok(primary)
}

/// Instantiates a group; that fills its slots.
async fn link(
    store: &mut StoreContextMut<'_, VmState>,
    module: &Module,
    primary: Instance,
    group: u32,
) -> Result<(), LazyFailure> {
    let mut imports: Vec<Extern> = Vec::with_capacity(module.imports().len());
    for import in module.imports() {
        let export = primary.get_export(store.as_context_mut(), import.name());
        let missing = || LazyFailure::MissingExport { group, import: import.name().to_owned() };
        imports.push(export.ok_or_else(missing)?);
    }
    let instance = Instance::new_async(store.as_context_mut(), module, &imports).await;
    instance.map(drop).map_err(|error| LazyFailure::NotInstantiated { group, detail: format!("{error:#}") })
}

/// What a future gives that does not wait; `None` if it would.
fn at_once<T>(future: impl Future<Output = T>) -> Option<T> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => Some(result),
        Poll::Pending => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_full_table_asks_and_only_by_growing_far() {
        assert_eq!(asked_for(10, 10 + ASKING + 3, Some(10)), Some(3));
        let others = [(10, 13, Some(10)), (10, 10 + ASKING, None), (9, 9 + ASKING, Some(10)), (10, 10, Some(10))];
        for (current, desired, maximum) in others {
            assert_eq!(asked_for(current, desired, maximum), None);
        }
        assert_eq!(asked_for(0, usize::MAX, Some(0)), None);
    }

    #[test]
    fn what_would_wait_is_not_waited_for() {
        assert_eq!(at_once(async { 3 }), Some(3));
        assert_eq!(at_once(std::future::pending::<u8>()), None);
    }
}
