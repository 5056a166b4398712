//! No file system, no TCP, no signals to others: landlock.
//!
//! Two rule sets rather than one, because kernels learned the two at different times and the report
//! says which one is missing. Descriptors that are open already stay usable; seccomp narrows those.

use landlock::{ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, Ruleset, RulesetAttr, RulesetStatus, Scope};

use super::{GuardResult, Missing};

/// First kernels with landlock (5.13) know these rights; each later one is asked for where it exists.
const FILE_SYSTEM_LEAST: ABI = ABI::V1;
/// Every file right known to the library; kernels leave out what they do not know.
const FILE_SYSTEM_MOST: ABI = ABI::V5;
/// Scopes for abstract sockets and signals came with 6.12, TCP with 6.7.
const ISOLATION: ABI = ABI::V6;

/// No path can be opened, read, written, executed or listed.
pub(super) fn no_file_system() -> GuardResult {
    let ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(FILE_SYSTEM_LEAST))
        .map_err(|_| Missing)?
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(FILE_SYSTEM_MOST))
        .map_err(|_| Missing)?;
    restrict(ruleset)
}

/// No TCP connection, no abstract socket of others, no signal to others.
pub(super) fn no_network_and_signals() -> GuardResult {
    let ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessNet::from_all(ISOLATION))
        .map_err(|_| Missing)?
        .scope(Scope::from_all(ISOLATION))
        .map_err(|_| Missing)?;
    restrict(ruleset)
}

fn restrict(ruleset: Ruleset) -> GuardResult {
    let status = ruleset.create().map_err(|_| Missing)?.restrict_self().map_err(|_| Missing)?;
    match status.ruleset {
        RulesetStatus::FullyEnforced | RulesetStatus::PartiallyEnforced => Ok(()),
        RulesetStatus::NotEnforced => Err(Missing),
    }
}
