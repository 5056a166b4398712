//! Why a component stays whole.

use wasm_encoder::reencode;
use wasmparser::BinaryReaderError;

/// Why a component is not split. It is served whole then, which is always right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SplitRefusal {
    /// More bytes than any component may have.
    #[error("the component has {bytes} bytes, at most {bytes_max} are looked at")]
    TooLarge {
        /// Its size.
        bytes: u64,
        /// The bound.
        bytes_max: u64,
    },
    /// No valid component.
    #[error("not a valid component: {0}")]
    Malformed(String),
    /// It uses types of the GC or function references proposals: groups would have to agree on them.
    #[error("it uses types of the GC proposal or typed function references")]
    GcTypes,
    /// It uses shared memory or atomic instructions.
    #[error("it uses threads: shared memory or atomic instructions")]
    Threads,
    /// It uses the concurrency of the component model: a group may be missed while other tasks are at work.
    #[error("it uses tasks, streams or futures of the component model: {0}")]
    Concurrency(String),
    /// It has nothing to split.
    #[error("it contains no core module")]
    NoModule,
    /// A module is defined in a component within it.
    #[error("a component nested in it defines or uses core modules")]
    NestedModules,
    /// A module is imported, exported or passed on, so that it can be instantiated elsewhere.
    #[error("it imports, exports or passes on core modules")]
    ModuleAsValue,
    /// Its code is spread; merging its modules comes first.
    #[error(
        "its largest core module holds only {largest_permille} ‰ of its code ({modules} modules): merge them first"
    )]
    SeveralModules {
        /// How many modules it has.
        modules: u32,
        /// Share of the largest.
        largest_permille: u32,
    },
    /// There would be two tables of cold functions, or none.
    #[error("its largest core module is instantiated {0} times, not once")]
    InstantiatedTimes(u32),
    /// A function runs before the component is complete.
    #[error("it has a start function of the component")]
    ComponentStart,
    /// It was split before, or claims names that the split needs.
    #[error("it already uses the name `{0}`")]
    NameTaken(String),
    /// A profile of something else.
    #[error("none of the {0} functions that are known is in it")]
    NoneKnown(usize),
    /// Everything stays.
    #[error("no function is cold: {functions} functions, {pinned} of them pinned")]
    NothingCold {
        /// Functions of the module.
        functions: u32,
        /// Those that had to stay.
        pinned: u32,
    },
    /// More cold functions than a table of the engine holds.
    #[error("{slots} cold functions need a slot, a table has {slots_max}")]
    TooManySlots {
        /// How many.
        slots: usize,
        /// The bound.
        slots_max: usize,
    },
    /// What was made is not valid: a fault of this pass, or a limit of the format.
    #[error("the split is not valid, which is a fault of the splitter: {part}: {detail}")]
    InvalidOutput {
        /// Primary or group.
        part: String,
        /// What is wrong.
        detail: String,
    },
}

impl SplitRefusal {
    /// A short stable name, for metrics and decisions.
    pub fn name(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "too_large",
            Self::Malformed(_) => "malformed",
            Self::GcTypes => "gc_types",
            Self::Threads => "threads",
            Self::Concurrency(_) => "concurrency",
            Self::NoModule => "no_module",
            Self::NestedModules => "nested_modules",
            Self::ModuleAsValue => "module_as_value",
            Self::SeveralModules { .. } => "several_modules",
            Self::InstantiatedTimes(_) => "instantiated_times",
            Self::ComponentStart => "component_start",
            Self::NameTaken(_) => "name_taken",
            Self::NoneKnown(_) => "none_known",
            Self::NothingCold { .. } => "nothing_cold",
            Self::TooManySlots { .. } => "too_many_slots",
            Self::InvalidOutput { .. } => "invalid_output",
        }
    }
}

/// After validation nothing should fail to parse; if it does, the component is what is to blame.
impl From<BinaryReaderError> for SplitRefusal {
    fn from(error: BinaryReaderError) -> Self {
        Self::Malformed(error.to_string())
    }
}

/// The refusal for what cannot be written again: a fault of this pass, or of the component if it cannot be read.
pub(super) fn fault<E: std::fmt::Debug>(error: reencode::Error<E>) -> SplitRefusal {
    match error {
        reencode::Error::ParseError(error) => error.into(),
        other => SplitRefusal::InvalidOutput { part: "a function".into(), detail: format!("{other:?}") },
    }
}
