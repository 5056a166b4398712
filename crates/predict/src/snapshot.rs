//! Snapshots of the engine: versioned, checked, bounded.
//!
//! ```text
//! "FRPREDCT"   8 bytes    what this is
//! version      u32 LE     form of the body; another version is refused, the engine then learns anew
//! length       u64 LE     of the body
//! checksum     32 bytes   BLAKE3 of the body
//! body                    the engine's state (postcard)
//! ```
//!
//! The same events give the same bytes: tables are written in key order and all arithmetic is our own. A snapshot is
//! believed only after its size, checksum and every invariant of the state have been checked; authentication, if a
//! snapshot can come from elsewhere, is up to the caller.

use crate::engine::Engine;
use thiserror::Error;

const MAGIC: [u8; 8] = *b"FRPREDCT";
/// Version of the body. To be raised with every change of a state's fields or meaning.
pub const SNAPSHOT_VERSION: u32 = 4;
const HEADER_BYTES: usize = 8 + 4 + 8 + 32;
/// Largest snapshot read: two million functions at 512 bytes, and the tables.
pub const SNAPSHOT_BYTES_MAX: u64 = 2 << 30;

/// Why a snapshot was not restored.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum SnapshotError {
    /// It is not a snapshot of this engine.
    #[error("not a snapshot of the prediction engine")]
    Magic,
    /// It was written by another version.
    #[error("snapshot version {found}, this is version {SNAPSHOT_VERSION}")]
    Version {
        /// Version found.
        found: u32,
    },
    /// Its size is not what it says, or beyond the limit.
    #[error("snapshot of {found} bytes, expected {expected}")]
    Size {
        /// Length of the body in the header.
        expected: u64,
        /// Bytes that are there.
        found: u64,
    },
    /// The body was damaged.
    #[error("the checksum of the snapshot does not match")]
    Checksum,
    /// The body is not a state.
    #[error("the body of the snapshot cannot be decoded")]
    Decode,
    /// The state breaks an invariant.
    #[error("the state in the snapshot is not sound")]
    Unsound,
    /// The state could not be written.
    #[error("the state cannot be encoded")]
    Encode,
}

impl Engine {
    /// The whole state as bytes.
    pub fn snapshot(&self) -> Result<Vec<u8>, SnapshotError> {
        let body = postcard::to_stdvec(self).map_err(|_| SnapshotError::Encode)?;
        let mut bytes = Vec::with_capacity(HEADER_BYTES + body.len());
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&SNAPSHOT_VERSION.to_le_bytes());
        bytes.extend_from_slice(&(body.len() as u64).to_le_bytes());
        bytes.extend_from_slice(blake3::hash(&body).as_bytes());
        bytes.extend_from_slice(&body);
        Ok(bytes)
    }

    /// The engine of a snapshot, exactly as it was.
    pub fn restore(bytes: &[u8]) -> Result<Self, SnapshotError> {
        let body = checked_body(bytes)?;
        let (mut engine, rest) = postcard::take_from_bytes::<Self>(body).map_err(|_| SnapshotError::Decode)?;
        if !rest.is_empty() || !engine.after_restore() {
            return Err(SnapshotError::Unsound);
        }
        Ok(engine)
    }
}

fn checked_body(bytes: &[u8]) -> Result<&[u8], SnapshotError> {
    let header = bytes.first_chunk::<HEADER_BYTES>().ok_or(SnapshotError::Magic)?;
    if header[..8] != MAGIC {
        return Err(SnapshotError::Magic);
    }
    let found = u32::from_le_bytes([header[8], header[9], header[10], header[11]]);
    if found != SNAPSHOT_VERSION {
        return Err(SnapshotError::Version { found });
    }
    let expected = u64::from_le_bytes(std::array::from_fn(|index| header[12 + index]));
    let body = &bytes[HEADER_BYTES..];
    if body.len() as u64 != expected || expected > SNAPSHOT_BYTES_MAX {
        return Err(SnapshotError::Size { expected, found: body.len() as u64 });
    }
    if blake3::hash(body).as_bytes()[..] != header[20..] {
        return Err(SnapshotError::Checksum);
    }
    Ok(body)
}
