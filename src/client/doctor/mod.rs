//! `forerun doctor`: what on this machine and about the node may go wrong, and what to do about it.
//!
//! Only looks: a file is made in the data folder and removed again, ports are bound and let go, nothing else is
//! touched. What the kernel can do is judged by its version and settings, and
//! tried only on memory of this process's own.

mod kernel;
mod limits;
mod node;
mod storage;

use std::path::Path;

use serde::Serialize;
use serde_json::json;

use super::Done;
use super::error::ClientError;
use super::find;
use crate::cli::environment::Environment;
use crate::cli::meaning::Connection;
use crate::cli::output::{Format, Output};
use crate::cli::paths;
use crate::cli::table::{Align, Table, printable};

/// Exit code if something has failed.
const EXIT_FAILED: u8 = 1;
/// Bytes read of one file of the kernel; the longest, the mounts, has a hundred a line.
const KERNEL_FILE_BYTES_MAX: u64 = 1 << 20;

/// What was found about one thing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Check {
    name: &'static str,
    state: State,
    detail: String,
    /// What to do; empty if nothing has to be done.
    hint: String,
}

/// How serious it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum State {
    /// As it should be.
    Ok,
    /// Works, but slower, or not for long.
    Warning,
    /// A node cannot work like that.
    Failed,
}

impl Check {
    fn ok(name: &'static str, detail: impl Into<String>) -> Self {
        Self { name, state: State::Ok, detail: detail.into(), hint: String::new() }
    }

    fn warning(name: &'static str, detail: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { name, state: State::Warning, detail: detail.into(), hint: hint.into() }
    }

    fn failed(name: &'static str, detail: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { name, state: State::Failed, detail: detail.into(), hint: hint.into() }
    }

    /// What could not be looked at.
    fn unknown(name: &'static str, what: &str) -> Self {
        Self::warning(name, format!("{what} cannot be read"), "is /proc mounted? without it this cannot be judged")
    }
}

impl State {
    fn label(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Failed => "failed",
        }
    }
}

/// Checks everything, and shows it.
pub(super) fn doctor(output: &Output, connection: &Connection, environment: &Environment) -> Result<Done, ClientError> {
    let user_folder = paths::of_user(environment).ok();
    let found = find::find(connection, user_folder.as_deref());
    let folder = match &found {
        Ok(found) => found.folder.clone(),
        Err(_) => None,
    };
    let folder = folder.or_else(|| storage::likely_folder(&connection.data_folders));
    let root = Path::new("/");
    let mut checks = kernel::checks(root);
    checks.extend(limits::checks(root));
    if let Some(folder) = folder {
        checks.extend(storage::checks(root, &folder));
    }
    checks.extend(node::checks(connection, found));
    show(output, &checks)
}

fn show(output: &Output, checks: &[Check]) -> Result<Done, ClientError> {
    let count = |state| checks.iter().filter(|check| check.state == state).count();
    let (failed, warnings) = (count(State::Failed), count(State::Warning));
    let mut table = Table::new(&[("check", Align::Left), ("state", Align::Left), ("found", Align::Left)]);
    for check in checks {
        table.row([check.name, check.state.label(), &check.detail]);
    }
    let json = json!({ "checks": checks, "failed": failed, "warnings": warnings });
    output.table(&table, &json, "nothing was checked").map_err(ClientError::Stdout)?;
    if output.format == Format::Human {
        let hints = checks.iter().filter(|check| !check.hint.is_empty());
        let lines: String = hints.map(|check| format!("\n{}: {}", check.name, printable(&check.hint))).collect();
        let summary = match (failed, warnings) {
            (0, 0) => "all is well".to_owned(),
            (failed, warnings) => format!("{failed} failed, {warnings} warnings"),
        };
        let gap = if lines.is_empty() { "" } else { "\n" };
        output.item(&format!("{lines}{gap}\n{summary}"), &json).map_err(ClientError::Stdout)?;
    }
    Ok(if failed > 0 { Done::Code(EXIT_FAILED) } else { Done::Well })
}

/// A small text file of the kernel, without the space around it.
fn read(root: &Path, path: &str) -> Option<String> {
    use std::io::Read;
    let file = std::fs::File::open(root.join(path)).ok()?;
    let mut text = String::new();
    file.take(KERNEL_FILE_BYTES_MAX).read_to_string(&mut text).ok()?;
    Some(text.trim().to_owned())
}

/// A number in such a file.
fn read_number(root: &Path, path: &str) -> Option<u64> {
    read(root, path)?.parse().ok()
}

/// Files of a pretended kernel.
#[cfg(test)]
fn pretend(files: &[(&str, &str)]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for (path, content) in files {
        let path = root.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
    root
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args::ColorChoice;

    #[test]
    fn only_a_failure_makes_the_exit_code() {
        let output = Output::new(true, ColorChoice::Never, &Environment::default());
        let (ok, warning) = (Check::ok("a", "b"), Check::warning("c", "d", "e"));
        assert_eq!(show(&output, &[ok.clone(), warning]).unwrap(), Done::Well);
        assert_eq!(show(&output, &[ok, Check::failed("c", "d", "e")]).unwrap(), Done::Code(EXIT_FAILED));
    }

    #[test]
    fn a_machine_without_proc_is_no_reason_to_panic() {
        let empty = tempfile::tempdir().unwrap();
        let checks = [kernel::checks(empty.path()), limits::checks(empty.path())].concat();
        assert!(checks.iter().any(|check| check.state == State::Warning));
        assert!(checks.iter().all(|check| (check.state == State::Ok) == check.hint.is_empty()));
    }
}
