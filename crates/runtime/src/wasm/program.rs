//! A revision that can be called: get a VM, enter it, answer.

use std::sync::Arc;
use std::time::{Duration, Instant};

use forerun_driver::{
    AuthenticImage, Body, BoxFuture, EndHook, HeldReady, Invocation, InvocationEnd, InvokeError, Program, ProgramFacts,
    Reply,
};
use forerun_types::{GenericReason, InvocationId, ServePath};
use http::{HeaderValue, Request, header};

use super::answer::{self, Finisher};
use super::failure::Failure;
use super::guest::{self, HeadSlot};
use super::ready::{ReadyVms, Taken};
use super::reuse::IdleVms;
use super::vm::{Linked, Template, Vm};

/// Time the start functions of a VM may take that nobody waits for.
const MAKE_TIME_MAX: Duration = Duration::from_secs(10);

/// A loaded revision.
pub(super) struct WasmProgram {
    pub(super) template: Template,
    pub(super) linked: Linked,
    pub(super) idle: IdleVms,
    pub(super) ready: ReadyVms,
    pub(super) facts: ProgramFacts,
    /// Holds the image's place in the cache for as long as its code is mapped.
    pub(super) _image: Option<AuthenticImage>,
}

impl Program for WasmProgram {
    fn invoke(
        self: Arc<Self>,
        invocation: Invocation,
        request: Request<Body>,
    ) -> BoxFuture<Result<Reply, InvokeError>> {
        Box::pin(async move { self.serve(invocation, request).await })
    }

    fn facts(&self) -> &ProgramFacts {
        &self.facts
    }

    fn hold_ready(self: Arc<Self>, vms: u32) -> BoxFuture<Result<(), InvokeError>> {
        Box::pin(async move {
            for _ in 0..self.ready.want(vms) {
                let began = Instant::now();
                let made = self.template.vm(&self.linked, began + MAKE_TIME_MAX).await;
                let vm = made.map_err(|error| {
                    let failure = Failure::of_instantiation(&error);
                    InvokeError { outcome: failure.outcome, detail: failure.detail }
                })?;
                self.ready.add(Box::new(vm), began);
            }
            Ok(())
        })
    }

    fn held_ready(&self) -> HeldReady {
        self.ready.held()
    }
}

impl WasmProgram {
    async fn serve(self: Arc<Self>, invocation: Invocation, request: Request<Body>) -> Result<Reply, InvokeError> {
        let Invocation { id, trace, depth, session, https, deadline, end } = invocation;
        let started = Instant::now();
        let (mut vm, serve_path) = match self.deploy(id, deadline).await {
            Ok(deployed) => deployed,
            Err(failure) => return Err(refuse(end, failure, started.elapsed())),
        };
        vm.begin(id, trace, (depth, session), deadline);
        let deploy = started.elapsed();
        let head_only = request.method() == http::Method::HEAD;
        let slot = HeadSlot::default();
        let guest = guest::enter(vm, with_authority(request), https, slot.clone());
        let finisher = Finisher::new(self, end, serve_path, deploy, deadline);
        let response = answer::answer(guest, slot, finisher, head_only).await?;
        Ok(Reply { response, serve_path, deploy })
    }

    /// The deploy decision, total: a VM kept from an earlier request, one made ready for this one, or a new one with
    /// the reason for it.
    async fn deploy(&self, id: InvocationId, deadline: Instant) -> Result<(Box<Vm>, ServePath), Failure> {
        if let Some(vm) = self.idle.take() {
            return Ok((vm, ServePath::Reused));
        }
        let why = match self.ready.take(id) {
            Taken::Vm(vm) => return Ok((vm, ServePath::Ready)),
            Taken::Nothing(why) => why,
        };
        match self.template.vm(&self.linked, deadline).await {
            Ok(vm) => Ok((Box::new(vm), ServePath::Generic(why))),
            Err(error) => Err(Failure::of_instantiation(&error)),
        }
    }
}

fn refuse(end: EndHook, failure: Failure, deploy: Duration) -> InvokeError {
    end.finish(InvocationEnd {
        outcome: failure.outcome,
        detail: failure.detail.clone(),
        serve_path: ServePath::Generic(GenericReason::NoImage),
        deploy,
        busy: deploy,
        memory_bytes_peak: 0,
    });
    InvokeError { outcome: failure.outcome, detail: failure.detail }
}

/// `wasi:http` wants an authority; HTTP/1.0 requests may come without.
fn with_authority(mut request: Request<Body>) -> Request<Body> {
    if request.uri().authority().is_none() && !request.headers().contains_key(header::HOST) {
        request.headers_mut().insert(header::HOST, HeaderValue::from_static("localhost"));
    }
    request
}
