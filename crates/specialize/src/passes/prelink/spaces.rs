//! The index spaces of the instances that join, put one behind the other.
//!
//! A module that is instantiated twice is in them twice. An import of what another instance defines gets the number
//! of its definition: from here on nobody sees that there was a border.

use std::collections::HashMap;

use wasmparser::{FuncType, GlobalType, MemoryType, TableType, TypeRef};

use super::PrelinkBounds;
use super::component::{Component, ModuleInstance, Origin, missing};
use super::constant::{Constant, evaluate};
use super::module::{CoreModule, Space};
use super::refusal::{PrelinkRefusal, Unsupported};

/// A function of the merged module, before what is dead is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Function {
    Imported(u32),
    Defined(u32),
}

/// A function that the host provides.
pub(super) struct ImportedFunction<'a> {
    pub(super) canon: usize,
    pub(super) ty: u32,
    /// As the first module that imports it calls it.
    pub(super) module_name: &'a str,
    pub(super) name: &'a str,
}

/// A function with a body.
pub(super) struct DefinedFunction {
    pub(super) slot: usize,
    /// Its place among the bodies of its module.
    pub(super) body: usize,
    pub(super) ty: u32,
}

/// A global and what it is when nothing has run.
pub(super) struct MergedGlobal {
    pub(super) ty: GlobalType,
    pub(super) value: Constant,
}

/// An instance that joined: what its numbers mean now.
pub(super) struct Slot {
    pub(super) module: usize,
    pub(super) types: Vec<u32>,
    pub(super) functions: Vec<Function>,
    pub(super) tables: Vec<u32>,
    pub(super) memories: Vec<u32>,
    pub(super) globals: Vec<u32>,
    pub(super) first_element: u32,
    pub(super) first_data: u32,
}

/// Everything in the merged module.
pub(super) struct Spaces<'a> {
    pub(super) types: Vec<FuncType>,
    pub(super) imports: Vec<ImportedFunction<'a>>,
    pub(super) functions: Vec<DefinedFunction>,
    pub(super) tables: Vec<TableType>,
    pub(super) memories: Vec<MemoryType>,
    pub(super) globals: Vec<MergedGlobal>,
    pub(super) slots: Vec<Slot>,
    type_numbers: HashMap<FuncType, u32>,
    import_numbers: HashMap<usize, u32>,
    slot_of_instance: HashMap<usize, usize>,
    elements: u32,
    data: u32,
}

impl<'a> Spaces<'a> {
    /// Puts the instances at `merged` together.
    pub(super) fn join(
        component: &Component<'a>,
        merged: &[usize],
        bounds: &PrelinkBounds,
    ) -> Result<Self, PrelinkRefusal> {
        let mut spaces = Self {
            types: Vec::new(),
            imports: Vec::new(),
            functions: Vec::new(),
            tables: Vec::new(),
            memories: Vec::new(),
            globals: Vec::new(),
            slots: Vec::with_capacity(merged.len()),
            type_numbers: HashMap::new(),
            import_numbers: HashMap::new(),
            slot_of_instance: HashMap::new(),
            elements: 0,
            data: 0,
        };
        for &index in merged {
            let instance = component.instances.get(index).ok_or(missing("an instance"))?;
            spaces.add(component, index, instance)?;
        }
        let (memories, tables, tables_max) = (spaces.memories.len(), spaces.tables.len(), bounds.tables_max);
        if memories > 1 {
            return Err(PrelinkRefusal::ManyMemories { memories });
        }
        if tables > tables_max {
            return Err(PrelinkRefusal::ManyTables { tables, tables_max });
        }
        Ok(spaces)
    }

    /// The slot of an instance, if it joined.
    pub(super) fn slot(&self, instance: usize) -> Option<&Slot> {
        self.slot_of_instance.get(&instance).and_then(|slot| self.slots.get(*slot))
    }

    /// The type of a function.
    pub(super) fn type_of(&self, function: Function) -> Option<u32> {
        match function {
            Function::Imported(index) => self.imports.get(index as usize).map(|import| import.ty),
            Function::Defined(index) => self.functions.get(index as usize).map(|function| function.ty),
        }
    }

