//! What the specializer has given a component so that the host can put its VMs back: the instance `forerun:vm/state`.
//!
//! `save` remembers all variable globals of a VM, `restore` puts them back and `same` compares them, which only code in
//! the modules that define them can do; `copies`, `copy` and `set-copy` tell and change what is remembered, as numbers;
//! `room` has the guest's allocator make its memory grow ([`Room`]), and `grow0`, `grow1`, ... do without it; `memory0`,
//! `memory1`, ... give the memories as lists, which is how the host learns where they are; `open-stream` and `close-stream`
//! have the guest hold one handle more or less.
//! wasmtime's interface names neither, since both belong to instances inside of the component. (Other ways were tried:
//! the core dump of a trap made on purpose names all parts, but no component may be entered in its store after a trap;
//! memories made by the host need an engine that refuses machine code with copy-on-write images.)

use std::sync::Arc;

use forerun_types::NoRoom;
use wasmtime::component::{Component, ComponentExportIndex, Instance, TypedFunc, WasmList};

use super::super::failure::TimedOut;
use super::super::vm::{Vm, VmStore};
use super::room::{Growth, Room};

/// Name of the guest's own instance for VMs in the warm state: `examples/wit/deps/forerun-vm/warm.wit`.
const WARM_INTERFACE: &str = "forerun:vm/warm@0.1.0";
/// Memories looked for; the specializer gives no more.
const MEMORIES_MAX: usize = 100;

/// Where a component exports the functions.
#[derive(Clone)]
pub(in super::super) struct StateExports {
    save: ComponentExportIndex,
    restore: ComponentExportIndex,
    same: ComponentExportIndex,
    copies: ComponentExportIndex,
    copy: ComponentExportIndex,
    set_copy: ComponentExportIndex,
    make_room: Option<ComponentExportIndex>,
    memories: Vec<ComponentExportIndex>,
    /// What makes each of them larger.
    grow: Vec<ComponentExportIndex>,
    /// What has the guest hold one handle of a stream more, and one less.
    streams: Option<(ComponentExportIndex, ComponentExportIndex)>,
    /// The guest's own function that draws anew what must not be the same for all requests.
    renew: Option<ComponentExportIndex>,
    /// How much of it VMs get, for all who make them.
    pub(in super::super) room: Arc<Room>,
}

/// Where a component exports its own function that draws anew what must not be the same for all requests.
pub(in super::super) fn renew_export(component: &Component) -> Option<ComponentExportIndex> {
    let warm = component.get_export_index(None, WARM_INTERFACE)?;
    component.get_export_index(Some(&warm), "renew")
}

/// Has the guest draw anew, if it can.
pub(in super::super) async fn renew(
    export: Option<&ComponentExportIndex>,
    store: &mut VmStore,
    instance: &Instance,
) -> wasmtime::Result<()> {
    let Some(export) = export else { return Ok(()) };
    let renew = instance.get_typed_func::<(), ()>(&mut *store, export)?;
    renew.call_async(store, ()).await
}

/// What a VM that cannot have room is given up for: the next one is made without.
#[derive(Debug, thiserror::Error)]
#[error("no room could be made in the memory of a VM")]
pub(in super::super) struct RoomFailed;

impl StateExports {
    /// Name of the instance.
    pub(in super::super) const INTERFACE: &str = "forerun:vm/state@0.1.0";

    /// Looks for them.
    pub(in super::super) fn of(component: &Component) -> Option<Self> {
        let instance = component.get_export_index(None, Self::INTERFACE)?;
        let function = |name: &str| component.get_export_index(Some(&instance), name);
        let numbered =
            |name: &str| (0..MEMORIES_MAX).map_while(|number| function(&format!("{name}{number}"))).collect();
        Some(Self {
            save: function("save")?,
            restore: function("restore")?,
            same: function("same")?,
            copies: function("copies")?,
            copy: function("copy")?,
            set_copy: function("set-copy")?,
            make_room: function("room"),
            memories: numbered("memory"),
            grow: numbered("grow"),
            streams: function("open-stream").zip(function("close-stream")),
            renew: renew_export(component),
            room: Arc::default(),
        })
    }

    /// Whether there is an allocator that can be asked for room.
    pub(super) fn can_make_room(&self) -> bool {
        self.make_room.is_some()
    }

    /// Whether a VM's memory grew in use; if so, that is taken note of.
    pub(super) fn note_growth(&self, vm: &Vm) -> bool {
        let (limiter, room_bytes) = (&vm.store.data().limiter, vm.room_bytes);
        let grew = limiter.memory_grew();
        if grew {
            let (bytes, room_bytes_max) = (limiter.grown_bytes(), limiter.room_bytes_max(room_bytes));
            self.room.grew(Growth { bytes, room_bytes, room_bytes_max }, self.can_make_room());
        }
        grew
    }

