//! Machine code from a file into an engine.

use std::os::fd::AsRawFd;

use forerun_driver::AuthenticImage;
use wasmtime::Engine;
use wasmtime::component::Component;

/// Maps machine code that was made earlier.
///
/// # Errors
/// The engine finds that the code is for another version, other settings or another CPU.
pub(crate) fn load_image(engine: &Engine, image: &AuthenticImage) -> wasmtime::Result<Component> {
    // The engine opens files by path; this one has a name only here. Opening it makes a new description of
    // the same file, which stays the same whatever happens to other names.
    let path = format!("/proc/self/fd/{}", image.file().as_raw_fd());
    // SAFETY: the file must hold what `Engine::precompile_component` made, and must not change while it is
    // mapped. Whoever made the `AuthenticImage` answers for the first: its bytes carry the keyed hash of this
    // node's own cache, which only seals what its compiler made. The second holds because the file is a
    // sealed memory file: the kernel refuses every later write, truncation or growth. The descriptor is open
    // for the whole call, so the path cannot name another file meanwhile.
    unsafe { Component::deserialize_file(engine, path) }
}
