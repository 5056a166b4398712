//! What making an instance changes that others can see: tables and memories its segments are written into, or anything
//! at all where it runs.

use std::collections::HashSet;

use wasmparser::{DataKind, ElementKind, TypeRef};

use super::component::{Component, Origin, missing};
use super::module::{CoreModule, Space};
use super::refusal::PrelinkRefusal;

/// A table or memory by the instance that defines it, whatever it is called elsewhere.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Defined {
    instance: usize,
    space: Space,
    index: usize,
}

/// What was changed so far.
#[derive(Default)]
pub(super) struct Effects {
    /// A start function ran: it may have changed anything.
    anything: bool,
    written: HashSet<Defined>,
}

impl Effects {
    /// Adds those of an instance.
    pub(super) fn add(&mut self, component: &Component<'_>, instance: usize) -> Result<(), PrelinkRefusal> {
        self.anything |= module_of(component, instance)?.has_start;
        self.written.extend(written(component, instance)?);
        Ok(())
    }

    /// Whether an instance may as well be made before all this. What it reads while it is made are globals that
    /// nobody can set, so only what it writes counts.
    pub(super) fn allow_before(&self, component: &Component<'_>, instance: usize) -> Result<bool, PrelinkRefusal> {
        if self.anything {
            return Ok(false);
        }
        Ok(self.written.is_empty() || written(component, instance)?.is_disjoint(&self.written))
    }
}

/// The tables and memories that the active segments of an instance are written into.
fn written(component: &Component<'_>, instance: usize) -> Result<HashSet<Defined>, PrelinkRefusal> {
    let module = module_of(component, instance)?;
    let tables = module.elements.iter().filter_map(|element| match element.kind {
        ElementKind::Active { table_index, .. } => Some((Space::Table, table_index.unwrap_or(0))),
        ElementKind::Passive | ElementKind::Declared => None,
    });
    let memories = module.data.iter().filter_map(|data| match data.kind {
        DataKind::Active { memory_index, .. } => Some((Space::Memory, memory_index)),
        DataKind::Passive => None,
    });
    let distinct: HashSet<(Space, u32)> = tables.chain(memories).collect();
    distinct.into_iter().map(|(space, index)| definition(component, instance, space, index)).collect()
}

/// Follows imports and exports back to where an item is defined. Each step leads to an earlier instance.
fn definition(
    component: &Component<'_>,
    mut instance: usize,
    space: Space,
    index: u32,
) -> Result<Defined, PrelinkRefusal> {
    let mut index = index as usize;
    loop {
        let module = module_of(component, instance)?;
        let imports = component.instances.get(instance).ok_or(missing("an instance"))?.imports.iter();
        let of_space = module.imports.iter().zip(imports).filter(|(import, _)| is_in(&import.ty, space));
        let imported: Vec<Origin<'_>> = of_space.map(|(_, origin)| *origin).collect();
        match imported.get(index) {
            None => return Ok(Defined { instance, space, index: index - imported.len() }),
            Some(Origin::Canon(_)) => return Err(missing("a table or memory")),
            Some(Origin::Export { instance: from, name }) => {
                let (_, exported) = *module_of(component, *from)?.exports.get(name).ok_or(missing("an export"))?;
                (instance, index) = (*from, exported as usize);
            }
        }
    }
}

fn is_in(ty: &TypeRef, space: Space) -> bool {
    match ty {
        TypeRef::Table(_) => space == Space::Table,
        TypeRef::Memory(_) => space == Space::Memory,
        TypeRef::Func(_) | TypeRef::FuncExact(_) | TypeRef::Global(_) | TypeRef::Tag(_) => false,
    }
}

fn module_of<'c, 'a>(component: &'c Component<'a>, instance: usize) -> Result<&'c CoreModule<'a>, PrelinkRefusal> {
    let instance = component.instances.get(instance).ok_or(missing("an instance"))?;
    component.modules.get(instance.module).ok_or(missing("a core module"))
}
