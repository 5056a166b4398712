//! The driver: the engines, and the way from bytes to a program.

use std::sync::Arc;
use std::time::{Duration, Instant};

use forerun_driver::{AuthenticImage, Driver, LoadError, LoadRequest, Program, ProgramFacts};
use forerun_types::{ReusePolicy, VmDiscard};
use parking_lot::Mutex;
use wasmtime::component::Component;
use wasmtime_wasi_http::p2::bindings::ProxyIndices;
use wasmtime_wasi_http::p3::bindings::ServicePre;

use super::affinity::Affinity;
use super::aside::{self, Aside};
use super::compile;
use super::engine::{Code, Concurrency, Interruption};
use super::inspect::{self, World};
use super::interrupt::FlagExports;
use super::isolation::Isolation;
use super::lazy::{ColdGroups, Compiles, FindInstance, ProbeTrap, SplitProgram};
use super::pace::Pace;
use super::program::{Programs, WasmProgram};
use super::ready::ReadyVms;
use super::reuse::IdleVms;
use super::rollback::StateExports;
use super::sandbox::Sandbox;
use super::settings::WasmSettings;
use super::trust::TrustCell;
use super::used::UsedVms;
use super::vm::{Linked, Template};
use crate::sys::{self, Tracker};

/// Time a component's start functions may take when it is loaded.
const TRIAL_TIME_MAX: Duration = Duration::from_secs(10);

/// Ticks of the epoch between two looks at idle VMs.
const SWEEP_TICKS: u32 = 20;

/// Runs `wasi:http` components, versions 0.2 and 0.3.
pub struct WasmDriver {
    settings: WasmSettings,
    fingerprint: [u8; 32],
    /// For components of WASI 0.2.
    sequential: Sandbox,
    /// For components of WASI 0.3; made for the first of them.
    concurrent: Mutex<Option<Arc<Sandbox>>>,
    /// For components that look at flags; made for the first of them.
    flagged: Mutex<Option<Arc<Sandbox>>>,
    /// For split components; made for the first of them.
    split: Mutex<Option<Arc<SplitSandbox>>>,
    /// For split components that look at flags; made for the first of them.
    split_flagged: Mutex<Option<Arc<SplitSandbox>>>,
    /// How written pages are found, or why they are not.
    tracker: Result<Arc<Tracker>, String>,
    programs: Programs,
    aside: Arc<Aside>,
}

/// Components that share an engine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Guests {
    /// Of WASI 0.2.
    Sequential,
    /// Of WASI 0.2, with flags.
    Flagged,
    /// Of WASI 0.3.
    Concurrent,
}

impl Guests {
    /// Code of this size has most likely been made of a component that is large enough for flags. It decides nothing: an engine
    /// that is asked in vain costs a moment, and is made for nothing if it is not there yet.
    const FLAGGED_CODE_BYTES: u64 = 8 << 20;

    fn likeliest_first(image: &AuthenticImage) -> [Self; 3] {
        let code_bytes = image.file().metadata().map_or(0, |metadata| metadata.len());
        match code_bytes {
            Self::FLAGGED_CODE_BYTES.. => [Self::Flagged, Self::Sequential, Self::Concurrent],
            _ => [Self::Sequential, Self::Concurrent, Self::Flagged],
        }
    }
}

/// What split components need of an engine.
struct SplitSandbox {
    sandbox: Sandbox,
    finder: Arc<dyn FindInstance>,
    compiles: Compiles,
}

/// Why there is no driver.
#[derive(Debug, thiserror::Error)]
pub enum WasmDriverError {
    /// The engine or its pool could not be made: most often too little address space (`ulimit -v`).
    #[error("the WebAssembly engine could not be set up: {0}")]
    Engine(String),
    /// No thread for the epochs.
    #[error("no thread for the epoch ticker: {0}")]
    Ticker(std::io::Error),
}

