//! The component a function runs: where its file is, and its bytes.
//!
//! Whether the bytes are a component, and of which world, is the runtime's to say.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use forerun_types::ComponentDigest;
use forerun_types::limits::COMPONENT_BYTES_MAX;

/// Why a component's file cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// Nothing at that path.
    #[error("`{}` does not exist", path.display())]
    Missing {
        /// The component.
        path: PathBuf,
    },
    /// A folder or a device.
    #[error("`{}` is not a file", path.display())]
    NotAFile {
        /// The component.
        path: PathBuf,
    },
    /// Nothing in it, such as a build that was interrupted.
    #[error("`{}` is empty", path.display())]
    Empty {
        /// The component.
        path: PathBuf,
    },
    /// Larger than a component may be.
    #[error("`{}` has more than {COMPONENT_BYTES_MAX} bytes, the most a component may have", path.display())]
    TooLarge {
        /// The component.
        path: PathBuf,
    },
    /// The operating system refused.
    #[error("cannot read `{}`: {reason}", path.display())]
    Unreadable {
        /// The component.
        path: PathBuf,
        /// The system's words.
        reason: String,
    },
    /// Not the content the manifest names.
    #[error("`{}` has the digest {found}, the manifest says {expected}", path.display())]
    OtherDigest {
        /// The component.
        path: PathBuf,
        /// As the manifest says.
        expected: ComponentDigest,
        /// As computed.
        found: ComponentDigest,
    },
}

/// Reads a component, and holds it against `digest` if one is given.
///
/// # Errors
/// Named in [`SourceError`]; nothing is read beyond the size a component may have.
pub fn read_component(path: &Path, digest: Option<ComponentDigest>) -> Result<Vec<u8>, SourceError> {
    check_file(path)?;
    let unreadable = |error: io::Error| unreadable(path, &error);
    let file = File::open(path).map_err(unreadable)?;
    let mut bytes = Vec::new();
    file.take(COMPONENT_BYTES_MAX as u64 + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() > COMPONENT_BYTES_MAX {
        return Err(SourceError::TooLarge { path: path.to_owned() });
    }
    match digest {
        Some(expected) if ComponentDigest::of(&bytes) != expected => {
            Err(SourceError::OtherDigest { path: path.to_owned(), expected, found: ComponentDigest::of(&bytes) })
        }
        Some(_) | None => Ok(bytes),
    }
}

/// Whether there is a file that may be a component, without reading it.
pub(crate) fn check_file(path: &Path) -> Result<(), SourceError> {
    let facts = std::fs::metadata(path).map_err(|error| unreadable(path, &error))?;
    if !facts.is_file() {
        return Err(SourceError::NotAFile { path: path.to_owned() });
    }
    if facts.len() == 0 {
        return Err(SourceError::Empty { path: path.to_owned() });
    }
    if facts.len() > COMPONENT_BYTES_MAX as u64 {
        return Err(SourceError::TooLarge { path: path.to_owned() });
    }
    Ok(())
}

fn unreadable(path: &Path, error: &io::Error) -> SourceError {
    match error.kind() {
        io::ErrorKind::NotFound => SourceError::Missing { path: path.to_owned() },
        _ => SourceError::Unreadable { path: path.to_owned(), reason: error.to_string() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_digest_says_and_refuses_the_rest_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.wasm");
        assert!(matches!(read_component(&path, None), Err(SourceError::Missing { .. })));
        assert!(matches!(read_component(folder.path(), None), Err(SourceError::NotAFile { .. })));
        std::fs::write(&path, b"").unwrap();
        assert!(matches!(read_component(&path, None), Err(SourceError::Empty { .. })));
        std::fs::write(&path, b"abc").unwrap();
        assert_eq!(read_component(&path, Some(ComponentDigest::of(b"abc"))).unwrap(), b"abc");
        let other = Some(ComponentDigest::of(b"abd"));
        assert!(matches!(read_component(&path, other), Err(SourceError::OtherDigest { .. })));
        File::options().write(true).open(&path).unwrap().set_len(COMPONENT_BYTES_MAX as u64 + 1).unwrap();
        assert!(matches!(read_component(&path, None), Err(SourceError::TooLarge { .. })));
    }
}
