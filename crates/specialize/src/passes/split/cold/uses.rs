//! What the functions of a group use: read off their code, operator by operator.

use std::collections::BTreeSet;
use std::convert::Infallible;

use wasm_encoder::reencode::{self, Reencode};
use wasmparser::Operator;

use crate::passes::split::links::{Links, Way};
use crate::passes::split::module::{Body, Module};
use crate::passes::split::needs::Needs;
use crate::passes::split::refusal::{SplitRefusal, fault};

/// What a group uses, by index in the original module.
#[derive(Default)]
pub(super) struct Uses {
    /// What is imported of the primary.
    pub(super) needs: Needs,
    /// Imported functions that a reference is taken of; they have to be declared.
    pub(super) references: BTreeSet<u32>,
    /// Types named in code.
    pub(super) types: BTreeSet<u32>,
    /// Whether it calls through the table of entries.
    pub(super) says_position: bool,
}

impl Uses {
    pub(super) fn of(module: &Module<'_>, links: &Links, group: u32, functions: &[u32]) -> Result<Self, SplitRefusal> {
        let mut uses = Self::default();
        for body in functions.iter().filter_map(|function| module.body(*function)) {
            uses.call(module, links, group, body)?;
            // The primary's own function or stub: the group's may be reached by nothing but its slot.
            uses.references.extend(&body.references);
            uses.needs.functions.extend(&body.references);
            uses.note_operators(body)?;
            uses.says_position |= body.indirect_calls.iter().any(|(table, _)| links.is_entry_table(*table));
        }
        if let (Some(entry_table), Some(group)) = (&links.entry_table, links.groups.get(group as usize))
            && !group.positions.is_empty()
        {
            uses.needs.tables.insert(entry_table.index);
        }
        Ok(uses)
    }

    fn call(&mut self, module: &Module<'_>, links: &Links, group: u32, body: &Body<'_>) -> Result<(), SplitRefusal> {
        for callee in &body.calls {
            match links.way(module, Some(group), *callee)? {
                Way::Neighbour => {}
                Way::Primary => drop(self.needs.functions.insert(*callee)),
                Way::Dispatch { dispatcher, .. } => drop(self.needs.functions.insert(dispatcher)),
            }
        }
        Ok(())
    }

    fn note_operators(&mut self, body: &Body<'_>) -> Result<(), SplitRefusal> {
        let mut operators = body.raw.get_operators_reader()?;
        while !operators.eof() {
            match operators.read()? {
                Operator::Call { .. } | Operator::ReturnCall { .. } | Operator::RefFunc { .. } => {}
                operator => drop(self.instruction(operator).map_err(fault)?),
            }
        }
        Ok(())
    }
}

type Noted = Result<u32, reencode::Error<Infallible>>;

/// Writing an operator asks for each index in it, and so shows which there are, whatever the operator.
impl Reencode for Uses {
    type Error = Infallible;

    fn type_index(&mut self, index: u32) -> Noted {
        self.types.insert(index);
        Ok(index)
    }

    fn table_index(&mut self, index: u32) -> Noted {
        self.needs.tables.insert(index);
        Ok(index)
    }

    fn memory_index(&mut self, index: u32) -> Noted {
        self.needs.memories.insert(index);
        Ok(index)
    }

    fn global_index(&mut self, index: u32) -> Noted {
        self.needs.globals.insert(index);
        Ok(index)
    }

    fn tag_index(&mut self, index: u32) -> Noted {
        self.needs.tags.insert(index);
        Ok(index)
    }
}
