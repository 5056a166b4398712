//! The driver: one engine, one linker, and the way from bytes to a program.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use forerun_driver::{Driver, LoadError, LoadRequest, Program, ProgramFacts};
use parking_lot::Mutex;
use wasmtime::Engine;
use wasmtime::component::{Component, InstancePre, Linker};
use wasmtime_wasi_http::p2::bindings::ProxyPre;
use wasmtime_wasi_http::p3::bindings::ServicePre;

use super::compile;
use super::engine::{self, EpochTicker};
use super::inspect::{self, World};
use super::linker;
use super::program::WasmProgram;
use super::reuse::IdleVms;
use super::settings::WasmSettings;
use super::vm::{Linked, Template, VmState};
use crate::sys;

/// Time a component's start functions may take when it is loaded.
const TRIAL_TIME_MAX: Duration = Duration::from_secs(10);

/// Ticks of the epoch between two looks at idle VMs.
const SWEEP_TICKS: u32 = 20;

/// Runs `wasi:http` components, versions 0.2 and 0.3.
pub struct WasmDriver {
    engine: Engine,
    linker: Linker<VmState>,
    programs: Programs,
    // Last, so that epochs pass for as long as anything above can run.
    _ticker: EpochTicker,
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
        let engine = engine::engine(settings).map_err(refused)?;
        let linker = linker::linker(&engine).map_err(refused)?;
        let programs = Programs::default();
        let swept = Arc::clone(&programs);
        let mut ticks = 0;
        let every_tick = move || {
            ticks += 1;
            if ticks % SWEEP_TICKS == 0 {
                sweep(&swept, Instant::now());
            }
        };
        let ticker =
            EpochTicker::start(&engine, settings.epoch_tick_ms, every_tick).map_err(WasmDriverError::Ticker)?;
        Ok(Self { engine, linker, programs, _ticker: ticker })
    }

    /// What machine code must match to be loaded here: version and settings of the engine, and CPU features.
    pub fn fingerprint(&self) -> [u8; 32] {
        compile::fingerprint(&self.engine)
    }

    fn link(&self, component: &Component) -> Result<(Linked, World), LoadError> {
        let pre = self.linker.instantiate_pre(component).map_err(|error| unknown_import(&error))?;
        let world = inspect::world(&self.engine, component)?;
        let wrong = |error: wasmtime::Error| LoadError::WrongWorld { exports: format!("{error:#}") };
        let linked = match world {
            World::Proxy02 => Linked::Proxy(ProxyPre::new(pre).map_err(wrong)?),
            World::Service03 => Linked::Service(service(pre).map_err(wrong)?),
        };
        Ok((linked, world))
    }
}

fn service(pre: InstancePre<VmState>) -> wasmtime::Result<ServicePre<VmState>> {
    ServicePre::new(pre)
}

impl Driver for WasmDriver {
    fn kind(&self) -> &'static str {
        "wasm"
    }

    fn load(&self, request: LoadRequest<'_>) -> Result<Arc<dyn Program>, LoadError> {
        inspect::check_header(request.source)?;
        let started = Instant::now();
        let (component, compile_ms) = match &request.image {
            Some(image) => (sys::load_image(&self.engine, image).map_err(|error| foreign_image(&error))?, 0),
            None => {
                let component = Component::from_binary(&self.engine, request.source);
                let compile_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
                (component.map_err(|error| not_compiled(&error))?, compile_ms)
            }
        };
        let (linked, world) = self.link(&component)?;
        let template = Template::new(self.engine.clone(), request.spec, request.host);
        try_to_start(&template, &linked)?;
        let image = component.image_range();
        let program = Arc::new(WasmProgram {
            template,
            linked,
            idle: IdleVms::new(request.spec.reuse),
            _image: request.image,
            facts: ProgramFacts {
                world: world.label().to_owned(),
                compile_ms,
                code_bytes: (image.end as usize - image.start as usize) as u64,
            },
        });
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
