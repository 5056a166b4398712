//! What lies beside a split component, so that somebody else can put it together again: JSON with a version.

use serde::{Deserialize, Serialize};

use super::Split;
use super::module::index_u32;
use super::report::SplitReport;

/// Version of the record.
pub(super) const INDEX_VERSION: u16 = 3;
/// Largest text that is read: 60,000 slots at some ten bytes, and what there is to say of their groups.
pub const INDEX_BYTES_MAX: usize = 16 << 20;

/// The parts of a split component.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SplitIndex {
    /// The version of whoever wrote it.
    pub version: u16,
    /// Whether the component looks at flags (the pass `interrupt`), so that primary and groups are compiled for an engine
    /// without epochs.
    pub looks_at_flags: bool,
    /// Slots of the table of cold functions.
    pub slots: u32,
    /// Groups in the order of their slots.
    pub groups: Vec<GroupEntry>,
    /// What became of the component.
    pub report: SplitReport,
}

/// A group of cold functions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupEntry {
    /// The first slot it fills.
    pub first_slot: u32,
    /// The functions of its slots, by their index in the main module of the whole component.
    pub entries: Vec<u32>,
    /// Positions of the main module's own table that it fills.
    pub positions: Vec<u32>,
    /// How many functions it has.
    pub functions: u32,
    /// Bytes of their bodies.
    pub code_bytes: u64,
    /// Bytes of its module.
    pub bytes: u64,
}

/// Why a text is no index.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IndexError {
    /// Longer than any index.
    #[error("an index has at most {INDEX_BYTES_MAX} bytes, this one has {0}")]
    TooLong(usize),
    /// Not JSON of this shape.
    #[error("not an index of a split component: {0}")]
    Shape(String),
    /// Written by another version.
    #[error("index of version {0}, known is {INDEX_VERSION}")]
    Version(u16),
    /// Its slots do not add up.
    #[error("group {0} does not begin at the slot behind the group before it")]
    Slots(usize),
}

impl SplitIndex {
    /// The index of a split component; whoever applied the passes knows whether it looks at flags.
    pub fn of(split: &Split, looks_at_flags: bool) -> Self {
        let entry = |group: &super::ColdGroup| GroupEntry {
            first_slot: group.first_slot,
            entries: group.entries.clone(),
            positions: group.positions.clone(),
            functions: index_u32(group.functions.len()),
            code_bytes: group.code_bytes,
            bytes: group.module.len() as u64,
        };
        Self {
            version: INDEX_VERSION,
            looks_at_flags,
            slots: split.report.slots,
            groups: split.groups.iter().map(entry).collect(),
            report: split.report.clone(),
        }
    }

    /// As [`Self::from_json`] reads it.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("numbers, texts and lists are always JSON")
    }

    /// Reads an index and checks that its slots add up.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn from_json(text: &[u8]) -> Result<Self, IndexError> {
        if text.len() > INDEX_BYTES_MAX {
            return Err(IndexError::TooLong(text.len()));
        }
        let shape = |error: serde_json::Error| IndexError::Shape(error.to_string());
        // The version first: a newer index may have another shape, and that is not the thing to complain of.
        let VersionOnly { version } = serde_json::from_slice(text).map_err(shape)?;
        if version != INDEX_VERSION {
            return Err(IndexError::Version(version));
        }
        let index: Self = serde_json::from_slice(text).map_err(shape)?;
        let mut next = 0_usize;
        for (number, group) in index.groups.iter().enumerate() {
            if group.first_slot as usize != next {
                return Err(IndexError::Slots(number));
            }
            next += group.entries.len();
        }
        if next == index.slots as usize { Ok(index) } else { Err(IndexError::Slots(index.groups.len())) }
    }
}

#[derive(Deserialize)]
struct VersionOnly {
    version: u16,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index() -> SplitIndex {
        let group = |first_slot, entries| GroupEntry {
            first_slot,
            entries,
            positions: vec![],
            functions: 9,
            code_bytes: 1,
            bytes: 2,
        };
        SplitIndex {
            version: INDEX_VERSION,
            looks_at_flags: true,
            slots: 3,
            groups: vec![group(0, vec![5, 7]), group(2, vec![6]), group(3, vec![])],
            report: SplitReport::default(),
        }
    }

    #[test]
    fn an_index_reads_as_it_was_written() {
        assert_eq!(SplitIndex::from_json(index().to_json().as_bytes()), Ok(index()));
    }

    #[test]
    fn what_is_wrong_is_refused_by_name() {
        let read = |change: fn(&mut SplitIndex)| {
            let mut index = index();
            change(&mut index);
            SplitIndex::from_json(index.to_json().as_bytes())
        };
        assert_eq!(read(|index| index.version = 1), Err(IndexError::Version(1)));
        assert_eq!(read(|index| index.groups[1].first_slot = 1), Err(IndexError::Slots(1)));
        assert_eq!(read(|index| index.slots = 9), Err(IndexError::Slots(3)));
        assert!(matches!(SplitIndex::from_json(b"{"), Err(IndexError::Shape(_))));
        let long = vec![b' '; INDEX_BYTES_MAX + 1];
        assert_eq!(SplitIndex::from_json(&long), Err(IndexError::TooLong(long.len())));
    }
}
