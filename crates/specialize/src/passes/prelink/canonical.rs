//! Lowered functions, built-ins of the host, and the options of what is lowered and lifted.

use wasmparser::CanonicalOption;

use super::component::{Defined, Origin};
use super::module::Space;
use super::refusal::PrelinkRefusal;

/// A core function that the host provides.
pub(super) enum Canon<'a> {
    /// A function of the component's level, lowered.
    Lower {
        function: u32,
        options: Vec<CanonOption<'a>>,
    },
    ResourceNew(u32),
    ResourceDrop(u32),
    ResourceRep(u32),
}

impl Canon<'_> {
    /// Whether it can be had before any core module is there.
    pub(super) fn needs_no_module(&self) -> bool {
        match self {
            Self::Lower { options, .. } => options.iter().all(|option| option.origin().is_none()),
            Self::ResourceNew(_) | Self::ResourceDrop(_) | Self::ResourceRep(_) => true,
        }
    }

    /// Whether what it is made of is among the first items of the component.
    pub(super) fn is_defined_before(&self, defined: Defined) -> bool {
        match self {
            Self::Lower { function, .. } => *function < defined.functions,
            Self::ResourceNew(ty) | Self::ResourceDrop(ty) | Self::ResourceRep(ty) => *ty < defined.types,
        }
    }
}

/// How values go between a core module and the outside.
#[derive(Clone, Copy)]
pub(super) enum CanonOption<'a> {
    Utf8,
    Utf16,
    CompactUtf16,
    Memory(Origin<'a>),
    Realloc(Origin<'a>),
    PostReturn(Origin<'a>),
}

impl<'a> CanonOption<'a> {
    /// Reads an option; `core_item` knows what the numbers in it mean.
    pub(super) fn read(
        option: &CanonicalOption,
        core_item: impl Fn(Space, u32) -> Result<Origin<'a>, PrelinkRefusal>,
    ) -> Result<Self, PrelinkRefusal> {
        let refused = |option| Err(PrelinkRefusal::CanonicalOption { option });
        let function = |index| match core_item(Space::Function, index)? {
            Origin::Canon(_) => Err(PrelinkRefusal::LoweredOption),
            export @ Origin::Export { .. } => Ok(export),
        };
        match *option {
            CanonicalOption::UTF8 => Ok(Self::Utf8),
            CanonicalOption::UTF16 => Ok(Self::Utf16),
            CanonicalOption::CompactUTF16 => Ok(Self::CompactUtf16),
            CanonicalOption::Memory(index) => Ok(Self::Memory(core_item(Space::Memory, index)?)),
            CanonicalOption::Realloc(index) => Ok(Self::Realloc(function(index)?)),
            CanonicalOption::PostReturn(index) => Ok(Self::PostReturn(function(index)?)),
            CanonicalOption::Async => refused("async"),
            CanonicalOption::Callback(_) => refused("callback"),
            CanonicalOption::CoreType(_) => refused("core-type"),
            CanonicalOption::Gc => refused("gc"),
        }
    }

    /// The core item in it.
    pub(super) fn origin(&self) -> Option<(Space, Origin<'a>)> {
        match *self {
            Self::Utf8 | Self::Utf16 | Self::CompactUtf16 => None,
            Self::Memory(origin) => Some((Space::Memory, origin)),
            Self::Realloc(origin) | Self::PostReturn(origin) => Some((Space::Function, origin)),
        }
    }

    /// The option with the number that its item has got.
    pub(super) fn encoded(&self, index: u32) -> wasm_encoder::CanonicalOption {
        match self {
            Self::Utf8 => wasm_encoder::CanonicalOption::UTF8,
            Self::Utf16 => wasm_encoder::CanonicalOption::UTF16,
            Self::CompactUtf16 => wasm_encoder::CanonicalOption::CompactUTF16,
            Self::Memory(_) => wasm_encoder::CanonicalOption::Memory(index),
            Self::Realloc(_) => wasm_encoder::CanonicalOption::Realloc(index),
            Self::PostReturn(_) => wasm_encoder::CanonicalOption::PostReturn(index),
        }
    }
}
