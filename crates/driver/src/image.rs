//! Machine code that was made earlier, as a driver gets it.

use std::any::Any;
use std::fmt;
use std::fs::File;
use std::io;
use std::sync::Arc;

/// Machine code of one component for one engine on one machine, whose bytes are known to be ours.
///
/// Loading it executes it, so whoever makes one of these answers for it: the file's bytes were made by
/// this driver's own compiler, their authentication was checked, and nobody can change them any more (a
/// sealed memory file). The image cache is the only place that can know this; see `ARCHITECTURE.md`.
pub struct AuthenticImage {
    file: File,
    _lease: Arc<dyn Any + Send + Sync>,
}

impl AuthenticImage {
    /// Vouches for `file`; `lease` is kept for as long as the image is in use.
    pub fn vouch_for(file: File, lease: impl Any + Send + Sync) -> Self {
        Self { file, _lease: Arc::new(lease) }
    }

    /// The same image once more, for another program.
    ///
    /// # Errors
    /// The process has no descriptor left.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self { file: self.file.try_clone()?, _lease: Arc::clone(&self._lease) })
    }

    /// The file, with the machine code from its first to its last byte.
    pub fn file(&self) -> &File {
        &self.file
    }
}

impl fmt::Debug for AuthenticImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("AuthenticImage").field(&self.file).finish()
    }
}
