//! Finds the manifest file and reads it, with a bound on its size.
//!
//! Bytes to text only; nothing is parsed here.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::error::ManifestError;

/// Name of our own manifest.
pub const FORERUN_FILE: &str = "forerun.toml";
/// Name of Spin's manifest.
pub const SPIN_FILE: &str = "spin.toml";
/// Largest manifest read. A function needs some 300 bytes, so this is room for thousands of them, and a component
/// given by mistake is refused before it is read.
pub const MANIFEST_BYTES_MAX: u64 = 1 << 20;

/// The manifest meant by `path`: itself if it is a file, else the one in that folder.
pub(crate) fn find(path: &Path) -> Result<PathBuf, ManifestError> {
    let kind = std::fs::metadata(path).map_err(|error| unreadable(path, &error))?;
    if kind.is_file() {
        return Ok(path.to_owned());
    }
    if !kind.is_dir() {
        return Err(ManifestError::NotAFile { path: path.to_owned() });
    }
    let candidates = [FORERUN_FILE, SPIN_FILE].map(|name| path.join(name));
    let found = candidates.into_iter().find(|candidate| candidate.is_file());
    found.ok_or_else(|| ManifestError::NoManifest { folder: path.to_owned() })
}

/// The text of the manifest at `path`.
pub(crate) fn read(path: &Path) -> Result<String, ManifestError> {
    let file = File::open(path).map_err(|error| unreadable(path, &error))?;
    let mut bytes = Vec::new();
    // One byte more than allowed tells a file that is too large, also if it grows while it is read.
    file.take(MANIFEST_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(|error| unreadable(path, &error))?;
    if bytes.len() as u64 > MANIFEST_BYTES_MAX {
        return Err(ManifestError::TooLarge { path: path.to_owned() });
    }
    String::from_utf8(bytes).map_err(|error| {
        let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = good.iter().filter(|byte| **byte == b'\n').count() + 1;
        ManifestError::NotText { path: path.to_owned(), line }
    })
}

fn unreadable(path: &Path, error: &io::Error) -> ManifestError {
    match error.kind() {
        io::ErrorKind::NotFound => ManifestError::NotFound { path: path.to_owned() },
        _ => ManifestError::Unreadable { path: path.to_owned(), reason: error.to_string() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefers_our_own_manifest_in_a_folder() {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(find(folder.path()), Err(ManifestError::NoManifest { .. })));
        std::fs::write(folder.path().join(SPIN_FILE), "").unwrap();
        assert!(find(folder.path()).unwrap().ends_with(SPIN_FILE));
        std::fs::write(folder.path().join(FORERUN_FILE), "").unwrap();
        assert!(find(folder.path()).unwrap().ends_with(FORERUN_FILE));
    }

    #[test]
    fn refuses_by_name() {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(find(&folder.path().join("nothing")), Err(ManifestError::NotFound { .. })));
        assert!(matches!(find(Path::new("/dev/null")), Err(ManifestError::NotAFile { .. })));
        let file = folder.path().join("x");
        std::fs::write(&file, vec![b' '; MANIFEST_BYTES_MAX as usize + 1]).unwrap();
        assert!(matches!(read(&file), Err(ManifestError::TooLarge { .. })));
        std::fs::write(&file, b"a\n\xff").unwrap();
        assert!(matches!(read(&file), Err(ManifestError::NotText { line: 2, .. })));
    }
}
