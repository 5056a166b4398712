//! The data folder: whether it can be written, has room, is on a local disk, and keeps the token to itself.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Check, read};
use crate::client::text;

/// Below this much free room a deploy of a large component fails.
const FREE_BYTES_FAILED: u64 = 100 << 20;
/// Below this much, logs and revisions fill the disk soon.
const FREE_BYTES_MIN: u64 = 1 << 30;
/// File systems over a network, on which SQLite's shared memory does not work: <https://sqlite.org/wal.html>.
const NETWORK_FILE_SYSTEMS: &[&str] = &["nfs", "nfs4", "cifs", "smb3", "9p", "afs", "ceph", "fuse.sshfs"];

/// The folder a node would use: the first that exists, or else the last, which `forerun serve` would make.
pub(super) fn likely_folder(folders: &[PathBuf]) -> Option<PathBuf> {
    folders.iter().find(|folder| folder.is_dir()).or(folders.last()).cloned()
}

/// All checks of this file.
pub(super) fn checks(root: &Path, folder: &Path) -> Vec<Check> {
    let existing = existing(folder);
    let mut checks = vec![writable(folder, &existing), free(&existing), local(root, &existing)];
    checks.extend(token(folder));
    checks
}

/// The folder, or the nearest one above it that exists.
fn existing(folder: &Path) -> PathBuf {
    let absolute = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
    absolute.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/")).to_owned()
}

fn writable(folder: &Path, existing: &Path) -> Check {
    let name = "data folder";
    let shown = folder.display();
    match tempfile::Builder::new().prefix(".doctor-").tempfile_in(existing) {
        Ok(_removed_at_once) if existing.ends_with(folder) || folder.exists() => {
            Check::ok(name, format!("{shown} can be written"))
        }
        Ok(_removed_at_once) => Check::ok(name, format!("{shown} does not exist yet and can be made")),
        Err(error) => {
            let detail = format!("{shown} cannot be written: {error}");
            Check::failed(name, detail, "name another with --data DIR, or change its owner")
        }
    }
}

fn free(existing: &Path) -> Check {
    // There is no safe call in the standard library, and POSIX has a program for it.
    let output = Command::new("df").arg("-Pk").arg(existing).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    match available(&text) {
        Some(bytes) => free_bytes(bytes),
        None => Check::warning("free disk", "`df` does not say how much", "see for yourself that the disk has room"),
    }
}

/// The fourth column of the last line of `df -Pk`. The name before may have spaces, so columns count from the `%`.
fn available(text: &str) -> Option<u64> {
    let columns: Vec<&str> = text.lines().last()?.split_whitespace().collect();
    let percent = columns.iter().position(|column| column.ends_with('%'))?;
    let kilobytes: u64 = columns.get(percent.checked_sub(1)?)?.parse().ok()?;
    kilobytes.checked_mul(1024)
}

fn free_bytes(bytes: u64) -> Check {
    let (name, shown) = ("free disk", text::bytes(bytes));
    let hint = "free some, or name a folder on another disk with --data DIR";
    match bytes {
        0..FREE_BYTES_FAILED => Check::failed(name, shown, hint),
        FREE_BYTES_FAILED..FREE_BYTES_MIN => Check::warning(name, shown, hint),
        _ => Check::ok(name, shown),
    }
}

fn local(root: &Path, existing: &Path) -> Check {
    let name = "file system";
    let mounts = read(root, "proc/self/mounts").unwrap_or_default();
    match file_system(&mounts, existing) {
        Some(kind) if NETWORK_FILE_SYSTEMS.contains(&kind) => {
            let detail = format!("{kind}, which is over a network; the store may be damaged there");
            Check::failed(name, detail, "name a folder on a local disk with --data DIR")
        }
        Some(kind) => Check::ok(name, kind),
        None => Check::unknown(name, "its kind"),
    }
}

/// The kind of the mount a path is on: the one with the longest path, of several the last.
fn file_system<'a>(mounts: &'a str, path: &Path) -> Option<&'a str> {
    let mut best: Option<(usize, &str)> = None;
    for line in mounts.lines() {
        let mut columns = line.split(' ');
        let (Some(_), Some(place), Some(kind)) = (columns.next(), columns.next(), columns.next()) else { continue };
        let place = place.replace("\\040", " ");
        if path.starts_with(&place) && best.is_none_or(|(length, _)| place.len() >= length) {
            best = Some((place.len(), kind));
        }
    }
    best.map(|(_, kind)| kind)
}

/// Whether others can read the token; nothing if there is none yet.
fn token(folder: &Path) -> Option<Check> {
    let name = "token";
    let file = folder.join("admin.token");
    let facts = std::fs::metadata(&file).ok()?;
    let mode = facts.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        let detail = format!("others may read {} (mode {mode:03o}); the node refuses to start with it", file.display());
        return Some(Check::failed(name, detail, "remove the file, and start the node again to get a new one"));
    }
    Some(Check::ok(name, "only its owner can read it"))
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::*;

    #[test]
    fn reads_df_with_spaces_in_names() {
        let text = "Filesystem 1024-blocks Used Available Capacity Mounted on\nmy disk 100 40 60 40% /mnt/a b\n";
        assert_eq!(available(text), Some(60 * 1024));
        for bad in ["", "df: x: No such file", "%", "a 1%"] {
            assert_eq!(available(bad), None, "{bad}");
        }
    }

    #[test]
    fn little_room_is_named() {
        assert_eq!(free_bytes(0).state, State::Failed);
        assert_eq!(free_bytes(FREE_BYTES_FAILED).state, State::Warning);
        assert_eq!(free_bytes(FREE_BYTES_MIN).state, State::Ok);
    }

    #[test]
    fn the_nearest_mount_counts() {
        let mounts = "/dev/a / ext4 rw 0 0\nhost:/b /home nfs4 rw 0 0\n/dev/c /home/a\\040b xfs rw 0 0\n";
        assert_eq!(file_system(mounts, Path::new("/home/x/data")), Some("nfs4"));
        assert_eq!(file_system(mounts, Path::new("/home/a b/data")), Some("xfs"));
        assert_eq!(file_system(mounts, Path::new("/homes")), Some("ext4"));
        assert_eq!(file_system("", Path::new("/")), None);
    }

    #[test]
    fn a_folder_is_tried_and_left_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("a/b");
        assert!(writable(&missing, &existing(&missing)).detail.contains("can be made"));
        assert!(writable(folder.path(), folder.path()).detail.contains("can be written"));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        assert_eq!(writable(Path::new("/proc/x"), Path::new("/proc")).state, State::Failed);
    }

    #[test]
    fn a_token_others_can_read_has_failed() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(token(folder.path()), None);
        let file = folder.path().join("admin.token");
        std::fs::write(&file, "x").unwrap();
        for (mode, state) in [(0o600, State::Ok), (0o640, State::Failed)] {
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(token(folder.path()).unwrap().state, state);
        }
    }
}
