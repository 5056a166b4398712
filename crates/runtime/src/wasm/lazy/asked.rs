//! Cold code that is called for where the component may not be left: while arguments are lowered, after a return, in a
//! destructor.
//!
//! A call to the host is a trap there. So the guest has told its table of cold functions, which is full, to grow by the slot
//! that it means and [`ASKING`], and turns in a loop. The engine asks the [limiter](crate::wasm::limiter) whether the
//! table may grow, which has no hold of the store, but can end the epoch. With that the engine comes by with the store:
//! here the group is loaded, and the global set that ends the loop.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use parking_lot::Mutex;
use wasmtime::{AsContextMut, Engine, Extern, Instance, Module, StoreContextMut, UpdateDeadline, Val};

use super::failure::LazyFailure;
use super::groups::{CodeFrom, ColdGroups, Miss, micros};
use super::loader::enter;
use crate::wasm::vm::VmState;

/// The global that ends the loop, as `forerun-specialize` writes it into a split component.
const FILLED: &str = "__cold_filled";

/// What is added to the number, as `forerun-specialize` writes it: no table of a guest's own grows by so much.
const ASKING: usize = 1 << 30;

/// Epochs that loading may take; it runs the few instructions of a probe and of a module's segments.
const LOADING_TICKS: u64 = 1_000;

/// A group for which the guest waits in a loop.
pub(super) struct Awaited {
    groups: Arc<ColdGroups>,
    group: u32,
    slot: u32,
    since: Instant,
    code: Code,
}

/// Its code, once it has been got.
type Code = Arc<Mutex<Option<Result<(Module, CodeFrom), LazyFailure>>>>;

/// Hears what the guest asks for.
pub(in crate::wasm) struct Asking {
    engine: Engine,
    /// Elements of the table of cold functions.
    slots: u32,
    /// How often more the epoch may be ended for it: other VMs of the engine yield then.
    hurries: u32,
    asked: Option<u32>,
}

impl Asking {
    pub(super) fn of(groups: &ColdGroups) -> Self {
        let (engine, slots) = (groups.engine().clone(), groups.layout().slots());
        Self { engine, slots, hurries: groups.groups_per_vm_max(), asked: None }
    }

    /// A full table of `size` elements was told to grow by `growth`.
    pub(in crate::wasm) fn hear(&mut self, size: usize, growth: usize) {
        let number = growth.checked_sub(ASKING).and_then(|number| u32::try_from(number).ok());
        if number.is_none() || size != self.slots as usize {
            return;
        }
        self.asked = number;
        if let Some(left) = self.hurries.checked_sub(1) {
            self.hurries = left;
            self.engine.increment_epoch();
        }
    }

    pub(in crate::wasm) fn take(&mut self) -> Option<u32> {
        self.asked.take()
    }
}

/// At the end of an epoch: loads what the guest waits for, if it does, or has it wait for the code. `None` if there was
/// nothing to do.
pub(in crate::wasm) fn answer(mut store: StoreContextMut<'_, VmState>) -> Result<Option<UpdateDeadline>, LazyFailure> {
    let state = store.data_mut();
    if let Some(slot) = state.limiter.take_asked() {
        let (groups, group) = state.groups.begin(slot)?;
        state.groups.awaited = Some(Awaited::new(groups, group, slot));
    }
    let Some(awaited) = state.groups.awaited.take() else { return Ok(None) };
    let Some(code) = awaited.code() else {
        let update = UpdateDeadline::YieldCustom(0, Box::pin(awaited.get(state.deadline())));
        state.groups.awaited = Some(awaited);
        return Ok(Some(update));
    };
    awaited.load(store, code?)?;
    Ok(Some(UpdateDeadline::Continue(1)))
}

impl Awaited {
    fn new(groups: Arc<ColdGroups>, group: u32, slot: u32) -> Self {
        Self { groups, group, slot, since: Instant::now(), code: Code::default() }
    }

    /// The code, if it is there.
    fn code(&self) -> Option<Result<(Module, CodeFrom), LazyFailure>> {
        let loaded = || self.groups.loaded(self.group).map(|module| Ok((module, CodeFrom::Memory)));
        self.code.lock().take().or_else(loaded)
    }

    /// Gets the code; it is there when this ends, or why it is not.
    fn get(&self, deadline: Instant) -> impl Future<Output = ()> + Send + use<> {
        let (groups, group, code) = (Arc::clone(&self.groups), self.group, Arc::clone(&self.code));
        async move {
            let got = groups.module(group, deadline).await;
            *code.lock() = Some(got);
        }
    }

    fn load(
        &self,
        mut store: StoreContextMut<'_, VmState>,
        (module, from): (Module, CodeFrom),
    ) -> Result<(), LazyFailure> {
        let (code_us, code_there) = (micros(self.since.elapsed()), Instant::now());
        // The engine has nobody to ask while it asks here: what runs meanwhile would end in a trap at its first look.
        store.set_epoch_deadline(LOADING_TICKS);
        let entering = enter(&mut store, &module, self.group);
        let primary = at_once(entering).unwrap_or(Err(LazyFailure::WouldWait(self.group)))?;
        self.end_loop(store, primary)?;
        let miss = Miss { slot: self.slot, group: self.group, from, code_us, link_us: micros(code_there.elapsed()) };
        self.groups.missed(miss);
        Ok(())
    }

    fn end_loop(&self, mut store: StoreContextMut<'_, VmState>, primary: Instance) -> Result<(), LazyFailure> {
        let missing = || LazyFailure::MissingExport { group: self.group, import: FILLED.to_owned() };
        let Some(Extern::Global(filled)) = primary.get_export(store.as_context_mut(), FILLED) else {
            return Err(missing());
        };
        filled.set(store, Val::I32(1)).map_err(|_| missing())
    }
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
    fn only_a_table_of_the_right_size_asks_and_once() {
        let mut asking = Asking { engine: Engine::default(), slots: 10, hurries: 1, asked: None };
        for (size, growth) in [(9, ASKING + 3), (10, 3), (10, usize::MAX)] {
            asking.hear(size, growth);
            assert_eq!(asking.take(), None);
        }
        for number in [3, 4] {
            asking.hear(10, ASKING + number);
            assert_eq!(asking.take(), Some(u32::try_from(number).unwrap()));
            assert_eq!((asking.take(), asking.hurries), (None, 0));
        }
    }

    #[test]
    fn what_would_wait_is_not_waited_for() {
        assert_eq!(at_once(async { 3 }), Some(3));
        assert_eq!(at_once(std::future::pending::<u8>()), None);
    }
}
