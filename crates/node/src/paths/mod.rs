//! Which code of a function runs, learnt from a few of its requests: the Code Path Probability Map.
//!
//! ```text
//! request ─► SampledProgram ──┬─ mostly ─► program
//!                             └─ a few ──► instrumented twin ─► marks, after the answer ─┬► book (map by class)
//!                                                                                        └► pipe ─► the slow loop
//! first request of a revision ─► twin builder: worker processes, image cache ─► twin
//! ```
//! Small components are left alone: nothing would be won by knowing. Which requests are sampled is up to the sampler, which keeps their cost below a share of the function's processor
//! time. The request path never waits for anything here: without a twin, or while a book is being written, a request goes
//! its ordinary way. Books are kept on disk and believed after a check.
//!
//! A book counts: which share of the requests of a class runs what, which is what an image is made for. What the *next*
//! request runs is foretold by the engine (`forerun_predict::paths`), from the same marks and in the order they came.

mod book;
mod books;
mod class;
mod profile;
mod program;
mod relatives;
mod sampler;
mod shapes;
mod touched;

use std::io;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

use forerun_driver::{Driver, Host, LoadRequest, Program, Sampled};
use forerun_specialize::passes::coverage::CoverageMap;
use forerun_store::Store;
use forerun_telemetry::EventSender;
use forerun_types::{ComponentDigest, FunctionName, FunctionSpec, RevisionNumber, SpecializationProfile};
use parking_lot::Mutex;
use serde_json::Value;

use self::book::Book;
use self::books::Books;
use self::class::Routes;
use self::sampler::Sampler;
use self::shapes::Shapes;
use crate::learning::ExpectedPaths;
use crate::workshop::Workshop;

pub(crate) use self::books::Learnt;
pub(crate) use self::profile::{COLD_GROUPS_MAX, NoProfile};
pub(crate) use self::program::Followed;
pub(crate) use self::shapes::Shape;

/// Twins asked for and not begun; a function whose wish finds no room is followed after its next deployment.
const WISHES_MAX: usize = 64;
/// Time from a function's first request to the making of its twin, which takes some tens of milliseconds even if its code
/// is there: what comes right after a start has better use of the processor.
const TWIN_AFTER: Duration = Duration::from_millis(500);
/// Functions with a book; more are served and not followed.
const BOOKS_MAX: usize = 256;
/// What was learnt in the last of these may be lost by `kill -9`.
const KEEP_EVERY: Duration = Duration::from_secs(60);

/// What twins are made with.
pub(crate) struct TwinParts {
    pub(crate) workshop: Arc<Workshop>,
    pub(crate) driver: Arc<dyn Driver>,
    pub(crate) store: Arc<Store>,
    pub(crate) host: Host,
}

/// What one sampled request ran.
pub(crate) struct PathsRan {
    pub(crate) function: FunctionName,
    /// Class of the request.
    pub(crate) class: u32,
    /// Keys of the inner functions; the same in another revision if the code is.
    pub(crate) keys: Vec<u32>,
}

/// The books of a node, and who makes twins for them.
pub(crate) struct Paths {
    share_max: f64,
    /// Size of machine code from which on it is worth knowing which of it runs.
    code_bytes_min: u64,
    followed: Books,
    wishes: SyncSender<Wish>,
    /// For whoever foretells; what finds no room is dropped and counted there.
    ran: EventSender<PathsRan>,
    /// Whether anything may be learnt of a function; nothing is before whoever knows has said.
    permission: OnceLock<Permission>,
}

/// Says whether anything may be learnt of a function.
type Permission = Box<dyn Fn(&FunctionName) -> bool + Send + Sync>;

/// What is known of one function. Each of its requests looks into it, those of others do not.
#[derive(Default)]
struct Entry {
    book: Book,
    sampler: Sampler,
    shapes: Shapes,
}

/// The same, shared by the programs of the function's revisions.
type SharedEntry = Arc<Mutex<Entry>>;

