//! The cold code of one program: where it is, who compiles it, and who hears of it.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use forerun_driver::AuthenticImage;
use tokio::sync::{OnceCell, Semaphore};
use wasmtime::{Engine, Module};

use super::failure::LazyFailure;
use super::find::FindInstance;
use super::layout::ColdLayout;
use crate::sys;
use crate::wasm::compile::{Tier, compile_module_here};
use crate::wasm::engine::Interruption;

/// Groups that are compiled at the same time, all programs together. A miss waits for its turn; the processors belong
/// to the requests that run.
const COMPILES_MAX: usize = 1;

/// What makes a program a split one.
pub struct SplitProgram {
    /// Which group fills what.
    pub layout: ColdLayout,
    /// Where the code of groups is.
    pub source: Arc<dyn ColdSource>,
    /// Who hears of misses.
    pub listener: Arc<dyn MissListener>,
    /// Groups that one VM may load.
    pub groups_per_vm_max: u32,
    /// For which engine it is compiled. With [`Interruption::Flags`] primary and groups look at flags, or nothing stops them.
    pub interruption: Interruption,
}

/// Where the code of groups is. Asked at a miss of a group that is not loaded, so it must not wait.
pub trait ColdSource: Send + Sync {
    /// The code of a group, in the best form there is now.
    fn code(&self, group: u32) -> ColdCode;
}

/// The code of a group.
#[derive(Debug)]
pub enum ColdCode {
    /// Machine code: these bytes of an image that holds the code of several groups.
    Image(Arc<AuthenticImage>, Range<u64>),
    /// A core module, not compiled yet.
    Source(Bytes),
    /// Neither, and why.
    Missing(String),
}

/// Hears of every miss: an exact case of code that was predicted cold and ran. Called while a request waits.
pub trait MissListener: Send + Sync {
    /// A group was loaded because one of its functions was called.
    fn missed(&self, miss: Miss);
}

/// A group that had to be loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Miss {
    /// The slot of the function that was called, or the number of its position behind the slots.
    pub slot: u32,
    /// Its group.
    pub group: u32,
    /// Where its code was.
    pub from: CodeFrom,
    /// Time until the code was there.
    pub code_us: u64,
    /// Time until the instance was found and the group instantiated.
    pub link_us: u64,
}

/// Where the code of a missed group was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CodeFrom {
    /// Loaded for another VM before.
    Memory,
    /// Compiled before.
    Disk,
    /// Nowhere: it was compiled while the request waited.
    Compiler,
}

/// The turns of all programs of an engine at compiling what was missed.
#[derive(Clone)]
pub(in crate::wasm) struct Compiles(Arc<Semaphore>);

/// A split program at work.
pub(in crate::wasm) struct ColdGroups {
    program: SplitProgram,
    engine: Engine,
    finder: Arc<dyn FindInstance>,
    compiles: Compiles,
    modules: Vec<OnceCell<Module>>,
}

impl Default for Compiles {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(COMPILES_MAX)))
    }
}

impl ColdGroups {
    pub(in crate::wasm) fn new(
        program: SplitProgram,
        engine: Engine,
        finder: Arc<dyn FindInstance>,
        compiles: Compiles,
    ) -> Self {
        let modules = (0..program.layout.groups()).map(|_| OnceCell::new()).collect();
        Self { program, engine, finder, compiles, modules }
    }

    pub(super) fn layout(&self) -> &ColdLayout {
        &self.program.layout
    }

    pub(super) fn groups_per_vm_max(&self) -> u32 {
        self.program.groups_per_vm_max
    }

    pub(super) fn finder(&self) -> Arc<dyn FindInstance> {
        Arc::clone(&self.finder)
    }

    pub(super) fn missed(&self, miss: Miss) {
        self.program.listener.missed(miss);
    }

    /// The module of a group. Requests that miss the same group at the same time wait for one of them to get it.
    pub(super) async fn module(
        self: &Arc<Self>,
        group: u32,
        deadline: Instant,
    ) -> Result<(Module, CodeFrom), LazyFailure> {
        if let Some(module) = self.modules.get(group as usize).and_then(OnceCell::get) {
            return Ok((module.clone(), CodeFrom::Memory));
        }
        // A task of its own, which goes on when the time of this request is over: else a group that takes longer to
        // compile than requests may last would be compiled for each of them, and for none.
        let groups = Arc::clone(self);
        let getting = tokio::spawn(async move { groups.get_once(group).await });
        match tokio::time::timeout_at(deadline.into(), getting).await {
            Ok(Ok(got)) => got,
            Ok(Err(failed)) => Err(LazyFailure::NoCode { group, detail: failed.to_string() }),
            Err(_) => Err(LazyFailure::OutOfTime(group)),
        }
    }

    async fn get_once(&self, group: u32) -> Result<(Module, CodeFrom), LazyFailure> {
        let cell = self.modules.get(group as usize).ok_or(LazyFailure::UnknownSlot(group))?;
        let mut from = CodeFrom::Memory;
        let getting = cell.get_or_try_init(async || {
            let (module, found) = self.get(group).await?;
            from = found;
            Ok(module)
        });
        Ok((getting.await?.clone(), from))
    }

    async fn get(&self, group: u32) -> Result<(Module, CodeFrom), LazyFailure> {
        let no_code = |detail: String| LazyFailure::NoCode { group, detail };
        match self.program.source.code(group) {
            ColdCode::Image(image, bytes) => {
                let module = sys::load_module(&self.engine, &image, &bytes);
                Ok((module.map_err(|error| no_code(format!("{error:#}")))?, CodeFrom::Disk))
            }
            ColdCode::Source(source) => Ok((self.compile(source).await.map_err(no_code)?, CodeFrom::Compiler)),
            ColdCode::Missing(detail) => Err(no_code(detail)),
        }
    }

    /// Compiles as quickly as possible, on one thread that serves no requests.
    async fn compile(&self, source: Bytes) -> Result<Module, String> {
        let turn = Arc::clone(&self.compiles.0).acquire_owned().await.map_err(|error| error.to_string())?;
        let (engine, interruption) = (self.engine.clone(), self.program.interruption);
        let work = tokio::task::spawn_blocking(move || {
            let code = compile_module_here(&source, Tier::Quick, interruption).map_err(|error| error.to_string())?;
            let module = sys::load_compiled_module(&engine, &code).map_err(|error| format!("{error:#}"));
            // Held by the work itself: a request that stops waiting does not let the next one compile beside it.
            drop(turn);
            module
        });
        work.await.unwrap_or_else(|error| Err(format!("the compiler failed: {error}")))
    }
}

/// Whole microseconds.
pub(super) fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
