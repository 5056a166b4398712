//! A disk of the soak's own, so that it can be full without harm to anybody: a tmpfs where this may be mounted.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

/// Room for the images of the four languages, several times.
const DISK_MIB: u32 = 1_024;
const BLOCK_BYTES: usize = 1 << 20;
/// The last bytes are taken in blocks of this size.
const BLOCK_BYTES_SMALL: usize = 4_096;

/// A folder, on a file system of its own if that can be had.
pub(super) struct Disk {
    folder: TempDir,
    is_mounted: bool,
}

impl Disk {
    pub(super) fn new() -> Result<Self> {
        let folder = tempfile::tempdir().context("no temporary folder can be made")?;
        let size = format!("size={DISK_MIB}m");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(folder.path()).status();
        let is_mounted = mounted.is_ok_and(|status| status.success());
        if !is_mounted {
            crate::say("no tmpfs can be mounted here: the disk will NOT be full");
        }
        Ok(Self { folder, is_mounted })
    }

    pub(super) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Whether it can be made full.
    pub(super) fn is_own(&self) -> bool {
        self.is_mounted
    }

    /// Takes what is left of it; how many bytes that was.
    pub(super) fn fill(&self) -> Result<u64> {
        if !self.is_mounted {
            bail!("this disk is not ours to fill");
        }
        let mut file = File::options().create(true).append(true).open(self.filler())?;
        let mut bytes = 0;
        for size in [BLOCK_BYTES, BLOCK_BYTES_SMALL] {
            let block = vec![0; size];
            while file.write_all(&block).is_ok() {
                bytes += size as u64;
            }
        }
        Ok(bytes)
    }

    /// Gives it back.
    pub(super) fn free(&self) -> Result<()> {
        std::fs::remove_file(self.filler()).context("the disk cannot be freed")
    }

    fn filler(&self) -> PathBuf {
        self.folder.path().join("filler")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if self.is_mounted {
            // Lazily, for a node that has not ended yet.
            let _ = Command::new("umount").arg("--lazy").arg(self.folder.path()).status();
        }
    }
}
