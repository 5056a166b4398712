//! Where things are in a component and in its core modules, and how something is added at their ends.
//!
//! The passes that use this only ever *append*: to each index space, to each section. So no index that
//! is there already changes, and what is not touched is copied byte for byte.
//!
//! It does not know what is added, nor why, and it does not rewrite what is there.

mod component;
mod module;
mod sections;

pub(crate) use component::{Appendix, ComponentLayout, Counts, ExportedFunction};
pub(crate) use module::{Additions, ModuleLayout, Raw, is_function, section_id as module_section};

use wasmparser::{Validator, WasmFeatures};

use crate::limits::COMPONENT_BYTES_MAX;

/// Why nothing can be added to a component.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unsupported {
    /// More bytes than a component that can be deployed may have.
    #[error("the component has {bytes} bytes, at most {bytes_max} are looked at")]
    TooLarge {
        /// What it has.
        bytes: usize,
        /// The bound.
        bytes_max: u64,
    },
    /// A core module, or no WebAssembly at all.
    #[error("this is not a WebAssembly component")]
    NotAComponent,
    /// It breaks the rules of WebAssembly, or uses a proposal that is not standard.
    #[error("the component is not valid: {reason}")]
    Invalid {
        /// The validator's words.
        reason: String,
    },
    /// Composed components carry the modules of their parts one level down.
    #[error("nested component {component} has core modules of its own")]
    NestedModules {
        /// Its number among the nested components.
        component: u32,
    },
    /// A core module that is imported, or taken from an instance: its code is not here.
    #[error("a core module comes from outside the component")]
    ModuleFromOutside,
    /// Two instances of one module would share what is added, and only one would be asked.
    #[error("core module {module} is instantiated more than once")]
    InstantiatedTwice {
        /// Its number among the core modules.
        module: u32,
    },
    /// The component has something of the name that was to be added.
    #[error("the name `{name}` is in use")]
    NameTaken {
        /// Which name.
        name: &'static str,
    },
    /// What came out is not valid, so it is thrown away: a bound of WebAssembly was passed, or there is a fault here.
    #[error("what was made is not valid: {reason}")]
    MadeInvalid {
        /// The validator's words.
        reason: String,
    },
}

impl Unsupported {
    /// A short name, for metrics and labels.
    pub fn name(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "too-large",
            Self::NotAComponent => "not-a-component",
            Self::Invalid { .. } => "invalid",
            Self::NestedModules { .. } => "nested-modules",
            Self::ModuleFromOutside => "module-from-outside",
            Self::InstantiatedTwice { .. } => "instantiated-twice",
            Self::NameTaken { .. } => "name-taken",
            Self::MadeInvalid { .. } => "made-invalid",
        }
    }
}

/// Everything that is standard today: what the engine cannot do it refuses itself, and by its own name.
fn features() -> WasmFeatures {
    WasmFeatures::default()
}

/// Checks a stranger's component, so that everything after this may rely on the rules of WebAssembly.
pub(crate) fn check_input(component: &[u8]) -> Result<(), Unsupported> {
    if component.len() as u64 > COMPONENT_BYTES_MAX {
        return Err(Unsupported::TooLarge { bytes: component.len(), bytes_max: COMPONENT_BYTES_MAX });
    }
    if !wasmparser::Parser::is_component(component) {
        return Err(Unsupported::NotAComponent);
    }
    validate(component).map_err(|reason| Unsupported::Invalid { reason })
}

/// Checks what a pass made.
pub(crate) fn check_output(component: &[u8]) -> Result<(), Unsupported> {
    validate(component).map_err(|reason| Unsupported::MadeInvalid { reason })
}

fn validate(component: &[u8]) -> Result<(), String> {
    let mut validator = Validator::new_with_features(features());
    validator.validate_all(component).map(|_| ()).map_err(|error| error.to_string())
}

/// The parser's view of bytes that were validated before: an error here is one of `Invalid`, not a panic.
impl From<wasmparser::Error> for Unsupported {
    fn from(error: wasmparser::Error) -> Self {
        Self::Invalid { reason: error.to_string() }
    }
}
