//! One VM: a store with its limits and its view of the node, and the instance in it.
//!
//! A VM belongs to one revision of one function. What differs from request to request (who calls,
//! until when, under which id) is set by [`Vm::begin`].

use std::sync::Arc;
use std::time::Instant;

use forerun_driver::{Caller, Chain, GuestStream, Host};
use forerun_types::{Draw, FunctionName, FunctionSpec, InvocationId, SpanId, TraceContext, TraceId, VmDiscard};
use parking_lot::Mutex;
use wasmtime::component::{Instance as ComponentInstance, InstancePre};
use wasmtime::{Engine, Store, UpdateDeadline};
use wasmtime_wasi::cli::{WasiCliCtxView, WasiCliView};
use wasmtime_wasi::{ResourceTable, WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_config::WasiConfigVariables;
use wasmtime_wasi_http::p2::bindings::{Proxy, ProxyIndices};
use wasmtime_wasi_http::p3::bindings::{Service, ServicePre};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use super::calls_made::CallsMade;
use super::effects::Effects;
use super::failure::TimedOut;
use super::interrupt::FlagExports;
use super::key_values::{KeyValueHost, KeyValueView};
use super::lazy::{self, ColdGroups, VmGroups};
use super::limiter::MemoryLimiter;
use super::log_streams::{LogStreams, LogView, StreamPlace, is_there};
use super::outbound::HttpHooks;
use super::output::{CurrentInvocation, GuestOutput, NoInput};
use super::rollback::{Kept, Point, RoomFailed, StateExports, Warm, kinds};
use super::turns::Turn;
use super::witness::{Draws, EnvironmentView, RandomView};
use crate::sys::{FlaggedStore, Raised};

/// Entries of a VM's resource table: handles a guest holds to requests, bodies, streams, ... A bound against leaks.
const RESOURCES_MAX: usize = 100_000;
/// Handles of one component instance, as the guest sees them.
const COMPONENT_HANDLES_MAX: usize = 100_000;

/// What can be instantiated: a linked component of either world.
pub(super) enum Linked {
    Proxy {
        pre: InstancePre<VmState>,
        indices: ProxyIndices,
        /// How its VMs are put back, if they are.
        state: Option<Box<StateExports>>,
    },
    Service(ServicePre<VmState>),
}

/// An instance of either world.
pub(super) enum Instance {
    Proxy(Proxy),
    Service(Service),
}

/// What all VMs of one revision have in common.
#[derive(Clone)]
pub(super) struct Template {
    pub(super) engine: Engine,
    pub(super) spec: FunctionSpec,
    pub(super) host: Host,
    pub(super) environment: Vec<(String, String)>,
    pub(super) config: Arc<WasiConfigVariables>,
    pub(super) key_value_stores: Arc<[String]>,
    app: Arc<str>,
    /// The code that a split component has not got with it.
    pub(super) cold: Option<Arc<ColdGroups>>,
    /// Where its VMs look whether they should stop, if its engine has no epochs.
    flags: Option<Arc<FlagExports>>,
    /// Notes what its VMs draw from their host, if that is of interest.
    witness: Option<Draws>,
}

/// The memories of a VM, and the host's side of it.
pub(super) type VmStore = FlaggedStore<VmState>;

/// A VM that can be entered.
pub(super) struct Vm {
    /// Where it can be put back to, once that has been done. Before the store: what watches memory ends before the memory.
    pub(super) point: Option<Point>,
    pub(super) store: VmStore,
    pub(super) instance: Instance,
    /// Requests it has begun to serve.
    pub(super) requests: u32,
    /// The component's instance, for calls beside the handler's.
    pub(super) entered: Option<ComponentInstance>,
    /// Whether the guest called the host while the VM was made.
    pub(super) host_called_at_start: bool,
    /// Room that was made in its memory, in bytes.
    pub(super) room_bytes: u32,
    /// The state it is put back to, if that is not the one in which it was made.
    pub(super) warm: Option<Arc<Warm>>,
}

/// The host's side of a VM.
pub(super) struct VmState {
    wasi: WasiCtx,
    http: WasiHttpCtx,
    hooks: HttpHooks,
    config: Arc<WasiConfigVariables>,
    has_config: bool,
    key_values: KeyValueHost,
    table: ResourceTable,
    log_streams: LogStreams,
    invocation: CurrentInvocation,
    /// What the request did that must not be done twice.
    pub(super) effects: Effects,
    deadline: Instant,
    /// Whether anything was asked of the host since the state was made.
    host_called: bool,
    pub(super) limiter: MemoryLimiter,
    pub(super) groups: VmGroups,
    /// Lowers the flags at which the guest looks.
    pub(super) raised: Raised,
    turn: Turn,
    /// Notes what is drawn, if that is of interest.
    pub(super) draws: Option<Draws>,
}

impl Linked {
    /// What the specializer has given the component, if its VMs are to be put back.
    pub(super) fn state_exports(&self) -> Option<&StateExports> {
        match self {
            Self::Proxy { state, .. } => state.as_deref(),
            Self::Service(_) => None,
        }
    }
}

impl Template {
    pub(super) fn new(engine: Engine, spec: &FunctionSpec, host: Host, cold: Option<Arc<ColdGroups>>) -> Self {
        let pairs = |map: &std::collections::BTreeMap<String, String>| -> Vec<(String, String)> {
            map.iter().map(|(name, value)| (name.clone(), value.clone())).collect()
        };
        Self {
            engine,
            environment: pairs(&spec.environment),
            config: Arc::new(pairs(&spec.config).into_iter().collect()),
            key_value_stores: spec.key_value_stores.as_slice().into(),
            app: spec.app.as_str().into(),
            spec: spec.clone(),
            host,
            cold,
            flags: None,
            witness: None,
        }
    }

    /// The same for an engine without epochs.
    pub(super) fn with_flags(self, flags: Option<FlagExports>) -> Self {
        Self { flags: flags.map(Arc::new), ..self }
    }

    /// The same for VMs of which `draws` notes what they draw from their host, which is a quiet one.
    pub(super) fn witnessed(&self, draws: &Draws) -> Self {
        Self { host: draws.quiet_host(), witness: Some(draws.clone()), ..self.clone() }
    }

    /// A new VM for a request that must be done by `deadline`.
    pub(super) async fn vm(&self, linked: &Linked, deadline: Instant) -> wasmtime::Result<Vm> {
        match self.make(linked, deadline).await {
            // From now on there is none.
            Err(error) if error.is::<RoomFailed>() => self.make(linked, deadline).await,
            made => made,
        }
    }

    async fn make(&self, linked: &Linked, deadline: Instant) -> wasmtime::Result<Vm> {
        let mut store = self.store(deadline);
        let (instance, entered) = match linked {
            Linked::Proxy { pre, indices, .. } => {
                let entered = pre.instantiate_async(&mut store).await?;
                (Instance::Proxy(indices.load(&mut store, &entered)?), Some(entered))
            }
            Linked::Service(pre) => (Instance::Service(pre.instantiate_async(&mut store).await?), None),
        };
        if let (Some(flags), Some(entered)) = (&self.flags, &entered) {
            flags.watch(&mut store, entered).await?;
        }
        let mut room_bytes = 0;
        if let (Some(state), Some(entered)) = (linked.state_exports(), &entered) {
            room_bytes = state.make_room(&mut store, entered).await?;
            state.save(&mut store, entered).await?;
        }
        let state = store.data_mut();
        state.limiter.made();
        let host_called_at_start = state.host_called;
        let vm =
            Vm { point: None, store, instance, requests: 0, entered, host_called_at_start, room_bytes, warm: None };
        if vm.is_spent() {
            return Err(SpentWhenMade.into());
        }
        Ok(vm)
    }

    pub(super) fn store(&self, deadline: Instant) -> VmStore {
        let mut store = Store::new(&self.engine, self.state(deadline));
        store.set_max_component_handles(COMPONENT_HANDLES_MAX);
        if self.flags.is_some() || self.cold.is_some() {
            // It is asked about growth, where a guest has seen its flag, and for cold code.
            store.limiter_async(|state| state);
        } else {
            store.limiter(|state| &mut state.limiter);
        }
        store.epoch_deadline_callback(|mut context| {
            let is_over = context.data_mut().tick()?;
            Ok(if is_over { UpdateDeadline::Yield(1) } else { UpdateDeadline::Continue(1) })
        });
        let mut store = FlaggedStore::new(store);
        if self.cold.is_some() {
            lazy::load_when_asked(&mut store);
        }
        store.data_mut().raised = store.raised();
        store.begin_turn();
        store
    }

    fn state(&self, deadline: Instant) -> VmState {
        let nobody = InvocationId::from_random(0);
        let invocation: CurrentInvocation = Arc::new(Mutex::new(nobody));
        let effects = Effects::default();
        let output = |stream| GuestOutput {
            log: Arc::clone(&self.host.log),
            function: self.spec.name.clone(),
            invocation: Arc::clone(&invocation),
            stream,
            effects: effects.clone(),
        };
        let mut wasi = WasiCtx::builder();
        wasi.stdin(NoInput);
        wasi.stdout(output(GuestStream::Stdout)).stderr(output(GuestStream::Stderr)).envs(&self.environment);
        if let Some(draws) = &self.witness {
            draws.watch(&mut wasi);
        }
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
                    chain: Chain::begins(nobody, None),
                },
                outbound: Arc::clone(&self.host.outbound),
                effects: effects.clone(),
                calls: CallsMade::default(),
            },
            config: Arc::clone(&self.config),
            has_config: !self.spec.config.is_empty(),
            key_values: KeyValueHost {
                stores: Arc::clone(&self.host.key_values),
                app: Arc::clone(&self.app),
                allowed: Arc::clone(&self.key_value_stores),
                effects: effects.clone(),
            },
            table,
            log_streams: LogStreams::default(),
            invocation,
            effects,
            deadline,
            host_called: false,
            limiter: MemoryLimiter::new(self.spec.limits.memory_bytes),
            groups: VmGroups::new(self.cold.clone()),
            raised: Raised::default(),
            turn: Turn::default(),
            draws: self.witness.clone(),
        }
    }
}