impl WasmDriver {
    /// Sets up the engine.
    ///
    /// # Errors
    /// When the system refuses the address space or a thread.
    pub fn new(settings: &WasmSettings) -> Result<Self, WasmDriverError> {
        let refused = |error: wasmtime::Error| WasmDriverError::Engine(format!("{error:#}"));
        let fingerprint = compile::fingerprint().map_err(refused)?;
        let programs = Programs::default();
        let swept = programs.clone();
        let idle_bytes_max = settings.idle_bytes_max;
        let mut ticks = 0;
        let every_tick = move || {
            ticks += 1;
            if ticks % SWEEP_TICKS == 0 {
                swept.sweep(Instant::now());
                swept.keep_within(idle_bytes_max);
            }
        };
        let sequential = Sandbox::new(settings, Concurrency::None, Code::Whole(Interruption::Epochs), every_tick)?;
        let tracker = Tracker::new().map_err(|why| why.to_string());
        Ok(Self {
            settings: settings.clone(),
            fingerprint,
            sequential,
            concurrent: Mutex::default(),
            flagged: Mutex::default(),
            split: Mutex::default(),
            split_flagged: Mutex::default(),
            tracker,
            programs,
            aside: Arc::default(),
        })
    }

    /// Whether this machine offers what rolling VMs back needs.
    ///
    /// # Errors
    /// What is missing.
    pub fn rollback_support() -> Result<(), String> {
        Tracker::new().map(drop).map_err(|why| why.to_string())
    }

    /// What machine code must match to be loaded here: version and settings of the engines, and CPU features.
    pub fn fingerprint(&self) -> [u8; 32] {
        self.fingerprint
    }

    /// Runs `work` with the engine for `guests`.
    fn with_sandbox<R>(
        &self,
        guests: Guests,
        work: impl FnOnce(&Sandbox) -> Result<R, LoadError>,
    ) -> Result<R, LoadError> {
        let (kept, concurrency, code) = match guests {
            Guests::Sequential => return work(&self.sequential),
            Guests::Concurrent => (&self.concurrent, Concurrency::Tasks, Code::Whole(Interruption::Epochs)),
            Guests::Flagged => (&self.flagged, Concurrency::None, Code::Whole(Interruption::Flags)),
        };
        let sandbox = kept_or_made(kept, || self.sandbox(concurrency, code))?;
        work(&sandbox)
    }

    fn sandbox(&self, concurrency: Concurrency, code: Code) -> Result<Sandbox, LoadError> {
        let made = Sandbox::new(&self.settings, concurrency, code, || {});
        made.map_err(|error| LoadError::Compile { detail: error.to_string() })
    }

    /// Machine code does not say what it needs; the engines that it was not made for refuse it by its header.
    fn load_image(&self, image: &AuthenticImage, request: &LoadRequest<'_>) -> Result<Loaded, LoadError> {
        let mut refused = String::new();
        for guests in Guests::likeliest_first(image) {
            let loaded = self.with_sandbox(guests, |sandbox| {
                let component = sys::load_image(&sandbox.engine, image).map_err(|error| foreign_image(&error))?;
                self.prepare(sandbox, &component, request, 0, None)
            });
            match loaded {
                // Which engine it was made for is not known, so neither is which of the reasons counts.
                Err(LoadError::ForeignImage { detail }) if refused.is_empty() => refused = detail,
                Err(LoadError::ForeignImage { detail }) => {
                    refused = format!("{refused}; and for another engine: {detail}")
                }
                result => return result,
            }
        }
        Err(LoadError::ForeignImage { detail: refused })
    }

    fn prepare(
        &self,
        sandbox: &Sandbox,
        component: &Component,
        request: &LoadRequest<'_>,
        compile_ms: u64,
        cold: Option<Arc<ColdGroups>>,
    ) -> Result<Loaded, LoadError> {
        let (linked, world) = link(sandbox, component, request.spec.reuse)?;
        let flags = flags(sandbox, component)?;
        let template =
            Template::new(sandbox.engine.clone(), request.spec, request.host.clone(), cold).with_flags(flags);
        try_to_start(&template, &linked)?;
        let affinity = Affinity::of(&request.spec.limits.cpus)?;
        // What a component brings with it is not the specializer's.
        let forged = request.image.is_some() && inspect::exports(request.source, StateExports::INTERFACE);
        let exports = linked.state_exports().cloned().or_else(|| StateExports::of(component)).filter(|_| !forged);
        let isolation = Isolation::new(request.spec, sandbox.concurrency, &self.tracker, exports, request.source);
        let image = component.image_range();
        let code_bytes = (image.end as usize - image.start as usize) as u64;
        let facts = ProgramFacts { world: world.label().to_owned(), compile_ms, code_bytes };
        Ok(Loaded { template, linked, isolation, facts, affinity })
    }

