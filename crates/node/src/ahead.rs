//! What a start has done by a thread of its own, while it goes on with what does not need it.

use std::io;
use std::thread::JoinHandle;

/// Work that has begun, and what comes of it.
pub(crate) struct Ahead<T>(JoinHandle<T>);

impl<T: Send + 'static> Ahead<T> {
    /// Begins it, in a thread of that name.
    pub(crate) fn begin(name: &str, work: impl FnOnce() -> T + Send + 'static) -> io::Result<Self> {
        std::thread::Builder::new().name(name.into()).spawn(work).map(Self)
    }

    /// Waits for it; nothing if it panicked, of which the panic hook has told.
    pub(crate) fn get(self) -> Option<T> {
        self.0.join().ok()
    }
}