    fn add(
        &mut self,
        component: &Component<'a>,
        index: usize,
        instance: &ModuleInstance<'a>,
    ) -> Result<(), PrelinkRefusal> {
        let number = instance.module;
        let module = component.modules.get(number).ok_or(missing("a core module"))?;
        let mut slot = Slot {
            module: number,
            types: module.types.iter().map(|ty| self.number_of_type(ty)).collect(),
            functions: Vec::with_capacity(module.functions.len()),
            tables: Vec::new(),
            memories: Vec::new(),
            globals: Vec::with_capacity(module.globals.len()),
            first_element: self.elements,
            first_data: self.data,
        };
        self.elements += count(module.elements.len());
        self.data += count(module.data.len());
        self.imports_of(component, module, instance, &mut slot)?;
        self.definitions_of(module, number, &mut slot)?;
        self.slot_of_instance.insert(index, self.slots.len());
        self.slots.push(slot);
        Ok(())
    }

    fn imports_of(
        &mut self,
        component: &Component<'a>,
        module: &CoreModule<'a>,
        instance: &ModuleInstance<'a>,
        slot: &mut Slot,
    ) -> Result<(), PrelinkRefusal> {
        for (import, origin) in module.imports.iter().zip(&instance.imports) {
            match *origin {
                Origin::Canon(canon) => {
                    let TypeRef::Func(ty) = import.ty else {
                        return Err(missing("a function of the host"));
                    };
                    let ty = *slot.types.get(ty as usize).ok_or(missing("a type"))?;
                    let next = count(self.imports.len());
                    let number = *self.import_numbers.entry(canon).or_insert(next);
                    if number == next {
                        let (module_name, name) = (import.module, import.name);
                        self.imports.push(ImportedFunction { canon, ty, module_name, name });
                    }
                    slot.functions.push(Function::Imported(number));
                }
                Origin::Export { instance, name } => {
                    let from = self.slot(instance).ok_or(missing("a merged instance"))?;
                    let exports = &component.modules.get(from.module).ok_or(missing("a core module"))?.exports;
                    let (space, index) = *exports.get(name).ok_or(missing("an export"))?;
                    let found = from.item(space, index).ok_or(missing("an exported item"))?;
                    slot.push(found);
                }
            }
        }
        Ok(())
    }

    fn definitions_of(
        &mut self,
        module: &CoreModule<'a>,
        number: usize,
        slot: &mut Slot,
    ) -> Result<(), PrelinkRefusal> {
        for (body, ty) in module.functions.iter().enumerate() {
            let ty = *slot.types.get(*ty as usize).ok_or(missing("a type"))?;
            slot.functions.push(Function::Defined(count(self.functions.len())));
            self.functions.push(DefinedFunction { slot: self.slots.len(), body, ty });
        }
        for table in &module.tables {
            slot.tables.push(count(self.tables.len()));
            self.tables.push(*table);
        }
        for memory in &module.memories {
            slot.memories.push(count(self.memories.len()));
            self.memories.push(*memory);
        }
        for global in &module.globals {
            let value = evaluate(&global.init_expr, |index| self.value_of(slot, index));
            let value = value.ok_or(PrelinkRefusal::Unsupported { module: number, what: Unsupported::Global })?;
            slot.globals.push(count(self.globals.len()));
            self.globals.push(MergedGlobal { ty: global.ty, value });
        }
        Ok(())
    }

    /// What a global of an instance is when nothing has run.
    pub(super) fn value_of(&self, slot: &Slot, global: u32) -> Option<Constant> {
        let merged = *slot.globals.get(global as usize)?;
        self.globals.get(merged as usize).map(|global| global.value)
    }

    fn number_of_type(&mut self, ty: &FuncType) -> u32 {
        if let Some(number) = self.type_numbers.get(ty) {
            return *number;
        }
        let number = count(self.types.len());
        self.types.push(ty.clone());
        self.type_numbers.insert(ty.clone(), number);
        number
    }
}

/// An item of an instance that joined.
#[derive(Clone, Copy)]
pub(super) enum Item {
    Function(Function),
    Table(u32),
    Memory(u32),
    Global(u32),
}

impl Slot {
    /// What `index` of `space` is.
    pub(super) fn item(&self, space: Space, index: u32) -> Option<Item> {
        let index = index as usize;
        match space {
            Space::Function => self.functions.get(index).copied().map(Item::Function),
            Space::Table => self.tables.get(index).copied().map(Item::Table),
            Space::Memory => self.memories.get(index).copied().map(Item::Memory),
            Space::Global => self.globals.get(index).copied().map(Item::Global),
        }
    }

    fn push(&mut self, item: Item) {
        match item {
            Item::Function(function) => self.functions.push(function),
            Item::Table(table) => self.tables.push(table),
            Item::Memory(memory) => self.memories.push(memory),
            Item::Global(global) => self.globals.push(global),
        }
    }
}

/// A length as a number of an index space.
pub(super) fn count(length: usize) -> u32 {
    u32::try_from(length).expect("no space is longer than the bytes it was read from, which are bounded")
}
