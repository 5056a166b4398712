//! The data directory: made private, locked for one node, written to in whole files only.
//!
//! It knows nothing of what the files mean.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::error::OpenError;

const LOCK_FILE: &str = "node.lock";
/// Files being written carry this ending until they are whole; what carries it at start is a leftover.
pub(crate) const UNFINISHED: &str = ".tmp";
/// Ours only: specifications hold secrets in their environment.
const PRIVATE_DIRECTORY: u32 = 0o700;
const PRIVATE_FILE: u32 = 0o600;

/// A data directory that belongs to this process until dropped.
#[derive(Debug)]
pub(crate) struct DataDirectory {
    path: PathBuf,
    /// The kernel gives the lock back when this is closed, at the latest when the process dies.
    _lock: File,
}

impl DataDirectory {
    /// Makes the directory if needed and locks it.
    pub(crate) fn open(path: &Path) -> Result<Self, OpenError> {
        let unusable = |error: io::Error| OpenError::Unusable { path: path.to_owned(), detail: error.to_string() };
        let path = make_data_directory(path).map_err(unusable)?;
        let lock = lock(&path)?;
        Ok(Self { path, _lock: lock })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

/// Makes the data directory if needed, durably, and says where it really is.
///
/// # Errors
/// It cannot be made, or is something else.
pub fn make_data_directory(path: &Path) -> io::Result<PathBuf> {
    let absent: Vec<_> = path.ancestors().take_while(|ancestor| !ancestor.exists()).collect();
    make_directory(path)?;
    // Else a loss of power could take the new directory with everything synced in it. A parent that may not be
    // opened belongs to somebody else and was there before.
    for ancestor in absent {
        let _ = sync_parent(ancestor);
    }
    fs::canonicalize(path)
}

/// Makes a directory and its parents, for the owner only. An existing one keeps its mode.
pub(crate) fn make_directory(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(PRIVATE_DIRECTORY).create(path)
}

/// Makes an empty file for the owner only; fails if there is one.
pub(crate) fn create_private(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(PRIVATE_FILE).open(path)
}

/// Writes a whole file or none, also across a loss of power: temporary name, sync, rename, sync of the directory.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(UNFINISHED);
    let unfinished = PathBuf::from(unfinished);
    let written = write_unfinished(&unfinished, bytes).and_then(|()| fs::rename(&unfinished, path));
    if let Err(error) = written {
        // A full disk gets its space back at once; if even this fails, the next start cleans up.
        let _ = fs::remove_file(&unfinished);
        return Err(error);
    }
    sync_parent(path)
}

fn write_unfinished(path: &Path, bytes: &[u8]) -> io::Result<()> {
    remove_if_there(path)?;
    let mut file = create_private(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Makes names in the directory of `path` durable.
pub(crate) fn sync_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => File::open(".")?.sync_all(),
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}

/// Removes a file; one that is not there is fine.
pub(crate) fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn lock(directory: &Path) -> Result<File, OpenError> {
    let unusable = |error: io::Error| OpenError::Unusable { path: directory.to_owned(), detail: error.to_string() };
    let path = directory.join(LOCK_FILE);
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(PRIVATE_FILE);
    let mut file = options.open(path).map_err(unusable)?;
    match file.try_lock() {
        Ok(()) => {
            // The process id is for the message to the second node only; the lock does not depend on it.
            let _ = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
            Ok(file)
        }
        Err(TryLockError::WouldBlock) => {
            Err(OpenError::InUse { path: directory.to_owned(), holder_pid: read_pid(&mut file) })
        }
        Err(TryLockError::Error(error)) => Err(unusable(error)),
    }
}

fn read_pid(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.rewind().ok()?;
    // A process id has at most ten digits.
    file.take(16).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
pub(crate) mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// For tests that make many small databases: syncs cost nothing there.
    pub(crate) fn directory_in_memory() -> tempfile::TempDir {
        tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
    }

    #[test]
    fn is_private_and_belongs_to_one() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("a/b");
        let first = DataDirectory::open(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        let second = DataDirectory::open(&path).unwrap_err();
        let expected = OpenError::InUse { path: first.path().to_owned(), holder_pid: Some(std::process::id()) };
        assert_eq!(second, expected);
        drop(first);
        DataDirectory::open(&path).unwrap();
    }

    #[test]
    fn an_unusable_path_is_refused_by_name() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(matches!(DataDirectory::open(&file.path().join("x")), Err(OpenError::Unusable { .. })));
    }

    #[test]
    fn whole_files_replace_what_was_there() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        write_whole(&path, b"one").unwrap();
        fs::write(directory.path().join("file.tmp"), b"left over").unwrap();
        write_whole(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
