//! From a component to machine code that any engine of this build on this machine can load.
//!
//! It needs no engine to run anything, so that it can be called in a process of its own. What it makes
//! is the same, byte for byte, for the same input.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use forerun_driver::LoadError;
use wasmtime::{Config, Engine, OptLevel, RegallocAlgorithm};

use super::bodies::Bodies;
use super::driver::not_compiled;
use super::engine::{Concurrency, Interruption};
use super::{engine, inspect};
use crate::sys::CompiledModule;

/// How much work the compiler puts in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tier {
    /// Half the compile time for code that is about two thirds slower: so that a fresh deployment serves soon.
    Quick,
    /// The fastest code.
    Full,
}

/// Compiles `source` on all cores (`parallel`) or on one.
///
/// # Errors
/// Why `source` is no component, or what the compiler said.
pub fn compile(source: &[u8], tier: Tier, parallel: bool) -> Result<Vec<u8>, LoadError> {
    compile_with(source, tier, parallel, Interruption::Epochs)
}

/// Compiles `source` for an engine that interrupts it so. With [`Interruption::Flags`] it must be a component that looks at
/// them, or it runs until it ends by itself.
///
/// # Errors
/// As [`compile`].
pub fn compile_with(
    source: &[u8],
    tier: Tier,
    parallel: bool,
    interruption: Interruption,
) -> Result<Vec<u8>, LoadError> {
    inspect::check_header(source)?;
    let engine = compiler(inspect::concurrency(source), tier, parallel, interruption)?;
    engine.precompile_component(source).map_err(|error| not_compiled(&error))
}

/// Machine code, and what the next compilation of much the same component can use of it.
#[derive(Debug)]
pub struct Compiled {
    /// The code, as [`compile_with`] makes it.
    pub code: Vec<u8>,
    /// The code of its function bodies, for [`compile_again`].
    pub bodies: Vec<u8>,
    /// Function bodies whose code was there already.
    pub reused: usize,
    /// Function bodies that were compiled.
    pub made: usize,
}

/// Compiles `source` as [`compile_with`] does, to the same bytes, and takes the code of bodies that were compiled before from
/// `bodies`, which is that of an earlier [`Compiled`] or empty. It is not checked: who gives it vouches for it.
///
/// # Errors
/// As [`compile`].
pub fn compile_again(
    source: &[u8],
    tier: Tier,
    parallel: bool,
    interruption: Interruption,
    bodies: Vec<u8>,
) -> Result<Compiled, LoadError> {
    inspect::check_header(source)?;
    let bodies = Arc::new(Bodies::of(bodies));
    let mut config = config(inspect::concurrency(source), tier, parallel, interruption);
    let failed = |error| LoadError::Compile { detail: format!("{error:#}") };
    config.enable_incremental_compilation(Arc::clone(&bodies) as _).map_err(failed)?;
    let engine = Engine::new(&config).map_err(failed)?;
    let code = engine.precompile_component(source).map_err(|error| not_compiled(&error))?;
    let (reused, made) = bodies.counts();
    Ok(Compiled { code, bodies: bodies.leave(), reused, made })
}

/// Compiles a core module of a split component, for [`super::SplitProgram`], on one core. With [`Interruption::Flags`] it must
/// look at them.
///
/// # Errors
/// Why `source` is no module, or what the compiler said.
pub fn compile_module(source: &[u8], tier: Tier, interruption: Interruption) -> Result<Vec<u8>, LoadError> {
    compile_module_here(source, tier, interruption).map(CompiledModule::into_bytes)
}

/// The same, for this process.
pub(super) fn compile_module_here(
    source: &[u8],
    tier: Tier,
    interruption: Interruption,
) -> Result<CompiledModule, LoadError> {
    if source.len() > forerun_types::limits::COMPONENT_BYTES_MAX {
        return Err(LoadError::TooLarge { bytes: source.len(), max: forerun_types::limits::COMPONENT_BYTES_MAX });
    }
    let engine = compiler(Concurrency::None, tier, false, interruption)?;
    CompiledModule::new(&engine, source).map_err(|error| not_compiled(&error))
}

fn compiler(
    concurrency: Concurrency,
    tier: Tier,
    parallel: bool,
    interruption: Interruption,
) -> Result<Engine, LoadError> {
    let config = config(concurrency, tier, parallel, interruption);
    Engine::new(&config).map_err(|error| LoadError::Compile { detail: format!("{error:#}") })
}

fn config(concurrency: Concurrency, tier: Tier, parallel: bool, interruption: Interruption) -> Config {
    let mut config = engine::code_config(concurrency, interruption);
    config.parallel_compilation(parallel);
    match tier {
        Tier::Full => {}
        // Neither changes what engines accept.
        Tier::Quick => {
            config.cranelift_opt_level(OptLevel::None);
            config.cranelift_regalloc_algorithm(RegallocAlgorithm::SinglePass);
        }
    }
    config
}

/// What machine code must match to be loaded by this build on this machine: version and settings of the
/// engines, and CPU features.
pub(super) fn fingerprint() -> wasmtime::Result<[u8; 32]> {
    let mut hasher = Collector(blake3::Hasher::new());
    let engines = [
        (Concurrency::None, Interruption::Epochs),
        (Concurrency::Tasks, Interruption::Epochs),
        (Concurrency::None, Interruption::Flags),
    ];
    for (concurrency, interruption) in engines {
        let engine = Engine::new(&engine::code_config(concurrency, interruption))?;
        engine.precompile_compatibility_hash().hash(&mut hasher);
    }
    // Code of another build of ours may have been made with other settings that the engine does not check.
    hasher.write(env!("CARGO_PKG_VERSION").as_bytes());
    // Nor does it see what the specializer does to a component first: code without that would never be rolled back.
    hasher.write(b"state 1, interrupt 1");
    Ok(*hasher.0.finalize().as_bytes())
}

/// Collects what a `Hash` implementation writes into a hash wide enough to be a name.
struct Collector(blake3::Hasher);

impl Hasher for Collector {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(&(bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        let bytes = *self.0.finalize().as_bytes();
        bytes[..8].iter().fold(0, |value, byte| value << 8 | u64::from(*byte))
    }
}
