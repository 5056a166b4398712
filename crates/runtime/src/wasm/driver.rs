//! The driver: the engines, and the way from bytes to a program.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use forerun_driver::{AuthenticImage, Driver, LoadError, LoadRequest, Program, ProgramFacts};
use parking_lot::Mutex;
use wasmtime::component::Component;
use wasmtime_wasi_http::p2::bindings::ProxyPre;
use wasmtime_wasi_http::p3::bindings::ServicePre;

use super::compile;
use super::engine::Concurrency;
use super::inspect::{self, World};
use super::program::WasmProgram;
use super::ready::ReadyVms;
use super::reuse::IdleVms;
use super::sandbox::Sandbox;
use super::settings::WasmSettings;
use super::vm::{Linked, Template};
use crate::sys;

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
    programs: Programs,
}

type Programs = Arc<Mutex<Vec<Weak<WasmProgram>>>>;

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
        let swept = Arc::clone(&programs);
        let mut ticks = 0;
        let every_tick = move || {
            ticks += 1;
            if ticks % SWEEP_TICKS == 0 {
                sweep(&swept, Instant::now());
            }
        };
        let sequential = Sandbox::new(settings, Concurrency::None, every_tick)?;
        Ok(Self { settings: settings.clone(), fingerprint, sequential, concurrent: Mutex::default(), programs })
    }

    /// What machine code must match to be loaded here: version and settings of the engines, and CPU features.
    pub fn fingerprint(&self) -> [u8; 32] {
        self.fingerprint
    }

    /// Runs `work` with the engine for components that need `concurrency`.
    fn with_sandbox<R>(
        &self,
        concurrency: Concurrency,
        work: impl FnOnce(&Sandbox) -> Result<R, LoadError>,
    ) -> Result<R, LoadError> {
        match concurrency {
            Concurrency::None => work(&self.sequential),
            Concurrency::Tasks => {
                let sandbox = self.concurrent_sandbox()?;
                work(&sandbox)
            }
        }
    }

    fn concurrent_sandbox(&self) -> Result<Arc<Sandbox>, LoadError> {
        let mut concurrent = self.concurrent.lock();
        if let Some(sandbox) = &*concurrent {
            return Ok(Arc::clone(sandbox));
        }
        let made = Sandbox::new(&self.settings, Concurrency::Tasks, || {});
        let sandbox = Arc::new(made.map_err(|error| LoadError::Compile { detail: error.to_string() })?);
        *concurrent = Some(Arc::clone(&sandbox));
        Ok(sandbox)
    }

    /// Machine code does not say what it needs; the engine that it was not made for refuses it by its header.
    fn load_image(&self, image: &AuthenticImage, request: &LoadRequest<'_>) -> Result<Loaded, LoadError> {
        let with = |sandbox: &Sandbox| {
            let component = sys::load_image(&sandbox.engine, image).map_err(|error| foreign_image(&error))?;
            prepare(sandbox, &component, request, 0)
        };
        match self.with_sandbox(Concurrency::None, with) {
            Err(LoadError::ForeignImage { .. }) => self.with_sandbox(Concurrency::Tasks, with),
            result => result,
        }
    }

    fn load_source(&self, request: &LoadRequest<'_>) -> Result<Loaded, LoadError> {
        inspect::check_header(request.source)?;
        self.with_sandbox(inspect::concurrency(request.source), |sandbox| {
            let started = Instant::now();
            let component = Component::from_binary(&sandbox.engine, request.source);
            let compile_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
            prepare(sandbox, &component.map_err(|error| not_compiled(&error))?, request, compile_ms)
        })
    }
}

/// A component that has been linked and has started once.
struct Loaded {
    template: Template,
    linked: Linked,
    facts: ProgramFacts,
}

fn prepare(
    sandbox: &Sandbox,
    component: &Component,
    request: &LoadRequest<'_>,
    compile_ms: u64,
) -> Result<Loaded, LoadError> {
    let (linked, world) = link(sandbox, component)?;
    let template = Template::new(sandbox.engine.clone(), request.spec, request.host.clone());
    try_to_start(&template, &linked)?;
    let image = component.image_range();
    let code_bytes = (image.end as usize - image.start as usize) as u64;
    Ok(Loaded { template, linked, facts: ProgramFacts { world: world.label().to_owned(), compile_ms, code_bytes } })
}

fn link(sandbox: &Sandbox, component: &Component) -> Result<(Linked, World), LoadError> {
    let pre = sandbox.linker.instantiate_pre(component).map_err(|error| unknown_import(&error))?;
    let world = inspect::world(&sandbox.engine, component)?;
    let wrong = |error: wasmtime::Error| LoadError::WrongWorld { exports: format!("{error:#}") };
    let linked = match world {
        World::Proxy02 => Linked::Proxy(ProxyPre::new(pre).map_err(wrong)?),
        World::Service03 => Linked::Service(ServicePre::new(pre).map_err(wrong)?),
    };
    Ok((linked, world))
}

impl Driver for WasmDriver {
    fn kind(&self) -> &'static str {
        "wasm"
    }

    fn load(&self, request: LoadRequest<'_>) -> Result<Arc<dyn Program>, LoadError> {
        let Loaded { template, linked, facts } = match &request.image {
            Some(image) => self.load_image(image, &request)?,
            None => self.load_source(&request)?,
        };
        let idle = IdleVms::new(request.spec.reuse);
        let program =
            Arc::new(WasmProgram { template, linked, idle, ready: ReadyVms::default(), facts, _image: request.image });
        let mut programs = self.programs.lock();
        programs.retain(|program| program.strong_count() > 0);
        programs.push(Arc::downgrade(&program));
        Ok(program)
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

/// Retires idle VMs of all programs.
fn sweep(programs: &Programs, now: Instant) {
    let alive: Vec<_> = programs.lock().iter().filter_map(Weak::upgrade).collect();
    for program in alive {
        program.idle.sweep(now);
    }
}
