//! The allocator that a component has for its host's use: the function `cabi_realloc`, if there is no doubt which one.
//!
//! The canonical ABI lets a host call it to pass a list or a string, at any time when no other call is under way. Here it
//! is looked up by name and checked by type; what it does is the guest's business, and is not looked into.

use wasmparser::{CompositeInnerType, RecGroup, ValType};

use crate::passes::layout::{ModuleLayout, Unsupported, is_function, module_section};

/// What compilers call it. Adapters have others, which are in use only while a call of theirs is under way.
pub(super) const REALLOC: &str = "cabi_realloc";

/// Whether a module defines and exports the allocator: old address, old size, alignment and new size, to new address.
pub(super) fn is_exported(layout: &ModuleLayout<'_>) -> Result<bool, Unsupported> {
    let exports = layout.exports()?;
    let Some(export) = exports.iter().find(|export| export.name == REALLOC && is_function(export.kind)) else {
        return Ok(false);
    };
    let Some(number) = export.index.checked_sub(layout.counts.functions_imported) else { return Ok(false) };
    let Some(functions) = layout.section(module_section::FUNCTION) else { return Ok(false) };
    match functions.items::<u32>()?.into_iter().nth(number as usize) {
        Some(ty) => has_its_type(layout, ty?),
        None => Ok(false),
    }
}

fn has_its_type(layout: &ModuleLayout<'_>, index: u32) -> Result<bool, Unsupported> {
    let Some(types) = layout.section(module_section::TYPE) else { return Ok(false) };
    let mut number = 0;
    for group in types.items::<RecGroup>()? {
        for ty in group?.into_types() {
            if number == index {
                let CompositeInnerType::Func(function) = &ty.composite_type.inner else { return Ok(false) };
                return Ok(function.params() == [ValType::I32; 4] && function.results() == [ValType::I32]);
            }
            number += 1;
        }
    }
    Ok(false)
}
