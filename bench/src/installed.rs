//! Peers that come from npm and pip: installed once, in the versions that `bench/peers` names, outside the repository.
//!
//! What cannot be installed is absent with its reason; nobody else is held up by it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use tokio::process::Command;

use crate::binaries::{in_path, repository};

/// Where what was installed for JavaScript and for Python is, or why not.
#[derive(Debug)]
pub(crate) struct Installed {
    pub(crate) javascript: Result<PathBuf, String>,
    pub(crate) python: Result<PathBuf, String>,
}

impl Installed {
    /// Installs what is not there yet.
    pub(crate) async fn prepare() -> Self {
        let reason = |error: anyhow::Error| format!("{error:#}");
        Self { javascript: javascript().await.map_err(reason), python: python().await.map_err(reason) }
    }
}

/// The handlers and the versions of the peers.
pub(crate) fn handlers() -> PathBuf {
    repository().join("bench/peers")
}

async fn javascript() -> Result<PathBuf> {
    let wanted = handlers().join("js/package.json");
    let folder = cache()?.join("js");
    if is_done(&folder, &wanted) {
        return Ok(folder);
    }
    crate::say("installing workerd and functions-framework with npm");
    let npm = in_path("npm").context("npm is not installed")?;
    fs::create_dir_all(&folder)?;
    fs::copy(&wanted, folder.join("package.json"))?;
    let options = ["--no-package-lock", "--no-audit", "--no-fund", "--loglevel=error"];
    finish(Command::new(npm).args(["install", "--prefix"]).arg(&folder).args(options)).await?;
    mark_done(&folder, &wanted)?;
    Ok(folder)
}

async fn python() -> Result<PathBuf> {
    let wanted = handlers().join("python/requirements.txt");
    let folder = cache()?.join("python");
    if is_done(&folder, &wanted) {
        return Ok(folder);
    }
    crate::say("installing functions-framework with pip");
    let python = in_path("python3").context("python3 is not installed")?;
    finish(Command::new(python).args(["-m", "venv", "--clear"]).arg(&folder)).await?;
    let options = ["install", "--quiet", "--disable-pip-version-check", "--requirement"];
    finish(Command::new(folder.join("bin/pip")).args(options).arg(&wanted)).await?;
    mark_done(&folder, &wanted)?;
    Ok(folder)
}

/// Beside what the examples' build scripts keep.
fn cache() -> Result<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let ours = variable("FORERUN_BUILD_DIR")
        .or_else(|| variable("XDG_CACHE_HOME").map(|folder| folder.join("forerun")))
        .or_else(|| variable("HOME").map(|folder| folder.join(".cache/forerun")));
    Ok(ours.context("there is no HOME to keep the peers in")?.join("bench"))
}

/// The list of versions is copied last: where it is the wanted one, all of it was installed.
fn is_done(folder: &Path, wanted: &Path) -> bool {
    let (done, wanted) = (fs::read(mark(folder)), fs::read(wanted));
    done.is_ok_and(|done| wanted.is_ok_and(|wanted| wanted == done))
}

fn mark_done(folder: &Path, wanted: &Path) -> Result<()> {
    fs::copy(wanted, mark(folder)).context("what was installed cannot be noted")?;
    Ok(())
}

fn mark(folder: &Path) -> PathBuf {
    folder.join("installed")
}

async fn finish(command: &mut Command) -> Result<()> {
    let shown = command.as_std().get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output().await;
    let output = output.with_context(|| format!("{shown} cannot be started"))?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    // The last line that is not blank is the one with the reason.
    let reason = said.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("without a word");
    ensure!(output.status.success(), "{shown} failed: {reason}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_version_is_installed_anew() {
        let folder = tempfile::tempdir().unwrap();
        let wanted = folder.path().join("versions");
        fs::write(&wanted, "workerd 1").unwrap();
        assert!(!is_done(folder.path(), &wanted));
        mark_done(folder.path(), &wanted).unwrap();
        assert!(is_done(folder.path(), &wanted));
        fs::write(&wanted, "workerd 2").unwrap();
        assert!(!is_done(folder.path(), &wanted));
    }

    #[tokio::test]
    async fn a_failure_is_told_by_its_last_words() {
        let failed = finish(Command::new("sh").args(["-c", "echo first >&2; echo why >&2; echo >&2; false"])).await;
        assert_eq!(format!("{:#}", failed.unwrap_err()), "sh failed: why");
    }
}
