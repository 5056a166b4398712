//! What is deployed, and the only place where it changes.
//!
//! ```text
//! deploy:   check ─► load (image, or compile) ─► store (acknowledged once on disk) ─► publish
//! restart:  read store ─► load what has an image ─► publish, with placeholders ─► load the rest ─► publish each
//! improve:  code made in a hurry serves first; fully optimised code replaces it when it is made
//! ```
//! Changes happen one at a time. A change that fails leaves everything as it was: what cannot be
//! loaded is never stored, and what is not stored is never served.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use forerun_driver::{Driver, Host, LoadError, LoadRequest, Program};
use forerun_gateway::{Admission, FunctionEntry, Gateway, RouteTable};
use forerun_images::ImageCache;
use forerun_runtime::Tier;
use forerun_store::{
    ComponentError, DeployError, Deployment, RemoveError, Revision, RollbackError, StorageError, Store,
};
use forerun_telemetry::{GuestLogs, Metrics};
use forerun_types::{ComponentDigest, FunctionName, FunctionSpec, RevisionNumber, SpecError};
use parking_lot::Mutex;
use tokio::sync::Mutex as AsyncMutex;

use crate::loading::{FromImage, NotLoaded, first_that_loads};
use crate::paths::Paths;
use crate::pending::{Loading, PendingProgram};
use crate::vms::VmsView;
use crate::workshop::{Form, Found, MakeFailure, Variant, Workshop};

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
    /// The worker process found that the component is none.
    #[error("function `{function}`: {detail}")]
    BadComponent {
        /// The function.
        function: FunctionName,
        /// Why.
        detail: String,
    },
    /// The compiler did not survive the component, or was stopped.
    #[error("function `{function}`: {detail}; nothing was changed")]
    HarmfulComponent {
        /// The function.
        function: FunctionName,
        /// What happened.
        detail: String,
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
    /// What becomes of its VMs when they have served.
    pub vms: VmsView,
}

/// The functions of a node.
pub struct Functions {
    store: Arc<Store>,
    driver: Arc<dyn Driver>,
    host: Host,
    gateway: Gateway,
    logs: Arc<GuestLogs>,
    metrics: Arc<Metrics>,
    /// Absent where the cache cannot be opened: then this process compiles.
    workshop: Option<Arc<Workshop>>,
    /// Follows which code runs; absent where nothing is sampled.
    paths: Option<Arc<Paths>>,
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
    made: Option<Made>,
}

/// A program, and how well it is compiled.
struct Made {
    program: Arc<dyn Program>,
    tier: Tier,
    /// Time it took to compile, in milliseconds; 0 if the code was there already.
    compile_ms: u64,
}

/// Where the code of functions comes from, and who looks at which of it runs.
pub(crate) struct CodeSources {
    pub(crate) workshop: Option<Arc<Workshop>>,
    pub(crate) paths: Option<Arc<Paths>>,
}

