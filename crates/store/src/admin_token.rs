//! The bearer token of the admin API: 32 random bytes in a file only its owner can read.
//!
//! Whether a request carries it is decided by the admin API with [`AdminToken::matches`].

use std::fmt;
use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::directory;

const FILE: &str = "admin.token";
const RANDOM_BYTES: usize = 32;
const DIGITS: usize = RANDOM_BYTES * 2;

/// 64 hexadecimal digits, or what an operator brought. Not shown by `Debug`, so that it reaches no log.
#[derive(Clone, PartialEq, Eq)]
pub struct AdminToken(String);

/// Why there is no token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AdminTokenError {
    /// No such file: no node has run on this directory.
    #[error("{} does not exist: no node has been started on this data directory", file.display())]
    Absent {
        /// The file looked for.
        file: PathBuf,
    },
    /// Not 64 hexadecimal digits.
    #[error("{} does not hold an admin token; remove it and start the node again to get a new one", file.display())]
    Malformed {
        /// The file.
        file: PathBuf,
    },
    /// Others than the owner may read or change the file, so they may know the token.
    #[error(
        "{} can be read by others (mode {mode:03o}); remove it and start the node again to get a new token",
        file.display()
    )]
    Exposed {
        /// The file.
        file: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// One that an operator brought and that could be guessed.
    #[error("the given admin token has fewer than {GIVEN_LENGTH_MIN} characters; make it longer")]
    TooShort,
    /// The system gave no random numbers, or the file cannot be read or written.
    #[error("{}: {detail}", file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// What the system said.
        detail: String,
    },
}

/// Shortest token an operator may bring: what a password generator makes by default.
const GIVEN_LENGTH_MIN: usize = 16;

impl AdminToken {
    /// A token that an operator brought instead of the one kept in the data directory.
    ///
    /// # Errors
    /// See [`AdminTokenError::TooShort`].
    pub fn given(text: &str) -> Result<Self, AdminTokenError> {
        if text.len() < GIVEN_LENGTH_MIN { Err(AdminTokenError::TooShort) } else { Ok(Self(text.to_owned())) }
    }

    /// The token as it is sent.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether `candidate` is the token, in a time that does not tell how much of it is right.
    pub fn matches(&self, candidate: &[u8]) -> bool {
        let own = self.0.as_bytes();
        let difference = own.iter().zip(candidate).fold(0, |all, (own, other)| all | (own ^ other));
        own.len() == candidate.len() && std::hint::black_box(difference) == 0
    }
}

impl fmt::Debug for AdminToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AdminToken(..)")
    }
}

/// The token of the node whose data directory is `directory`; needs no lock, so that a client can use it.
///
/// # Errors
/// See [`AdminTokenError`].
pub fn read_admin_token(directory: &Path) -> Result<AdminToken, AdminTokenError> {
    let path = directory.join(FILE);
    let file = || path.clone();
    let opened = match fs::File::open(&path) {
        Ok(opened) => opened,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(AdminTokenError::Absent { file: file() }),
        Err(error) => return Err(AdminTokenError::Io { file: file(), detail: error.to_string() }),
    };
    let io = |error: io::Error| AdminTokenError::Io { file: file(), detail: error.to_string() };
    let mode = opened.metadata().map_err(io)?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(AdminTokenError::Exposed { file: file(), mode });
    }
    let mut bytes = Vec::new();
    // One line break may follow the digits; anything longer is no token.
    opened.take(DIGITS as u64 + 2).read_to_end(&mut bytes).map_err(io)?;
    let text = String::from_utf8(bytes).unwrap_or_default();
    let token = text.trim_end();
    let well_formed = token.len() == DIGITS && token.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if well_formed { Ok(AdminToken(token.to_owned())) } else { Err(AdminTokenError::Malformed { file: file() }) }
}

/// The token of `directory`, made if there is none. The caller holds the directory.
pub(crate) fn read_or_create(directory: &Path) -> Result<AdminToken, AdminTokenError> {
    match read_admin_token(directory) {
        Err(AdminTokenError::Absent { file }) => create(file),
        Ok(token) => Ok(token),
        Err(
            error @ (AdminTokenError::Malformed { .. }
            | AdminTokenError::Exposed { .. }
            | AdminTokenError::TooShort
            | AdminTokenError::Io { .. }),
        ) => Err(error),
    }
}

fn create(file: PathBuf) -> Result<AdminToken, AdminTokenError> {
    let mut random = [0; RANDOM_BYTES];
    let written = getrandom::fill(&mut random).map_err(|error| error.to_string()).and_then(|()| {
        let token: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        directory::write_whole(&file, token.as_bytes()).map_err(|error| error.to_string()).map(|()| token)
    });
    written.map(AdminToken).map_err(|detail| AdminTokenError::Io { file, detail })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_made_once_and_read_by_clients() {
        let directory = tempfile::tempdir().unwrap();
        assert!(matches!(read_admin_token(directory.path()), Err(AdminTokenError::Absent { .. })));
        let token = read_or_create(directory.path()).unwrap();
        assert_eq!(token.as_str().len(), 64);
        assert_eq!(read_or_create(directory.path()), Ok(token.clone()));
        assert_eq!(read_admin_token(directory.path()), Ok(token.clone()));
        let mode = fs::metadata(directory.path().join(FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(!format!("{token:?}").contains(token.as_str()));
        let other = tempfile::tempdir().unwrap();
        assert_ne!(read_or_create(other.path()).unwrap(), token);
    }

    #[test]
    fn one_that_is_brought_must_not_be_short() {
        assert_eq!(AdminToken::given("fifteen letters"), Err(AdminTokenError::TooShort));
        assert!(AdminToken::given("sixteen letters!").unwrap().matches(b"sixteen letters!"));
    }

    #[test]
    fn matches_only_itself() {
        let token = AdminToken("ab".repeat(32));
        assert!(token.matches("ab".repeat(32).as_bytes()));
        assert!(!token.matches("ab".repeat(31).as_bytes()));
        assert!(!token.matches("ab".repeat(33).as_bytes()));
        assert!(!token.matches("aa".repeat(32).as_bytes()));
        assert!(!token.matches(b""));
    }

    #[test]
    fn refuses_what_is_no_secret() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join(FILE);
        directory::write_whole(&file, b"short").unwrap();
        assert!(matches!(read_or_create(directory.path()), Err(AdminTokenError::Malformed { .. })));
        directory::write_whole(&file, "A".repeat(64).as_bytes()).unwrap();
        assert!(matches!(read_or_create(directory.path()), Err(AdminTokenError::Malformed { .. })));
        directory::write_whole(&file, "a".repeat(64).as_bytes()).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        let exposed = AdminTokenError::Exposed { file, mode: 0o644 };
        assert_eq!(read_or_create(directory.path()), Err(exposed));
    }
}
