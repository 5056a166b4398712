//! Linear memory of one VM: how much it may have, has, and had at most.

use wasmtime::ResourceLimiter;

/// Counts all memories of a VM together. Refusing growth is no trap: the guest's allocator sees a failed `memory.grow`.
pub(super) struct MemoryLimiter {
    max_bytes: u64,
    bytes: u64,
    bytes_peak: u64,
    refused: bool,
    /// Memory when the VM had been made.
    bytes_made: u64,
    table_grew: bool,
}

impl MemoryLimiter {
    pub(super) fn new(max_bytes: u64) -> Self {
        Self { max_bytes, bytes: 0, bytes_peak: 0, refused: false, bytes_made: 0, table_grew: false }
    }

    /// Most memory so far, in bytes.
    pub(super) fn bytes_peak(&self) -> u64 {
        self.bytes_peak
    }

    /// The VM has been made; what grows from now on grew in use.
    pub(super) fn made(&mut self) {
        self.bytes_made = self.bytes;
        self.table_grew = false;
    }

    /// Has the memory of a used VM from now on, of which nothing was asked yet.
    pub(super) fn take_over(&mut self, used: &Self) {
        (self.bytes, self.bytes_peak, self.bytes_made) = (used.bytes, used.bytes, used.bytes_made);
    }

    /// Whether a memory grew since the VM was made.
    pub(super) fn memory_grew(&self) -> bool {
        self.grown_bytes() > 0
    }

    /// By how much memory grew since the VM was made.
    pub(super) fn grown_bytes(&self) -> u64 {
        self.bytes.saturating_sub(self.bytes_made)
    }

    /// Half of what the VM may have beyond what it had when it was made; `room_bytes` of that do not count.
    pub(super) fn room_bytes_max(&self, room_bytes: u32) -> u64 {
        let needed = self.bytes_made.saturating_sub(u64::from(room_bytes));
        self.max_bytes.saturating_sub(needed) / 2
    }

    /// Whether a table grew since the VM was made.
    pub(super) fn table_grew(&self) -> bool {
        self.table_grew
    }

    /// Whether growth has been refused; a trap after that is most likely the guest's answer to it.
    pub(super) fn refused(&self) -> bool {
        self.refused
    }
}

impl ResourceLimiter for MemoryLimiter {
    fn memory_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        let bytes = self.bytes.saturating_sub(current as u64).saturating_add(desired as u64);
        if bytes > self.max_bytes {
            self.refused = true;
            return Ok(false);
        }
        self.bytes = bytes;
        self.bytes_peak = self.bytes_peak.max(bytes);
        Ok(true)
    }

    fn table_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        if maximum == Some(current) && desired > current {
            return Ok(false);
        }
        self.table_grew = true;
        // The pool bounds every table by its own `table_elements`.
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_all_memories_together() {
        let mut limiter = MemoryLimiter::new(300);
        assert!(limiter.memory_growing(0, 100, None).unwrap());
        assert!(limiter.memory_growing(0, 150, None).unwrap());
        assert!(!limiter.memory_growing(100, 200, None).unwrap());
        assert!(limiter.refused());
        assert!(limiter.memory_growing(100, 150, None).unwrap());
        assert_eq!(limiter.bytes_peak(), 300);
    }

    #[test]
    fn a_full_table_that_is_told_to_grow_does_not() {
        let mut limiter = MemoryLimiter::new(300);
        assert!(limiter.table_growing(0, 10, Some(10)).unwrap());
        limiter.made();
        assert!(!limiter.table_growing(10, 17, Some(10)).unwrap() && !limiter.table_grew());
        assert!(limiter.table_growing(10, 10, Some(10)).unwrap());
    }

    #[test]
    fn growth_in_use_is_told_from_growth_at_the_start() {
        let mut limiter = MemoryLimiter::new(300);
        assert!(limiter.memory_growing(0, 100, None).unwrap() && limiter.table_growing(0, 10, None).unwrap());
        limiter.made();
        assert!(!limiter.memory_grew() && !limiter.table_grew());
        assert!(limiter.table_growing(10, 20, None).unwrap() && limiter.memory_growing(100, 200, None).unwrap());
        assert!(limiter.memory_grew() && limiter.table_grew());
        let mut renewed = MemoryLimiter::new(300);
        renewed.take_over(&limiter);
        assert!(renewed.memory_grew(), "memory cannot shrink");
        assert!(!renewed.table_grew());
    }
}
