//! What a user asks for when deploying a function: everything about it but the component's bytes.
//!
//! A revision is a component digest and one of these; it never changes once made.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::limits::{self, FunctionLimits};
use crate::warm_up::{WarmUpFault, WarmUpRequest};
use crate::{FunctionName, OutboundHost, RoutePattern};

/// Number of a revision of one function: 1, 2, 3, ... in order of deployment.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RevisionNumber(pub u32);

impl fmt::Display for RevisionNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// A function as its manifest describes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FunctionSpec {
    /// Unique on the node.
    pub name: FunctionName,
    /// The application it belongs to: its key-value stores are that application's, and it calls that application's
    /// functions without being allowed to. Functions without any form one together, whose name is empty.
    #[serde(default)]
    pub app: String,
    /// Where it answers from outside. Without any, only other functions and `invoke` reach it.
    #[serde(default)]
    pub routes: Vec<RoutePattern>,
    /// `wasi:cli/environment`.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    /// `wasi:config/store`.
    #[serde(default)]
    pub config: BTreeMap<String, String>,
    /// Hosts it may call; functions of its own application need no entry.
    #[serde(default)]
    pub allowed_outbound_hosts: Vec<OutboundHost>,
    /// `wasi:keyvalue` stores of its application that it may open, by name.
    #[serde(default)]
    pub key_value_stores: Vec<String>,
    /// What it may use.
    #[serde(default)]
    pub limits: FunctionLimits,
    /// Whether a VM serves one request or several.
    #[serde(default)]
    pub reuse: ReusePolicy,
    /// Requests that do no harm: an image of a part of the function's code is tried with them before it serves.
    #[serde(default)]
    pub warm_up: Vec<WarmUpRequest>,
}

/// How many requests one VM serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(tag = "policy", rename_all = "snake_case", deny_unknown_fields)]
pub enum ReusePolicy {
    /// A fresh VM for each request: nothing of one request can reach another.
    Fresh,
    /// Nothing of one request can reach another, at less cost: after its request, a VM is put back to the state in which it
    /// was made. Where that cannot be done or is in doubt, as `Fresh`.
    #[default]
    Rollback,
    /// As `Rollback`, but put back to the state after the function's `warm_up` requests: what it loads and works out at its
    /// first request is there already. What those requests leave in memory is seen by all later ones, so the state must
    /// pass a test first (the same answers as of a fresh VM, nothing drawn from the host); where it does not, as `Rollback`.
    Warm,
    /// One VM serves requests one after the other; module state survives from one to the next.
    Reuse {
        /// Requests after which the VM is retired.
        requests_max: u32,
        /// Idle time after which it is retired.
        idle_ms: u64,
    },
}

/// Why a specification is refused although each field is well formed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// A number outside its range.
    #[error("`{field}` is {value}, which is not between {min} and {max}")]
    OutOfRange {
        /// Field, as the manifest writes it.
        field: &'static str,
        /// Value found.
        value: u64,
        /// Smallest value allowed.
        min: u64,
        /// Largest value allowed.
        max: u64,
    },
    /// More entries than allowed.
    #[error("`{field}` has {count} entries, at most {max} are allowed")]
    TooMany {
        /// Field, as the manifest writes it.
        field: &'static str,
        /// Entries found.
        count: usize,
        /// Entries allowed.
        max: usize,
    },
    /// A variable's name or value is empty, too long, or holds a zero byte or `=` in its name.
    #[error("`{field}.{name}` is not a usable variable: names are not empty and without `=`, at most {max} bytes")]
    BadVariable {
        /// `environment` or `config`.
        field: &'static str,
        /// The variable's name, shortened.
        name: String,
        /// Bytes allowed.
        max: usize,
    },
    /// A warm state without requests that lead to it.
    #[error("`reuse` is `warm`, and there is no `warm_up` request to warm a VM up with")]
    NothingToWarmUpWith,
    /// A warm-up request that no client could send, or whose calls no server could answer so.
    #[error("`warm_up[{index}]`: {fault}")]
    BadWarmUp {
        /// Which of them, from 0.
        index: usize,
        /// What is wrong.
        fault: WarmUpFault,
    },
    /// Processors twice, or not in their order.
    #[error("`limits.cpus` is not in ascending order, each processor once")]
    CpusInDisorder,
    /// The same route twice in one function.
    #[error("route `{route}` is listed twice")]
    RouteTwice {
        /// The route.
        route: String,
    },
}

impl FunctionSpec {
    /// A specification with nothing but a name; the rest at its defaults.
    pub fn named(name: FunctionName) -> Self {
        Self {
            name,
            app: String::new(),
            routes: Vec::new(),
            environment: BTreeMap::new(),
            config: BTreeMap::new(),
            allowed_outbound_hosts: Vec::new(),
            key_value_stores: Vec::new(),
            limits: FunctionLimits::default(),
            reuse: ReusePolicy::default(),
            warm_up: Vec::new(),
        }
    }