/// A VM whose start called for cold code: its store cannot be entered any more. The splitter keeps what runs at the
/// start, unless it is called through a table.
#[derive(Debug, thiserror::Error)]
#[error("the VM called for cold code while it was made")]
struct SpentWhenMade;

impl Vm {
    /// Whether it must not be entered again: it has loaded cold code.
    pub(super) fn is_spent(&self) -> bool {
        self.store.data().groups.is_spent()
    }

    /// Lets the guest run until `deadline`.
    pub(super) fn allow_until(&mut self, deadline: Instant) {
        self.store.data_mut().deadline = deadline;
        self.store.begin_turn();
    }

    /// Makes the VM's view of the node that of one invocation.
    pub(super) fn begin(&mut self, id: InvocationId, trace: TraceContext, chain: Chain, deadline: Instant) {
        self.requests += 1;
        let state = self.store.data_mut();
        *state.invocation.lock() = id;
        state.effects.forget();
        state.hooks.calls.forget();
        state.deadline = deadline;
        let caller = &mut state.hooks.caller;
        caller.invocation = id;
        caller.trace = trace;
        caller.chain = chain;
        self.store.begin_turn();
    }
}

impl Vm {
    /// Memory that this VM holds for itself, in bytes; an upper bound for one that was never put back.
    pub(super) fn own_bytes(&self) -> u64 {
        self.point.as_ref().map_or_else(|| self.store.data().limiter.bytes_peak(), Point::own_bytes)
    }

