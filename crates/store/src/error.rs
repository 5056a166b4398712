//! What the disk can answer instead of doing what was asked, in names that tell an operator what to do.

use std::io;
use std::path::{Path, PathBuf};

use rusqlite::ErrorCode;

/// Why the data directory cannot be used. Nothing in it was changed, unless it was empty.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The directory or a folder in it cannot be made or entered.
    #[error("data directory {}: {detail}", path.display())]
    Unusable {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        detail: String,
    },
    /// Another node runs on it.
    #[error("data directory {} is in use by another node{}; stop it or choose another directory", path.display(), holder_text(*holder_pid))]
    InUse {
        /// The directory.
        path: PathBuf,
        /// Process id of the other node, if it could be read.
        holder_pid: Option<u32>,
    },
    /// A later release wrote it.
    #[error("{} was written by a newer release (format {found}, this one reads up to {supported}); use that release or another directory", file.display())]
    DataDirectoryNewer {
        /// The database.
        file: PathBuf,
        /// Its format.
        found: u32,
        /// Latest format this release knows.
        supported: u32,
    },
    /// A SQLite database of some other program.
    #[error("{} is a database of another program; it was left as it is", file.display())]
    Foreign {
        /// The database.
        file: PathBuf,
    },
    /// The disk failed, is full, or holds something damaged.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

fn holder_text(pid: Option<u32>) -> String {
    pid.map(|pid| format!(" (process {pid})")).unwrap_or_default()
}

/// Why something could not be stored or read back. Whatever was being changed is as it was before.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StorageError {
    /// No space left, or a quota or size limit of the system is reached.
    #[error("the disk is full while {doing}; nothing was changed")]
    DiskFull {
        /// What was being done.
        doing: String,
    },
    /// What is there cannot have been written by us like this.
    #[error("{} is damaged: {detail}; it was left as it is, restore it from a copy or move it away", file.display())]
    Corrupted {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// Anything else the system said.
    #[error("storage failed while {doing}: {detail}")]
    Io {
        /// What was being done.
        doing: String,
        /// What the system said.
        detail: String,
    },
}

impl StorageError {
    pub(crate) fn corrupted(file: &Path, detail: impl Into<String>) -> Self {
        Self::Corrupted { file: file.to_owned(), detail: detail.into() }
    }
}

/// Says what was being done when a call failed.
pub(crate) trait While<T> {
    /// The result with an error an operator understands; `file` is what is at fault if it is damaged.
    fn while_doing(self, doing: &str, file: &Path) -> Result<T, StorageError>;
}

impl<T> While<T> for rusqlite::Result<T> {
    fn while_doing(self, doing: &str, file: &Path) -> Result<T, StorageError> {
        self.map_err(|error| from_sqlite(&error, doing, file))
    }
}

impl<T> While<T> for io::Result<T> {
    fn while_doing(self, doing: &str, _file: &Path) -> Result<T, StorageError> {
        self.map_err(|error| match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
                StorageError::DiskFull { doing: doing.to_owned() }
            }
            _ => StorageError::Io { doing: doing.to_owned(), detail: error.to_string() },
        })
    }
}

/// Growing the wal-index is the one place where SQLite reports a full disk as an I/O error (`unixShmMap`).
const IO_ERROR_SHM_SIZE: i32 = rusqlite::ffi::SQLITE_IOERR_SHMSIZE;

/// What SQLite said, in our words.
pub(crate) fn from_sqlite(error: &rusqlite::Error, doing: &str, file: &Path) -> StorageError {
    use rusqlite::Error as E;
    let doing = doing.to_owned();
    match error {
        E::SqliteFailure(cause, _) if cause.code == ErrorCode::DiskFull || cause.extended_code == IO_ERROR_SHM_SIZE => {
            StorageError::DiskFull { doing }
        }
        E::SqliteFailure(cause, _) if matches!(cause.code, ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            StorageError::corrupted(file, error.to_string())
        }
        // A column of another type, or a text that is no digest or specification: not what we wrote.
        E::FromSqlConversionFailure(..) | E::InvalidColumnType(..) | E::IntegralValueOutOfRange(..) => {
            StorageError::corrupted(file, error.to_string())
        }
        // The enum is not ours and grows.
        _ => StorageError::Io { doing, detail: error.to_string() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_has_one_name_whoever_reports_it() {
        let file = Path::new("registry.db");
        let full = StorageError::DiskFull { doing: "deploying".into() };
        for code in [rusqlite::ffi::SQLITE_FULL, rusqlite::ffi::SQLITE_IOERR_SHMSIZE] {
            let error = rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(code), None);
            assert_eq!(Err::<(), _>(error).while_doing("deploying", file), Err(full.clone()));
        }
        let error = io::Error::from(io::ErrorKind::StorageFull);
        assert_eq!(Err::<(), _>(error).while_doing("deploying", file), Err(full));
    }
}
