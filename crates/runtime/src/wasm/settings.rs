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
    /// Bytes of each memory that stay resident when its VM ends: pages that it has written are restored by copying
    /// instead of given back to the kernel, which saves the next VM of the slot the page faults. Only where the kernel
    /// lists written pages; else a VM would pay for pages that it never wrote.
    pub memory_keep_resident_bytes: usize,
    /// The same for tables.
    pub table_keep_resident_bytes: usize,
    /// The same for the guest's native stack.
    pub stack_keep_resident_bytes: usize,
    /// Ended VMs of which that much is kept; those beyond give everything back.
    pub unused_vms_resident_max: u32,
    /// Freed memories whose release to the kernel is done in one system call.
    pub decommit_batch: usize,
    /// Time between two points at which a running guest yields its thread and its deadline is checked.
    pub epoch_tick_ms: u64,
}

impl Default for WasmSettings {
    fn default() -> Self {
        Self {
            vms_max: 1000,
            core_instances_per_vm: 100,
            table_elements: 64 << 10,
            memory_keep_resident_bytes: 2 << 20,
            table_keep_resident_bytes: 16 << 10,
            stack_keep_resident_bytes: 16 << 10,
            // At most 64 MiB in all.
            unused_vms_resident_max: 32,
            decommit_batch: 1,
            epoch_tick_ms: 5,
        }
    }
}