    /// Checks what the types alone do not: ranges and counts.
    ///
    /// # Errors
    /// The first violation found, by name.
    pub fn check(&self) -> Result<(), SpecError> {
        self.check_ranges()?;
        self.check_cpus()?;
        count("routes", self.routes.len(), limits::ROUTES_MAX)?;
        count("allowed_outbound_hosts", self.allowed_outbound_hosts.len(), limits::VARIABLES_MAX)?;
        count("key_value_stores", self.key_value_stores.len(), limits::VARIABLES_MAX)?;
        count("warm_up", self.warm_up.len(), limits::ROUTES_MAX)?;
        for (index, request) in self.warm_up.iter().enumerate() {
            request.check().map_err(|fault| SpecError::BadWarmUp { index, fault })?;
        }
        variables("environment", &self.environment)?;
        variables("config", &self.config)?;
        for (index, route) in self.routes.iter().enumerate() {
            if self.routes[..index].contains(route) {
                return Err(SpecError::RouteTwice { route: route.to_string() });
            }
        }
        Ok(())
    }

    fn check_cpus(&self) -> Result<(), SpecError> {
        let cpus = &self.limits.cpus;
        count("limits.cpus", cpus.len(), limits::CPUS_MAX)?;
        if cpus.is_sorted_by(|a, b| a < b) { Ok(()) } else { Err(SpecError::CpusInDisorder) }
    }

    fn check_ranges(&self) -> Result<(), SpecError> {
        let FunctionLimits {
            memory_bytes,
            timeout_ms,
            concurrency_max,
            queue_max,
            queue_timeout_ms,
            request_body_bytes_max: _,
            response_body_bytes_max,
            cpus: _,
        } = self.limits;
        range("limits.memory_bytes", memory_bytes, limits::MEMORY_BYTES_MIN, limits::MEMORY_BYTES_MAX)?;
        range("limits.timeout_ms", timeout_ms, 1, limits::TIMEOUT_MS_MAX)?;
        range("limits.concurrency_max", concurrency_max.into(), 1, 1 << 20)?;
        range("limits.queue_max", queue_max.into(), 0, 1 << 20)?;
        range("limits.queue_timeout_ms", queue_timeout_ms, 0, limits::TIMEOUT_MS_MAX)?;
        range("limits.response_body_bytes_max", response_body_bytes_max, 1, u64::MAX)?;
        match self.reuse {
            ReusePolicy::Warm if self.warm_up.is_empty() => Err(SpecError::NothingToWarmUpWith),
            ReusePolicy::Fresh | ReusePolicy::Rollback | ReusePolicy::Warm => Ok(()),
            ReusePolicy::Reuse { requests_max, idle_ms } => {
                range("reuse.requests_max", requests_max.into(), 1, u32::MAX.into())?;
                range("reuse.idle_ms", idle_ms, 1, limits::TIMEOUT_MS_MAX)
            }
        }
    }
}

fn range(field: &'static str, value: u64, min: u64, max: u64) -> Result<(), SpecError> {
    if (min..=max).contains(&value) { Ok(()) } else { Err(SpecError::OutOfRange { field, value, min, max }) }
}

fn count(field: &'static str, count: usize, max: usize) -> Result<(), SpecError> {
    if count <= max { Ok(()) } else { Err(SpecError::TooMany { field, count, max }) }
}

fn variables(field: &'static str, variables: &BTreeMap<String, String>) -> Result<(), SpecError> {
    count(field, variables.len(), limits::VARIABLES_MAX)?;
    let max = limits::VARIABLE_BYTES_MAX;
    let usable = |name: &str, value: &str| {
        !name.is_empty()
            && !name.contains(['=', '\0'])
            && !value.contains('\0')
            && name.len() <= max
            && value.len() <= max
    };
    match variables.iter().find(|(name, value)| !usable(name, value)) {
        None => Ok(()),
        Some((name, _)) => Err(SpecError::BadVariable { field, name: name.chars().take(40).collect(), max }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> FunctionSpec {
        FunctionSpec::named("cart".parse().unwrap())
    }

    #[test]
    fn defaults_are_valid_and_survive_json_like_formats() {
        assert_eq!(spec().check(), Ok(()));
    }

    #[test]
    fn refuses_out_of_range_by_field() {
        let mut tiny = spec();
        tiny.limits.memory_bytes = 1;
        assert!(matches!(tiny.check(), Err(SpecError::OutOfRange { field: "limits.memory_bytes", .. })));
        let mut cold = spec();
        cold.reuse = ReusePolicy::Warm;
        assert_eq!(cold.check(), Err(SpecError::NothingToWarmUpWith));
        let mut twice = spec();
        twice.limits.cpus = vec![0, 2, 2];
        assert_eq!(twice.check(), Err(SpecError::CpusInDisorder));
        twice.limits.cpus = (0..=1024).collect();
        assert!(matches!(twice.check(), Err(SpecError::TooMany { field: "limits.cpus", .. })));
        let mut never = spec();
        never.reuse = ReusePolicy::Reuse { requests_max: 0, idle_ms: 1 };
        assert!(matches!(never.check(), Err(SpecError::OutOfRange { field: "reuse.requests_max", .. })));
    }

    #[test]
    fn refuses_bad_variables_and_double_routes() {
        let mut bad = spec();
        bad.environment.insert("A=B".into(), "x".into());
        assert!(matches!(bad.check(), Err(SpecError::BadVariable { .. })));
        let mut twice = spec();
        twice.routes = vec!["/a".parse().unwrap(), "/a".parse().unwrap()];
        assert_eq!(twice.check(), Err(SpecError::RouteTwice { route: "/a".into() }));
    }
}
