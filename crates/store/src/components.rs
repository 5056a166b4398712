//! Components by content: a file's name is the digest of what is in it, and is believed only after hashing.
//!
//! Files are written once, whole, and never changed. Whether a component is any good is the driver's business.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use forerun_types::ComponentDigest;
use forerun_types::limits::COMPONENT_BYTES_MAX;
use parking_lot::Mutex;

use crate::directory::{self, UNFINISHED};
use crate::error::{StorageError, While};
use crate::store::Store;

const FOLDER: &str = "components";

pub(crate) struct Components {
    folder: PathBuf,
    /// Held while a file is put or collected: a component put again must not be collected in between.
    changing: Mutex<()>,
}

/// Why a component is not stored or not given.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ComponentError {
    /// Larger than a node accepts.
    #[error("the component has {bytes} bytes, at most {max} are accepted")]
    TooLarge {
        /// Size found, in bytes.
        bytes: u64,
        /// Size accepted, in bytes.
        max: usize,
    },
    /// Not in this data directory.
    #[error("component {digest} is not in the data directory")]
    Missing {
        /// Its digest.
        digest: ComponentDigest,
    },
    /// Torn or changed: the content has another digest than its name says.
    #[error(
        "component {digest} is damaged: {} has the digest {found}; deploy the component again to repair it",
        file.display()
    )]
    Damaged {
        /// The digest it should have.
        digest: ComponentDigest,
        /// The digest it has.
        found: ComponentDigest,
        /// The file.
        file: PathBuf,
    },
    /// The disk failed or is full.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// What a collection of unused components did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct GarbageReport {
    /// Components removed.
    pub removed: u64,
    /// Their size, in bytes.
    pub removed_bytes: u64,
}

impl Store {
    /// Stores a component and returns its digest. It is there for good, even across a loss of power,
    /// once this returns; deploy it within the age given to [`Store::collect_garbage`].
    ///
    /// # Errors
    /// See [`ComponentError`].
    pub fn put_component(&self, bytes: &[u8]) -> Result<ComponentDigest, ComponentError> {
        self.components.put(bytes)
    }

    /// The component with that digest; its content has been checked against it.
    ///
    /// # Errors
    /// See [`ComponentError`].
    pub fn component(&self, digest: ComponentDigest) -> Result<Vec<u8>, ComponentError> {
        self.components.get(digest)
    }

    /// Removes components that no revision names and that nobody has put within `age_min` before `now`.
    ///
    /// # Errors
    /// See [`StorageError`]; what was not removed yet stays.
    pub fn collect_garbage(&self, now: SystemTime, age_min: Duration) -> Result<GarbageReport, StorageError> {
        // Held to the end: no deploy can come to name a component while it is being removed.
        let registry = self.registry.lock();
        let named = self.named_digests(&registry)?;
        self.components.collect(&named, now, age_min)
    }
}

impl Components {
    pub(crate) fn open(directory: &Path) -> Result<Self, StorageError> {
        let folder = directory.join(FOLDER);
        directory::make_directory(&folder)
            .and_then(|()| directory::sync_parent(&folder))
            .and_then(|()| remove_unfinished(&folder))
            .while_doing("preparing the components", &folder)?;
        Ok(Self { folder, changing: Mutex::new(()) })
    }

    /// Whether there is a file for `digest`; its content is checked when it is read.
    pub(crate) fn contains(&self, digest: ComponentDigest) -> Result<bool, StorageError> {
        let path = self.path(digest);
        path.try_exists().while_doing("looking for a component", &path)
    }

    fn path(&self, digest: ComponentDigest) -> PathBuf {
        self.folder.join(digest.hex())
    }

    fn put(&self, bytes: &[u8]) -> Result<ComponentDigest, ComponentError> {
        if bytes.len() > COMPONENT_BYTES_MAX {
            return Err(ComponentError::TooLarge { bytes: bytes.len() as u64, max: COMPONENT_BYTES_MAX });
        }
        let digest = ComponentDigest::of(bytes);
        let path = self.path(digest);
        let _changing = self.changing.lock();
        match self.get(digest) {
            // Young again, so that a collection leaves it alone until it is deployed.
            Ok(_) => touch(&path).while_doing("storing a component", &path)?,
            Err(ComponentError::Missing { .. } | ComponentError::Damaged { .. } | ComponentError::TooLarge { .. }) => {
                directory::write_whole(&path, bytes).while_doing("storing a component", &path)?;
            }
            Err(error @ ComponentError::Storage(_)) => return Err(error),
        }
        Ok(digest)
    }

