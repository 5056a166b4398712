//! What is deployed, and the only place where it changes.
//!
//! ```text
//! deploy:   check ─► load (compile) ─► store (acknowledged once on disk) ─► publish
//! restart:  read store ─► publish placeholders ─► load one after the other ─► publish each
//! ```
//! Changes happen one at a time. A change that fails leaves everything as it was: what cannot be
//! loaded is never stored, and what is not stored is never served.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use forerun_driver::{Driver, Host, LoadError, LoadRequest, Program};
use forerun_gateway::{Admission, FunctionEntry, Gateway, RouteTable};
use forerun_store::{
    ComponentError, DeployError, Deployment, RemoveError, Revision, RollbackError, StorageError, Store,
};
use forerun_telemetry::{GuestLogs, Metrics};
use forerun_types::{ComponentDigest, FunctionName, FunctionSpec, RevisionNumber, SpecError};
use parking_lot::Mutex;
use tokio::sync::Mutex as AsyncMutex;

use crate::pending::{Loading, PendingProgram};

/// A function to be deployed.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Everything but the component.
    pub spec: FunctionSpec,
    /// The component.
    pub source: Source,
}

/// Where a component comes from.
#[derive(Clone, Debug)]
pub enum Source {
    /// Its bytes.
    Bytes(Arc<[u8]>),
    /// One that is in the store already.
    Stored(ComponentDigest),
}

/// What came of deploying one function.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Change {
    /// The function.
    pub name: FunctionName,
    /// The revision that serves now.
    pub revision: RevisionNumber,
    /// Whether it is a new one; false if it was the active one already.
    pub changed: bool,
    /// Its component.
    pub digest: ComponentDigest,
    /// The world it implements.
    pub world: String,
    /// Time the compiler needed, in milliseconds; 0 if nothing changed.
    pub compile_ms: u64,
}

