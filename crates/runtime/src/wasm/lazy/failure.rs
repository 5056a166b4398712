//! Why a cold function could not be called.

/// Why a group was not loaded. The guest's call ends with it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LazyFailure {
    /// There is no cold code.
    #[error("the component asks for cold code and was not split")]
    NotSplit,
    /// The guest named a slot that no group fills.
    #[error("no group fills slot {0}")]
    UnknownSlot(u32),
    /// Its group was loaded, and the slot is empty all the same: the group is not of this program.
    #[error("the group of slot {0} is loaded and did not fill it")]
    NotFilled(u32),
    /// A request that runs so much that was not predicted is better served by the whole component.
    #[error("the VM has loaded as many groups of cold code as it may: {0}")]
    TooManyGroups(u32),
    /// The time of the request was over before the code was there.
    #[error("out of time while waiting for group {0} to be compiled")]
    OutOfTime(u32),
    /// Its code is neither on disk nor can it be compiled.
    #[error("there is no code of group {group}: {detail}")]
    NoCode {
        /// Which group.
        group: u32,
        /// Why not.
        detail: String,
    },
    /// No instance, or several, export the table of cold functions.
    #[error("the instance that cold code belongs to was not found: {0}")]
    NoPrimary(String),
    /// The primary does not export what the group imports: they are not of one split.
    #[error("group {group} imports `{import}`, which the component does not have")]
    MissingExport {
        /// Which group.
        group: u32,
        /// What it imports.
        import: String,
    },
    /// The engine refused: types that do not fit, or no room for one more instance.
    #[error("group {group} could not be instantiated: {detail}")]
    NotInstantiated {
        /// Which group.
        group: u32,
        /// What the engine said.
        detail: String,
    },
    /// It is loaded where nobody can wait, and the engine wanted to.
    #[error("group {0} could not be loaded at once")]
    WouldWait(u32),
}

impl LazyFailure {
    /// A short stable name, for metrics and decisions.
    pub fn name(&self) -> &'static str {
        match self {
            Self::NotSplit => "not_split",
            Self::UnknownSlot(_) => "unknown_slot",
            Self::NotFilled(_) => "not_filled",
            Self::TooManyGroups(_) => "too_many_groups",
            Self::OutOfTime(_) => "out_of_time",
            Self::NoCode { .. } => "no_code",
            Self::NoPrimary(_) => "no_primary",
            Self::MissingExport { .. } => "missing_export",
            Self::NotInstantiated { .. } => "not_instantiated",
            Self::WouldWait(_) => "would_wait",
        }
    }
}