    /// Replaces the host's side of the VM by a new one: randomness, clocks, environment, handles, log. What the VM's
    /// memories add up to stays, and that handles which the guest `kept` lead nowhere.
    pub(super) fn renew_state(&mut self, template: &Template, deadline: Instant, kept: &Kept) -> Result<(), VmDiscard> {
        let mut state = template.state(deadline);
        state.limiter.take_over(&self.store.data().limiter);
        state.table = kept.table(&mut state.wasi)?;
        state.table.set_max_capacity(RESOURCES_MAX);
        state.log_streams = kept.log_streams();
        state.raised = self.store.raised();
        *self.store.data_mut() = state;
        self.store.begin_turn();
        Ok(())
    }
}

impl VmState {
    /// Until when the request must be done.
    pub(super) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// A tick of the guest's time is over: whether it should let others run before it goes on, if it may.
    pub(super) fn tick(&mut self) -> Result<bool, TimedOut> {
        if Instant::now() < self.deadline { Ok(self.turn.is_over()) } else { Err(TimedOut) }
    }

    /// Whether anything was asked of the host since the state was made.
    pub(super) fn has_called_host(&self) -> bool {
        self.host_called
    }

    /// The calls of the request that it serves.
    pub(super) fn calls(&self) -> CallsMade {
        self.hooks.calls.clone()
    }

