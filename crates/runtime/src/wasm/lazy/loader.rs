//! The function that a split component calls when a slot is empty.

use std::time::Instant;

use wasmtime::component::Linker;
use wasmtime::{AsContextMut, Extern, Instance, Module, StoreContextMut};

use super::failure::LazyFailure;
use super::groups::{Miss, micros};
use crate::wasm::vm::VmState;

/// The interface and its function, as `forerun-specialize` writes them into a split component.
const INTERFACE: &str = "forerun:vm/lazy@0.1.0";
const FUNCTION: &str = "load";

/// Adds the loader to what components may import.
pub(in crate::wasm) fn add_to_linker(linker: &mut Linker<VmState>) -> wasmtime::Result<()> {
    linker
        .instance(INTERFACE)?
        .func_wrap_async(FUNCTION, |store, (slot,): (u32,)| Box::new(async move { Ok(load(store, slot).await?) }))
}

/// Loads the group of `slot` into the VM.
async fn load(mut store: StoreContextMut<'_, VmState>, slot: u32) -> Result<(), LazyFailure> {
    let (groups, group) = store.data_mut().groups.begin(slot)?;
    let began = Instant::now();
    let (module, from) = groups.module(group, store.data().deadline()).await?;
    let (code_us, code_there) = (micros(began.elapsed()), Instant::now());
    enter(&mut store, &module, group).await?;
    groups.missed(Miss { slot, group, from, code_us, link_us: micros(code_there.elapsed()) });
    Ok(())
}

/// Makes a group part of the VM, and tells the instance that it belongs to. Waits for nothing outside of the engine.
pub(super) async fn enter(
    store: &mut StoreContextMut<'_, VmState>,
    module: &Module,
    group: u32,
) -> Result<Instance, LazyFailure> {
    let primary = primary(store).await?;
    link(store, module, primary, group).await?;
    Ok(primary)
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
