//! The types of a group's module: only those in use, each once.

use std::collections::HashMap;

use wasm_encoder::TypeSection;
use wasm_encoder::reencode::{Reencode, RoundtripReencoder};
use wasmparser::{FuncType, ValType};

use crate::passes::split::module::{Module, index_u32};
use crate::passes::split::refusal::{SplitRefusal, fault};

#[derive(Default)]
pub(super) struct Types {
    list: Vec<FuncType>,
    index: HashMap<FuncType, u32>,
}

impl Types {
    /// The index of `ty` in the group's module.
    pub(super) fn intern(&mut self, ty: FuncType) -> u32 {
        *self.index.entry(ty).or_insert_with_key(|ty| {
            self.list.push(ty.clone());
            index_u32(self.list.len() - 1)
        })
    }

    pub(super) fn section(self) -> Result<TypeSection, SplitRefusal> {
        let mut section = TypeSection::new();
        for ty in self.list {
            section.ty().func_type(&RoundtripReencoder.func_type(ty).map_err(fault)?);
        }
        Ok(section)
    }
}

/// A type of the original module, by index.
pub(super) fn signature(module: &Module<'_>, ty: u32) -> FuncType {
    module.types[ty as usize].clone()
}

/// The type of the dispatcher for functions of type `ty`: a slot behind the parameters.
pub(super) fn with_slot(ty: &FuncType) -> FuncType {
    let parameters = ty.params().iter().copied().chain([ValType::I32]);
    FuncType::new(parameters.collect::<Vec<_>>(), ty.results().iter().copied())
}
