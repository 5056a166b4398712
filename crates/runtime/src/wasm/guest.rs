//! Entering a VM with one request: the future that is the guest's whole work.
//!
//! The head of the answer comes out through a [`HeadSlot`] while the future still runs; the future
//! ends when the guest has returned and, in `wasi:http` 0.3, its tasks have ended.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;

use forerun_driver::Body;
use http::{Request, Response};
use http_body_util::BodyExt;
use parking_lot::Mutex;
use wasmtime::AsContextMut;
use wasmtime_wasi_http::p2::bindings::Proxy;
use wasmtime_wasi_http::p2::bindings::http::types::Scheme;
use wasmtime_wasi_http::p3::Request as ServiceRequest;
use wasmtime_wasi_http::p3::bindings::Service;
use wasmtime_wasi_http::{WasiBody, WasiHttpView};

use super::affinity::Affinity;
use super::errors::body_error_to_guest;
use super::turns::AtWork;
use super::vm::{Instance, Vm, VmStore};

/// The head of a guest's answer, or the `wasi:http` error code it answered with.
pub(super) type Head = Result<Response<WasiBody>, String>;

/// Where the guest leaves its head. Guest and reader are polled by one task, so that nobody needs waking.
#[derive(Clone, Default)]
pub(super) struct HeadSlot(Arc<Mutex<Option<Head>>>);

impl HeadSlot {
    fn put(&self, head: Head) {
        *self.0.lock() = Some(head);
    }

    pub(super) fn take(&self) -> Option<Head> {
        self.0.lock().take()
    }
}

/// What is left when the guest has returned.
pub(super) struct GuestExit {
    pub(super) vm: Box<Vm>,
    pub(super) result: wasmtime::Result<()>,
}

/// The guest at work. Dropping it stops the guest where it stands and frees the VM.
pub(super) type GuestFuture = Pin<Box<dyn Future<Output = GuestExit> + Send>>;

/// Enters `vm` with `request`, on the processors of `affinity` if there is one.
pub(super) fn enter(
    mut vm: Box<Vm>,
    request: Request<Body>,
    https: bool,
    slot: HeadSlot,
    affinity: Option<Arc<Affinity>>,
) -> GuestFuture {
    let request = request.map(|body| body.map_err(body_error_to_guest).boxed_unsync());
    Box::pin(async move {
        let Vm { store, instance, .. } = vm.as_mut();
        let result = {
            let mut work = pin!(async {
                match instance {
                    Instance::Proxy(proxy) => enter_proxy(store, proxy, request, https, slot).await,
                    Instance::Service(service) => enter_service(store, service, request, slot).await,
                }
            });
            poll_fn(|cx| {
                let _at_work = AtWork::begin();
                let _within = affinity.as_deref().map(Affinity::enter);
                work.as_mut().poll(cx)
            })
            .await
        };
        GuestExit { vm, result }
    })
}

type RequestDone = Pin<Box<dyn Future<Output = Result<(), wasmtime_wasi_http::Error>> + Send>>;

async fn enter_proxy(
    store: &mut VmStore,
    proxy: &Proxy,
    request: Request<WasiBody>,
    https: bool,
    slot: HeadSlot,
) -> wasmtime::Result<()> {
    let scheme = if https { Scheme::Https } else { Scheme::Http };
    let mut http = store.data_mut().http();
    let request = http.new_incoming_request(scheme, request)?;
    let outparam = http.new_response_outparam_from_callback(move |head| {
        slot.put(head.map_err(|code| format!("{code:?}")));
    })?;
    proxy.wasi_http_incoming_handler().call_handle(store, request, outparam).await
}

async fn enter_service(
    store: &mut VmStore,
    service: &Service,
    request: Request<WasiBody>,
    slot: HeadSlot,
) -> wasmtime::Result<()> {
    let serve = async |accessor: &wasmtime::component::Accessor<super::vm::VmState>| {
        let (request, request_done) = accessor.with(|mut access| {
            let (request, done) = ServiceRequest::from_http(access.get().http().hooks, request);
            let done: RequestDone = Box::pin(done);
            (request, done)
        });
        match service.handle(accessor, request).await? {
            Ok(response) => {
                let response = accessor.with(|access| response.into_http(access, request_done))?;
                slot.put(Ok(response));
            }
            Err(code) => slot.put(Err(format!("{code:?}"))),
        }
        // The guest may go on producing the body, and do more after it.
        poll_fn(|cx| accessor.poll_no_interesting_tasks(cx)).await;
        wasmtime::Result::Ok(())
    };
    store.as_context_mut().run_concurrent(serve).await?
}
