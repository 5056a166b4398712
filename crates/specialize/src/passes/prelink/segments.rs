//! Element segments of the instances that join, and with them what stands in each table when nothing has run.

use std::collections::HashMap;

use wasmparser::{ElementItems, ElementKind, Operator, RefType};

use super::component::{Component, missing};
use super::constant::{Constant, evaluate};
use super::refusal::{PrelinkRefusal, Unsupported};
use super::spaces::{Function, Slot, Spaces};

/// Where the entries of a segment go.
pub(super) enum Place {
    Table { table: u32, offset: Constant },
    Passive,
    Declared,
}

/// A segment; `None` is null.
pub(super) struct Segment {
    pub(super) place: Place,
    pub(super) ty: RefType,
    pub(super) entries: Vec<Option<Function>>,
}

/// All segments, in the order in which they are written.
pub(super) fn segments(component: &Component<'_>, spaces: &Spaces<'_>) -> Result<Vec<Segment>, PrelinkRefusal> {
    let mut all = Vec::new();
    for slot in &spaces.slots {
        let module = component.modules.get(slot.module).ok_or(missing("a core module"))?;
        for element in &module.elements {
            let (ty, entries) = entries(&element.items, slot)?;
            all.push(Segment { place: place(&element.kind, slot, spaces)?, ty, entries });
        }
    }
    Ok(all)
}

/// What is in the tables once all segments are written; later ones win.
pub(super) fn contents(segments: &[Segment]) -> HashMap<(u32, u64), Option<Function>> {
    let mut contents = HashMap::new();
    for segment in segments {
        let Place::Table { table, offset } = segment.place else {
            continue;
        };
        // A place that no table has ends the instantiation, so nobody will look there.
        let Some(first) = offset.address() else {
            continue;
        };
        let places = (0..).map(|index| first.saturating_add(index));
        contents.extend(places.zip(&segment.entries).map(|(index, entry)| ((table, index), *entry)));
    }
    contents
}

fn place(kind: &ElementKind<'_>, slot: &Slot, spaces: &Spaces<'_>) -> Result<Place, PrelinkRefusal> {
    match kind {
        ElementKind::Passive => Ok(Place::Passive),
        ElementKind::Declared => Ok(Place::Declared),
        ElementKind::Active { table_index, offset_expr } => {
            let table = *slot.tables.get(table_index.unwrap_or(0) as usize).ok_or(missing("a table"))?;
            let offset = evaluate(offset_expr, |global| spaces.value_of(slot, global));
            let unknown = PrelinkRefusal::Unsupported { module: slot.module, what: Unsupported::SegmentOffset };
            Ok(Place::Table { table, offset: offset.ok_or(unknown)? })
        }
    }
}

fn entries(items: &ElementItems<'_>, slot: &Slot) -> Result<(RefType, Vec<Option<Function>>), PrelinkRefusal> {
    let function = |index: u32| slot.functions.get(index as usize).copied().ok_or(missing("a function"));
    let read = super::component::invalid;
    let mut entries = Vec::new();
    let ty = match items {
        ElementItems::Functions(functions) => {
            for index in functions.clone() {
                entries.push(Some(function(index.map_err(read)?)?));
            }
            RefType::FUNCREF
        }
        ElementItems::Expressions(ty, expressions) => {
            for expression in expressions.clone() {
                let expression = expression.map_err(read)?;
                entries.push(match expression.get_operators_reader().read().map_err(read)? {
                    Operator::RefFunc { function_index } => Some(function(function_index)?),
                    Operator::RefNull { .. } => None,
                    _ => {
                        let what = Unsupported::ElementExpression;
                        return Err(PrelinkRefusal::Unsupported { module: slot.module, what });
                    }
                });
            }
            *ty
        }
    };
    let what = Unsupported::TypedReference;
    let abstract_type = matches!(ty.heap_type(), wasmparser::HeapType::Abstract { .. });
    if abstract_type { Ok((ty, entries)) } else { Err(PrelinkRefusal::Unsupported { module: slot.module, what }) }
}
