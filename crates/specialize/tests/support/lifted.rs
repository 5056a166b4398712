//! Which functions of generated core modules a component can lift without memory, for tests and fuzz targets.

use wasm_encoder::PrimitiveValType;
use wasmparser::{FuncType, ValType};

/// Parameters of a function that need no memory at most.
const PARAMETERS_MAX: usize = 16;

/// The component type whose flat form is a core type, if it has one: its parameters, and one result at most.
pub(crate) fn lifted(ty: &FuncType) -> Option<(Vec<PrimitiveValType>, Option<PrimitiveValType>)> {
    let parameters: Option<Vec<_>> = ty.params().iter().map(|ty| number(*ty)).collect();
    let parameters = parameters.filter(|parameters| parameters.len() <= PARAMETERS_MAX)?;
    let result = match ty.results() {
        [] => None,
        [one] => Some(number(*one)?),
        _ => return None,
    };
    Some((parameters, result))
}

fn number(ty: ValType) -> Option<PrimitiveValType> {
    match ty {
        ValType::I32 => Some(PrimitiveValType::U32),
        ValType::I64 => Some(PrimitiveValType::S64),
        ValType::F32 => Some(PrimitiveValType::F32),
        ValType::F64 => Some(PrimitiveValType::F64),
        ValType::V128 | ValType::Ref(_) => None,
    }
}
