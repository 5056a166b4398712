//! Machine code of core modules, from a file or just compiled, into an engine.

use std::ops::Range;
use std::os::unix::fs::FileExt;

use forerun_driver::AuthenticImage;
use wasmtime::{Engine, Module};

/// Loads the machine code of a core module that is a part of an image: its `bytes`.
///
/// # Errors
/// The image ends before, or as [`load_image`](super::load_image).
pub(crate) fn load_module(engine: &Engine, image: &AuthenticImage, bytes: &Range<u64>) -> wasmtime::Result<Module> {
    let file_bytes = image.file().metadata()?.len();
    if bytes.start > bytes.end || bytes.end > file_bytes {
        wasmtime::bail!("bytes {} to {} of an image that has {file_bytes}", bytes.start, bytes.end);
    }
    let mut code = vec![0; usize::try_from(bytes.end - bytes.start)?];
    image.file().read_exact_at(&mut code, bytes.start)?;
    // SAFETY: the bytes must be what `Engine::precompile_module` made, unchanged. Whoever made the `AuthenticImage` answers
    // for the whole file, as in `load_image`, and for what stands where in it: its table of parts is among the bytes that
    // were authenticated. (Code of a component, and code for other settings, the engine finds out by the header and
    // refuses.) The file is sealed, so that what was read is what was authenticated, and the engine copies `code`.
    unsafe { Module::deserialize(engine, &code) }
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
