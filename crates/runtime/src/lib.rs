//! VM drivers behind the contract of `forerun-driver`. This crate alone knows wasmtime.
//!
//! One driver so far: [`WasmDriver`] runs `wasi:http` components. Routing, admission and timing of
//! whole requests are not here, nor is anything that learns.

mod sys;
mod wasm;

pub use sys::let_others_go_first;
pub use wasm::{
    CodeFrom, ColdCode, ColdFills, ColdLayout, ColdLayoutError, ColdSource, Compiled, Interruption, LazyFailure, Miss,
    MissListener, SplitProgram, Tier, WasmDriver, WasmDriverError, WasmSettings, compile, compile_again,
    compile_module, compile_with, is_crowded, is_sequential,
};
