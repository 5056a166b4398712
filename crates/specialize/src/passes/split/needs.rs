//! What the groups import of the primary, which is what it has to export beside its own.

use std::collections::BTreeSet;

use super::EXPORT_PREFIX;

/// Indices in the primary, by kind.
#[derive(Default, Debug)]
pub(super) struct Needs {
    pub(super) functions: BTreeSet<u32>,
    pub(super) tables: BTreeSet<u32>,
    pub(super) memories: BTreeSet<u32>,
    pub(super) globals: BTreeSet<u32>,
    pub(super) tags: BTreeSet<u32>,
}

/// A kind of thing that is exported for groups.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Function,
    Table,
    Memory,
    Global,
    Tag,
}

impl Needs {
    pub(super) fn extend(&mut self, other: &Self) {
        self.functions.extend(&other.functions);
        self.tables.extend(&other.tables);
        self.memories.extend(&other.memories);
        self.globals.extend(&other.globals);
        self.tags.extend(&other.tags);
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.functions.len() + self.tables.len() + self.memories.len() + self.globals.len() + self.tags.len()
    }
}

impl Kind {
    /// The name under which the primary exports the thing of this kind at `index`.
    pub(super) fn export_name(self, index: u32) -> String {
        let letter = match self {
            Self::Function => 'f',
            Self::Table => 't',
            Self::Memory => 'm',
            Self::Global => 'g',
            Self::Tag => 'e',
        };
        format!("{EXPORT_PREFIX}_{letter}{index}")
    }
}
