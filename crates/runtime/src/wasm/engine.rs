//! Engines, and the thread that makes their epochs pass.
//!
//! There are three for whole components. The machinery for concurrent component calls that `wasi:http` 0.3 needs takes more
//! than a quarter of the processor time of a small 0.2 request (measured: 97 against 70 µs), and large components look at
//! flags in the place of epochs. Two more are for split ones, with epochs and with flags. Each but the first is made for the
//! first component that needs it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use wasmtime::{Config, Enabled, Engine, InstanceAllocationStrategy, OptLevel, PoolingAllocationConfig, Strategy};

use super::settings::WasmSettings;

/// Tables of one core module: its own, and room for those that specialization adds.
const TABLES_PER_MODULE_MAX: u32 = 8;
/// Memories of one core module: its own and a private one of the specializer.
const MEMORIES_PER_MODULE_MAX: u32 = 4;
/// Memories planned for per VM: a component's main memory and, in some, one of an adapter.
const MEMORIES_PER_VM: u32 = 2;
/// Memories with flags planned for per VM: as many modules as the pass takes.
const FLAGS_PER_VM: u32 = 2;
/// Tables planned for per VM. Python components have a handful across their modules.
const TABLES_PER_VM: u32 = 4;
/// Native stack of a guest. wasmtime wants it larger than the wasm stack it contains.
const STACK_BYTES: usize = 1 << 20;
/// Part of it that wasm frames may use.
const WASM_STACK_BYTES: usize = 512 << 10;
/// Largest initial memory that is mapped copy-on-write even if it is sparse; a language runtime's heap
/// is 13 MB, a snapshot may be larger. Part of the machine code's file, so no setting.
const DENSE_IMAGE_BYTES_MAX: u64 = 256 << 20;
/// Metadata of one instance; large runtimes with thousands of globals and escaping functions need megabytes.
const INSTANCE_METADATA_BYTES: usize = 4 << 20;

/// What a component needs of its engine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Concurrency {
    /// One call at a time: WASI 0.2.
    None,
    /// Tasks, streams and futures of the component model: WASI 0.3.
    Tasks,
}

/// How guests are stopped when their time is over, and made to let others run before that.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Interruption {
    /// The compiler has all code look at the engine's epoch: at each function and each loop.
    Epochs,
    /// The component looks at a flag of its own ([`interrupt`](super::interrupt)), less often and for less: a Python guest
    /// takes a fifth longer with epochs.
    Flags,
}

/// What an engine runs. With [`Interruption::Flags`] that is nothing but components that look at flags: others could not be
/// stopped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Code {
    /// Whole components.
    Whole(Interruption),
    /// Split components and their groups, and no others: the way to a group's instance is a trap with a core dump.
    Split(Interruption),
}

impl Code {
    pub(super) fn interruption(self) -> Interruption {
        match self {
            Self::Whole(interruption) | Self::Split(interruption) => interruption,
        }
    }

    fn is_split(self) -> bool {
        matches!(self, Self::Split(_))
    }
}

/// Everything that decides which machine code is made: the same for the engine that runs it and for
/// compilers in other processes, or the engine would refuse what they make.
pub(super) fn code_config(concurrency: Concurrency, interruption: Interruption) -> Config {
    let mut config = Config::new();
    config.strategy(Strategy::Cranelift);
    config.cranelift_opt_level(OptLevel::Speed);
    config.wasm_component_model(true);
    match concurrency {
        Concurrency::None => config.concurrency_support(false),
        Concurrency::Tasks => config.wasm_component_model_async(true),
    };
    match interruption {
        Interruption::Epochs => config.epoch_interruption(true),
        // The pass says which way its checks hardly ever go. Flags are known by their addresses; nothing in a pool moves anyway.
        Interruption::Flags => config.wasm_branch_hinting(true).memory_may_move(false),
    };
    config.memory_guaranteed_dense_image_size(DENSE_IMAGE_BYTES_MAX);
    // Nobody unwinds guests natively, and registering frames is slow with many modules.
    config.native_unwind_info(false);
    config
}

/// Makes an engine. Fails where the address space cannot be reserved.
pub(super) fn engine(settings: &WasmSettings, concurrency: Concurrency, code: Code) -> wasmtime::Result<Engine> {
    let mut config = code_config(concurrency, code.interruption());
    config.memory_init_cow(true);
    config.max_wasm_stack(WASM_STACK_BYTES);
    config.async_stack_size(STACK_BYTES);
    config.coredump_on_trap(code.is_split());
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool(settings, code)));
    Engine::new(&config)
}

fn pool(settings: &WasmSettings, code: Code) -> PoolingAllocationConfig {
    let vms = settings.vms_max;
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(vms);
    pool.total_core_instances(vms.saturating_mul(settings.core_instances_per_vm));
    let flags = if code.interruption() == Interruption::Flags { FLAGS_PER_VM } else { 0 };
    pool.total_memories(vms.saturating_mul(MEMORIES_PER_VM + flags));
    // A split component has a table of cold functions, and the trap that finds an instance runs on a stack of its own.
    let one_more = u32::from(code.is_split());
    pool.total_tables(vms.saturating_mul(TABLES_PER_VM + one_more));
    pool.total_stacks(vms.saturating_mul(1 + one_more));
    pool.max_tables_per_module(TABLES_PER_MODULE_MAX);
    pool.max_memories_per_module(MEMORIES_PER_MODULE_MAX);
    pool.table_elements(settings.table_elements);
    pool.max_core_instance_size(INSTANCE_METADATA_BYTES);
    pool.max_component_instance_size(INSTANCE_METADATA_BYTES);
    // Memories are given back to the kernel whole, though keeping written pages for the next VM of the slot would save it a
    // sixth of its time (JavaScript: 1,345 against 1,583 us). With `pagemap_scan` wasmtime 48 restores those that are
    // present, and so neither one that was swapped out nor one that the kernel is just moving: the next VM, of another
    // request, finds them as they were left. `leak_tests` has the case; pull request 14357 of wasmtime mends it, and can
    // bring this back.
    pool.linear_memory_keep_resident(0);
    pool.pagemap_scan(Enabled::No);
    pool.table_keep_resident(settings.table_keep_resident_bytes);
    pool.async_stack_keep_resident(settings.stack_keep_resident_bytes);
    pool.decommit_batch_size(settings.decommit_batch);
    pool
}

/// Increments the engine's epoch every tick and calls `every_tick` beside it; stops when dropped.
pub(super) struct EpochTicker {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl EpochTicker {
    pub(super) fn start(
        engine: &Engine,
        tick_ms: u64,
        mut every_tick: impl FnMut() + Send + 'static,
    ) -> std::io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let weak = engine.weak();
        let stopped = Arc::clone(&stop);
        let thread = std::thread::Builder::new().name("epoch".into()).spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(tick_ms));
                match weak.upgrade() {
                    Some(engine) => engine.increment_epoch(),
                    None => return,
                }
                every_tick();
            }
        })?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for EpochTicker {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // The thread does not panic, and there is nobody to tell if it did.
            let _ = thread.join();
        }
    }
}
