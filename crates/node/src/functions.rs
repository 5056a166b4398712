//! What is deployed, and the only place where it changes.
//!
//! ```text
//! deploy:   check ─► load (image, or compile) ─► store (acknowledged once on disk) ─► publish
//! restart:  read store ─► load what has an image ─► publish, with placeholders ─► load the rest ─► publish each
//! improve:  code made in a hurry serves first; better code replaces it when it is made, and is replaced if it does not do
//! ```
//! Changes happen one at a time. A change that fails leaves everything as it was: what cannot be
//! loaded is never stored, and what is not stored is never served.

mod failure;
mod improve;
mod load;
mod restore;
mod view;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use forerun_driver::{Driver, Host, Program};
use forerun_gateway::{Admission, FunctionEntry, Gateway, RouteTable};
use forerun_images::ImageCache;
use forerun_runtime::Tier;
use forerun_store::{Deployment, Revision, StorageError, Store};
use forerun_telemetry::{GuestLogs, Metrics};
use forerun_types::{ComponentDigest, FunctionName, FunctionSpec, RevisionNumber};
use parking_lot::Mutex;
use tokio::sync::Mutex as AsyncMutex;

use self::view::view;
use crate::paths::{Followed, Paths};
use crate::workshop::Workshop;

pub use self::failure::DeployFailure;
pub(crate) use self::improve::Placed;
pub(crate) use self::restore::{Restoring, Stored, find_images};
pub use self::view::{FunctionState, FunctionView};

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
    /// How often routes were published.
    published: AtomicU64,
}

#[derive(Clone)]
struct Running {
    entry: Arc<FunctionEntry>,
    digest: ComponentDigest,
    /// The program in `entry`, without whoever follows it.
    program: Arc<dyn Program>,
    /// Who follows which code of this revision runs.
    followed: Option<Arc<Followed>>,
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
        let (changing, published) = (AsyncMutex::default(), AtomicU64::new(0));
        Self { store, driver, host, gateway, logs, metrics, workshop, paths, running, changing, published }
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

    /// A number that is another one whenever a program has taken the place of another.
    pub(crate) fn published(&self) -> u64 {
        self.published.load(Ordering::Acquire)
    }

    /// The names of all functions.
    pub(crate) fn names(&self) -> Vec<FunctionName> {
        self.running.lock().keys().cloned().collect()
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

    /// Whether an invocation of any function is under way.
    pub(crate) fn are_busy(&self) -> bool {
        self.running.lock().values().any(|running| running.entry.admission.in_flight() > 0)
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
        let followed = self.followed(running.get(&name), &revision);
        let called = followed_program(followed.as_ref(), Arc::clone(&program));
        let entry = FunctionEntry::new(Arc::new(revision.spec), revision.number, called, admission);
        running.insert(name, Running { entry: Arc::new(entry), digest: revision.digest, program, followed, state });
    }

    /// Who follows a revision, if requests are sampled: whoever did before, if it is the same one.
    fn followed(&self, before: Option<&Running>, revision: &Revision) -> Option<Arc<Followed>> {
        let paths = self.paths.as_ref()?;
        let same = before.filter(|before| before.is_of(revision)).and_then(|before| before.followed.clone());
        Some(same.unwrap_or_else(|| paths.follow(&revision.spec, revision.number, revision.digest)))
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
            Ok(table) => {
                self.gateway.publish(table);
                self.published.fetch_add(1, Ordering::Release);
            }
            // The store refuses two functions on one route, so this says that store and memory disagree.
            Err(conflict) => tracing::error!(%conflict, "routes not published"),
        }
    }
}

impl Running {
    fn is_of(&self, revision: &Revision) -> bool {
        self.digest == revision.digest && self.entry.revision == revision.number && *self.entry.spec == revision.spec
    }
}

/// What the gateway calls for a revision that `followed` follows.
fn followed_program(followed: Option<&Arc<Followed>>, program: Arc<dyn Program>) -> Arc<dyn Program> {
    match followed {
        Some(followed) => followed.program(program),
        None => program,
    }
}

impl Loaded {
    fn is_hurried(&self) -> bool {
        self.made.as_ref().is_some_and(|made| made.tier == Tier::Quick)
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
