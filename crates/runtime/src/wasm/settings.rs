//! What can be set about the wasm driver, with the reason for each default.

/// Settings of the one engine of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WasmSettings {
    /// VMs that can exist at the same time, all functions together. Each reserves address space, not memory.
    pub vms_max: u32,
    /// Core instances of one component that are planned for on average. A Rust component has 4, a
    /// Python component 75; wasmtime counts them but reserves nothing for them.
    pub core_instances_per_vm: u32,
    /// Entries of one table. A JavaScript runtime has 8,000, and a split component doubles that.
    pub table_elements: usize,
    /// Bytes of each table that stay resident when its VM ends, zeroed instead of given back to the kernel; saves page
    /// faults in the next VM of the slot. There is no such setting for memories: see [`engine`](super::engine).
    pub table_keep_resident_bytes: usize,
    /// The same for the guest's native stack.
    pub stack_keep_resident_bytes: usize,
    /// Freed memories whose release to the kernel is done in one system call.
    pub decommit_batch: usize,
    /// Time between two points at which a running guest yields its thread and its deadline is checked.
    pub epoch_tick_ms: u64,
    /// Longest time that a VM of a function that is called now and then waits before it is put back or freed, so that what
    /// runs right behind its request has the machine ([`used`](super::used)). None by default: who looks at a VM's
    /// isolation right behind a request finds what became of it.
    pub put_off_ms_max: u64,
    /// How long a VM that was put back waits for the next request of its function. It costs what its requests have written, a
    /// megabyte or two; a minute spans the pauses of a function in daily use.
    pub put_back_idle_ms: u64,
    /// Memory that idle VMs may hold for themselves, all functions together. Beyond it those go first that have been idle for
    /// longest; it is looked at some ten times a second.
    pub idle_bytes_max: u64,
}

impl Default for WasmSettings {
    fn default() -> Self {
        Self {
            vms_max: 1000,
            core_instances_per_vm: 100,
            table_elements: 64 << 10,
            table_keep_resident_bytes: 16 << 10,
            stack_keep_resident_bytes: 16 << 10,
            decommit_batch: 1,
            epoch_tick_ms: 5,
            put_off_ms_max: 0,
            put_back_idle_ms: 60_000,
            idle_bytes_max: 1 << 30,
        }
    }
}
