//! Requests served by an instrumented program: a fresh VM, and a look at what it noted when it is done.
//!
//! An instrumented component exports an instance with `read: func() -> list<u8>`, a byte for each of its inner
//! functions. It is read once the guest has returned and its answer is on the way, in a task of its own; the VM is then
//! freed, whatever the function's policy, because what it noted is of one request. A guest that failed is not asked: a
//! VM in which it trapped cannot be entered any more.
//!
//! Beside that it gives its memories as lists, `memory0`, `memory1`, ...: of these the kernel says which pages were
//! touched. To give a list, the guest writes to its memory's first page, which so counts as written.
//!
//! A function whose VMs are put back to the state after warm-up requests is sampled in a VM that has answered them, since
//! it runs other code there than in a new one: what they ran counts as run. That is for the caller to say: where that
//! state has not passed its test, a sampled request would find what no other one does.
//!
//! What the bytes stand for is not known here.

use std::sync::Arc;
use std::time::{Duration, Instant};

use forerun_driver::{Body, Invocation, InvokeError, Reply, SampleHook, Sampled, TouchedMemory};
use forerun_types::{GenericReason, ServePath};
use http::Request;
use wasmtime::component::{ComponentExportIndex, Instance as ComponentInstance, TypedFunc, WasmList};
use wasmtime_wasi_http::p3::bindings::Service;

use super::cpu_time::CpuTime;
use super::failure::Failure;
use super::program::{Deployed, WasmProgram, refuse};
use super::rollback::{WarmUp, renew, renew_export};
use super::vm::{Instance, Linked, Template, Vm};
use super::witness::Draws;
use crate::sys::{Span, Tracker, with_bytes};

/// What an instrumented component exports, as the specializer's pass `coverage` names it.
const COVERAGE_INTERFACE: &str = "forerun:vm/coverage@0.1.0";
const READ: &str = "read";
/// What the names of the functions begin with that give a memory; a number follows.
const MEMORY: &str = "memory";
/// Memories looked for; the specializer gives no more.
const MEMORIES_MAX: usize = 100;
/// More marks than a pass makes are not taken.
const MARKS_MAX: usize = 1 << 18;
/// Copying some thousand bytes together takes microseconds; a guest whose memory is slow to come has this long.
const READ_TIME_MAX: Duration = Duration::from_secs(1);

type GiveList = TypedFunc<(), (WasmList<u8>,)>;

/// Who wants to know what a VM noted, and the functions that say it.
pub(super) struct Sample {
    noted: Noted,
    tracker: Option<Arc<Tracker>>,
    hook: SampleHook,
}

/// What an instrumented component exports.
struct Noted {
    read: GiveList,
    memories: Vec<GiveList>,
}

impl Sample {
    /// Reads the marks of a VM that is done, gives them to whoever wants them, and frees the VM.
    pub(super) fn read_later(self, vm: Box<Vm>) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            // The node is going down: nobody waits for a sample.
            return;
        };
        runtime.spawn(async move {
            let mut vm = vm;
            let Self { noted, tracker, hook } = self;
            match noted.read(tracker.as_deref(), &mut vm).await {
                Ok(sampled) => hook(sampled),
                Err(error) => tracing::warn!(error = %format!("{error:#}"), "a sample could not be read"),
            }
        });
    }
}

impl Noted {
    async fn read(&self, tracker: Option<&Tracker>, vm: &mut Vm) -> wasmtime::Result<Sampled> {
        vm.allow_until(Instant::now() + READ_TIME_MAX);
        let touched = match tracker {
            Some(tracker) => touched(&self.memories, tracker, vm).await?,
            None => None,
        };
        let (list,) = self.read.call_async(&mut vm.store, ()).await?;
        let marks = list.as_le_slice(&vm.store);
        if marks.len() > MARKS_MAX {
            wasmtime::bail!("{} marks, at most {MARKS_MAX} are read", marks.len());
        }
        Ok(Sampled { marks: marks.to_vec(), touched })
    }
}

/// What the kernel says of a VM's memories; `None` if it does not, or there are none.
async fn touched(memories: &[GiveList], tracker: &Tracker, vm: &mut Vm) -> wasmtime::Result<Option<TouchedMemory>> {
    let mut all = None;
    for give in memories {
        let (memory,) = give.call_async(&mut vm.store, ()).await?;
        let Some(span) = with_bytes(&mut vm.store, &memory, |data| Span::of(data)) else { return Ok(None) };
        let Ok(pages) = tracker.touched(span) else { return Ok(None) };
        let so_far: &mut TouchedMemory = all.get_or_insert_default();
        so_far.resident_bytes += pages.resident_bytes;
        so_far.dirty_bytes += pages.dirty_bytes;
    }
    Ok(all)
}

