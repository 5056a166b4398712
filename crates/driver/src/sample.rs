//! What an instrumented program noted of one request.

/// What one sampled request ran and touched.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sampled {
    /// A byte for each of the program's inner functions, 1 if it ran.
    pub marks: Vec<u8>,
    /// Memory of its VM when it was done, where the kernel tells.
    pub touched: Option<TouchedMemory>,
}

/// Pages of a VM's memories that its making and one request have touched, as bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TouchedMemory {
    /// Of pages that were read or written and so are there.
    pub resident_bytes: u64,
    /// Of those, pages that were written: no other VM shares them.
    pub dirty_bytes: u64,
}

/// Takes what an instrumented program noted of one request.
pub type SampleHook = Box<dyn FnOnce(Sampled) + Send>;
