//! The server gives up what it does not need, before it has any thread: see `forerun_specialize`'s server sandbox.
//!
//! Which files a node needs is known here: its data, its certificates, and what the command that runs it reads.

use std::path::{Path, PathBuf};

use forerun_specialize::{NoGuard, ServerPaths, ServerSandbox, confine_server};

use crate::cli::environment::Environment;
use crate::cli::meaning::{self, Sandbox};
use crate::cli::paths::{self, DataFolder};
use crate::running;

/// What the command does beside serving.
pub(crate) enum Work {
    /// Reads these files, and what else is in their folders.
    Reads(Vec<PathBuf>),
    /// Runs programs of others, which a sandbox would hold, too.
    RunsPrograms,
}

/// Confines the process, if that is wanted and can be; says in the log what has come of it.
pub(crate) fn confine(node: &meaning::Node, data: &Path, work: &Work) {
    let read = match (node.sandbox, work) {
        (Sandbox::Off, _) => {
            tracing::warn!(reason = "--sandbox off", "the server has no sandbox of its own");
            return;
        }
        (Sandbox::On, Work::RunsPrograms) => {
            tracing::info!(reason = "--build runs programs", "the server has no sandbox of its own");
            return;
        }
        (Sandbox::On, Work::Reads(read)) => read,
    };
    let ServerSandbox { files, calls } = confine_server(&server_paths(node, data, read));
    match (&files, &calls) {
        (Ok(()), Ok(())) => tracing::info!(files = "confined", system_calls = "confined", "the server has its sandbox"),
        _ => tracing::warn!(
            files = state(&files),
            system_calls = state(&calls),
            "the server's own sandbox is not complete: see `forerun doctor`"
        ),
    }
}

fn state(guard: &Result<(), NoGuard>) -> String {
    match guard {
        Ok(()) => "confined".to_owned(),
        Err(reason) => reason.to_string(),
    }
}

fn server_paths(node: &meaning::Node, data: &Path, read: &[PathBuf]) -> ServerPaths {
    let certificates = node.tls.iter().flat_map(|tls| [&tls.certificate, &tls.key]);
    let read = certificates.chain(read).flat_map(|path| folders(path)).collect();
    let mut written = vec![data.to_owned()];
    written.extend(running_folder());
    let emptied = match node.data {
        DataFolder::At(_) => Vec::new(),
        // Removed at the end, which is a matter of the folder around it.
        DataFolder::Temporary => data.parent().map(Path::to_owned).into_iter().collect(),
    };
    ServerPaths { written, read, emptied }
}

/// The folder of a file by its name, and of what the name leads to: what is replaced is found again in either.
fn folders(path: &Path) -> Vec<PathBuf> {
    let full = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let real = std::fs::canonicalize(&full).ok();
    let folder = |path: &Path| match path.is_dir() {
        true => Some(path.to_owned()),
        false => path.parent().map(Path::to_owned),
    };
    [Some(full), real].into_iter().flatten().filter_map(|path| folder(&path)).collect()
}

/// Where other commands look for nodes; made here, since it cannot be made later.
fn running_folder() -> Option<PathBuf> {
    let folder = running::folder(&paths::of_user(&Environment::of_process()).ok()?);
    std::fs::create_dir_all(&folder).ok()?;
    Some(folder)
}
