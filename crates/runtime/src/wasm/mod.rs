//! WebAssembly components on wasmtime.
//!
//! In the order of a function's life: `settings`, `engine` and `sandbox` make the engines of the process;
//! `compile`, `inspect` and `linker` turn bytes into something that can be instantiated (`driver`); for each
//! request `vm` makes a VM with its limits (`limiter`) and its view of the node (`outbound`,
//! `output`, `key_values`), `guest` enters it, and `answer` turns what it does into a response
//! whose body drives it on. `failure` names what went wrong; `reuse` keeps VMs for functions that ask for it,
//! `ready` holds VMs that were made before their request came.

mod answer;
mod compile;
mod driver;
mod engine;
mod errors;
mod failure;
mod guest;
mod inspect;
mod key_values;
mod limiter;
mod linker;
mod outbound;
mod output;
mod program;
mod ready;
mod reuse;
mod sandbox;
mod settings;
mod vm;

pub use compile::{Tier, compile};
pub use driver::{WasmDriver, WasmDriverError};
pub use settings::WasmSettings;
