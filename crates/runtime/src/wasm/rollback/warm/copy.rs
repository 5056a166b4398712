//! A new VM in the warm state without running the warm-up in it: the state is copied into a VM that has just been made.
//!
//! New VMs of a revision are all alike, and so are warmed-up ones. So what lies between is always the same, and is found
//! once: by how much memories have grown, which of their pages differ, which globals have other values. That is written
//! over a new VM. A language runtime's warm-up takes tens of milliseconds; this takes about one, for some hundred pages.
//!
//! ```text
//! new VM ── memories grow ── pages that differ are copied ── globals that differ are set ── streams opened ──► as if warmed up
//! ```
//!
//! What was found is tried on another new VM and compared with the state, to the last byte, global and handle, before it is
//! used; which VMs are compared later is decided by the caller. A state that is not reached so is reached by warming up
//! ([`NoCopy`]).

use std::time::Instant;

use forerun_types::NoCopy;
use wasmtime::component::{Instance, WasmList};

use super::super::baseline::Baseline;
use super::super::habit::Runs;
use super::super::{Kept, MAKE_TIME_MAX, Rollback};
use super::numbers::Numbers;
use crate::sys::{make_own, make_present, with_bytes};
use crate::wasm::log_streams::StreamPlace;
use crate::wasm::vm::{Linked, Template, Vm};

/// What WebAssembly counts memory in.
const WASM_PAGE_BYTES: usize = 64 << 10;

/// What lies between a new VM and the warm state.
pub(super) struct Copy {
    /// By how many of WebAssembly's pages each memory is larger.
    growth: Vec<u32>,
    /// Where each memory differs.
    differing: Runs,
    /// Where it does not, and is not zeroes either: a new VM has that from the image file, and asks the kernel for each
    /// sixteen pages when it first reads them.
    same: Runs,
    /// Numbers of globals that differ, and the values that they have in the warm state.
    globals: Vec<(u32, u64)>,
    /// By which the guest knows the streams to its log.
    numbers: Numbers,
}

impl Copy {
    /// Memory that is written over a new VM, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.differing.iter().flatten().map(ExactSizeIterator::len).sum()
    }
}

impl Rollback {
    /// Finds out how a new VM comes to be like two that were warmed up, with memories as `baseline` has them and `streams`
    /// open, and tries it. One of the two is of no more use then.
    pub(super) async fn find_copy(
        &self,
        (warmed, used_up): (&mut Vm, &mut Vm),
        (baseline, streams): (&Baseline, &[StreamPlace]),
        template: &Template,
        linked: &Linked,
    ) -> Result<Copy, NoCopy> {
        let instance = entered(warmed)?;
        let wanted = self.exports.copies(&mut warmed.store, &instance).await.map_err(failed)?;
        let numbers = Numbers::find(used_up, &self.exports, streams).await?;
        let copy = self.difference(baseline, &wanted, numbers, (template, linked)).await?;
        let mut vm = new_vm(template, linked).await?;
        self.copy_into(&mut vm, (baseline, streams), &copy, template).await?;
        let is_alike = self.is_alike(&mut vm, baseline, &wanted).await?
            && Numbers::find(&mut vm, &self.exports, streams).await? == copy.numbers;
        if is_alike { Ok(copy) } else { Err(NoCopy::NotAlike) }
    }

    /// Has a VM that has just been made be in the warm state.
    pub(super) async fn copy_into(
        &self,
        vm: &mut Vm,
        (baseline, streams): (&Baseline, &[StreamPlace]),
        copy: &Copy,
        template: &Template,
    ) -> Result<(), NoCopy> {
        let instance = entered(vm)?;
        if !self.exports.grow(&mut vm.store, &instance, &copy.growth).await.map_err(failed)? {
            return Err(NoCopy::Failed { detail: "a memory did not grow".to_owned() });
        }
        copy.numbers.have(vm, &self.exports).await?;
        let memories = self.exports.memories(&mut vm.store, &instance).await.map_err(failed)?;
        baseline.fits(&vm.store, &memories).map_err(|_| NoCopy::NotAlike)?;
        for ((memory, content), runs) in memories.iter().zip(&baseline.memories).zip(&copy.differing) {
            with_bytes(&mut vm.store, memory, |data| {
                make_own(data, runs);
                for run in runs {
                    data[run.clone()].copy_from_slice(&content.bytes()[run.clone()]);
                }
            });
        }
        self.exports.set_globals(&mut vm.store, &instance, &copy.globals).await.map_err(failed)?;
        vm.store.data_mut().limiter.made();
        let renewed = vm.renew_state(template, Instant::now() + MAKE_TIME_MAX, &Kept::streams(streams));
        renewed.map_err(|_| NoCopy::StreamsOpen)
    }

