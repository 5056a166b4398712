//! What the specializer has given a component so that the host can put its VMs back: the instance `forerun:vm/state`.
//!
//! `save` remembers all variable globals of a VM and `restore` puts them back, which only code in the modules that define
//! them can do; `memory0`, `memory1`, ... give the memories as lists, which is how the host learns where they are.
//! wasmtime's interface names neither, since both belong to instances inside of the component. (Other ways were tried:
//! the core dump of a trap made on purpose names all parts, but no component may be entered in its store after a trap;
//! memories made by the host need an engine that refuses machine code with copy-on-write images.)

use wasmtime::Store;
use wasmtime::component::{Component, ComponentExportIndex, Instance, TypedFunc, WasmList};

use super::super::vm::VmState;

/// Memories looked for; the specializer gives no more.
const MEMORIES_MAX: usize = 100;

/// Where a component exports the functions.
#[derive(Clone)]
pub(in super::super) struct StateExports {
    save: ComponentExportIndex,
    restore: ComponentExportIndex,
    memories: Vec<ComponentExportIndex>,
}

impl StateExports {
    /// Name of the instance.
    pub(in super::super) const INTERFACE: &str = "forerun:vm/state@0.1.0";

    /// Looks for them.
    pub(in super::super) fn of(component: &Component) -> Option<Self> {
        let instance = component.get_export_index(None, Self::INTERFACE)?;
        let function = |name: &str| component.get_export_index(Some(&instance), name);
        let memories = (0..MEMORIES_MAX).map_while(|number| function(&format!("memory{number}"))).collect();
        Some(Self { save: function("save")?, restore: function("restore")?, memories })
    }

    /// Has a VM remember its globals.
    pub(in super::super) async fn save(&self, store: &mut Store<VmState>, instance: &Instance) -> wasmtime::Result<()> {
        let save = instance.get_typed_func::<(), ()>(&mut *store, &self.save)?;
        save.call_async(store, ()).await
    }

    /// How a VM puts its globals back.
    pub(super) fn restore(
        &self,
        store: &mut Store<VmState>,
        instance: &Instance,
    ) -> wasmtime::Result<TypedFunc<(), ()>> {
        instance.get_typed_func(store, self.restore)
    }

    /// All memories of a VM.
    pub(super) async fn memories(
        &self,
        store: &mut Store<VmState>,
        instance: &Instance,
    ) -> wasmtime::Result<Vec<WasmList<u8>>> {
        let mut memories = Vec::with_capacity(self.memories.len());
        for memory in &self.memories {
            let memory = instance.get_typed_func::<(), (WasmList<u8>,)>(&mut *store, memory)?;
            let (list,) = memory.call_async(&mut *store, ()).await?;
            memories.push(list);
        }
        Ok(memories)
    }
}
