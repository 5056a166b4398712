//! Machine code of core modules, from a file or just compiled, into an engine.

use std::os::fd::AsRawFd;

use forerun_driver::AuthenticImage;
use wasmtime::{Engine, Module};

/// Maps the machine code of a core module that was made earlier.
///
/// # Errors
/// As [`load_image`].
pub(crate) fn load_module(engine: &Engine, image: &AuthenticImage) -> wasmtime::Result<Module> {
    let path = format!("/proc/self/fd/{}", image.file().as_raw_fd());
    // SAFETY: as in `load_image`: whoever made the `AuthenticImage` answers for bytes that our own compiler made
    // (here `Engine::precompile_module`; of a component the engine would find out by the header and refuse), the
    // sealed file cannot change, and the descriptor is open for the whole call.
    unsafe { Module::deserialize_file(engine, path) }
}

/// Machine code of a core module that this process has just compiled.
pub(crate) struct CompiledModule(Vec<u8>);

impl CompiledModule {
    /// Compiles `source` with the settings of `compiler`.
    ///
    /// # Errors
    /// What the compiler said.
    pub(crate) fn new(compiler: &Engine, source: &[u8]) -> wasmtime::Result<Self> {
        compiler.precompile_module(source).map(Self)
    }

    /// For a file.
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

/// Loads the machine code of a core module that this process has just compiled.
///
/// # Errors
/// The engine finds that the code is for other settings.
pub(crate) fn load_compiled_module(engine: &Engine, code: &CompiledModule) -> wasmtime::Result<Module> {
    // SAFETY: the bytes must be what `Engine::precompile_module` made, unchanged. They are: a `CompiledModule` is
    // made in `CompiledModule::new` only, from the result of that very call, and its bytes are private to this file and
    // never changed. The engine copies them.
    unsafe { Module::deserialize(engine, &code.0) }
}
