//! Linear memory of one VM: how much it may have, has, and had at most.

use wasmtime::ResourceLimiter;

/// Counts all memories of a VM together. Refusing growth is no trap: the guest's allocator sees a failed `memory.grow`.
pub(super) struct MemoryLimiter {
    max_bytes: u64,
    bytes: u64,
    bytes_peak: u64,
    refused: bool,
}

impl MemoryLimiter {
    pub(super) fn new(max_bytes: u64) -> Self {
        Self { max_bytes, bytes: 0, bytes_peak: 0, refused: false }
    }

    /// Most memory so far, in bytes.
    pub(super) fn bytes_peak(&self) -> u64 {
        self.bytes_peak
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

    fn table_growing(&mut self, _current: usize, _desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
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
}
