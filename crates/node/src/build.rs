//! Everything a node is made of, made in the order in which a request meets it. All wiring is here.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use forerun_driver::{Driver, Host};
use forerun_gateway::{BindError, BoundAddress, Gateway, OutboundSetupError};
use forerun_runtime::{WasmDriver, WasmDriverError};
use forerun_store::{AdminToken, AdminTokenError, History, OpenError, StorageError, Store};
use forerun_telemetry::otlp::{Otlp, OtlpError};
use forerun_telemetry::{
    Detached, EVENT_PIPE_CAPACITY, EventReceiver, EventSender, EventSink, EventWriter, GuestLogs, Live, Metrics,
    RecentInvocations, event_pipe,
};
use forerun_types::{FunctionName, LearningMode};
use tokio::net::TcpListener;

use crate::ahead::Ahead;
use crate::background::{behind_requests, in_background};
use crate::figures::{self, as_figure};
use crate::functions::{CodeSources, Functions, Restoring, Stored, find_images};
use crate::learning::{CostSink, Costs, Learning, LearningParts, Recall};
use crate::paths::{Learnt, Paths, PathsRan, TwinParts};
use crate::settings::NodeSettings;
use crate::splitting::{Splitting, SplittingParts};
use crate::workshop::Workshop;

/// Folder of the guests' logs in the data directory.
const LOGS_FOLDER: &str = "logs";
/// Samples of code paths that may wait to be learnt from: a second of them at the pace they are taken in, at some
/// kilobytes each.
const PATHS_PIPE_CAPACITY: usize = 256;
/// Events that may wait for the disk; as many as the pipe before it holds.
const JOURNAL_QUEUE_EVENTS: usize = EVENT_PIPE_CAPACITY;

/// A node, bound to its addresses and ready to run.
pub struct Node {
    pub(crate) settings: NodeSettings,
    pub(crate) started: Instant,
    pub(crate) gateway: Gateway,
    pub(crate) gateway_addresses: Vec<BoundAddress>,
    pub(crate) admin: TcpListener,
    pub(crate) admin_address: SocketAddr,
    pub(crate) token: AdminToken,
    pub(crate) functions: Arc<Functions>,
    pub(crate) restoring: Vec<Restoring>,
    pub(crate) logs: Arc<GuestLogs>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) recent: Arc<RecentInvocations>,
    /// Absent where its file cannot be used.
    pub(crate) history: Option<Arc<History>>,
    pub(crate) events: EventWriter,
    pub(crate) learning: Arc<Learning>,
    /// Absent where no requests are sampled.
    pub(crate) splitting: Option<Arc<Splitting>>,
}

