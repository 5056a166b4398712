//! A batch of events as bytes: a header that says how many and how long, a checksum, and the rows.
//!
//! ```text
//! body bytes u32 | CRC-32 u32 of what follows | first u32 | events u32 | body: the rows, postcard
//! ```
//! All numbers are little-endian. `first` is the number of the first of the events in its segment. The checksum tells a
//! record that was cut off or damaged; it is no protection from somebody who may write into the data directory.

use std::ops::Range;

use forerun_telemetry::InvocationEvent;

use super::super::row::{Row, RowsOf};

pub(super) const HEADER_BYTES: usize = 16;
/// A body is not longer: 512 rows with the longest names and routes are far below it.
pub(super) const BODY_BYTES_MAX: usize = 8 << 20;
const CHECKED: usize = 8;

/// What the header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) body_bytes: u32,
    checksum: u32,
    pub(super) first: u32,
    pub(super) events: u32,
}

/// Why events do not become a record.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unwritable {
    #[error("a batch of the history takes more than {BODY_BYTES_MAX} bytes")]
    TooLong,
    #[error("a batch of the history cannot be encoded: {0}")]
    Encoding(postcard::Error),
}

/// Replaces `record` by the record of `events`, of which the first is number `first` of its segment.
pub(super) fn encode(events: &[InvocationEvent], first: u32, record: &mut Vec<u8>) -> Result<(), Unwritable> {
    record.clear();
    record.resize(HEADER_BYTES, 0);
    let encoded = postcard::to_extend(&RowsOf(events), std::mem::take(record));
    *record = encoded.map_err(Unwritable::Encoding)?;
    let body_bytes = record.len() - HEADER_BYTES;
    let count = u32::try_from(events.len()).map_err(|_| Unwritable::TooLong)?;
    if body_bytes > BODY_BYTES_MAX {
        return Err(Unwritable::TooLong);
    }
    let mut put = |place: Range<usize>, number: u32| record[place].copy_from_slice(&number.to_le_bytes());
    put(0..4, u32::try_from(body_bytes).map_err(|_| Unwritable::TooLong)?);
    put(8..12, first);
    put(12..16, count);
    let checksum = crc32fast::hash(&record[CHECKED..]);
    record[4..8].copy_from_slice(&checksum.to_le_bytes());
    Ok(())
}

impl Header {
    pub(super) fn of(bytes: &[u8; HEADER_BYTES]) -> Self {
        let number = |place: usize| {
            let bytes: [u8; 4] = std::array::from_fn(|at| bytes[place + at]);
            u32::from_le_bytes(bytes)
        };
        Self { body_bytes: number(0), checksum: number(4), first: number(8), events: number(12) }
    }

    /// Whether `body` is what was written behind this header.
    pub(super) fn fits(&self, body: &[u8]) -> bool {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&self.first.to_le_bytes());
        hasher.update(&self.events.to_le_bytes());
        hasher.update(body);
        hasher.finalize() == self.checksum
    }
}

/// The rows of a body.
pub(super) fn rows(body: &[u8]) -> Result<Vec<Row<'_>>, postcard::Error> {
    postcard::from_bytes(body)
}