    /// Whose VM it is.
    pub(super) fn function(&self) -> &FunctionName {
        &self.hooks.caller.function
    }

    /// What the guest's handles lead to that it has kept, if that can be let go; `streams` are those to the log that the VM
    /// begins each request with. The guest can have no more handles.
    pub(super) fn kept(&mut self, streams: &[StreamPlace]) -> Result<Kept, VmDiscard> {
        if !self.log_streams.are_as_at_the_start(streams, &mut self.table) {
            return Err(VmDiscard::StreamLost);
        }
        let kept = Kept::of(&mut self.table, streams);
        if kept.is_err() && tracing::enabled!(tracing::Level::DEBUG) {
            let kinds = kinds(&mut self.table);
            tracing::debug!(function = %self.function(), ?kinds, "handles kept");
        }
        kept
    }

    /// The streams to the log that the guest has open, if it holds no other handle of the host's.
    pub(super) fn streams_alone(&mut self) -> Option<Vec<StreamPlace>> {
        self.log_streams.alone_in(&mut self.table)
    }

    /// Whether a stream to the log is in its place.
    pub(super) fn has_stream(&mut self, stream: StreamPlace) -> bool {
        is_there(stream, &mut self.table)
    }

    /// Has the next stream to the log that is opened be one that is going to be in a place of another table.
    pub(super) fn answer_with_place(&mut self, place: u32) {
        self.log_streams.answer_with_place(place);
    }

    pub(super) fn log(&mut self) -> LogView<'_> {
        self.host_called = true;
        LogView { cli: WasiCliCtxView { ctx: self.wasi.cli(), table: &mut self.table }, streams: &mut self.log_streams }
    }

    pub(super) fn config(&mut self) -> wasmtime_wasi_config::WasiConfig<'_> {
        self.host_called = true;
        if let Some(draws) = self.draws.as_ref().filter(|_| self.has_config) {
            draws.note(Draw::Variables);
        }
        wasmtime_wasi_config::WasiConfig::new(&self.config)
    }

    pub(super) fn random(&mut self) -> RandomView<'_> {
        self.host_called = true;
        RandomView { random: self.wasi.random(), draws: self.draws.as_ref() }
    }

    pub(super) fn environment(&mut self) -> EnvironmentView<'_> {
        let draws = self.draws.clone();
        EnvironmentView { cli: self.cli(), draws }
    }

    pub(super) fn key_values(&mut self) -> KeyValueView<'_> {
        self.host_called = true;
        KeyValueView { host: &mut self.key_values, table: &mut self.table }
    }
}

impl WasiView for VmState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        self.host_called = true;
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl WasiHttpView for VmState {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        self.host_called = true;
        WasiHttpCtxView { hooks: &mut self.hooks, table: &mut self.table, ctx: &mut self.http }
    }
}
