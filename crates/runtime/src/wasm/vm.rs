//! One VM: a store with its limits and its view of the node, and the instance in it.
//!
//! A VM belongs to one revision of one function. What differs from request to request (who calls,
//! until when, under which id) is set by [`Vm::begin`].

use std::sync::Arc;
use std::time::Instant;

use forerun_driver::{Caller, GuestStream, Host};
use forerun_types::{FunctionSpec, InvocationId, SessionKey, SpanId, TraceContext, TraceId};
use parking_lot::Mutex;
use wasmtime::{Engine, Store, UpdateDeadline};
use wasmtime_wasi::{ResourceTable, WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_config::WasiConfigVariables;
use wasmtime_wasi_http::p2::bindings::{Proxy, ProxyPre};
use wasmtime_wasi_http::p3::bindings::{Service, ServicePre};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use super::failure::TimedOut;
use super::key_values::{KeyValueHost, KeyValueView};
use super::limiter::MemoryLimiter;
use super::outbound::HttpHooks;
use super::output::{CurrentInvocation, GuestOutput};

/// Entries of a VM's resource table: handles a guest holds to requests, bodies, streams, ... A bound against leaks.
const RESOURCES_MAX: usize = 100_000;
/// Handles of one component instance, as the guest sees them.
const COMPONENT_HANDLES_MAX: usize = 100_000;

/// What can be instantiated: a linked component of either world.
pub(super) enum Linked {
    Proxy(ProxyPre<VmState>),
    Service(ServicePre<VmState>),
}

/// An instance of either world.
pub(super) enum Instance {
    Proxy(Proxy),
    Service(Service),
}

/// What all VMs of one revision have in common.
pub(super) struct Template {
    pub(super) engine: Engine,
    pub(super) spec: FunctionSpec,
    pub(super) host: Host,
    pub(super) environment: Vec<(String, String)>,
    pub(super) config: Arc<WasiConfigVariables>,
    pub(super) key_value_stores: Arc<[String]>,
}

/// A VM that can be entered.
pub(super) struct Vm {
    pub(super) store: Store<VmState>,
    pub(super) instance: Instance,
    /// Requests it has begun to serve.
    pub(super) requests: u32,
}

/// The host's side of a VM.
pub(super) struct VmState {
    wasi: WasiCtx,
    http: WasiHttpCtx,
    hooks: HttpHooks,
    config: Arc<WasiConfigVariables>,
    key_values: KeyValueHost,
    table: ResourceTable,
    invocation: CurrentInvocation,
    deadline: Instant,
    pub(super) limiter: MemoryLimiter,
}

impl Template {
    pub(super) fn new(engine: Engine, spec: &FunctionSpec, host: Host) -> Self {
        let pairs = |map: &std::collections::BTreeMap<String, String>| -> Vec<(String, String)> {
            map.iter().map(|(name, value)| (name.clone(), value.clone())).collect()
        };
        Self {
            engine,
            environment: pairs(&spec.environment),
            config: Arc::new(pairs(&spec.config).into_iter().collect()),
            key_value_stores: spec.key_value_stores.as_slice().into(),
            spec: spec.clone(),
            host,
        }
    }

    /// A new VM for a request that must be done by `deadline`.
    pub(super) async fn vm(&self, linked: &Linked, deadline: Instant) -> wasmtime::Result<Vm> {
        let mut store = self.store(deadline);
        let instance = match linked {
            Linked::Proxy(pre) => Instance::Proxy(pre.instantiate_async(&mut store).await?),
            Linked::Service(pre) => Instance::Service(pre.instantiate_async(&mut store).await?),
        };
        Ok(Vm { store, instance, requests: 0 })
    }

    fn store(&self, deadline: Instant) -> Store<VmState> {
        let mut store = Store::new(&self.engine, self.state(deadline));
        store.limiter(|state| &mut state.limiter);
        store.set_max_component_handles(COMPONENT_HANDLES_MAX);
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(|context| {
            if Instant::now() >= context.data().deadline {
                return Err(TimedOut.into());
            }
            Ok(UpdateDeadline::Yield(1))
        });
        store
    }

    fn state(&self, deadline: Instant) -> VmState {
        let nobody = InvocationId::from_random(0);
        let invocation: CurrentInvocation = Arc::new(Mutex::new(nobody));
        let output = |stream| {
            GuestOutput::new(Arc::clone(&self.host.log), self.spec.name.clone(), Arc::clone(&invocation), stream)
        };
        let mut wasi = WasiCtx::builder();
        wasi.stdout(output(GuestStream::Stdout)).stderr(output(GuestStream::Stderr)).envs(&self.environment);
        let mut table = ResourceTable::new();
        table.set_max_capacity(RESOURCES_MAX);
        VmState {
            wasi: wasi.build(),
            http: WasiHttpCtx::new(),
            hooks: HttpHooks {
                caller: Caller {
                    function: self.spec.name.clone(),
                    invocation: nobody,
                    trace: TraceContext {
                        trace_id: TraceId::from_random(0),
                        span_id: SpanId::from_random(0),
                        sampled: false,
                    },
                    depth: 0,
                    session: None,
                },
                outbound: Arc::clone(&self.host.outbound),
            },
            config: Arc::clone(&self.config),
            key_values: KeyValueHost {
                stores: Arc::clone(&self.host.key_values),
                allowed: Arc::clone(&self.key_value_stores),
            },
            table,
            invocation,
            deadline,
            limiter: MemoryLimiter::new(self.spec.limits.memory_bytes),
        }
    }
}

impl Vm {
    /// Makes the VM's view of the node that of one invocation.
    pub(super) fn begin(
        &mut self,
        id: InvocationId,
        trace: TraceContext,
        (depth, session): (u32, Option<SessionKey>),
        deadline: Instant,
    ) {
        self.requests += 1;
        let state = self.store.data_mut();
        *state.invocation.lock() = id;
        state.deadline = deadline;
        let caller = &mut state.hooks.caller;
        caller.invocation = id;
        caller.trace = trace;
        caller.depth = depth;
        caller.session = session;
        self.store.set_epoch_deadline(1);
    }
}

impl VmState {
    pub(super) fn config(&mut self) -> wasmtime_wasi_config::WasiConfig<'_> {
        wasmtime_wasi_config::WasiConfig::new(&self.config)
    }

    pub(super) fn key_values(&mut self) -> KeyValueView<'_> {
        KeyValueView { host: &mut self.key_values, table: &mut self.table }
    }
}

impl WasiView for VmState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl WasiHttpView for VmState {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { hooks: &mut self.hooks, table: &mut self.table, ctx: &mut self.http }
    }
}
