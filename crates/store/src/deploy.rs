//! Deploying: new revisions of one function or of a whole application, all or nothing.

use std::collections::BTreeSet;

use forerun_types::limits::FUNCTIONS_MAX;
use forerun_types::{ComponentDigest, FunctionName, FunctionSpec, RevisionNumber, SpecError};
use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};

use crate::error::{StorageError, While};
use crate::registry;
use crate::store::Store;

/// A specification as JSON; bounds what one row holds. A full environment of short values takes a hundredth of it.
const SPEC_BYTES_MAX: usize = 4 << 20;
const DOING: &str = "deploying";

/// What is to be deployed: a specification and a component that [`Store::put_component`] has stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deployment {
    /// Everything but the component.
    pub spec: FunctionSpec,
    /// The component.
    pub digest: ComponentDigest,
}

/// What came of a deployment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deployed {
    /// A new revision was made and serves from now on.
    New(RevisionNumber),
    /// The active revision is already this one.
    Unchanged(RevisionNumber),
}

impl Deployed {
    /// The revision that serves.
    pub fn revision(self) -> RevisionNumber {
        match self {
            Self::New(number) | Self::Unchanged(number) => number,
        }
    }
}

/// Why nothing was deployed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeployError {
    /// The specification is out of its limits.
    #[error("function `{function}`: {violation}")]
    Spec {
        /// The function.
        function: FunctionName,
        /// What is wrong.
        violation: SpecError,
    },
    /// The specification is too long in all.
    #[error("function `{function}`: the specification has {bytes} bytes, at most {SPEC_BYTES_MAX} are accepted")]
    SpecTooLarge {
        /// The function.
        function: FunctionName,
        /// Its size as JSON, in bytes.
        bytes: usize,
    },
    /// The same function twice in one application.
    #[error("function `{function}` is listed twice")]
    FunctionTwice {
        /// The function.
        function: FunctionName,
    },
    /// Another function answers on that route.
    #[error(
        "function `{function}`: route {route} belongs to function `{holder}`; change one of them or remove `{holder}`"
    )]
    RouteTaken {
        /// The function that wanted it.
        function: FunctionName,
        /// The route.
        route: String,
        /// The function that has it.
        holder: String,
    },
    /// Nobody has put the component, or it was collected since.
    #[error("function `{function}`: component {digest} is not in the data directory")]
    ComponentMissing {
        /// The function.
        function: FunctionName,
        /// The component.
        digest: ComponentDigest,
    },
    /// The node is full.
    #[error("a node has at most {FUNCTIONS_MAX} functions")]
    TooManyFunctions,
    /// Four billion deployments.
    #[error("function `{function}` has no revision numbers left; remove it and deploy it again")]
    NumbersExhausted {
        /// The function.
        function: FunctionName,
    },
    /// The disk failed or is full.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl Store {
    /// Makes a new active revision. Once this returns, it survives `kill -9` and a loss of power.
    ///
    /// # Errors
    /// See [`DeployError`]; nothing was changed then.
    pub fn deploy(&self, spec: &FunctionSpec, digest: ComponentDigest, unix_ms: u64) -> Result<Deployed, DeployError> {
        let deployed = self.deploy_app(&[Deployment { spec: spec.clone(), digest }], unix_ms)?;
        deployed.first().copied().ok_or_else(|| self.not_as_written("a deployment came to nothing").into())
    }

    /// Deploys all functions of an application, or none. Functions may hand routes to each other.
    /// The answers are in the order of `deployments`.
    ///
    /// # Errors
    /// See [`DeployError`]; nothing was changed then.
    pub fn deploy_app(&self, deployments: &[Deployment], unix_ms: u64) -> Result<Vec<Deployed>, DeployError> {
        let texts = check_all(deployments)?;
        let file = self.registry_file();
        let mut registry = self.registry.lock();
        let transaction =
            registry.transaction_with_behavior(TransactionBehavior::Immediate).while_doing(DOING, &file)?;
        let mut answers = Vec::with_capacity(deployments.len());
        for deployment in deployments {
            // Under the lock that a collection of garbage takes, so it stays true until the commit.
            if !self.components.contains(deployment.digest)? {
                let Deployment { spec, digest } = deployment;
                return Err(DeployError::ComponentMissing { function: spec.name.clone(), digest: *digest });
            }
            answers.push(self.answer(&transaction, deployment)?);
        }
        let changed = || deployments.iter().zip(&answers).zip(&texts).filter(|((_, answer), _)| is_new(**answer));
        for ((deployment, _), _) in changed() {
            release_routes(&transaction, &deployment.spec.name).while_doing(DOING, &file)?;
        }
        for ((deployment, answer), text) in changed() {
            self.insert(&transaction, deployment, answer.revision(), text, unix_ms).while_doing(DOING, &file)?;
            claim_routes(&transaction, &deployment.spec)
                .while_doing(DOING, &file)?
                .map_err(|taken| taken.into_deploy_error(&deployment.spec.name))?;
        }
        check_count(&transaction).while_doing(DOING, &file)??;
        transaction.commit().while_doing(DOING, &file)?;
        Ok(answers)
    }

    /// Which revision the deployment becomes, or already is.
    fn answer(&self, registry: &Connection, deployment: &Deployment) -> Result<Deployed, DeployError> {
        let file = self.registry_file();
        let name = &deployment.spec.name;
        let active = registry::active_revision(registry, name).while_doing(DOING, &file)?;
        if let Some(active) = active
            && active.digest == deployment.digest
            && active.spec == deployment.spec
        {
            return Ok(Deployed::Unchanged(active.number));
        }
        let sql = "SELECT last_revision FROM functions WHERE name = ?1";
        let last = registry.query_row(sql, [name.as_str()], |row| row.get::<_, u32>(0)).optional();
        let last = last.while_doing(DOING, &file)?.unwrap_or(0);
        let next = last.checked_add(1).ok_or_else(|| DeployError::NumbersExhausted { function: name.clone() })?;
        Ok(Deployed::New(RevisionNumber(next)))
    }

    fn insert(
        &self,
        registry: &Connection,
        deployment: &Deployment,
        number: RevisionNumber,
        text: &str,
        unix_ms: u64,
    ) -> rusqlite::Result<()> {
        let name = deployment.spec.name.as_str();
        let created = i64::try_from(unix_ms).unwrap_or(i64::MAX);
        registry.execute(
            "INSERT INTO functions (name, active_revision, last_revision) VALUES (?1, ?2, ?2)
             ON CONFLICT (name) DO UPDATE SET active_revision = ?2, last_revision = ?2",
            params![name, number.0],
        )?;
        registry.execute(
            "INSERT INTO revisions (function, number, digest, spec, created_unix_ms) VALUES (?1, ?2, ?3, ?4, ?5)",
            params![name, number.0, deployment.digest.to_string(), text, created],
        )?;
        // Counted in rows, not numbers, because a rollback may have left a gap to the active one.
        registry.execute(
            "DELETE FROM revisions WHERE function = ?1 AND number NOT IN
                (SELECT number FROM revisions WHERE function = ?1 ORDER BY number DESC LIMIT ?2)",
            params![name, self.settings.revisions_kept.max(1)],
        )?;
        Ok(())
    }

    pub(crate) fn not_as_written(&self, detail: &str) -> StorageError {
        StorageError::corrupted(&self.registry_file(), detail)
    }
}

