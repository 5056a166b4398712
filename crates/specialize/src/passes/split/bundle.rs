//! Several parts in one file: the cold groups of a component, as modules or as their machine code, in the order of
//! the index.
//!
//! ```text
//!  "FRBUNDLE" │ bytes of the head, 4 │ parts, 4 │ bytes of each part, 8 each │ head │ part │ part │ ...
//! ```
//! Numbers are little-endian. What is read here was made by a worker, which is not trusted: every length has a bound,
//! and the parts must fill the file exactly. What head and parts are is known to whoever made the file.

use std::ops::Range;

use super::index::INDEX_BYTES_MAX;

const MAGIC: &[u8; 8] = b"FRBUNDLE";
/// Bytes before the lengths of the parts.
const FIXED_BYTES: usize = MAGIC.len() + 4 + 4;
/// Parts of one file: a component of 60,000 functions has some 500 groups, one function each is the worst case.
const PARTS_MAX: usize = 1 << 16;
/// How much of the beginning of a file has to be read to find everything in it.
pub const BUNDLE_TABLE_BYTES_MAX: usize = FIXED_BYTES + PARTS_MAX * 8 + INDEX_BYTES_MAX;

/// Where things are in such a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bundle {
    /// The head.
    pub head: Range<u64>,
    /// The parts, one behind the other.
    pub parts: Vec<Range<u64>>,
}

/// The bytes are no such file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a file of cold groups: {0}")]
pub struct BundleError(&'static str);

impl Bundle {
    /// Writes a file of `head` and `parts`.
    ///
    /// # Errors
    /// More parts than a file may have, or a head that is too long.
    pub fn encode<P: AsRef<[u8]>>(head: &[u8], parts: &[P]) -> Result<Vec<u8>, BundleError> {
        if parts.len() > PARTS_MAX || head.len() > INDEX_BYTES_MAX {
            return Err(BundleError("too much for one file"));
        }
        let bytes: usize = parts.iter().map(|part| part.as_ref().len() + 8).sum();
        let mut file = Vec::with_capacity(FIXED_BYTES + head.len() + bytes);
        file.extend_from_slice(MAGIC);
        file.extend_from_slice(&(head.len() as u32).to_le_bytes());
        file.extend_from_slice(&(parts.len() as u32).to_le_bytes());
        parts.iter().for_each(|part| file.extend_from_slice(&(part.as_ref().len() as u64).to_le_bytes()));
        file.extend_from_slice(head);
        parts.iter().for_each(|part| file.extend_from_slice(part.as_ref()));
        Ok(file)
    }

    /// Finds everything in a file of `file_bytes`, of which `beginning` is the first [`BUNDLE_TABLE_BYTES_MAX`] bytes,
    /// or all of it if it has fewer.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn find(beginning: &[u8], file_bytes: u64) -> Result<Self, BundleError> {
        let rest = beginning.strip_prefix(MAGIC).ok_or(BundleError("it begins with something else"))?;
        let (head_bytes, rest) = number_u32(rest)?;
        let (parts, mut rest) = number_u32(rest)?;
        if parts as usize > PARTS_MAX || head_bytes as usize > INDEX_BYTES_MAX {
            return Err(BundleError("it claims to hold more than one file may"));
        }
        let begin = FIXED_BYTES as u64 + u64::from(parts) * 8;
        let mut end = begin + u64::from(head_bytes);
        let head = begin..end;
        let mut found = Vec::with_capacity(parts as usize);
        for _ in 0..parts {
            let (length, after) = rest.split_first_chunk().ok_or(BundleError("it is torn"))?;
            rest = after;
            let next = end.checked_add(u64::from_le_bytes(*length)).ok_or(BundleError("a part is too long"))?;
            found.push(end..next);
            end = next;
        }
        if end == file_bytes { Ok(Self { head, parts: found }) } else { Err(BundleError("its parts do not fill it")) }
    }
}

fn number_u32(bytes: &[u8]) -> Result<(u32, &[u8]), BundleError> {
    let (number, rest) = bytes.split_first_chunk().ok_or(BundleError("it is torn"))?;
    Ok((u32::from_le_bytes(*number), rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_goes_in_is_found(head in proptest::collection::vec(any::<u8>(), 0..50),
                                 parts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..9), 0..9)) {
            let file = Bundle::encode(&head, &parts).unwrap();
            let found = Bundle::find(&file, file.len() as u64).unwrap();
            let of = |range: &Range<u64>| file[range.start as usize..range.end as usize].to_vec();
            prop_assert_eq!(of(&found.head), head);
            prop_assert_eq!(found.parts.iter().map(of).collect::<Vec<_>>(), parts);
            // Whatever is missing or too much is noticed.
            for end in 0..file.len() {
                prop_assert!(Bundle::find(&file[..end], end as u64).is_err());
            }
            prop_assert!(Bundle::find(&file, file.len() as u64 + 1).is_err());
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64), file_bytes: u64) {
            let _ = Bundle::find(&bytes, file_bytes);
            let _ = Bundle::find(&[&MAGIC[..], &bytes].concat(), file_bytes);
        }
    }

    #[test]
    fn a_length_that_would_overflow_is_refused() {
        let mut file = Bundle::encode(b"", &[[0_u8; 1]]).unwrap();
        file[FIXED_BYTES..FIXED_BYTES + 8].copy_from_slice(&u64::MAX.to_le_bytes());
        assert_eq!(Bundle::find(&file, 1), Err(BundleError("a part is too long")));
    }
}
