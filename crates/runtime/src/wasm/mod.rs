//! WebAssembly components on wasmtime.
//!
//! In the order of a function's life: `settings`, `engine` and `sandbox` make the engines of the process;
//! `compile`, `inspect` and `linker` turn bytes into something that can be instantiated (`driver`); for each
//! request `vm` makes a VM with its limits (`limiter`) and its view of the node (`outbound`,
//! `output`, `key_values`), `guest` enters it, and `answer` turns what it does into a response
//! whose body drives it on. `failure` names what went wrong. What becomes of a VM that has
//! served is a matter of `isolation`: thrown away, put back to the state in which it was made (`rollback`), or kept as it
//! is, perhaps after a moment (`used`). A request whose prepared VM failed before it did anything that counts (`effects`) is
//! served by a new one (`retry`). How far prepared VMs may be used at all is told from outside (`trust`); `reuse` keeps one
//! for the next request, `ready` holds VMs that were made before their request came, `lazy` loads
//! what a split component calls unexpectedly.

mod affinity;
mod answer;
mod aside;
mod bodies;
mod calls_made;
mod compile;
mod cpu_time;
mod driver;
mod effects;
mod engine;
mod errors;
mod failure;
mod guest;
mod inspect;
mod interrupt;
mod isolation;
mod key_values;
mod lazy;
mod limiter;
mod linker;
mod log_streams;
mod outbound;
mod output;
mod pace;
mod program;
mod ready;
mod retry;
mod reuse;
mod rollback;
mod sampled;
mod sandbox;
mod settings;
mod trust;
mod turns;
mod used;
mod vm;
mod witness;

pub use compile::{Compiled, Tier, compile, compile_again, compile_module, compile_with};
pub use driver::{WasmDriver, WasmDriverError};
pub use engine::Interruption;
pub use inspect::is_sequential;
pub use lazy::{
    CodeFrom, ColdCode, ColdFills, ColdLayout, ColdLayoutError, ColdSource, LazyFailure, Miss, MissListener,
    SplitProgram,
};
pub use settings::WasmSettings;
pub use turns::is_crowded;
