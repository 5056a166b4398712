//! An engine with everything that components need of it: what they may import, and the passing of epochs.

use std::sync::Arc;

use wasmtime::Engine;
use wasmtime::component::Linker;

use super::driver::WasmDriverError;
use super::engine::{self, Code, Concurrency, EpochTicker, Interruption};
use super::linker;
use super::settings::WasmSettings;
use super::vm::VmState;
use crate::sys::Flags;

/// One of the engines of the process.
pub(super) struct Sandbox {
    pub(super) engine: Engine,
    pub(super) linker: Linker<VmState>,
    pub(super) concurrency: Concurrency,
    /// Those at which its guests look in the place of epochs.
    pub(super) flags: Option<Arc<Flags>>,
    // Last, so that epochs pass for as long as anything above can run.
    _ticker: EpochTicker,
}

impl Sandbox {
    /// Sets it up; `every_tick` is called beside each epoch.
    pub(super) fn new(
        settings: &WasmSettings,
        concurrency: Concurrency,
        code: Code,
        mut every_tick: impl FnMut() + Send + 'static,
    ) -> Result<Self, WasmDriverError> {
        let refused = |error: wasmtime::Error| WasmDriverError::Engine(format!("{error:#}"));
        let engine = engine::engine(settings, concurrency, code).map_err(refused)?;
        let linker = linker::linker(&engine, concurrency).map_err(refused)?;
        let flags = (code.interruption() == Interruption::Flags).then(Arc::<Flags>::default);
        let raised = flags.clone();
        let tick = move || {
            if let Some(flags) = &raised {
                flags.raise();
            }
            every_tick();
        };
        let ticker = EpochTicker::start(&engine, settings.epoch_tick_ms, tick).map_err(WasmDriverError::Ticker)?;
        Ok(Self { engine, linker, concurrency, flags, _ticker: ticker })
    }
}
