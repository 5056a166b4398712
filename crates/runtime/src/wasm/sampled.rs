//! Requests served by an instrumented program: a fresh VM, and a look at what it noted when it is done.
//!
//! An instrumented component exports an instance with `read: func() -> list<u8>`, a byte for each of its inner
//! functions. It is read once the guest has returned and its answer is on the way, in a task of its own; the VM is then
//! freed, whatever the function's policy, because what it noted is of one request. A guest that failed is not asked: a
//! VM in which it trapped cannot be entered any more.
//!
//! What the bytes stand for is not known here.

use std::sync::Arc;
use std::time::{Duration, Instant};

use forerun_driver::{Body, Invocation, InvokeError, MarksHook, Reply};
use forerun_types::{GenericReason, ServePath};
use http::Request;
use wasmtime::component::{Instance as ComponentInstance, TypedFunc, WasmList};
use wasmtime_wasi_http::p3::bindings::Service;

use super::failure::Failure;
use super::program::{Deployed, WasmProgram, refuse};
use super::vm::{Instance, Linked, Template, Vm};

/// What an instrumented component exports, as the specializer's pass `coverage` names it.
const COVERAGE_INTERFACE: &str = "forerun:vm/coverage@0.1.0";
const READ: &str = "read";
/// More marks than a pass makes are not taken.
const MARKS_MAX: usize = 1 << 18;
/// Copying some thousand bytes together takes microseconds; a guest whose memory is slow to come has this long.
const READ_TIME_MAX: Duration = Duration::from_secs(1);

type Read = TypedFunc<(), (WasmList<u8>,)>;

/// Who wants to know what a VM noted, and the function that says it.
pub(super) struct Sample {
    read: Read,
    marks: MarksHook,
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
            let Self { read, marks } = self;
            match read_marks(&read, &mut vm).await {
                Ok(noted) => marks(noted),
                Err(error) => tracing::warn!(error = %format!("{error:#}"), "a sample could not be read"),
            }
        });
    }
}

impl WasmProgram {
    pub(super) async fn serve_sampled(
        self: Arc<Self>,
        invocation: Invocation,
        request: Request<Body>,
        marks: MarksHook,
    ) -> Result<Reply, InvokeError> {
        let started = Instant::now();
        let serve_path = ServePath::Generic(GenericReason::Sampled);
        match self.template.noting_vm(&self.linked, invocation.deadline).await {
            Ok((vm, read)) => {
                let sample = read.map(|read| Sample { read, marks });
                let deployed = Deployed { vm: Box::new(vm), serve_path, deploy: started.elapsed(), sample };
                self.enter(deployed, invocation, request).await
            }
            Err(error) => Err(refuse(invocation.end, Failure::of_instantiation(&error), started.elapsed())),
        }
    }
}

impl Template {
    /// A new VM, and the function that reads what it notes; `None` if the component is not instrumented.
    async fn noting_vm(&self, linked: &Linked, deadline: Instant) -> wasmtime::Result<(Vm, Option<Read>)> {
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
        // It serves one request and is never put back, so nobody asks what it called while it was made.
        let mut vm = Vm {
            point: None,
            store,
            instance,
            requests: 0,
            entered: None,
            host_called_at_start: false,
            room_bytes: 0,
            warm: None,
        };
        let read = read_function(&mut vm, &component)?;
        Ok((vm, read))
    }
}

async fn read_marks(read: &Read, vm: &mut Vm) -> wasmtime::Result<Vec<u8>> {
    vm.allow_until(Instant::now() + READ_TIME_MAX);
    let (list,) = read.call_async(&mut vm.store, ()).await?;
    let marks = list.as_le_slice(&vm.store);
    if marks.len() > MARKS_MAX {
        wasmtime::bail!("{} marks, at most {MARKS_MAX} are read", marks.len());
    }
    Ok(marks.to_vec())
}

fn read_function(vm: &mut Vm, component: &ComponentInstance) -> wasmtime::Result<Option<Read>> {
    let Some(interface) = component.get_export_index(&mut vm.store, None, COVERAGE_INTERFACE) else {
        return Ok(None);
    };
    let Some(index) = component.get_export_index(&mut vm.store, Some(&interface), READ) else {
        return Ok(None);
    };
    component.get_typed_func(&mut vm.store, index).map(Some)
}