    fn load_source(&self, request: &LoadRequest<'_>) -> Result<Loaded, LoadError> {
        inspect::check_header(request.source)?;
        let guests = match inspect::concurrency(request.source) {
            Concurrency::None => Guests::Sequential,
            Concurrency::Tasks => Guests::Concurrent,
        };
        self.with_sandbox(guests, |sandbox| {
            let started = Instant::now();
            let component = Component::from_binary(&sandbox.engine, request.source);
            let compile_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
            self.prepare(sandbox, &component.map_err(|error| not_compiled(&error))?, request, compile_ms, None)
        })
    }
}

/// A component that has been linked and has started once.
struct Loaded {
    template: Template,
    linked: Linked,
    isolation: Isolation,
    facts: ProgramFacts,
    affinity: Option<Arc<Affinity>>,
}

/// What is kept; it is made for the first that wants it.
fn kept_or_made<T>(
    kept: &Mutex<Option<Arc<T>>>,
    make: impl FnOnce() -> Result<T, LoadError>,
) -> Result<Arc<T>, LoadError> {
    let mut kept = kept.lock();
    if let Some(kept) = &*kept {
        return Ok(Arc::clone(kept));
    }
    Ok(Arc::clone(kept.insert(Arc::new(make()?))))
}

/// The flags at which a component looks. Without any it could not be stopped where there are no epochs.
fn flags(sandbox: &Sandbox, component: &Component) -> Result<Option<FlagExports>, LoadError> {
    let Some(all) = &sandbox.flags else { return Ok(None) };
    let without = || LoadError::ForeignImage { detail: "it looks at no flag, and its engine has no epochs".into() };
    FlagExports::of(component, all).map(Some).ok_or_else(without)
}

fn link(sandbox: &Sandbox, component: &Component, reuse: ReusePolicy) -> Result<(Linked, World), LoadError> {
    let pre = sandbox.linker.instantiate_pre(component).map_err(|error| unknown_import(&error))?;
    let world = inspect::world(&sandbox.engine, component)?;
    let wrong = |error: wasmtime::Error| LoadError::WrongWorld { exports: format!("{error:#}") };
    let state = match reuse {
        ReusePolicy::Rollback | ReusePolicy::Warm => StateExports::of(component).map(Box::new),
        ReusePolicy::Fresh | ReusePolicy::Reuse { .. } => None,
    };
    let linked = match world {
        World::Proxy02 => Linked::Proxy { indices: ProxyIndices::new(&pre).map_err(wrong)?, pre, state },
        World::Service03 => Linked::Service(ServicePre::new(pre).map_err(wrong)?),
    };
    Ok((linked, world))
}

impl Driver for WasmDriver {
    fn kind(&self) -> &'static str {
        "wasm"
    }

    fn load(&self, request: LoadRequest<'_>) -> Result<Arc<dyn Program>, LoadError> {
        self.load_program(request).map(|program| program as _)
    }

    fn give_back_memory(&self) -> usize {
        self.programs.give_up_half(VmDiscard::MemoryPressure)
    }
}

impl WasmDriver {
    pub(super) fn load_program(&self, request: LoadRequest<'_>) -> Result<Arc<WasmProgram>, LoadError> {
        let loaded = match &request.image {
            Some(image) => self.load_image(image, &request)?,
            None => self.load_source(&request)?,
        };
        Ok(self.program(loaded, request))
    }

