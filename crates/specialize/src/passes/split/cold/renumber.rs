//! From indices in the original module to those in a group's.

use std::collections::BTreeMap;

use wasm_encoder::reencode::{self, Reencode};

use super::types::{Types, signature};
use super::uses::Uses;
use crate::passes::split::module::{Module, index_u32};
use crate::passes::split::refusal::{SplitRefusal, fault};

/// Where everything that a group uses is in its module, by index in the original.
pub(super) struct Indices {
    types: BTreeMap<u32, u32>,
    /// Imported functions.
    pub(super) functions: BTreeMap<u32, u32>,
    /// The group's own functions. One may be imported as well, to take the reference that everybody takes.
    pub(super) members: BTreeMap<u32, u32>,
    tables: BTreeMap<u32, u32>,
    memories: BTreeMap<u32, u32>,
    globals: BTreeMap<u32, u32>,
    tags: BTreeMap<u32, u32>,
}

impl Indices {
    pub(super) fn new(module: &Module<'_>, uses: &Uses, members: &[u32], types: &mut Types) -> Self {
        let needs = &uses.needs;
        Self {
            types: uses.types.iter().map(|ty| (*ty, types.intern(signature(module, *ty)))).collect(),
            functions: numbered(&needs.functions, 0),
            members: numbered(members, index_u32(needs.functions.len())),
            tables: numbered(&needs.tables, 0),
            memories: numbered(&needs.memories, 0),
            globals: numbered(&needs.globals, 0),
            tags: numbered(&needs.tags, 0),
        }
    }
}

impl Indices {
    /// The index of a table in the group's module.
    pub(super) fn table(&self, original: u32) -> Option<u32> {
        self.tables.get(&original).copied()
    }
}

fn numbered<'i>(originals: impl IntoIterator<Item = &'i u32>, first: u32) -> BTreeMap<u32, u32> {
    originals.into_iter().copied().zip(first..).collect()
}

/// Writes operators with the group's indices.
pub(super) struct Renumber<'i> {
    pub(super) indices: &'i Indices,
}

/// An index that was not noted before: a fault of this pass.
#[derive(Debug)]
#[expect(dead_code, reason = "read by its `Debug` form, in the refusal")]
pub(super) struct Missing {
    kind: &'static str,
    index: u32,
}

type Renumbered = Result<u32, reencode::Error<Missing>>;

impl Reencode for Renumber<'_> {
    type Error = Missing;

    /// Calls are written elsewhere; this is for references.
    fn function_index(&mut self, index: u32) -> Renumbered {
        find(&self.indices.functions, "function", index)
    }

    fn type_index(&mut self, index: u32) -> Renumbered {
        find(&self.indices.types, "type", index)
    }

    fn table_index(&mut self, index: u32) -> Renumbered {
        find(&self.indices.tables, "table", index)
    }

    fn memory_index(&mut self, index: u32) -> Renumbered {
        find(&self.indices.memories, "memory", index)
    }

    fn global_index(&mut self, index: u32) -> Renumbered {
        find(&self.indices.globals, "global", index)
    }

    fn tag_index(&mut self, index: u32) -> Renumbered {
        find(&self.indices.tags, "tag", index)
    }

    /// Functions that use segments are never in a group.
    fn data_index(&mut self, index: u32) -> Renumbered {
        Err(reencode::Error::UserError(Missing { kind: "data segment", index }))
    }

    fn element_index(&mut self, index: u32) -> Renumbered {
        Err(reencode::Error::UserError(Missing { kind: "element segment", index }))
    }
}

fn find(map: &BTreeMap<u32, u32>, kind: &'static str, index: u32) -> Renumbered {
    map.get(&index).copied().ok_or(reencode::Error::UserError(Missing { kind, index }))
}

/// The refusal for something that a group uses and does not have.
pub(super) fn missing(kind: &'static str, index: u32) -> SplitRefusal {
    fault(reencode::Error::UserError(Missing { kind, index }))
}