impl Paths {
    /// Starts the thread that makes twins; it ends with the last of these.
    pub(crate) fn start(
        parts: TwinParts,
        learnt: Learnt,
        ran: EventSender<PathsRan>,
        share_max: f64,
        code_bytes_min: u64,
    ) -> io::Result<Arc<Self>> {
        let (wishes, asked) = sync_channel(WISHES_MAX);
        let followed = Books::new(learnt);
        let paths = Arc::new(Self { share_max, code_bytes_min, followed, wishes, ran, permission: OnceLock::new() });
        let own = Arc::downgrade(&paths);
        std::thread::Builder::new().name("forerun-twins".into()).spawn(move || make_twins(&own, &asked, &parts))?;
        Ok(paths)
    }

    /// From now on functions are followed of which `permission` says that anything may be learnt.
    pub(crate) fn permit(&self, permission: impl Fn(&FunctionName) -> bool + Send + Sync + 'static) {
        // A second one would be a mistake in the wiring, and the first holds.
        let _ = self.permission.set(Box::new(permission));
    }

    fn may_follow(&self, name: &FunctionName) -> bool {
        self.permission.get().is_some_and(|permission| permission(name))
    }

    /// Follows a revision, from the first of its requests on.
    pub(crate) fn follow(
        self: &Arc<Self>,
        spec: &FunctionSpec,
        revision: RevisionNumber,
        digest: ComponentDigest,
    ) -> Arc<Followed> {
        // Books that are still being read are found when its twin is there.
        let known = self.followed.lock_if_read().and_then(|entries| entries.get(&spec.name).cloned());
        let entry = known.map_or_else(OnceLock::new, OnceLock::from);
        Arc::new(Followed {
            entry,
            routes: Routes::of(spec),
            spec: spec.clone(),
            revision,
            digest,
            twin: OnceLock::new(),
            is_asked: AtomicBool::new(false),
            paths: Arc::downgrade(self),
        })
    }

    /// Size of machine code, in bytes, from which on functions are followed.
    pub(crate) fn code_bytes_min(&self) -> u64 {
        self.code_bytes_min
    }

    /// What an image of a revision should be specialized for, by what is known now.
    pub(crate) fn profile(
        &self,
        spec: &FunctionSpec,
        revision: RevisionNumber,
    ) -> Result<SpecializationProfile, NoProfile> {
        let entry = self.entry(&spec.name).ok_or(NoProfile::NotFollowed)?;
        let entry = entry.lock();
        profile::of(&entry.book, spec, revision)
    }

    /// What requests of a function have looked like lately; in memory only.
    pub(crate) fn shapes(&self, name: &FunctionName) -> Vec<Shape> {
        self.entry(name).map(|entry| entry.lock().shapes.all()).unwrap_or_default()
    }

    /// Everything known of a function; `None` if none of its requests was ever sampled.
    pub(crate) fn view(&self, name: &FunctionName) -> Option<Value> {
        let entry = self.entry(name)?;
        let entry = entry.lock();
        Some(entry.book.view(&entry.sampler.cost()))
    }

    /// What the next request of a function is expected to run, with names; `None` if none was ever sampled.
    pub(crate) fn expected_view(&self, name: &FunctionName, expected: &ExpectedPaths) -> Option<Value> {
        self.entry(name).map(|entry| entry.lock().book.expected_view(expected))
    }

    fn entry(&self, name: &FunctionName) -> Option<SharedEntry> {
        self.followed.lock().get(name).cloned()
    }

    /// Forgets a function that was removed.
    pub(crate) fn forget(&self, name: &FunctionName) {
        self.followed.lock().remove(name);
    }

    /// Writes the books to disk.
    pub(crate) fn keep(&self) {
        if let Err(error) = self.followed.write() {
            tracing::warn!(%error, "what was learnt of code paths could not be kept");
        }
    }

    fn observe(&self, followed: &Followed, class: u32, class_name: &str, sampled: &Sampled) {
        let observed = |book: &mut Book| {
            let keys = book.observe(class, class_name, &sampled.marks)?;
            sampled.touched.iter().for_each(|memory| book.note_touched(class, *memory));
            Some(keys)
        };
        let keys = followed.entry.get().and_then(|entry| observed(&mut entry.lock().book));
        if let Some(keys) = keys {
            self.ran.record(PathsRan { function: followed.spec.name.clone(), class, keys });
        }
    }