/// A route that another function has.
pub(crate) struct Taken {
    pub(crate) route: String,
    pub(crate) holder: String,
}

impl Taken {
    fn into_deploy_error(self, function: &FunctionName) -> DeployError {
        DeployError::RouteTaken { function: function.clone(), route: self.route, holder: self.holder }
    }
}

/// Gives up the routes of `function`.
pub(crate) fn release_routes(registry: &Connection, function: &FunctionName) -> rusqlite::Result<()> {
    registry.execute("DELETE FROM routes WHERE function = ?1", [function.as_str()]).map(drop)
}

/// Takes the routes of `spec`, unless another function has one of them.
pub(crate) fn claim_routes(registry: &Connection, spec: &FunctionSpec) -> rusqlite::Result<Result<(), Taken>> {
    for route in &spec.routes {
        let route = route.to_string();
        let sql = "INSERT INTO routes (route, function) VALUES (?1, ?2) ON CONFLICT (route) DO NOTHING";
        if registry.execute(sql, params![route, spec.name.as_str()])? == 0 {
            let sql = "SELECT function FROM routes WHERE route = ?1";
            let holder = registry.query_row(sql, [&route], |row| row.get(0))?;
            return Ok(Err(Taken { route, holder }));
        }
    }
    Ok(Ok(()))
}

fn is_new(answer: Deployed) -> bool {
    match answer {
        Deployed::New(_) => true,
        Deployed::Unchanged(_) => false,
    }
}

/// Checks what needs no disk; the specifications as JSON, in order.
fn check_all(deployments: &[Deployment]) -> Result<Vec<String>, DeployError> {
    if deployments.len() > FUNCTIONS_MAX {
        return Err(DeployError::TooManyFunctions);
    }
    let mut names = BTreeSet::new();
    deployments
        .iter()
        .map(|Deployment { spec, .. }| {
            let function = || spec.name.clone();
            if !names.insert(&spec.name) {
                return Err(DeployError::FunctionTwice { function: function() });
            }
            spec.check().map_err(|violation| DeployError::Spec { function: function(), violation })?;
            let text = serde_json::to_string(spec)
                .map_err(|error| StorageError::Io { doing: DOING.to_owned(), detail: error.to_string() })?;
            match text.len() {
                bytes if bytes > SPEC_BYTES_MAX => Err(DeployError::SpecTooLarge { function: function(), bytes }),
                _ => Ok(text),
            }
        })
        .collect()
}

fn check_count(registry: &Connection) -> rusqlite::Result<Result<(), DeployError>> {
    let count: u64 =
        registry.query_row("SELECT count(*) FROM functions", [], |row| row.get::<_, u32>(0).map(u64::from))?;
    Ok(if count > FUNCTIONS_MAX as u64 { Err(DeployError::TooManyFunctions) } else { Ok(()) })
}
