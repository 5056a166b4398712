//! Validation before and after, with the proposals that a split can handle.

use wasmparser::{Validator, WasmFeatures};

use super::refusal::SplitRefusal;
use crate::limits::COMPONENT_BYTES_MAX;

/// What a split cannot handle; each with the name under which it is refused.
const UNSUPPORTED: [(WasmFeatures, SplitRefusal); 2] = [
    (WasmFeatures::GC.union(WasmFeatures::FUNCTION_REFERENCES), SplitRefusal::GcTypes),
    (WasmFeatures::THREADS, SplitRefusal::Threads),
];

/// Validates a component that a stranger wrote.
pub(super) fn validate_input(component: &[u8]) -> Result<(), SplitRefusal> {
    let bytes = component.len() as u64;
    if bytes > COMPONENT_BYTES_MAX {
        return Err(SplitRefusal::TooLarge { bytes, bytes_max: COMPONENT_BYTES_MAX });
    }
    let Err(error) = validate(component, supported()) else {
        return Ok(());
    };
    if validate(component, WasmFeatures::default()).is_ok() {
        for (feature, refusal) in UNSUPPORTED {
            if validate(component, WasmFeatures::default().difference(feature)).is_err() {
                return Err(refusal);
            }
        }
    }
    Err(error.into())
}

/// Validates what this pass made.
pub(super) fn validate_output(part: &str, bytes: &[u8]) -> Result<(), SplitRefusal> {
    validate(bytes, supported())
        .map_err(|error| SplitRefusal::InvalidOutput { part: part.to_owned(), detail: error.to_string() })
}

fn supported() -> WasmFeatures {
    UNSUPPORTED.iter().fold(WasmFeatures::default(), |features, (unsupported, _)| features.difference(*unsupported))
}

fn validate(bytes: &[u8], features: WasmFeatures) -> Result<(), wasmparser::BinaryReaderError> {
    Validator::new_with_features(features).validate_all(bytes).map(drop)
}