/// Why there is no node.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The data directory.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// What is in it.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The admin token.
    #[error(transparent)]
    Token(#[from] AdminTokenError),
    /// The guests' logs.
    #[error("the folder of the function logs cannot be used: {0}")]
    Logs(std::io::Error),
    /// The export of traces and metrics.
    #[error(transparent)]
    Otlp(#[from] OtlpError),
    /// A thread.
    #[error("no thread for a part of the node: {0}")]
    Thread(std::io::Error),
    /// One that panicked.
    #[error("finding the code of what is deployed panicked: please report this")]
    Code,
    /// The wasm engine.
    #[error(transparent)]
    Driver(#[from] WasmDriverError),
    /// Calls to other hosts.
    #[error(transparent)]
    Outbound(#[from] OutboundSetupError),
    /// An address of the gateway.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The address of the admin API.
    #[error("the admin API cannot listen on {address}: {reason}")]
    BindAdmin {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        reason: std::io::Error,
    },
}

impl Node {
    /// Wires a node and binds its addresses. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// The first part that cannot be had; nothing is left running then.
    pub async fn build(settings: NodeSettings) -> Result<Self, NodeError> {
        let started = Instant::now();
        let store = Arc::new(Store::open(&settings.data, settings.store.clone())?);
        let Begun { code, recall, learnt } = Begun::begin(&store, &settings, started).map_err(NodeError::Thread)?;
        let token = match &settings.admin_token {
            Some(given) => AdminToken::given(given)?,
            None => store.admin_token()?,
        };
        let key_values = Arc::new(store.key_values(settings.key_values.clone())?);

        let (sender, receiver) = event_pipe(EVENT_PIPE_CAPACITY);
        let (announce, arrivals) = event_pipe(EVENT_PIPE_CAPACITY);
        let gateway = Gateway::new(settings.gateway.clone(), sender.clone(), Some(announce))?;
        let logs = GuestLogs::open(&store.directory().join(LOGS_FOLDER), &settings.guest_logs, behind_requests);
        let logs = Arc::new(logs.map_err(NodeError::Logs)?);
        let metrics = Metrics::new(settings.version);
        let recent = RecentInvocations::new(settings.recent_invocations);
        let mut sinks: Vec<Box<dyn EventSink>> = vec![Box::new(Arc::clone(&metrics)), Box::new(Arc::clone(&recent))];
        sinks.extend(otlp(&settings, &metrics)?);
        let (history_sink, history) = history(&store, &settings, &metrics)?.unzip();
        sinks.extend(history_sink);
        let (costs, standings) = (Costs::default(), Arc::default());
        sinks.push(Box::new(CostSink::new(Arc::clone(&costs), Arc::clone(&standings))));
        let events = start_events((sender, receiver), sinks, &metrics)?;

        let Code { driver, workshop, stored } = tokio::task::block_in_place(|| code.get()).ok_or(NodeError::Code)??;
        let host = Host { outbound: gateway.outbound(), log: Arc::clone(&logs) as _, key_values };
        let any_driver: Arc<dyn Driver> = Arc::clone(&driver) as _;
        let (tell, ran) = event_pipe(PATHS_PIPE_CAPACITY);
        let paths = follow_paths(&settings, workshop.as_ref(), &any_driver, (&store, &host), (learnt, tell))?;
        let functions = Arc::new(Functions::new(
            Arc::clone(&store),
            any_driver,
            host.clone(),
            gateway.clone(),
            Arc::clone(&logs),
            Arc::clone(&metrics),
            CodeSources { workshop: workshop.clone(), paths: paths.clone() },
        ));
        let restoring = tokio::task::block_in_place(|| functions.restore(stored, started + settings.restore_patience));
        figures::watch(&metrics, &functions, &gateway, &logs, workshop.as_ref());
        let (functions_too, gateway_too) = (Arc::clone(&functions), gateway.clone());
        let parts = LearningParts { arrivals, ran, costs, standings, functions: functions_too, gateway: gateway_too };
        let learning = Learning::start(recall, &settings.learning, parts);
        let learning = Arc::new(learning.map_err(NodeError::Thread)?);
        figures::watch_learning(&metrics, &learning);
        if let Some(paths) = &paths {
            // Learning knows the functions, which know the paths.
            let learning = Arc::downgrade(&learning);
            let mode_of = move |function: &FunctionName| Some(learning.upgrade()?.mode_of(function));
            paths.permit(move |function| mode_of(function) >= Some(LearningMode::Observe));
        }
        let splitting = match (workshop, paths) {
            (Some(workshop), Some(paths)) => {
                let (functions, learning) = (Arc::clone(&functions), Arc::clone(&learning));
                let parts = SplittingParts { workshop, driver, store, host, paths, functions, learning };
                Some(Splitting::start(parts).map_err(NodeError::Thread)?)
            }
            // Nothing is known of what requests run, or nothing can be made of it.
            _ => None,
        };
        splitting.iter().for_each(|splitting| figures::watch_splitting(&metrics, splitting));

        // Last: whoever can connect is answered.
        let gateway_addresses = gateway.bind()?;
        let (admin, admin_address) = bind_admin(settings.admin_listen).await?;

        Ok(Self {
            settings,
            started,
            gateway,
            gateway_addresses,
            admin,
            admin_address,
            token,
            functions,
            restoring,
            logs,
            metrics,
            recent,
            history,
            events,
            learning,
            splitting,
        })
    }

    /// What is deployed, for those who change it from within the process.
    pub fn functions(&self) -> Arc<Functions> {
        Arc::clone(&self.functions)
    }

    /// Where the gateway listens.
    pub fn gateway_addresses(&self) -> &[BoundAddress] {
        &self.gateway_addresses
    }

    /// Where the admin API listens.
    pub fn admin_address(&self) -> SocketAddr {
        self.admin_address
    }

    /// The bearer token of the admin API.
    pub fn token(&self) -> &AdminToken {
        &self.token
    }
}

/// What a start has done by threads of their own while it goes on.
struct Begun {
    code: Ahead<Result<Code, NodeError>>,
    recall: Recall,
    /// Absent where no requests are sampled.
    learnt: Option<Learnt>,
}

/// What machine code needs, and the images of what is in the store.
struct Code {
    driver: Arc<WasmDriver>,
    workshop: Option<Arc<Workshop>>,
    stored: Vec<Stored>,
}

impl Begun {
    fn begin(store: &Arc<Store>, settings: &NodeSettings, started: Instant) -> std::io::Result<Self> {
        let (of_store, of_settings) = (Arc::clone(store), settings.clone());
        // What is found must still be loaded, for which a start has the other half.
        let code = move || Code::find(&of_store, &of_settings, started + of_settings.restore_patience / 2);
        let is_sampled = settings.sample_share_max > 0.0;
        Ok(Self {
            code: Ahead::begin("forerun-code", code)?,
            recall: Recall::begin(store.directory())?,
            learnt: is_sampled.then(|| Learnt::read(store.directory())).transpose()?,
        })
    }
}

impl Code {
    fn find(store: &Store, settings: &NodeSettings, deadline: Instant) -> Result<Self, NodeError> {
        let driver = WasmDriver::new(&settings.wasm)?;
        let workshop = workshop(store, &driver, settings);
        let stored = find_images(store, workshop.as_deref(), deadline)?;
        Ok(Self { driver: Arc::new(driver), workshop, stored })
    }
}

/// The image cache and the worker processes. A node serves without them, and says so.
fn workshop(store: &Store, driver: &WasmDriver, settings: &NodeSettings) -> Option<Arc<Workshop>> {
    match Workshop::open(store.directory(), driver.fingerprint(), settings.images.clone()) {
        Ok(workshop) => Some(Arc::new(workshop)),
        Err(reason) => {
            tracing::error!(reason, "no image cache: every start compiles");
            None
        }
    }
}

/// Who follows which code runs, if requests are sampled at all.
fn follow_paths(
    settings: &NodeSettings,
    workshop: Option<&Arc<Workshop>>,
    driver: &Arc<dyn Driver>,
    (store, host): (&Arc<Store>, &Host),
    (learnt, ran): (Option<Learnt>, EventSender<PathsRan>),
) -> Result<Option<Arc<Paths>>, NodeError> {
    let (Some(workshop), Some(learnt)) = (workshop, learnt) else {
        return Ok(None);
    };
    let parts = TwinParts {
        workshop: Arc::clone(workshop),
        driver: Arc::clone(driver),
        store: Arc::clone(store),
        host: host.clone(),
    };
    Paths::start(parts, learnt, ran, settings.sample_share_max, settings.split_code_bytes_min)
        .map(Some)
        .map_err(NodeError::Thread)
}

async fn bind_admin(address: SocketAddr) -> Result<(TcpListener, SocketAddr), NodeError> {
    let refused = |reason| NodeError::BindAdmin { address, reason };
    let listener = TcpListener::bind(address).await.map_err(refused)?;
    let bound = listener.local_addr().map_err(refused)?;
    Ok((listener, bound))
}

/// Starts the thread that takes events from the request path and gives them to `sinks`.
fn start_events(
    (sender, receiver): (EventSender, EventReceiver),
    sinks: Vec<Box<dyn EventSink>>,
    metrics: &Metrics,
) -> Result<EventWriter, NodeError> {
    metrics.provide_one(Live::EventsDropped, "pipe", move || as_figure(sender.dropped_total()));
    EventWriter::start(receiver, sinks, in_background).map_err(NodeError::Thread)
}

/// The export to a collector, if one is set.
fn otlp(settings: &NodeSettings, metrics: &Metrics) -> Result<Option<Box<dyn EventSink>>, NodeError> {
    match Otlp::start(&settings.otlp)? {
        Otlp::Off => Ok(None),
        Otlp::On { sink, counts } => {
            let lost = counts.clone();
            metrics.provide_one(Live::EventsDropped, "otlp", move || as_figure(lost.dropped_total()));
            let failures = counts.clone();
            metrics.provide_one(Live::ExportFailures, "traces", move || as_figure(failures.trace_failures_total()));
            metrics.provide_one(Live::ExportFailures, "metrics", move || as_figure(counts.metric_failures_total()));
            Ok(Some(Box::new(sink)))
        }
    }
}

/// Where the history is written and read.
type KeptHistory = (Box<dyn EventSink>, Arc<History>);

/// The history on disk. A node serves without one if its file cannot be used, and says so.
fn history(store: &Store, settings: &NodeSettings, metrics: &Metrics) -> Result<Option<KeptHistory>, NodeError> {
    let (journal, writer, reader) = match store.history(settings.history.clone()) {
        Ok(opened) => opened,
        Err(error) => {
            tracing::error!(%error, "no history is kept");
            return Ok(None);
        }
    };
    // Into the journal at once, so that a killed node loses little; from there into the database when there is time.
    let journal = journal.settled_by(writer, in_background).map_err(NodeError::Thread)?;
    let sink = Detached::start("forerun-journal", JOURNAL_QUEUE_EVENTS, Box::new(journal), behind_requests)
        .map_err(NodeError::Thread)?;
    let (counts, reader) = (sink.counts(), Arc::new(reader));
    let lost = Arc::clone(&reader);
    let dropped = move || as_figure(counts.dropped_total() + lost.lost_events_total());
    metrics.provide_one(Live::EventsDropped, "history", dropped);
    let sized = Arc::clone(&reader);
    metrics.provide_one(Live::HistoryBytes, "", move || as_figure(sized.size_bytes().unwrap_or_default()));
    Ok(Some((Box::new(sink), reader)))
}
