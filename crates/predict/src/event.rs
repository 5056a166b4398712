//! The words of the engine: which function, called when, in what surroundings.

use serde::{Deserialize, Serialize};

/// A function: one kind of code in one scope. Kinds may be shared by scopes (the same code deployed for many tenants);
/// what is learnt of a kind in one scope then helps the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Target {
    /// Application or tenant, if there is one. Calls without a scope are predicted by their own timing only.
    pub scope: Option<u32>,
    /// Number of the code, given by the caller (see [`crate::catalog::Catalog`]). `u32::MAX` is reserved.
    pub kind: u32,
}

/// A call, or several that came together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Call {
    /// Microseconds since the Unix epoch. A time before one already seen is taken to be that one.
    pub at_us: u64,
    /// What was called.
    pub target: Target,
    /// The sequence of calls it belongs to, if the caller knows one (a session, a trace); otherwise the scope is it.
    pub session: Option<u64>,
    /// Kind of the function that made the call, if known.
    pub caller: Option<u32>,
    /// Class of the request, 0 if not known.
    pub class: u32,
    /// Number of calls.
    pub count: u32,
}
