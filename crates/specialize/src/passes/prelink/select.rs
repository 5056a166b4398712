//! Which instances become one, and which stay apart.
//!
//! An instance joins if everything it imports is an export of one that joined before it, or a function of the host
//! that needs no memory. What stays apart is instantiated after the merged module, in its order. So nothing may join
//! that came after something apart which runs, or which writes into the same table or memory: the order in which
//! these are changed would be another one.

use super::canonical::Canon;
use super::component::{Component, ModuleInstance, Origin, missing};
use super::effects::Effects;
use super::refusal::{ApartReason, PrelinkRefusal};

/// Instances by their places in [`Component::instances`], in order.
pub(super) struct Selection {
    pub(super) merged: Vec<usize>,
    pub(super) apart: Vec<usize>,
}

/// Decides for all instances.
pub(super) fn select(component: &Component<'_>) -> Result<Selection, PrelinkRefusal> {
    let mut joined = vec![false; component.instances.len()];
    let mut selection = Selection { merged: Vec::new(), apart: Vec::new() };
    // Of everything that stays apart so far.
    let mut effects = Effects::default();
    let mut first_apart = None;
    for (index, instance) in component.instances.iter().enumerate() {
        let module = component.modules.get(instance.module).ok_or(missing("a core module"))?;
        let may_come_first = effects.allow_before(component, index)?;
        match apart(component, instance, &joined, module.has_start, may_come_first) {
            Some(reason) => {
                first_apart = first_apart.or(Some(reason));
                effects.add(component, index)?;
                selection.apart.push(index);
            }
            None => {
                if let Some(what) = module.unsupported {
                    return Err(PrelinkRefusal::Unsupported { module: instance.module, what });
                }
                joined[index] = true;
                selection.merged.push(index);
            }
        }
    }
    if selection.merged.len() < 2 {
        let instances = component.instances.len();
        return Err(PrelinkRefusal::NothingToMerge { instances, apart: first_apart });
    }
    Ok(selection)
}

fn apart(
    component: &Component<'_>,
    instance: &ModuleInstance<'_>,
    joined: &[bool],
    has_start: bool,
    may_come_first: bool,
) -> Option<ApartReason> {
    if has_start {
        return Some(ApartReason::StartFunction);
    }
    let reason = |origin: &Origin<'_>| match *origin {
        Origin::Canon(canon) => {
            let free = component.canons.get(canon).is_some_and(Canon::needs_no_module);
            (!free).then_some(ApartReason::NeedsMergedMemory)
        }
        Origin::Export { instance, .. } => {
            let with_us = joined.get(instance).copied().unwrap_or_default();
            (!with_us).then_some(ApartReason::ImportsFromApart)
        }
    };
    let by_imports = instance.imports.iter().find_map(reason);
    by_imports.or((!may_come_first).then_some(ApartReason::AfterEffects))
}
