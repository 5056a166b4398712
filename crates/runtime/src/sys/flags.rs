//! Flags in guests' memories: bytes that guests look at as they run, and that a thread beside them raises.
//!
//! A guest that was prepared for it (the pass `interrupt` of `forerun-specialize`) looks at a byte of a memory that none of
//! its own instructions can name, and calls its host if the byte is not 0. Here those bytes are known by their addresses,
//! and every one of them can be raised at once ([`Flags::raise`]), whatever its guest is doing; [`Raised`] lowers those of
//! one VM. What the guest's call is answered with is not decided here.

use std::ops::Deref;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use wasmtime::component::WasmList;
use wasmtime::{AsContext, AsContextMut, CallHook, Store, StoreContext, StoreContextMut};

/// The flags of all VMs of an engine.
#[derive(Default)]
pub(crate) struct Flags(Mutex<Vec<Weak<VmFlags>>>);

/// The flags of one VM: addresses of bytes. They are there for as long as the memories are.
#[derive(Default)]
struct VmFlags(Mutex<Vec<Place>>);

/// Lowers the flags of one VM.
#[derive(Clone, Default)]
pub(crate) struct Raised(Arc<VmFlags>);

/// The address of a flag.
struct Place(usize);

/// A store, and the flags in its memories, which are forgotten before the memories end.
///
/// Nobody can take the store out of it or put another in its place, so that the flags are always those of its own memories:
/// it is lent to be read, and to be changed only as wasmtime's context of a store, which cannot be exchanged either.
pub(crate) struct FlaggedStore<T: 'static> {
    flags: Raised,
    store: Store<T>,
}

impl Flags {
    /// Raises every flag there is.
    pub(crate) fn raise(&self) {
        self.0.lock().retain(|vm| {
            let vm = vm.upgrade();
            vm.iter().for_each(|vm| vm.set(1));
            vm.is_some()
        });
    }
}

impl Raised {
    /// Lowers the VM's flags.
    pub(crate) fn lower(&self) {
        self.0.set(0);
    }
}

impl VmFlags {
    fn set(&self, value: u8) {
        self.0.lock().iter().for_each(|place| place.set(value));
    }
}

impl Place {
    fn set(&self, value: u8) {
        // SAFETY: the byte is one of a linear memory, mapped and writable, of a store that has not ended: places are kept by a
        // `VmFlags` only, under its lock, and its `FlaggedStore` takes them out of it, under the same lock, before the store
        // ends. Memories of engines that flags are used with cannot move (`memory_may_move(false)`). Rust has no reference to
        // the byte: the list that told of it is not kept, and the memory is the specializer's own, of which nobody else takes
        // a slice. That a guest reads it meanwhile is no race of Rust's: machine code reads one byte, and either value is right.
        // The byte comes from a mapping of the kernel's and from no allocation of Rust's, and its address was exposed.
        unsafe { AtomicU8::from_ptr(std::ptr::with_exposed_provenance_mut(self.0)) }.store(value, Ordering::Relaxed);
    }
}

impl<T: 'static> FlaggedStore<T> {
    /// A store without flags.
    pub(crate) fn new(store: Store<T>) -> Self {
        Self { flags: Raised::default(), store }
    }

    /// What lowers its flags.
    pub(crate) fn raised(&self) -> Raised {
        self.flags.clone()
    }

    /// Makes the first byte of `list`, which is in a memory of this store that cannot move, one of its flags, to be raised with
    /// `all`. An empty list is none.
    pub(crate) fn watch(&mut self, list: &WasmList<u8>, all: &Flags) {
        // This panics if the list is of another store.
        let Some(flag) = list.as_le_slice(&self.store).first() else { return };
        let place = Place(std::ptr::from_ref(flag).expose_provenance());
        let mut places = self.flags.0.0.lock();
        if places.is_empty() {
            all.0.lock().push(Arc::downgrade(&self.flags.0));
        }
        places.push(place);
    }

    pub(crate) fn data_mut(&mut self) -> &mut T {
        self.store.data_mut()
    }

    /// Has `hook` called wherever the guest calls its host or comes back.
    pub(crate) fn on_calls(
        &mut self,
        hook: impl FnMut(StoreContextMut<'_, T>, CallHook) -> wasmtime::Result<()> + Send + Sync + 'static,
    ) {
        self.store.call_hook(hook);
    }

    /// Lets the guest run until the next tick, after which it is asked to let others run: by its engine's epochs or its flags.
    pub(crate) fn begin_turn(&mut self) {
        self.store.set_epoch_deadline(1);
        self.flags.lower();
    }
}

impl<T: 'static> Drop for FlaggedStore<T> {
    fn drop(&mut self) {
        // The store ends right behind this.
        self.flags.0.0.lock().clear();
    }
}

impl<T: 'static> Deref for FlaggedStore<T> {
    type Target = Store<T>;

    fn deref(&self) -> &Store<T> {
        &self.store
    }
}

impl<T: 'static> AsContext for FlaggedStore<T> {
    type Data = T;

    fn as_context(&self) -> StoreContext<'_, T> {
        self.store.as_context()
    }
}

impl<T: 'static> AsContextMut for FlaggedStore<T> {
    fn as_context_mut(&mut self) -> StoreContextMut<'_, T> {
        self.store.as_context_mut()
    }
}