impl WasmProgram {
    pub(super) async fn serve_sampled(
        self: Arc<Self>,
        invocation: Invocation,
        request: Request<Body>,
        is_warm: bool,
        hook: SampleHook,
    ) -> Result<Reply, InvokeError> {
        let started = Instant::now();
        let serve_path = ServePath::Generic(GenericReason::Sampled);
        match self.template.sampled_vm(&self.linked, is_warm, invocation.deadline).await {
            Ok((vm, noted)) => {
                let sample = noted.map(|noted| Sample { noted, tracker: self.tracker.clone(), hook });
                let (deploy, cpu) = (started.elapsed(), CpuTime::always());
                let deployed = Deployed { vm, serve_path, deploy, cpu, sample };
                self.enter(deployed, invocation, request).await
            }
            Err(error) => Err(refuse(invocation.end, Failure::of_instantiation(&error), started.elapsed())),
        }
    }
}

impl Template {
    /// A VM in which requests of the function find what they usually find, as far as that goes.
    async fn sampled_vm(
        &self,
        linked: &Linked,
        is_warm: bool,
        deadline: Instant,
    ) -> wasmtime::Result<(Box<Vm>, Option<Noted>)> {
        if let Some(warm_up) = WarmUp::of(&self.spec).filter(|_| is_warm) {
            // Nothing leaves the node, and what is drawn is of no use to anybody.
            let (vm, noted) = self.witnessed(&Draws::default()).noting_vm(linked, deadline).await?;
            match warm_up.ask_all(Box::new(vm), self).await {
                Ok((mut vm, _)) => {
                    renew_sampled(linked, &mut vm).await?;
                    return Ok((vm, noted));
                }
                Err(why) => {
                    tracing::debug!(function = %self.spec.name, reason = %why, "sampled in a VM that is not warm")
                }
            }
        }
        let (vm, noted) = self.noting_vm(linked, deadline).await?;
        Ok((Box::new(vm), noted))
    }

    /// A new VM, and the functions that give what it notes; `None` if the component is not instrumented.
    async fn noting_vm(&self, linked: &Linked, deadline: Instant) -> wasmtime::Result<(Vm, Option<Noted>)> {
        let mut store = self.store(deadline);
        let (component, instance) = match linked {
            Linked::Proxy { pre, indices, .. } => {
                let component = pre.instantiate_async(&mut store).await?;
                (component, Instance::Proxy(indices.load(&mut store, &component)?))
            }
            Linked::Service(pre) => {
                let component = pre.instance_pre().instantiate_async(&mut store).await?;
                (component, Instance::Service(Service::new(&mut store, &component)?))
            }
        };
        store.data_mut().limiter.made();
        // It serves one request and is never put back, so nobody asks what it called while it was made.
        let mut vm = Vm {
            point: None,
            store,
            instance,
            requests: 0,
            entered: Some(component),
            host_called_at_start: false,
            room_bytes: 0,
            warm: None,
        };
        let noted = noted(&mut vm, &component)?;
        Ok((vm, noted))
    }
}

/// Draws anew as each VM does that has been put back to the warm state: that is code that runs, too.
async fn renew_sampled(linked: &Linked, vm: &mut Vm) -> wasmtime::Result<()> {
    let (Some(instance), Linked::Proxy { pre, .. }) = (vm.entered, linked) else { return Ok(()) };
    renew(renew_export(pre.component()).as_ref(), &mut vm.store, &instance).await
}

fn noted(vm: &mut Vm, component: &ComponentInstance) -> wasmtime::Result<Option<Noted>> {
    let Some(interface) = component.get_export_index(&mut vm.store, None, COVERAGE_INTERFACE) else {
        return Ok(None);
    };
    let Some(read) = list_function(vm, component, &interface, READ)? else { return Ok(None) };
    let mut memories = Vec::new();
    for number in 0..MEMORIES_MAX {
        let Some(memory) = list_function(vm, component, &interface, &format!("{MEMORY}{number}"))? else { break };
        memories.push(memory);
    }
    Ok(Some(Noted { read, memories }))
}

fn list_function(
    vm: &mut Vm,
    component: &ComponentInstance,
    interface: &ComponentExportIndex,
    name: &str,
) -> wasmtime::Result<Option<GiveList>> {
    let Some(index) = component.get_export_index(&mut vm.store, Some(interface), name) else { return Ok(None) };
    component.get_typed_func(&mut vm.store, index).map(Some)
}