    fn ask_for_twin(&self, followed: &Arc<Followed>) {
        if self.wishes.try_send((Instant::now(), Arc::clone(followed))).is_err() {
            tracing::warn!(function = %followed.spec.name, "too many twins are asked for: its code paths are not followed");
        }
    }

    /// From now on requests of a revision may be sampled.
    fn adopt(&self, followed: &Followed, twin: Arc<dyn Program>, mut map: CoverageMap) {
        let name = &followed.spec.name;
        let (others, known) = {
            let entries = self.followed.lock();
            if entries.len() >= BOOKS_MAX && !entries.contains_key(name) {
                tracing::warn!(function = %name, "too many functions are followed: this one is not");
                return;
            }
            let others = entries.iter().filter(|(other, _)| *other != name);
            let others: Vec<_> = others.map(|(other, entry)| (other.clone(), Arc::clone(entry))).collect();
            (others, entries.get(name).cloned())
        };
        // A revision of a function that was removed meanwhile keeps what it had, which nobody looks at any more.
        let is_first = known.is_none() && followed.entry.get().is_none();
        let entry = followed.entry.get_or_init(|| known.unwrap_or_default());
        let is_new = entry.lock().book.samples() == 0;
        let (named, expected) = {
            // Nobody else holds more than one of them.
            let others: Vec<_> = others.iter().map(|(name, entry)| (name, entry.lock())).collect();
            let books = || others.iter().map(|(name, entry)| (*name, &entry.book));
            let named = relatives::name_by_body(books().map(|(_, book)| book), &mut map);
            (named, is_new.then(|| relatives::expected(books(), &map)))
        };
        {
            let mut entry = entry.lock();
            entry.book.adopt(&map, &named);
            expected.into_iter().for_each(|expected| entry.book.expect(expected));
            entry.sampler.begin_revision();
        }
        // Whoever looks finds what is expected, or nothing yet.
        if is_first {
            self.followed.lock().insert(name.clone(), Arc::clone(entry));
        }
        // Only now may requests be sampled: their marks have a meaning.
        let _ = followed.twin.set(twin);
    }
}

/// Makes one twin after the other, and keeps the books now and then.
fn make_twins(paths: &Weak<Paths>, wishes: &Receiver<Wish>, parts: &TwinParts) {
    let mut kept = Instant::now();
    loop {
        let wish = wishes.recv_timeout(KEEP_EVERY);
        if let Ok((since, _)) = wish {
            std::thread::sleep(TWIN_AFTER.saturating_sub(since.elapsed()));
        }
        let Some(paths) = paths.upgrade() else { return };
        match wish {
            Ok((_, followed)) => match make_twin(&followed, parts) {
                Ok((twin, map)) => paths.adopt(&followed, twin, map),
                Err(reason) => {
                    tracing::info!(function = %followed.spec.name, reason, "no twin: its code paths are not followed");
                }
            },
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        if kept.elapsed() >= KEEP_EVERY {
            kept = Instant::now();
            paths.keep();
        }
    }
}

type Twin = (Arc<dyn Program>, CoverageMap);

/// Since when, and whose twin.
type Wish = (Instant, Arc<Followed>);

fn make_twin(followed: &Followed, parts: &TwinParts) -> Result<Twin, String> {
    let digest = followed.digest;
    let source = parts.store.component(digest).map_err(|error| error.to_string())?;
    let made = parts.workshop.twin(digest, &source.into()).map_err(|error| error.to_string())?;
    let request = LoadRequest {
        spec: &followed.spec,
        revision: followed.revision,
        digest,
        source: &[],
        host: parts.host.clone(),
        image: Some(made.image),
    };
    let twin = parts.driver.load(request).map_err(|error| error.to_string())?;
    Ok((twin, made.map))
}