/// Why nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum DeployFailure {
    /// A specification is out of its limits.
    #[error("function `{function}`: {violation}")]
    Spec {
        /// The function.
        function: FunctionName,
        /// What is wrong.
        violation: SpecError,
    },
    /// A component cannot be loaded.
    #[error("function `{function}`: {reason}")]
    Load {
        /// The function.
        function: FunctionName,
        /// Why.
        reason: LoadError,
    },
    /// The compiler itself failed.
    #[error("function `{function}`: the compiler panicked on this component; nothing was changed")]
    CompilerPanic {
        /// The function.
        function: FunctionName,
    },
    /// The store said no.
    #[error(transparent)]
    Store(#[from] DeployError),
    /// A component could not be kept or found.
    #[error(transparent)]
    Component(#[from] ComponentError),
    /// The disk failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// No revision to go back to.
    #[error(transparent)]
    Rollback(#[from] RollbackError),
    /// Nothing to remove.
    #[error(transparent)]
    Remove(#[from] RemoveError),
}

/// Whether a function can serve.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(tag = "state", content = "reason", rename_all = "snake_case")]
pub enum FunctionState {
    /// It is being compiled after a restart; requests wait.
    Loading,
    /// It serves.
    Ready,
    /// It cannot be loaded on this node; why.
    Failed(String),
}

/// One function, for lists.
#[derive(Clone, Debug, serde::Serialize)]
pub struct FunctionView {
    /// Everything the user asked for.
    pub spec: FunctionSpec,
    /// The active revision.
    pub revision: RevisionNumber,
    /// Its component.
    pub digest: ComponentDigest,
    /// Whether it can serve.
    #[serde(flatten)]
    pub state: FunctionState,
    /// The world it implements; empty while loading.
    pub world: String,
    /// Size of its machine code and data, in bytes.
    pub code_bytes: u64,
    /// Time the compiler needed, in milliseconds.
    pub compile_ms: u64,
    /// Invocations under way.
    pub in_flight: usize,
    /// Requests that wait.
    pub queued: usize,
}

/// The functions of a node.
pub struct Functions {
    store: Arc<Store>,
    driver: Arc<dyn Driver>,
    host: Host,
    gateway: Gateway,
    logs: Arc<GuestLogs>,
    metrics: Arc<Metrics>,
    running: Mutex<BTreeMap<FunctionName, Running>>,
    /// Held by whoever changes anything.
    changing: AsyncMutex<()>,
}

#[derive(Clone)]
struct Running {
    entry: Arc<FunctionEntry>,
    digest: ComponentDigest,
    state: FunctionState,
}

struct Loaded {
    spec: FunctionSpec,
    digest: ComponentDigest,
    /// `None` if the active revision is this one already.
    program: Option<Arc<dyn Program>>,
}

impl Functions {
    pub(crate) fn new(
        store: Arc<Store>,
        driver: Arc<dyn Driver>,
        host: Host,
        gateway: Gateway,
        logs: Arc<GuestLogs>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let running = Mutex::default();
        Self { store, driver, host, gateway, logs, metrics, running, changing: AsyncMutex::default() }
    }

    /// Deploys all of `wanted`, or nothing; with `prune_app`, functions of that application that are not among them go.
    ///
    /// # Errors
    /// See [`DeployFailure`]; nothing was changed then.
    pub async fn deploy(
        self: &Arc<Self>,
        wanted: Vec<Wanted>,
        prune_app: Option<String>,
    ) -> Result<Vec<Change>, DeployFailure> {
        let _changing = self.changing.lock().await;
        let mut loaded = Vec::with_capacity(wanted.len());
        for one in wanted {
            loaded.push(self.load_if_changed(one).await?);
        }
        let own = Arc::clone(self);
        blocking(move || own.keep(loaded, prune_app.as_deref())).await
    }

    /// Serves an earlier revision again: the one before the active one, or `to`.
    ///
    /// # Errors
    /// See [`DeployFailure`]; nothing was changed then.
    pub async fn rollback(
        self: &Arc<Self>,
        name: &FunctionName,
        to: Option<RevisionNumber>,
    ) -> Result<Change, DeployFailure> {
        let _changing = self.changing.lock().await;
        let (store, function) = (Arc::clone(&self.store), name.clone());
        // Loaded before it is stored: what cannot run is not gone back to.
        let target = blocking(move || store.rollback_target(&function, to)).await?;
        let wanted = Wanted { spec: target.spec.clone(), source: Source::Stored(target.digest) };
        let program = self.load(&wanted.spec, target.number, &wanted.source).await?.1;
        let (store, function) = (Arc::clone(&self.store), name.clone());
        let revision = blocking(move || store.rollback(&function, Some(target.number))).await?;
        let change = change_of(&revision, &*program, true);
        self.serve(revision, program, FunctionState::Ready);
        self.publish();
        Ok(change)
    }

    /// Removes a function with all its revisions and its log. Requests under way finish.
    ///
    /// # Errors
    /// There is no such function, or the disk failed.
    pub async fn remove(self: &Arc<Self>, name: &FunctionName) -> Result<(), DeployFailure> {
        let _changing = self.changing.lock().await;
        let (own, function) = (Arc::clone(self), name.clone());
        blocking(move || own.forget(&function)).await?;
        self.publish();
        Ok(())
    }

    /// Keeps a component for a later deployment if it has the digest it should; else gives the one it has.
    ///
    /// # Errors
    /// The disk failed.
    pub async fn keep_component(
        &self,
        bytes: bytes::Bytes,
        digest: ComponentDigest,
    ) -> Result<Result<usize, ComponentDigest>, DeployFailure> {
        let store = Arc::clone(&self.store);
        blocking(move || {
            let found = ComponentDigest::of(&bytes);
            if found != digest {
                return Ok(Err(found));
            }
            store.put_component(&bytes)?;
            Ok(Ok(bytes.len()))
        })
        .await
    }

    /// All functions, by name.
    pub fn list(&self) -> Vec<FunctionView> {
        self.running.lock().values().map(view).collect()
    }

    /// One function.
    pub fn get(&self, name: &FunctionName) -> Option<FunctionView> {
        self.running.lock().get(name).map(view)
    }

    /// Revisions of a function, newest first.
    ///
    /// # Errors
    /// The disk failed.
    pub async fn revisions(&self, name: &FunctionName) -> Result<Vec<Revision>, StorageError> {
        let (store, function) = (Arc::clone(&self.store), name.clone());
        blocking(move || store.revisions(&function)).await
    }

    /// Invocations under way and waiting, by function.
    pub(crate) fn pressure(&self) -> Vec<(Arc<str>, usize, usize)> {
        let running = self.running.lock();
        let one = |running: &Running| {
            let admission = &running.entry.admission;
            (running.entry.spec.name.as_str().into(), admission.in_flight(), admission.queued())
        };
        running.values().map(one).collect()
    }

    /// Routes everything that is in the store and begins to load it; returns what is to be loaded.
    pub(crate) fn restore(&self) -> Result<Vec<Restoring>, StorageError> {
        let mut restoring = Vec::new();
        for revision in self.store.active()? {
            let (sender, program) = PendingProgram::new();
            self.serve(revision.clone(), program, FunctionState::Loading);
            restoring.push(Restoring { revision, sender });
        }
        self.publish();
        Ok(restoring)
    }

    /// Loads what `restore` found, one after the other.
    pub(crate) async fn load_all(self: Arc<Self>, restoring: Vec<Restoring>) {
        for Restoring { revision, sender } in restoring {
            let _changing = self.changing.lock().await;
            if !self.is_active(&revision) {
                continue;
            }
            match self.load(&revision.spec, revision.number, &Source::Stored(revision.digest)).await {
                Ok((_, program)) => {
                    sender.send_replace(Loading::Ready(Arc::clone(&program)));
                    self.serve(revision, program, FunctionState::Ready);
                    self.publish();
                }
                Err(failure) => {
                    let reason = failure.to_string();
                    tracing::error!(function = %revision.spec.name, reason, "function cannot be loaded");
                    sender.send_replace(Loading::Failed(reason.as_str().into()));
                    self.set_state(&revision.spec.name, FunctionState::Failed(reason));
                }
            }
        }
    }

    async fn load_if_changed(&self, wanted: Wanted) -> Result<Loaded, DeployFailure> {
        let Wanted { spec, source } = wanted;
        let violated = |violation| DeployFailure::Spec { function: spec.name.clone(), violation };
        spec.check().map_err(violated)?;
        let digest = match &source {
            Source::Bytes(bytes) => {
                let bytes = Arc::clone(bytes);
                blocking(move || ComponentDigest::of(&bytes)).await
            }
            Source::Stored(digest) => *digest,
        };
        let same = self.running.lock().get(&spec.name).is_some_and(|running| {
            running.digest == digest
                && *running.entry.spec == spec
                && !matches!(running.state, FunctionState::Failed(_))
        });
        if same {
            return Ok(Loaded { spec, digest, program: None });
        }
        // The number is for display by the driver only; the store decides it when the revision is kept.
        let (digest, program) = self.load(&spec, RevisionNumber(0), &source).await?;
        Ok(Loaded { spec, digest, program: Some(program) })
    }

    /// Compiles off the runtime's threads.
    async fn load(
        &self,
        spec: &FunctionSpec,
        revision: RevisionNumber,
        source: &Source,
    ) -> Result<(ComponentDigest, Arc<dyn Program>), DeployFailure> {
        let (store, driver, host) = (Arc::clone(&self.store), Arc::clone(&self.driver), self.host.clone());
        let (spec, source) = (spec.clone(), source.clone());
        let function = spec.name.clone();
        let work = move || -> Result<_, DeployFailure> {
            let (digest, bytes) = match source {
                Source::Bytes(bytes) => (ComponentDigest::of(&bytes), bytes),
                Source::Stored(digest) => (digest, store.component(digest)?.into()),
            };
            let request = LoadRequest { spec: &spec, revision, digest, source: &bytes, host, image: None };
            let program =
                driver.load(request).map_err(|reason| DeployFailure::Load { function: spec.name.clone(), reason })?;
            store.put_component(&bytes)?;
            Ok((digest, program))
        };
        match tokio::task::spawn_blocking(work).await {
            Ok(result) => result,
            Err(_panicked) => Err(DeployFailure::CompilerPanic { function }),
        }
    }

    /// Stores what was loaded, then serves it.
    fn keep(&self, loaded: Vec<Loaded>, prune_app: Option<&str>) -> Result<Vec<Change>, DeployFailure> {
        let deployments: Vec<_> =
            loaded.iter().map(|one| Deployment { spec: one.spec.clone(), digest: one.digest }).collect();
        let gone = self.pruned(prune_app, &deployments);
        let created_unix_ms = unix_ms();
        let deployed = self.store.deploy_app(&deployments, created_unix_ms)?;
        let mut changes = Vec::with_capacity(loaded.len());
        for (one, deployed) in loaded.into_iter().zip(deployed) {
            let number = deployed.revision();
            let revision = Revision { number, digest: one.digest, spec: one.spec, created_unix_ms };
            match one.program {
                Some(program) => {
                    changes.push(change_of(&revision, &*program, true));
                    self.serve(revision, program, FunctionState::Ready);
                }
                None => changes.push(Change {
                    name: revision.spec.name,
                    revision: number,
                    changed: false,
                    digest: one.digest,
                    world: String::new(),
                    compile_ms: 0,
                }),
            }
        }
        for name in gone {
            self.forget(&name)?;
            tracing::info!(function = %name, "function removed: no longer in the manifest");
        }
        self.publish();
        Ok(changes)
    }

    fn pruned(&self, app: Option<&str>, kept: &[Deployment]) -> Vec<FunctionName> {
        let Some(app) = app else {
            return Vec::new();
        };
        let running = self.running.lock();
        let of_app = running.values().filter(|running| running.entry.spec.app == app);
        let names = of_app.map(|running| running.entry.spec.name.clone());
        names.filter(|name| !kept.iter().any(|deployment| deployment.spec.name == *name)).collect()
    }

    fn forget(&self, name: &FunctionName) -> Result<(), DeployFailure> {
        self.store.remove(name)?;
        self.running.lock().remove(name);
        self.metrics.forget(name);
        if let Err(error) = self.logs.remove(name) {
            tracing::warn!(function = %name, %error, "the log of a removed function could not be deleted");
        }
        Ok(())
    }

    /// Puts `program` in the place of what served before; `publish` makes it visible.
    fn serve(&self, revision: Revision, program: Arc<dyn Program>, state: FunctionState) {
        let mut running = self.running.lock();
        let name = revision.spec.name.clone();
        let admission = match running.get(&name) {
            Some(before) => Arc::clone(&before.entry.admission),
            None => Arc::new(Admission::new(&revision.spec.limits)),
        };
        let entry = FunctionEntry::new(Arc::new(revision.spec), revision.number, program, admission);
        running.insert(name, Running { entry: Arc::new(entry), digest: revision.digest, state });
    }

    fn set_state(&self, name: &FunctionName, state: FunctionState) {
        if let Some(running) = self.running.lock().get_mut(name) {
            running.state = state;
        }
    }

    fn is_active(&self, revision: &Revision) -> bool {
        let running = self.running.lock();
        running.get(&revision.spec.name).is_some_and(|running| running.entry.revision == revision.number)
    }

    /// Makes what is in `running` what the gateway routes to.
    fn publish(&self) {
        let entries: Vec<_> = self.running.lock().values().map(|running| Arc::clone(&running.entry)).collect();
        match RouteTable::build(entries) {
            Ok(table) => self.gateway.publish(table),
            // The store refuses two functions on one route, so this says that store and memory disagree.
            Err(conflict) => tracing::error!(%conflict, "routes not published"),
        }
    }
}

/// A function that is known and not loaded yet.
pub(crate) struct Restoring {
    revision: Revision,
    sender: tokio::sync::watch::Sender<Loading>,
}

fn change_of(revision: &Revision, program: &dyn Program, changed: bool) -> Change {
    let facts = program.facts();
    Change {
        name: revision.spec.name.clone(),
        revision: revision.number,
        changed,
        digest: revision.digest,
        world: facts.world.clone(),
        compile_ms: facts.compile_ms,
    }
}

fn view(running: &Running) -> FunctionView {
    let facts = running.entry.program.facts();
    FunctionView {
        spec: (*running.entry.spec).clone(),
        revision: running.entry.revision,
        digest: running.digest,
        state: running.state.clone(),
        world: facts.world.clone(),
        code_bytes: facts.code_bytes,
        compile_ms: facts.compile_ms,
        in_flight: running.entry.admission.in_flight(),
        queued: running.entry.admission.queued(),
    }
}

/// Runs work that waits for the disk or a compiler on a thread made for that; a panic there goes on here.
async fn blocking<R: Send + 'static>(work: impl FnOnce() -> R + Send + 'static) -> R {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

/// Milliseconds since the Unix epoch, by the system's clock.
fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
