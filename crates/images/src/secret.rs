//! The secret that authenticates what this node wrote: 32 random bytes in a file only its owner can read.
//!
//! It protects against files that were torn, damaged, swapped, restored from elsewhere or written by anybody who
//! cannot read the secret. Who can read it can write machine code that will be run; there is no defence here
//! against the node's own user.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::files;

const FILE: &str = "images.secret";
const SECRET_BYTES: usize = 32;

/// One key for each use, derived from the secret, so that a file of one kind never passes for another.
const IMAGE_CONTEXT: &str = "forerun images 2026-11-23 authentication of an image file";
const INDEX_CONTEXT: &str = "forerun images 2026-11-23 authentication of the index";

/// What image files are authenticated with. Not shown by `Debug`, so that it reaches no log.
#[derive(Clone, PartialEq, Eq)]
pub struct CacheSecret([u8; SECRET_BYTES]);

/// Why there is no secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// Not 32 bytes.
    #[error("{} does not hold a secret; remove it and start the node again, images are then built anew", file.display())]
    Malformed {
        /// The file.
        file: PathBuf,
    },
    /// Others than the owner may read or change the file, so they may know the secret.
    #[error(
        "{} can be read by others (mode {mode:03o}); remove it and start the node again, images are then built anew",
        file.display()
    )]
    Exposed {
        /// The file.
        file: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The system gave no random numbers, or the file cannot be read or written.
    #[error("{}: {detail}", file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// What the system said.
        detail: String,
    },
}

impl CacheSecret {
    /// The secret kept in `directory`, made if there is none. Keep it beside the folder of images, not inside, so
    /// that who clears the cache does not lose it. The caller holds the directory's lock.
    ///
    /// # Errors
    /// See [`SecretError`].
    pub fn read_or_create(directory: &Path) -> Result<Self, SecretError> {
        let path = directory.join(FILE);
        match files::open_plain(&path) {
            Ok(file) => read(&file, path),
            Err(error) if error.kind() == io::ErrorKind::NotFound => create(path),
            Err(error) => Err(SecretError::Io { file: path, detail: error.to_string() }),
        }
    }

    /// A secret that is kept elsewhere, or made up for a test.
    pub fn given(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The key that authenticates image files.
    pub(crate) fn image_key(&self) -> [u8; 32] {
        blake3::derive_key(IMAGE_CONTEXT, &self.0)
    }

    /// The key that authenticates the index.
    pub(crate) fn index_key(&self) -> [u8; 32] {
        blake3::derive_key(INDEX_CONTEXT, &self.0)
    }
}

fn read(opened: &File, file: PathBuf) -> Result<CacheSecret, SecretError> {
    let io = |error: io::Error| SecretError::Io { file: file.clone(), detail: error.to_string() };
    let mode = opened.metadata().map_err(io)?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(SecretError::Exposed { file, mode });
    }
    let mut bytes = Vec::new();
    opened.take(SECRET_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(io)?;
    match bytes.try_into() {
        Ok(bytes) => Ok(CacheSecret(bytes)),
        Err(_) => Err(SecretError::Malformed { file }),
    }
}

fn create(file: PathBuf) -> Result<CacheSecret, SecretError> {
    let mut bytes = [0; SECRET_BYTES];
    let written = getrandom::fill(&mut bytes)
        .map_err(|error| error.to_string())
        .and_then(|()| files::write_whole(&file, &[&bytes]).map_err(|error| error.to_string()));
    match written {
        Ok(()) => Ok(CacheSecret(bytes)),
        Err(detail) => Err(SecretError::Io { file, detail }),
    }
}

impl fmt::Debug for CacheSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CacheSecret(..)")
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn is_made_once_for_its_owner_only() {
        let directory = tempfile::tempdir().unwrap();
        let secret = CacheSecret::read_or_create(directory.path()).unwrap();
        assert_eq!(CacheSecret::read_or_create(directory.path()), Ok(secret.clone()));
        let mode = fs::metadata(directory.path().join(FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let other = tempfile::tempdir().unwrap();
        assert_ne!(CacheSecret::read_or_create(other.path()).unwrap(), secret);
        assert_ne!(secret.image_key(), secret.index_key());
        assert_eq!(format!("{secret:?}"), "CacheSecret(..)");
    }

    #[test]
    fn refuses_what_is_no_secret() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join(FILE);
        for length in [0, SECRET_BYTES - 1, SECRET_BYTES + 1] {
            files::write_whole(&file, &[&vec![7; length]]).unwrap();
            let malformed = SecretError::Malformed { file: file.clone() };
            assert_eq!(CacheSecret::read_or_create(directory.path()), Err(malformed));
        }
        files::write_whole(&file, &[&[7; SECRET_BYTES]]).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        let exposed = SecretError::Exposed { file, mode: 0o640 };
        assert_eq!(CacheSecret::read_or_create(directory.path()), Err(exposed));
    }
}