    /// Loads a split component: `request` has its primary, as source or image, `split` the rest.
    ///
    /// # Errors
    /// As [`Driver::load`]. A component of WASI 0.3 is refused: its concurrent calls would not outlive a miss.
    pub fn load_split(&self, request: LoadRequest<'_>, split: SplitProgram) -> Result<Arc<dyn Program>, LoadError> {
        let SplitSandbox { sandbox, finder, compiles } = &*self.split_sandbox(split.interruption)?;
        let started = Instant::now();
        let component = match &request.image {
            Some(image) => sys::load_image(&sandbox.engine, image).map_err(|error| foreign_image(&error))?,
            None => {
                inspect::check_header(request.source)?;
                Component::from_binary(&sandbox.engine, request.source).map_err(|error| not_compiled(&error))?
            }
        };
        let compile_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let cold = ColdGroups::new(split, sandbox.engine.clone(), Arc::clone(finder), compiles.clone());
        let loaded = self.prepare(sandbox, &component, &request, compile_ms, Some(Arc::new(cold)))?;
        Ok(self.program(loaded, request))
    }

    fn split_sandbox(&self, interruption: Interruption) -> Result<Arc<SplitSandbox>, LoadError> {
        let kept = match interruption {
            Interruption::Epochs => &self.split,
            Interruption::Flags => &self.split_flagged,
        };
        kept_or_made(kept, || {
            let sandbox = self.sandbox(Concurrency::None, Code::Split(interruption))?;
            let finder = ProbeTrap::new(&sandbox.engine);
            let finder = finder.map_err(|error| LoadError::Compile { detail: format!("{error:#}") })?;
            Ok(SplitSandbox { sandbox, finder: Arc::new(finder), compiles: Compiles::default() })
        })
    }

    fn program(&self, loaded: Loaded, request: LoadRequest<'_>) -> Arc<WasmProgram> {
        let Loaded { template, linked, isolation, facts, affinity } = loaded;
        let program = Arc::new(WasmProgram {
            template,
            linked,
            isolation,
            idle: IdleVms::new(request.spec.reuse, self.settings.put_back_idle_ms),
            ready: ReadyVms::default(),
            used: UsedVms::default(),
            pace: Pace::new(Duration::from_millis(self.settings.put_off_ms_max), Instant::now()),
            aside: aside::OfRevision::new(Arc::clone(&self.aside)),
            trust_rolled_back: TrustCell::default(),
            trust_specialized: TrustCell::default(),
            facts,
            affinity,
            tracker: self.tracker.as_ref().ok().cloned(),
            programs: self.programs.clone(),
            _image: request.image,
        });
        self.programs.add(&program);
        program
    }
}

/// Makes one VM and throws it away: what can never start is refused when it is deployed, not when it is called.
fn try_to_start(template: &Template, linked: &Linked) -> Result<(), LoadError> {
    let trial = async {
        let deadline = Instant::now() + TRIAL_TIME_MAX;
        template.vm(linked, deadline).await.map(drop)
    };
    // On a thread of its own, since loading may be called from within a runtime, where blocking on a future is not allowed.
    let started = std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
            runtime.block_on(trial)
        });
        thread.join().unwrap_or_else(|_| Err(wasmtime::format_err!("the trial panicked")))
    });
    let Err(error) = started else {
        return Ok(());
    };
    let detail = format!("{error:#}");
    let over_limits = detail.contains("exceeds memory limits") || detail.contains("memory minimum size");
    Err(if over_limits { LoadError::OverLimits { detail } } else { LoadError::DoesNotStart { detail } })
}

pub(super) fn not_compiled(error: &wasmtime::Error) -> LoadError {
    let text = format!("{error:#}");
    // Most defects are found by the validator; what a section or module claims beyond the file's end, by the translator.
    if error.is::<wasmparser::BinaryReaderError>() || text.starts_with("failed to parse WebAssembly module") {
        return LoadError::Malformed { detail: error.root_cause().to_string() };
    }
    LoadError::Compile { detail: text }
}

fn foreign_image(error: &wasmtime::Error) -> LoadError {
    LoadError::ForeignImage { detail: format!("{error:#}") }
}

fn unknown_import(error: &wasmtime::Error) -> LoadError {
    let text = format!("{error:#}");
    // wasmtime names the import between backquotes: "component imports instance `x`, but ...".
    let import = text.split('`').nth(1).unwrap_or("?").to_owned();
    LoadError::UnknownImport { import, detail: text }
}
