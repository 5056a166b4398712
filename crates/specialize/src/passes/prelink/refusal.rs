//! Every reason for which a component is left as it is, by name and with a sentence for its user.

/// Why a component was not pre-linked. It serves as it is then.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PrelinkRefusal {
    /// It is no valid component.
    #[error("this is no valid component: {detail}")]
    InvalidComponent {
        /// What the validator said.
        detail: String,
    },
    /// It is one core module.
    #[error("this is a core module: there is nothing to link before it starts")]
    CoreModule,
    /// More bytes than the bound.
    #[error("{what} has {bytes} bytes, at most {bytes_max} are pre-linked")]
    TooLarge {
        /// What is too large.
        what: Oversized,
        /// What it has.
        bytes: usize,
        /// The bound.
        bytes_max: usize,
    },
    /// Fewer than two instances can join.
    #[error("{}", nothing_to_merge(*instances, *apart))]
    NothingToMerge {
        /// Module instances in the component.
        instances: usize,
        /// Why the first of them that stays apart does so.
        apart: Option<ApartReason>,
    },
    /// No function of it is exported.
    #[error("the component lifts no function, so nothing could call what would be merged")]
    NothingLifted,
    /// An instance that should join is made of a module with something we do not merge yet.
    #[error("core module {module} {what}")]
    Unsupported {
        /// Which of the component's core modules.
        module: usize,
        /// What it has.
        what: Unsupported,
    },
    /// One merged module would have more memories than one.
    #[error("the instances that would be merged have {memories} memories of their own, at most one is merged")]
    ManyMemories {
        /// Memories.
        memories: usize,
    },
    /// One merged module would have more tables than engines take.
    #[error("the instances that would be merged have {tables} tables, at most {tables_max} are merged")]
    ManyTables {
        /// Tables.
        tables: usize,
        /// The bound.
        tables_max: usize,
    },
    /// A core module is handed about as a value: its number would not be the same afterwards.
    #[error("a core module is {how} by the component")]
    ModuleAsValue {
        /// `imported`, `exported`, `aliased` or `passed on`.
        how: &'static str,
    },
    /// A nested component reaches for a core module or core type of an outer one.
    #[error("a nested component uses a core module or core type of the component around it")]
    OuterCoreAlias,
    /// Core types are declared at the component's level.
    #[error("the component declares core types of its own")]
    CoreTypes,
    /// A core item at the component's level is a tag.
    #[error("the component hands exception tags from one core module to another")]
    Tags,
    /// The component has a start function.
    #[error("the component has a start function")]
    ComponentStart,
    /// A resource of the component calls one of its functions when it is dropped.
    #[error("a resource of the component has a destructor")]
    ResourceDestructor,
    /// Built-in functions of concurrent components.
    #[error("the component uses a built-in function for concurrency or threads")]
    AsyncBuiltin,
    /// An option of a lifted or lowered function.
    #[error("a function is lifted or lowered with the option `{option}`")]
    CanonicalOption {
        /// `async`, `callback`, `core-type` or `gc`.
        option: &'static str,
    },
    /// An allocator or clean-up function of the component is no function of a core module.
    #[error("an allocator or clean-up function of the component is itself a lowered function")]
    LoweredOption,
    /// A lowered function or resource comes later than the first function that is lifted.
    #[error("a lowered function needs something that is defined after the first lifted function")]
    LowerAfterLift,
    /// Our mistake: the indices of a valid component did not agree with each other.
    #[error("internal: {what} that must be there is not")]
    Inconsistent {
        /// What was looked for.
        what: &'static str,
    },
    /// Our mistake: what was made is no valid component.
    #[error("internal: the pre-linked component is invalid: {detail}")]
    InvalidOutput {
        /// What the validator said.
        detail: String,
    },
}

/// What may be too large.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Oversized {
    /// The component as it came.
    Input,
    /// Its core modules, each as often as it is instantiated.
    Instances,
    /// The component that was made.
    Output,
}

