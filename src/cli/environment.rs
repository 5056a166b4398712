//! What the command line depends on beside itself: a few environment variables, and whether it talks to a terminal.
//!
//! Read once and passed on, so that everything behind it can be tested with any environment.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::IsTerminal;
use std::path::PathBuf;

/// The environment of a command. Not printable on purpose: a token may be among the variables.
#[derive(Clone, Default)]
pub(crate) struct Environment {
    /// All variables whose name and value are text.
    pub(crate) variables: BTreeMap<String, String>,
    /// The folder the command runs in.
    pub(crate) folder: PathBuf,
    /// Whether a person can be asked.
    pub(crate) stdin_is_terminal: bool,
    /// Whether a person reads the data.
    pub(crate) stdout_is_terminal: bool,
    /// Whether a person reads the messages.
    pub(crate) stderr_is_terminal: bool,
}

impl Environment {
    /// That of this process.
    pub(crate) fn of_process() -> Self {
        let text = |(name, value): (OsString, OsString)| Some((name.into_string().ok()?, value.into_string().ok()?));
        Self {
            variables: std::env::vars_os().filter_map(text).collect(),
            folder: std::env::current_dir().unwrap_or_else(|_| PathBuf::from(".")),
            stdin_is_terminal: std::io::stdin().is_terminal(),
            stdout_is_terminal: std::io::stdout().is_terminal(),
            stderr_is_terminal: std::io::stderr().is_terminal(),
        }
    }

    /// A variable that is set and not empty.
    pub(crate) fn variable(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// Whether colours are welcome where no option says so: <https://no-color.org>, and terminals that can do none.
    pub(crate) fn colours_welcome(&self) -> bool {
        self.variable("NO_COLOR").is_none() && self.variable("TERM") != Some("dumb")
    }
}