    fn get(&self, digest: ComponentDigest) -> Result<Vec<u8>, ComponentError> {
        let path = self.path(digest);
        let doing = "reading a component";
        let file = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(ComponentError::Missing { digest }),
            opened => opened.while_doing(doing, &path)?,
        };
        let bytes = file.metadata().while_doing(doing, &path)?.len();
        let max = COMPONENT_BYTES_MAX;
        let capacity = usize::try_from(bytes).ok().filter(|bytes| *bytes <= max);
        let capacity = capacity.ok_or(ComponentError::TooLarge { bytes, max })?;
        let mut content = Vec::with_capacity(capacity);
        file.take(bytes).read_to_end(&mut content).while_doing(doing, &path)?;
        let found = ComponentDigest::of(&content);
        if found == digest { Ok(content) } else { Err(ComponentError::Damaged { digest, found, file: path }) }
    }

    fn collect(
        &self,
        named: &HashSet<ComponentDigest>,
        now: SystemTime,
        age_min: Duration,
    ) -> Result<GarbageReport, StorageError> {
        let doing = "removing unused components";
        let _changing = self.changing.lock();
        let mut report = GarbageReport::default();
        for entry in fs::read_dir(&self.folder).while_doing(doing, &self.folder)? {
            let entry = entry.while_doing(doing, &self.folder)?;
            let Some(digest) = digest_of_file_name(&entry.file_name()) else { continue };
            if named.contains(&digest) {
                continue;
            }
            let facts = entry.metadata().while_doing(doing, &self.folder)?;
            let changed = facts.modified().while_doing(doing, &self.folder)?;
            // A file from the future has no age.
            if now.duration_since(changed).is_ok_and(|age| age >= age_min) {
                fs::remove_file(entry.path()).while_doing(doing, &self.folder)?;
                report.removed += 1;
                report.removed_bytes += facts.len();
            }
        }
        Ok(report)
    }
}

/// Anything that is not named as we name components is not ours to remove.
fn digest_of_file_name(name: &OsStr) -> Option<ComponentDigest> {
    format!("sha256:{}", name.to_str()?).parse().ok()
}

fn touch(path: &Path) -> io::Result<()> {
    File::open(path)?.set_modified(SystemTime::now())
}

/// A crash leaves at most the file that was being written.
fn remove_unfinished(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.to_string_lossy().ends_with(UNFINISHED) {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn components() -> (tempfile::TempDir, Components) {
        let directory = tempfile::tempdir().unwrap();
        let components = Components::open(directory.path()).unwrap();
        (directory, components)
    }

    #[test]
    fn gives_back_what_was_put() {
        let (_directory, components) = components();
        let digest = components.put(b"component").unwrap();
        assert_eq!(digest, ComponentDigest::of(b"component"));
        assert_eq!(components.put(b"component"), Ok(digest));
        assert_eq!(components.get(digest).unwrap(), b"component");
        let absent = ComponentDigest::of(b"absent");
        assert_eq!(components.get(absent), Err(ComponentError::Missing { digest: absent }));
    }

    #[test]
    fn refuses_torn_and_changed_files_and_repairs_them() {
        let (_directory, components) = components();
        let digest = components.put(b"component").unwrap();
        let file = components.path(digest);
        for damage in [&b"compon"[..], b"Component", b""] {
            fs::write(&file, damage).unwrap();
            let found = ComponentDigest::of(damage);
            let expected = ComponentError::Damaged { digest, found, file: file.clone() };
            assert_eq!(components.get(digest), Err(expected));
        }
        components.put(b"component").unwrap();
        assert_eq!(components.get(digest).unwrap(), b"component");
    }

    #[test]
    fn refuses_too_large_ones_before_reading_them() {
        let (_directory, components) = components();
        let digest = ComponentDigest::of(b"x");
        let bytes = COMPONENT_BYTES_MAX as u64 + 1;
        File::create(components.path(digest)).unwrap().set_len(bytes).unwrap();
        assert_eq!(components.get(digest), Err(ComponentError::TooLarge { bytes, max: COMPONENT_BYTES_MAX }));
    }

    #[test]
    fn collects_what_is_old_and_not_named() {
        let (directory, components) = components();
        let named = components.put(b"named").unwrap();
        let unused = components.put(b"unused").unwrap();
        fs::write(components.folder.join("notes.txt"), "not ours").unwrap();
        let names = HashSet::from([named]);
        let now = SystemTime::now();
        assert_eq!(components.collect(&names, now, HOUR), Ok(GarbageReport::default()));
        let report = components.collect(&names, now + 2 * HOUR, HOUR).unwrap();
        assert_eq!(report, GarbageReport { removed: 1, removed_bytes: 6 });
        assert!(components.get(named).is_ok());
        assert!(components.get(unused).is_err());
        assert_eq!(fs::read_dir(directory.path().join(FOLDER)).unwrap().count(), 2);
    }

    #[test]
    fn what_is_put_again_is_young_again() {
        let (_directory, components) = components();
        let digest = components.put(b"again").unwrap();
        let path = components.path(digest);
        let long_ago = SystemTime::now() - 10 * HOUR;
        File::open(&path).unwrap().set_modified(long_ago).unwrap();
        components.put(b"again").unwrap();
        assert_eq!(components.collect(&HashSet::new(), SystemTime::now(), HOUR), Ok(GarbageReport::default()));
    }

    #[test]
    fn leftovers_of_a_crash_go_at_start() {
        let (directory, components) = components();
        fs::write(components.folder.join("abc.tmp"), b"half").unwrap();
        drop(components);
        let components = Components::open(directory.path()).unwrap();
        assert_eq!(fs::read_dir(components.folder).unwrap().count(), 0);
    }
}