/// Something in a core module that is not merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsupported {
    /// Exception tags.
    Tag,
    /// An explicit group of types that refer to each other.
    RecursionGroup,
    /// A type that others may be subtypes of.
    OpenType,
    /// A type with a supertype.
    Subtype,
    /// A shared type, table or global.
    Shared,
    /// A struct, an array, a continuation or a descriptor.
    GcType,
    /// A function, table or global whose type names another type.
    TypedReference,
    /// A memory shared between threads.
    SharedMemory,
    /// A table with an initial value.
    TableInitializer,
    /// A global that is a vector or a reference, or whose value is not known before it runs.
    Global,
    /// A table entry that is neither a function nor null.
    ElementExpression,
    /// A segment whose place is not known before it runs.
    SegmentOffset,
}

/// Why an instance does not join the merged module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApartReason {
    /// It has a start function, which must run when everything is linked.
    StartFunction,
    /// It imports functions of the host that need the merged module's memory.
    NeedsMergedMemory,
    /// It imports from an instance that stays apart.
    ImportsFromApart,
    /// An instance before it stays apart and runs, or writes into the same table or memory.
    AfterEffects,
}

impl PrelinkRefusal {
    /// Its name, for lists and counters.
    pub fn name(&self) -> &'static str {
        match self {
            Self::InvalidComponent { .. } => "invalid_component",
            Self::CoreModule => "core_module",
            Self::TooLarge { .. } => "too_large",
            Self::NothingToMerge { .. } => "nothing_to_merge",
            Self::NothingLifted => "nothing_lifted",
            Self::Unsupported { what, .. } => what.name(),
            Self::ManyMemories { .. } => "many_memories",
            Self::ManyTables { .. } => "many_tables",
            Self::ModuleAsValue { .. } => "module_as_value",
            Self::OuterCoreAlias => "outer_core_alias",
            Self::CoreTypes => "core_types",
            Self::Tags => "tags",
            Self::ComponentStart => "component_start",
            Self::ResourceDestructor => "resource_destructor",
            Self::AsyncBuiltin => "async_builtin",
            Self::CanonicalOption { .. } => "canonical_option",
            Self::LoweredOption => "lowered_option",
            Self::LowerAfterLift => "lower_after_lift",
            Self::Inconsistent { .. } => "inconsistent",
            Self::InvalidOutput { .. } => "invalid_output",
        }
    }
}

impl Unsupported {
    fn name(self) -> &'static str {
        match self {
            Self::Tag => "tag",
            Self::RecursionGroup => "recursion_group",
            Self::OpenType => "open_type",
            Self::Subtype => "subtype",
            Self::Shared => "shared",
            Self::GcType => "gc_type",
            Self::TypedReference => "typed_reference",
            Self::SharedMemory => "shared_memory",
            Self::TableInitializer => "table_initializer",
            Self::Global => "global",
            Self::ElementExpression => "element_expression",
            Self::SegmentOffset => "segment_offset",
        }
    }
}

impl std::fmt::Display for Unsupported {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Tag => "uses exception tags",
            Self::RecursionGroup => "has a group of recursive types",
            Self::OpenType => "has a type that is not final",
            Self::Subtype => "has a type with a supertype",
            Self::Shared => "shares a type, table or global between threads",
            Self::GcType => "has garbage-collected types",
            Self::TypedReference => "has references to a particular type of function",
            Self::SharedMemory => "shares its memory between threads",
            Self::TableInitializer => "has a table with an initial value",
            Self::Global => "has a global that is a vector, a reference or no constant",
            Self::ElementExpression => "has a table entry that is neither a function nor null",
            Self::SegmentOffset => "has a segment whose place is no constant",
        })
    }
}

impl std::fmt::Display for Oversized {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Input => "the component",
            Self::Instances => "what it instantiates",
            Self::Output => "the pre-linked component",
        })
    }
}

impl std::fmt::Display for ApartReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::StartFunction => "it has a start function",
            Self::NeedsMergedMemory => "it imports host functions that use another instance's memory",
            Self::ImportsFromApart => "it imports from an instance that stays apart",
            Self::AfterEffects => "an instance before it stays apart and changes the same things",
        })
    }
}

fn nothing_to_merge(instances: usize, apart: Option<ApartReason>) -> String {
    let why = apart.map(|reason| format!("; the first one that cannot join: {reason}")).unwrap_or_default();
    format!("of its {instances} core module instances fewer than two can be merged{why}")
}
