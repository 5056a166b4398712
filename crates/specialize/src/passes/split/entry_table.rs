//! The table through which cold functions are entered without a stub each.
//!
//! A language runtime keeps thousands of functions in its table that requests rarely call. A stub for each would have to
//! be compiled, and with it the entry that the engine makes for everything that stands in a table. Where nobody but code
//! of this module uses the table, and only to call, a call can say which position it means: it leaves the position in
//! a global first. So all cold functions of one type share one entry, which has the group of that position loaded, calls
//! what stands there now, and is not entered for it again.

use std::collections::BTreeMap;

use super::module::{Module, Segment, index_u32};
use super::whole::Whole;

/// A table that is filled once and then only called through.
pub(super) struct EntryTable {
    /// Its index.
    pub(super) index: u32,
    /// The function at each position.
    pub(super) content: BTreeMap<u32, u32>,
}

/// Why cold functions in tables need stubs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NoEntryTable {
    /// No segment fills a table.
    NoTable,
    /// The table is imported.
    Imported,
    /// It has 64-bit indices.
    Wide,
    /// Something outside the module may call through it or change it.
    Shared,
    /// Code reads or changes its elements.
    Changed,
    /// Where its elements stand is not known, or beyond its end.
    Unknown,
}

impl EntryTable {
    /// The table that segments put most functions in, if it can be used so.
    pub(super) fn find(whole: &Whole<'_>, module: &Module<'_>) -> Result<Self, NoEntryTable> {
        let index = largest(module).ok_or(NoEntryTable::NoTable)?;
        let ty = module.tables.get(index as usize).ok_or(NoEntryTable::NoTable)?;
        if (index as usize) < module.imported_tables {
            return Err(NoEntryTable::Imported);
        }
        if ty.table64 {
            return Err(NoEntryTable::Wide);
        }
        let mut names = module.exported_tables.iter().filter(|(_, table)| **table == index);
        if names.any(|(name, _)| whole.shares_table(name)) {
            return Err(NoEntryTable::Shared);
        }
        if module.bodies.iter().any(|body| body.tables.contains(&index)) {
            return Err(NoEntryTable::Changed);
        }
        let content = content(module, index)
            .filter(|content| content.last_key_value().is_none_or(|(position, _)| u64::from(*position) < ty.initial));
        Ok(Self { index, content: content.ok_or(NoEntryTable::Unknown)? })
    }

    /// Whether a segment fills this table.
    pub(super) fn is_filled_by(&self, segment: &Segment) -> bool {
        segment.fills.is_some_and(|(table, _)| table == self.index)
    }
}

fn largest(module: &Module<'_>) -> Option<u32> {
    let mut functions: BTreeMap<u32, usize> = BTreeMap::new();
    for segment in &module.segments {
        if let Some((table, _)) = segment.fills {
            *functions.entry(table).or_default() += segment.functions.len();
        }
    }
    functions
        .into_iter()
        .max_by_key(|(table, functions)| (*functions, std::cmp::Reverse(*table)))
        .map(|(table, _)| table)
}

/// What stands where when all segments were applied; `None` if that is not to be seen.
fn content(module: &Module<'_>, table: u32) -> Option<BTreeMap<u32, u32>> {
    let mut content = BTreeMap::new();
    for segment in &module.segments {
        match segment.fills {
            Some((filled, Some(first))) if filled == table && segment.is_plain => {
                first.checked_add(index_u32(segment.functions.len()))?;
                content.extend((first..).zip(segment.functions.iter().copied()));
            }
            Some((filled, _)) if filled == table => return None,
            Some(_) | None => {}
        }
    }
    Some(content)
}