    /// Has a VM in the warm state, that nobody waits for, have all of its memory there without a fault.
    pub(super) async fn make_present(&self, vm: &mut Vm, copy: &Copy) {
        let Some(instance) = vm.entered else { return };
        // A VM of which that cannot be done is as good, and slower once.
        let Ok(memories) = self.exports.memories(&mut vm.store, &instance).await else { return };
        for (memory, runs) in memories.iter().zip(&copy.same) {
            with_bytes(&mut vm.store, memory, |data| make_present(data, runs));
        }
    }

    /// What a new VM has that differs from the memories of `baseline` and the globals `wanted`.
    async fn difference(
        &self,
        baseline: &Baseline,
        wanted: &[u64],
        numbers: Numbers,
        (template, linked): (&Template, &Linked),
    ) -> Result<Copy, NoCopy> {
        let mut vm = new_vm(template, linked).await?;
        let instance = entered(&vm)?;
        let found = self.exports.copies(&mut vm.store, &instance).await.map_err(failed)?;
        let memories = self.exports.memories(&mut vm.store, &instance).await.map_err(failed)?;
        let globals = (0..).zip(found.iter().zip(wanted));
        let globals =
            globals.filter(|(_, (found, wanted))| found != wanted).map(|(number, (_, wanted))| (number, *wanted));
        let both = memories.iter().zip(&baseline.memories);
        // Memory that a new VM does not have yet will be zeroes.
        let differing: Runs = both
            .map(|(memory, content)| {
                content.differing(std::slice::from_ref(&(0..content.bytes().len())), memory.as_le_slice(&vm.store))
            })
            .collect();
        let same = baseline.memories.iter().zip(&differing).map(|(content, differing)| content.but_for(differing));
        Ok(Copy {
            same: same.collect(),
            differing,
            globals: globals.collect(),
            growth: growth(&vm, &memories, baseline)?,
            numbers,
        })
    }

    async fn is_alike(&self, vm: &mut Vm, baseline: &Baseline, wanted: &[u64]) -> Result<bool, NoCopy> {
        let instance = entered(vm)?;
        let globals = self.exports.copies(&mut vm.store, &instance).await.map_err(failed)?;
        let memories = self.exports.memories(&mut vm.store, &instance).await.map_err(failed)?;
        Ok(globals == wanted && baseline.equals(&vm.store, &memories))
    }
}

async fn new_vm(template: &Template, linked: &Linked) -> Result<Vm, NoCopy> {
    let vm = template.vm(linked, Instant::now() + MAKE_TIME_MAX).await.map_err(failed)?;
    if vm.host_called_at_start { Err(NoCopy::HostCalledAtStart) } else { Ok(vm) }
}

pub(super) fn entered(vm: &Vm) -> Result<Instance, NoCopy> {
    vm.entered.ok_or_else(|| NoCopy::Failed { detail: "it has no instance".to_owned() })
}

#[expect(clippy::needless_pass_by_value, reason = "it is what errors are mapped with")]
pub(super) fn failed(error: wasmtime::Error) -> NoCopy {
    NoCopy::Failed { detail: error.root_cause().to_string() }
}

/// Memories do not get smaller: one that is larger in a new VM is another's.
fn growth(vm: &Vm, memories: &[WasmList<u8>], baseline: &Baseline) -> Result<Vec<u32>, NoCopy> {
    let sizes = memories.iter().zip(&baseline.memories);
    let growth = sizes.map(|(memory, content)| {
        let more = content.bytes().len().checked_sub(memory.as_le_slice(&vm.store).len())?;
        u32::try_from(more / WASM_PAGE_BYTES).ok()
    });
    let growth: Option<Vec<_>> = growth.collect();
    growth.filter(|growth| growth.len() == baseline.memories.len()).ok_or(NoCopy::NotAlike)
}
