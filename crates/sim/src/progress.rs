//! How far a replay has come, for whoever shows it.

/// Takes reports of progress. All methods are called often and must return quickly.
pub trait Progress {
    /// A new stage begins: reading, or a pass over the calls. `total` is its length if that is known.
    fn stage(&mut self, name: &str, total: Option<u64>);
    /// The stage has come this far, in bytes or calls.
    fn at(&mut self, done: u64);
}

/// Shows nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {
    fn stage(&mut self, _name: &str, _total: Option<u64>) {}
    fn at(&mut self, _done: u64) {}
}
