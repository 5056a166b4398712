//! Everything a component may import, in one linker for all functions of an engine.
//!
//! Files and sockets are linked, since language runtimes import them, but there is no directory to
//! open and no address that may be reached through them.

use wasmtime::Engine;
use wasmtime::component::Linker;

use super::engine::Concurrency;
use super::vm::VmState;
use super::{key_values, log_streams, witness};

pub(super) fn linker(engine: &Engine, concurrency: Concurrency) -> wasmtime::Result<Linker<VmState>> {
    let mut linker = Linker::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    witness::add_to_linker(&mut linker)?;
    log_streams::add_to_linker(&mut linker)?;
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker)?;
    wasmtime_wasi_config::add_to_linker(&mut linker, VmState::config)?;
    key_values::add_to_linker(&mut linker, VmState::key_values)?;
    if concurrency == Concurrency::Tasks {
        wasmtime_wasi::p3::add_to_linker(&mut linker)?;
        wasmtime_wasi_http::p3::add_to_linker(&mut linker)?;
    }
    Ok(linker)
}
