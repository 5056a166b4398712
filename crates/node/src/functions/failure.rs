//! Why a change of what is deployed was not made.

use forerun_driver::LoadError;
use forerun_store::{ComponentError, DeployError, RemoveError, RollbackError, StorageError};
use forerun_types::{FunctionName, SpecError};

/// Why nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum DeployFailure {
    /// A specification is out of its limits.
    #[error("function `{function}`: {violation}")]
    Spec {
        /// The function.
        function: FunctionName,
        /// What is wrong.
        violation: SpecError,
    },
    /// A component cannot be loaded.
    #[error("function `{function}`: {reason}")]
    Load {
        /// The function.
        function: FunctionName,
        /// Why.
        reason: LoadError,
    },
    /// The worker process found that the component is none.
    #[error("function `{function}`: {detail}")]
    BadComponent {
        /// The function.
        function: FunctionName,
        /// Why.
        detail: String,
    },
    /// The compiler did not survive the component, or was stopped.
    #[error("function `{function}`: {detail}; nothing was changed")]
    HarmfulComponent {
        /// The function.
        function: FunctionName,
        /// What happened.
        detail: String,
    },
    /// The store said no.
    #[error(transparent)]
    Store(#[from] DeployError),
    /// A component could not be kept or found.
    #[error(transparent)]
    Component(#[from] ComponentError),
    /// The disk failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// No revision to go back to.
    #[error(transparent)]
    Rollback(#[from] RollbackError),
    /// Nothing to remove.
    #[error(transparent)]
    Remove(#[from] RemoveError),
}
