//! Where a running node tells local tools its admin address and where its token is.
//!
//! Two files with the same content: `node.json` in the data folder, and one named after the admin port in
//! the user's own folder, so that `forerun functions` finds the node from any folder. Neither holds the
//! token itself. They are hints: whoever finds a stale one sees a refused connection.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// File in the data folder.
const NODE_FILE: &str = "node.json";
/// Folder of files by port in the user's data folder.
const RUNNING_FOLDER: &str = "running";
/// Such a file has two short paths in it; what is larger is something else.
const FILE_BYTES_MAX: u64 = 16 << 10;

/// A node that runs, or ran, on this machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RunningNode {
    /// Address of the admin API.
    pub(crate) admin: SocketAddr,
    /// File with its token.
    pub(crate) token_file: PathBuf,
}

/// The folder of files by port, in the user's own folder.
pub(crate) fn folder(user_folder: &Path) -> PathBuf {
    user_folder.join(RUNNING_FOLDER)
}

/// Removes the files when the node ends.
pub(crate) struct Announcement(Vec<PathBuf>);

impl RunningNode {
    /// Writes the files; one that cannot be written is left out, with a warning.
    pub(crate) fn announce(&self, data: &Path, user_folder: Option<&Path>) -> Announcement {
        let by_port = user_folder.map(|folder| self::folder(folder).join(self.file_name()));
        let mut written = Vec::new();
        for path in [Some(data.join(NODE_FILE)), by_port].into_iter().flatten() {
            match self.write(&path) {
                Ok(()) => written.push(path),
                Err(error) => tracing::warn!(path = %path.display(), %error, "other commands may not find this node"),
            }
        }
        Announcement(written)
    }

    /// The node whose data folder this is, if a file says so.
    pub(crate) fn of_data_folder(data: &Path) -> Option<Self> {
        Self::read(&data.join(NODE_FILE))
    }

    /// The node of this user with that admin port, if a file says so.
    pub(crate) fn of_port(port: u16, user_folder: &Path) -> Option<Self> {
        Self::read(&folder(user_folder).join(format!("{port}.json")))
    }

    fn file_name(&self) -> String {
        format!("{}.json", self.admin.port())
    }

    fn read(path: &Path) -> Option<Self> {
        let length = fs::metadata(path).ok()?.len();
        if length > FILE_BYTES_MAX {
            return None;
        }
        serde_json::from_slice(&fs::read(path).ok()?).ok()
    }

    fn write(&self, path: &Path) -> io::Result<()> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(path, serde_json::to_vec(self)?)
    }
}

impl Drop for Announcement {
    fn drop(&mut self) {
        for path in &self.0 {
            // Nothing to do about a file that is gone already.
            let _ = fs::remove_file(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_found_by_folder_and_by_port_until_it_ends() {
        let folder = tempfile::tempdir().unwrap();
        let (data, user) = (folder.path().join("data"), folder.path().join("user"));
        let node = RunningNode { admin: "127.0.0.1:8081".parse().unwrap(), token_file: "t".into() };
        let announcement = node.announce(&data, Some(&user));
        assert_eq!(RunningNode::of_data_folder(&data), Some(node.clone()));
        assert_eq!(RunningNode::of_port(8081, &user), Some(node));
        assert_eq!(RunningNode::of_port(8082, &user), None);
        drop(announcement);
        assert_eq!(RunningNode::of_data_folder(&data), None);
    }

    #[test]
    fn what_is_no_such_file_is_ignored() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(NODE_FILE), "not json").unwrap();
        assert_eq!(RunningNode::of_data_folder(folder.path()), None);
        fs::write(folder.path().join(NODE_FILE), vec![b' '; 20_000]).unwrap();
        assert_eq!(RunningNode::of_data_folder(folder.path()), None);
    }
}
