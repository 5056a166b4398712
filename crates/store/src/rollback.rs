//! Going back to another revision, and removing a function.

use std::path::Path;

use forerun_types::{ComponentDigest, FunctionName, RevisionNumber};
use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};

use crate::deploy::{claim_routes, release_routes};
use crate::error::{StorageError, While};
use crate::registry::{self, Revision};
use crate::store::Store;

const DOING: &str = "rolling back";

/// Why a function was not rolled back.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RollbackError {
    /// There is no such function.
    #[error("no function named `{function}`")]
    UnknownFunction {
        /// The name given.
        function: FunctionName,
    },
    /// There is no such revision, or it is no longer kept.
    #[error("function `{function}` has no revision {revision}; kept are {}", list(kept))]
    UnknownRevision {
        /// The function.
        function: FunctionName,
        /// The number given.
        revision: RevisionNumber,
        /// Numbers that can be given, newest first.
        kept: Vec<RevisionNumber>,
    },
    /// Nothing before the active revision is kept.
    #[error("function `{function}` has no revision before {active}")]
    NoEarlierRevision {
        /// The function.
        function: FunctionName,
        /// The active revision.
        active: RevisionNumber,
    },
    /// Meanwhile another function answers on one of the routes of that revision.
    #[error("revision {revision} of `{function}` wants route {route}, which belongs to function `{holder}` now")]
    RouteTaken {
        /// The function.
        function: FunctionName,
        /// The revision wanted.
        revision: RevisionNumber,
        /// The route.
        route: String,
        /// The function that has it.
        holder: String,
    },
    /// The component of that revision is gone from the data directory.
    #[error("component {digest} of revision {revision} of `{function}` is not in the data directory")]
    ComponentMissing {
        /// The function.
        function: FunctionName,
        /// The revision wanted.
        revision: RevisionNumber,
        /// The component.
        digest: ComponentDigest,
    },
    /// The disk failed or is full.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// Why a function was not removed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RemoveError {
    /// There is no such function.
    #[error("no function named `{function}`")]
    UnknownFunction {
        /// The name given.
        function: FunctionName,
    },
    /// The disk failed or is full.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

fn list(numbers: &[RevisionNumber]) -> String {
    let numbers: Vec<_> = numbers.iter().map(ToString::to_string).collect();
    numbers.join(", ")
}

impl Store {
    /// Makes `to` the active revision, or the one before the active one if `to` is absent. No revision is
    /// lost by it. To try the component first, look the revision up with [`Store::rollback_target`].
    ///
    /// # Errors
    /// See [`RollbackError`]; nothing was changed then.
    pub fn rollback(&self, function: &FunctionName, to: Option<RevisionNumber>) -> Result<Revision, RollbackError> {
        let file = self.registry_file();
        let mut registry = self.registry.lock();
        let transaction =
            registry.transaction_with_behavior(TransactionBehavior::Immediate).while_doing(DOING, &file)?;
        let target = target(&transaction, &file, function, to)?;
        let revision = target.number;
        if !self.components.contains(target.digest)? {
            let (function, digest) = (function.clone(), target.digest);
            return Err(RollbackError::ComponentMissing { function, revision, digest });
        }
        release_routes(&transaction, function).while_doing(DOING, &file)?;
        if let Err(taken) = claim_routes(&transaction, &target.spec).while_doing(DOING, &file)? {
            let (function, route, holder) = (function.clone(), taken.route, taken.holder);
            return Err(RollbackError::RouteTaken { function, revision, route, holder });
        }
        let sql = "UPDATE functions SET active_revision = ?2 WHERE name = ?1";
        transaction.execute(sql, params![function.as_str(), revision.0]).while_doing(DOING, &file)?;
        transaction.commit().while_doing(DOING, &file)?;
        Ok(target)
    }

    /// The revision that [`Store::rollback`] would make active now.
    ///
    /// # Errors
    /// See [`RollbackError`].
    pub fn rollback_target(
        &self,
        function: &FunctionName,
        to: Option<RevisionNumber>,
    ) -> Result<Revision, RollbackError> {
        target(&self.registry.lock(), &self.registry_file(), function, to)
    }

    /// Removes a function with all its revisions and routes. Its components stay until they are collected.
    /// Deployed again, it starts with revision 1.
    ///
    /// # Errors
    /// See [`RemoveError`]; nothing was changed then.
    pub fn remove(&self, function: &FunctionName) -> Result<(), RemoveError> {
        let registry = self.registry.lock();
        // One statement is one transaction; revisions and routes go by the foreign keys.
        let removed = registry.execute("DELETE FROM functions WHERE name = ?1", [function.as_str()]);
        match removed.while_doing("removing a function", &self.registry_file())? {
            0 => Err(RemoveError::UnknownFunction { function: function.clone() }),
            _ => Ok(()),
        }
    }
}

fn target(
    registry: &Connection,
    file: &Path,
    function: &FunctionName,
    to: Option<RevisionNumber>,
) -> Result<Revision, RollbackError> {
    let active = "SELECT active_revision FROM functions WHERE name = ?1";
    let active = registry.query_row(active, [function.as_str()], |row| row.get(0).map(RevisionNumber)).optional();
    let Some(active) = active.while_doing(DOING, file)? else {
        return Err(RollbackError::UnknownFunction { function: function.clone() });
    };
    let kept = "SELECT number FROM revisions WHERE function = ?1 ORDER BY number DESC";
    let kept: Vec<_> = registry::rows(registry, kept, [function.as_str()], |row| row.get(0).map(RevisionNumber))
        .while_doing(DOING, file)?;
    let wanted = match to {
        Some(revision) => revision,
        None => kept
            .iter()
            .copied()
            .find(|number| *number < active)
            .ok_or_else(|| RollbackError::NoEarlierRevision { function: function.clone(), active })?,
    };
    registry::revision_numbered(registry, function, wanted)
        .while_doing(DOING, file)?
        .ok_or_else(|| RollbackError::UnknownRevision { function: function.clone(), revision: wanted, kept })
}