    /// Makes as much room in a new VM's memory as VMs have now; says how many bytes.
    ///
    /// # Errors
    /// [`RoomFailed`] if there will be none from now on; anything else is the VM's own trouble.
    pub(in super::super) async fn make_room(&self, store: &mut VmStore, instance: &Instance) -> wasmtime::Result<u32> {
        let bytes = self.room.bytes();
        let Some(make_room) = self.make_room.filter(|_| bytes > 0) else { return Ok(0) };
        let called_before = store.data().has_called_host();
        let make_room = instance.get_typed_func::<(u32,), ()>(&mut *store, make_room)?;
        let why = match make_room.call_async(&mut *store, (bytes,)).await {
            Ok(()) if store.data().groups.is_spent() => NoRoom::ColdCode,
            Ok(()) if store.data().has_called_host() == called_before => return Ok(bytes),
            Ok(()) => NoRoom::HostCalled,
            Err(error) if error.is::<TimedOut>() => return Err(error),
            Err(_) => NoRoom::Trapped,
        };
        self.room.give_up(why);
        tracing::info!(function = %store.data().function(), reason = %why, "VMs get no room in their memory");
        Err(RoomFailed.into())
    }

    /// Has a VM remember its globals.
    pub(in super::super) async fn save(&self, store: &mut VmStore, instance: &Instance) -> wasmtime::Result<()> {
        let save = instance.get_typed_func::<(), ()>(&mut *store, &self.save)?;
        save.call_async(store, ()).await
    }

    /// How a VM puts its globals back.
    pub(super) fn restore(&self, store: &mut VmStore, instance: &Instance) -> wasmtime::Result<TypedFunc<(), ()>> {
        instance.get_typed_func(store, self.restore)
    }

    /// How a VM says whether its globals are as they were saved.
    pub(super) fn same(&self, store: &mut VmStore, instance: &Instance) -> wasmtime::Result<TypedFunc<(), (bool,)>> {
        instance.get_typed_func(store, self.same)
    }

    /// What a VM has remembered of its globals.
    pub(super) async fn copies(&self, store: &mut VmStore, instance: &Instance) -> wasmtime::Result<Vec<u64>> {
        let count = instance.get_typed_func::<(), (u32,)>(&mut *store, self.copies)?;
        let copy = instance.get_typed_func::<(u32,), (u64,)>(&mut *store, self.copy)?;
        let (count,) = count.call_async(&mut *store, ()).await?;
        let mut copies = Vec::new();
        for number in 0..count {
            copies.push(copy.call_async(&mut *store, (number,)).await?.0);
        }
        Ok(copies)
    }

    /// Has a VM remember other values for some of its globals, by number, and its globals take what it then remembers.
    pub(super) async fn set_globals(
        &self,
        store: &mut VmStore,
        instance: &Instance,
        values: &[(u32, u64)],
    ) -> wasmtime::Result<()> {
        let set_copy = instance.get_typed_func::<(u32, u64), ()>(&mut *store, self.set_copy)?;
        for value in values {
            set_copy.call_async(&mut *store, *value).await?;
        }
        self.restore(store, instance)?.call_async(store, ()).await
    }

    /// Makes a VM's memories larger, each by so many of its pages. Says whether that was possible.
    pub(super) async fn grow(&self, store: &mut VmStore, instance: &Instance, pages: &[u32]) -> wasmtime::Result<bool> {
        for (grow, pages) in self.grow.iter().zip(pages).filter(|(_, pages)| **pages > 0) {
            let grow = instance.get_typed_func::<(u32,), (bool,)>(&mut *store, grow)?;
            if !grow.call_async(&mut *store, (*pages,)).await?.0 {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// How a VM's guest gets handles of streams, and how it gives them back; nothing if it has no use for standard output.
    #[expect(clippy::type_complexity, reason = "the two functions of one pair")]
    pub(super) fn streams(
        &self,
        store: &mut VmStore,
        instance: &Instance,
    ) -> wasmtime::Result<Option<(TypedFunc<(), (u32,)>, TypedFunc<(u32,), ()>)>> {
        let Some((open, close)) = self.streams else { return Ok(None) };
        Ok(Some((instance.get_typed_func(&mut *store, open)?, instance.get_typed_func(store, close)?)))
    }

    /// Whether the guest can draw anew what it drew before.
    pub(super) fn can_renew(&self) -> bool {
        self.renew.is_some()
    }

    /// Has the guest do that.
    pub(super) async fn renew(&self, store: &mut VmStore, instance: &Instance) -> wasmtime::Result<()> {
        renew(self.renew.as_ref(), store, instance).await
    }

    /// All memories of a VM.
    pub(super) async fn memories(
        &self,
        store: &mut VmStore,
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
