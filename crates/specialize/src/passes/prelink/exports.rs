//! What the outside uses of the merged module: instances that stay apart, options, lifted functions.

use std::collections::HashMap;

use super::canonical::{Canon, CanonOption};
use super::component::{Component, Origin, Part, missing};
use super::module::Space;
use super::refusal::PrelinkRefusal;
use super::select::Selection;
use super::spaces::{Item, Spaces};

/// An item that the merged module exports.
pub(super) struct Export {
    pub(super) space: Space,
    pub(super) item: Item,
    pub(super) name: String,
}

/// The exports of the merged module, in the order in which they were asked for.
#[derive(Default)]
pub(super) struct Exports<'a> {
    pub(super) list: Vec<Export>,
    /// By where they come from.
    numbers: HashMap<(usize, &'a str), usize>,
    names_taken: HashMap<&'a str, u32>,
}

impl<'a> Exports<'a> {
    /// Finds everything that is used.
    pub(super) fn find(
        component: &Component<'a>,
        selection: &Selection,
        spaces: &Spaces<'a>,
    ) -> Result<Self, PrelinkRefusal> {
        let mut exports = Self::default();
        for index in &selection.apart {
            let instance = component.instances.get(*index).ok_or(missing("an instance"))?;
            for origin in &instance.imports {
                exports.used(component, spaces, *origin)?;
            }
        }
        for part in &component.parts {
            if let Part::Lift { function, options, .. } = part {
                exports.used(component, spaces, *function)?;
                exports.options(component, spaces, options)?;
            }
        }
        Ok(exports)
    }

    /// The name under which the merged module exports what an instance of old called `name`.
    pub(super) fn name_of(&self, instance: usize, name: &str) -> Option<&Export> {
        self.numbers.get(&(instance, name)).and_then(|number| self.list.get(*number))
    }

    fn used(
        &mut self,
        component: &Component<'a>,
        spaces: &Spaces<'a>,
        origin: Origin<'a>,
    ) -> Result<(), PrelinkRefusal> {
        match origin {
            Origin::Canon(canon) => match component.canons.get(canon).ok_or(missing("a function of the host"))? {
                Canon::Lower { options, .. } => self.options(component, spaces, options),
                Canon::ResourceNew(_) | Canon::ResourceDrop(_) | Canon::ResourceRep(_) => Ok(()),
            },
            Origin::Export { instance, name } => self.export(component, spaces, instance, name),
        }
    }

    fn options(
        &mut self,
        component: &Component<'a>,
        spaces: &Spaces<'a>,
        options: &[CanonOption<'a>],
    ) -> Result<(), PrelinkRefusal> {
        for (_, origin) in options.iter().filter_map(CanonOption::origin) {
            if let Origin::Export { instance, name } = origin {
                self.export(component, spaces, instance, name)?;
            }
        }
        Ok(())
    }

    fn export(
        &mut self,
        component: &Component<'a>,
        spaces: &Spaces<'a>,
        instance: usize,
        name: &'a str,
    ) -> Result<(), PrelinkRefusal> {
        let Some(slot) = spaces.slot(instance) else {
            // It stays apart, and goes on to export it itself.
            return Ok(());
        };
        if self.numbers.contains_key(&(instance, name)) {
            return Ok(());
        }
        let module = component.modules.get(slot.module).ok_or(missing("a core module"))?;
        let (space, index) = *module.exports.get(name).ok_or(missing("an export"))?;
        let item = slot.item(space, index).ok_or(missing("an exported item"))?;
        self.numbers.insert((instance, name), self.list.len());
        let unique = self.unique(name);
        self.list.push(Export { space, item, name: unique });
        Ok(())
    }

    /// `name`, or one like it where an export has it already.
    fn unique(&mut self, name: &'a str) -> String {
        let taken = self.names_taken.entry(name).or_insert(0);
        *taken += 1;
        if *taken == 1 { name.to_owned() } else { format!("{name} ({taken})") }
    }
}
