//! A trace in the form the replay uses: calls in time order, with names replaced by small numbers.

use std::collections::HashMap;

/// Stands for "not known" among numbers of scopes and callers.
pub const UNKNOWN: u32 = u32::MAX;

/// One call, or several of the same function that the source does not tell apart in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Invocation {
    /// Microseconds since the source's epoch (the Unix epoch where the source knows the date).
    pub at_us: u64,
    /// The function: one kind of code in one scope.
    pub function: u32,
    /// Application or tenant; [`UNKNOWN`] if the source has none.
    pub scope: u32,
    /// The code, which several scopes may share.
    pub kind: u32,
    /// Calls that belong together in order; 0 if the source has none.
    pub session: u64,
    /// Kind of the caller; [`UNKNOWN`] if there is none or the source does not say.
    pub caller: u32,
    /// Number of calls at this time.
    pub count: u32,
    /// Execution time in microseconds; 0 if not known.
    pub duration_us: u32,
}

/// Names seen in a trace, numbered in order of appearance.
#[derive(Debug, Default)]
pub struct Names {
    numbers: HashMap<String, u32>,
    names: Vec<String>,
}

impl Names {
    /// Number of a name, given on first sight.
    pub fn number(&mut self, name: &str) -> u32 {
        if let Some(number) = self.numbers.get(name) {
            return *number;
        }
        let number = self.names.len() as u32;
        self.numbers.insert(name.to_owned(), number);
        self.names.push(name.to_owned());
        number
    }

    /// Name of a number.
    pub fn name(&self, number: u32) -> &str {
        self.names.get(number as usize).map_or("?", String::as_str)
    }

    /// How many names there are.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }
}

/// Numbers for scopes, kinds, and their pairs.
#[derive(Debug, Default)]
pub struct Directory {
    /// Applications or tenants.
    pub scopes: Names,
    /// Kinds of code.
    pub kinds: Names,
    functions: HashMap<(u32, u32), u32>,
}

impl Directory {
    /// Number of the function that is `kind` in `scope`, given on first sight.
    pub fn function(&mut self, scope: u32, kind: u32) -> u32 {
        let next = self.functions.len() as u32;
        *self.functions.entry((scope, kind)).or_insert(next)
    }

    /// How many functions there are.
    pub fn functions(&self) -> usize {
        self.functions.len()
    }
}