impl Functions {
    pub(crate) fn new(
        store: Arc<Store>,
        driver: Arc<dyn Driver>,
        host: Host,
        gateway: Gateway,
        logs: Arc<GuestLogs>,
        metrics: Arc<Metrics>,
        code: CodeSources,
    ) -> Self {
        let CodeSources { workshop, paths } = code;
        let running = Mutex::default();
        Self { store, driver, host, gateway, logs, metrics, workshop, paths, running, changing: AsyncMutex::default() }
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
        let hurried: Vec<_> = loaded.iter().filter(|one| one.is_hurried()).map(|one| one.spec.name.clone()).collect();
        let own = Arc::clone(self);
        let changes = blocking(move || own.keep(loaded, prune_app.as_deref())).await?;
        hurried.iter().for_each(|name| self.improve_later(name));
        Ok(changes)
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
        let Made { program, tier, compile_ms } = self.load(&wanted.spec, target.number, &wanted.source).await?.1;
        let (store, function) = (Arc::clone(&self.store), name.clone());
        let revision = blocking(move || store.rollback(&function, Some(target.number))).await?;
        let change = change_of(&revision, &*program, compile_ms);
        self.serve(revision, program, FunctionState::Ready);
        self.publish();
        if tier == Tier::Quick {
            self.improve_later(name);
        }
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
        bytes: Bytes,
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

    /// The image cache; absent where it could not be opened.
    pub(crate) fn images(&self) -> Option<&ImageCache> {
        self.workshop.as_deref().map(Workshop::cache)
    }

    /// What is known of code paths; absent where nothing is sampled.
    pub(crate) fn paths(&self) -> Option<&Arc<Paths>> {
        self.paths.as_ref()
    }

    /// What serves a function now.
    pub(crate) fn program(&self, name: &FunctionName) -> Option<Arc<dyn Program>> {
        self.running.lock().get(name).map(|running| Arc::clone(&running.entry.program))
    }

    /// Memory is short: VMs that wait for another request are given up. Says how many.
    pub(crate) fn give_back_memory(&self) -> usize {
        self.driver.give_back_memory()
    }

    /// What serves each function now.
    pub(crate) fn programs(&self) -> Vec<(Arc<str>, Arc<dyn Program>)> {
        let running = self.running.lock();
        let one = |running: &Running| (running.entry.spec.name.as_str().into(), Arc::clone(&running.entry.program));
        running.values().map(one).collect()
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

    /// Routes everything that is in the store. What has an image is loaded at once, for at most `patience`; the
    /// rest is returned, to be loaded while the node serves. Blocks on the disk.
    pub(crate) fn restore(&self, patience: Duration) -> Result<Vec<Restoring>, StorageError> {
        let began = Instant::now();
        let mut restoring = Vec::new();
        for revision in self.store.active()? {
            let ready = if began.elapsed() < patience { self.load_from_image(&revision) } else { None };
            match ready {
                Some(made) => {
                    let hurried = made.tier == Tier::Quick;
                    self.serve(revision.clone(), made.program, FunctionState::Ready);
                    if hurried {
                        restoring.push(Restoring { revision, waiting: None });
                    }
                }
                None => {
                    let (sender, program) = PendingProgram::new();
                    self.serve(revision.clone(), program, FunctionState::Loading);
                    restoring.push(Restoring { revision, waiting: Some(sender) });
                }
            }
        }
        self.publish();
        Ok(restoring)
    }

    fn load_from_image(&self, revision: &Revision) -> Option<Made> {
        let workshop = self.workshop.as_ref()?;
        let Found { image, variant, .. } = workshop.find(revision.digest, Form::Prepared)?;
        let request = LoadRequest {
            spec: &revision.spec,
            revision: revision.number,
            digest: revision.digest,
            source: &[],
            host: self.host.clone(),
            image: Some(image),
        };
        match self.driver.load(request) {
            Ok(program) => Some(Made { program, tier: variant.tier, compile_ms: 0 }),
            Err(error) => {
                workshop.reject(revision.digest, variant, &error.to_string());
                None
            }
        }
    }

    /// Loads what `restore` left, one after the other.
    pub(crate) async fn load_all(self: Arc<Self>, restoring: Vec<Restoring>) {
        for Restoring { revision, waiting } in restoring {
            let name = revision.spec.name.clone();
            let Some(sender) = waiting else {
                self.improve_later(&name);
                continue;
            };
            let _changing = self.changing.lock().await;
            if !self.is_active(&revision) {
                continue;
            }
            match self.load(&revision.spec, revision.number, &Source::Stored(revision.digest)).await {
                Ok((_, Made { program, tier, compile_ms: _ })) => {
                    sender.send_replace(Loading::Ready(Arc::clone(&program)));
                    self.serve(revision, program, FunctionState::Ready);
                    self.publish();
                    if tier == Tier::Quick {
                        self.improve_later(&name);
                    }
                }
                Err(failure) => {
                    let reason = failure.to_string();
                    tracing::error!(function = %name, reason, "function cannot be loaded");
                    sender.send_replace(Loading::Failed(reason.as_str().into()));
                    self.set_state(&name, FunctionState::Failed(reason));
                }
            }
        }
    }

    /// Begins to make fully optimised code of the active revision; it takes over without a pause when it is made.
    fn improve_later(self: &Arc<Self>, name: &FunctionName) {
        self.make_later(name, Variant { tier: Tier::Full, form: Form::Prepared });
    }

    fn make_later(self: &Arc<Self>, name: &FunctionName, variant: Variant) {
        let (Some(workshop), Some(running)) = (self.workshop.clone(), self.running.lock().get(name).cloned()) else {
            return;
        };
        let (own, name) = (Arc::clone(self), name.clone());
        tokio::spawn(async move {
            let (store, digest) = (Arc::clone(&own.store), running.digest);
            let made = blocking(move || -> Result<_, String> {
                let source = store.component(digest).map_err(|error| error.to_string())?;
                workshop.make(digest, source.into(), variant, false).map_err(|error| error.to_string())
            });
            match made.await {
                Ok(found) => own.replace_code(&name, &running, found).await,
                Err(reason) => tracing::warn!(function = %name, reason, "no optimised code: what serves goes on"),
            }
        });
    }

    /// Lets `image` serve in the place of `before`, if that still serves.
    async fn replace_code(self: &Arc<Self>, name: &FunctionName, before: &Running, found: Found) {
        let Found { image, variant, is_changed, .. } = found;
        let _changing = self.changing.lock().await;
        let still = self.running.lock().get(name).is_some_and(|now| Arc::ptr_eq(&now.entry, &before.entry));
        if !still {
            return;
        }
        let (driver, host, entry, digest) =
            (Arc::clone(&self.driver), self.host.clone(), Arc::clone(&before.entry), before.digest);
        let loaded = blocking(move || {
            let (spec, revision) = (&*entry.spec, entry.revision);
            driver.load(LoadRequest { spec, revision, digest, source: &[], host, image: Some(image) })
        });
        match loaded.await {
            Ok(program) => {
                let spec = Arc::clone(&before.entry.spec);
                let program = self.followed(program, &spec, before.entry.revision, digest);
                let admission = Arc::clone(&before.entry.admission);
                let entry = Arc::new(FunctionEntry::new(spec, before.entry.revision, program, admission));
                let running = Running { entry, digest, state: FunctionState::Ready };
                self.running.lock().insert(name.clone(), running);
                self.publish();
                tracing::info!(function = %name, revision = %before.entry.revision, "optimised code serves now");
            }
            Err(error) => {
                if let Some(workshop) = &self.workshop {
                    workshop.reject(digest, variant, &error.to_string());
                }
                if is_changed {
                    // The component may be fine and a pass at fault.
                    self.make_later(name, Variant { form: Form::AsDeployed, ..variant });
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
            return Ok(Loaded { spec, digest, made: None });
        }
        // The number is for display by the driver only; the store decides it when the revision is kept.
        let (digest, made) = self.load(&spec, RevisionNumber(0), &source).await?;
        Ok(Loaded { spec, digest, made: Some(made) })
    }

    /// Finds or makes the code of a component, off the runtime's threads, and keeps the component.
    async fn load(
        &self,
        spec: &FunctionSpec,
        revision: RevisionNumber,
        source: &Source,
    ) -> Result<(ComponentDigest, Made), DeployFailure> {
        let (store, driver, host) = (Arc::clone(&self.store), Arc::clone(&self.driver), self.host.clone());
        let (spec, source, workshop) = (spec.clone(), source.clone(), self.workshop.clone());
        let function = spec.name.clone();
        let work = move || -> Result<_, DeployFailure> {
            let (digest, source): (_, Bytes) = match source {
                Source::Bytes(bytes) => (ComponentDigest::of(&bytes), Bytes::from_owner(bytes)),
                Source::Stored(digest) => (digest, store.component(digest)?.into()),
            };
            let request =
                |image| LoadRequest { spec: &spec, revision, digest, source: &source, host: host.clone(), image };
            let bad = |reason| DeployFailure::Load { function: spec.name.clone(), reason };
            // Without a worker no pass is applied: what strangers wrote is not rewritten in this process.
            let compiled_here = |driver: &dyn Driver| -> Result<Made, DeployFailure> {
                let program = driver.load(request(None)).map_err(bad)?;
                let compile_ms = program.facts().compile_ms;
                Ok(Made { program, tier: Tier::Full, compile_ms })
            };
            let loaded = first_that_loads(
                |form| code(workshop.as_deref(), &spec.name, digest, &source, form),
                |image| driver.load(request(Some(image))),
                |variant, reason| {
                    workshop.iter().for_each(|workshop| workshop.reject(digest, variant, &reason.to_string()));
                },
            );
            let made = match loaded {
                Ok(Some(FromImage { program, variant, build_ms })) => {
                    Made { program, tier: variant.tier, compile_ms: build_ms }
                }
                Ok(None) => compiled_here(&*driver)?,
                Err(NotLoaded::NoImage(failure)) => return Err(failure),
                Err(NotLoaded::Refused(reason)) => return Err(bad(reason)),
            };
            store.put_component(&source)?;
            Ok((digest, made))
        };
        match tokio::task::spawn_blocking(work).await {
            Ok(result) => result,
            Err(_panicked) => {
                Err(DeployFailure::HarmfulComponent { function, detail: "the compiler panicked".to_owned() })
            }
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
            match one.made {
                Some(Made { program, tier: _, compile_ms }) => {
                    changes.push(change_of(&revision, &*program, compile_ms));
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
        self.paths.iter().for_each(|paths| paths.forget(name));
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
        let program = self.followed(program, &revision.spec, revision.number, revision.digest);
        let entry = FunctionEntry::new(Arc::new(revision.spec), revision.number, program, admission);
        running.insert(name, Running { entry: Arc::new(entry), digest: revision.digest, state });
    }

    /// The program with its twin beside it, where requests are sampled.
    fn followed(
        &self,
        program: Arc<dyn Program>,
        spec: &FunctionSpec,
        revision: RevisionNumber,
        digest: ComponentDigest,
    ) -> Arc<dyn Program> {
        match &self.paths {
            Some(paths) => paths.follow(program, spec, revision, digest),
            None => program,
        }
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

/// A function that is known and not loaded as it should be.
pub(crate) struct Restoring {
    revision: Revision,
    /// Where requests wait for it; `None` if it serves already, with code made in a hurry.
    waiting: Option<tokio::sync::watch::Sender<Loading>>,
}

impl Loaded {
    fn is_hurried(&self) -> bool {
        self.made.as_ref().is_some_and(|made| made.tier == Tier::Quick)
    }
}

/// The code of a component: there already, or made now. `None` where this machine cannot make any in a
/// worker; the driver then compiles by itself, and without passes.
fn code(
    workshop: Option<&Workshop>,
    function: &FunctionName,
    digest: ComponentDigest,
    source: &Bytes,
    form: Form,
) -> Result<Option<Found>, DeployFailure> {
    let Some(workshop) = workshop else {
        return Ok(None);
    };
    if let Some(found) = workshop.find(digest, form) {
        return Ok(Some(found));
    }
    let tier = Workshop::first_tier(source);
    match workshop.make(digest, source.clone(), Variant { tier, form }, true) {
        Ok(found) => Ok(Some(found)),
        Err(MakeFailure::BadComponent(detail)) => {
            Err(DeployFailure::BadComponent { function: function.clone(), detail })
        }
        Err(failure @ MakeFailure::HarmfulComponent(_)) => {
            Err(DeployFailure::HarmfulComponent { function: function.clone(), detail: failure.to_string() })
        }
        Err(
            failure @ (MakeFailure::Worker(_)
            | MakeFailure::NotNow(_)
            | MakeFailure::Publish(_)
            | MakeFailure::Malformed(_)
            | MakeFailure::Lost(_)),
        ) => {
            tracing::warn!(%function, reason = %failure, "no worker made an image: compiled by the node itself");
            Ok(None)
        }
    }
}

fn change_of(revision: &Revision, program: &dyn Program, compile_ms: u64) -> Change {
    let facts = program.facts();
    Change {
        name: revision.spec.name.clone(),
        revision: revision.number,
        changed: true,
        digest: revision.digest,
        world: facts.world.clone(),
        compile_ms,
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
        vms: running.entry.program.isolation().into(),
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
pub(crate) fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
