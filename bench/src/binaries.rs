//! Where the programs to be measured are; what is missing of this repository is built.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use tokio::process::Command;

use crate::arguments::Arguments;
use crate::contenders::Contender;

/// The programs.
#[derive(Clone, Debug)]
pub(crate) struct Binaries {
    pub(crate) forerun: Option<PathBuf>,
    pub(crate) peer: Option<PathBuf>,
    pub(crate) limit: Option<PathBuf>,
    pub(crate) wrk: PathBuf,
}

impl Binaries {
    /// Finds, or builds, what the contenders need; a peer that is not installed is left out.
    pub(crate) async fn locate(arguments: &Arguments) -> Result<Self> {
        let wanted = |contender| arguments.contenders.contains(&contender) && arguments.case.measures(contender);
        let wrk = in_path("wrk").context("wrk is not installed: `apt-get install wrk`")?;
        let forerun = match (&arguments.server, wanted(Contender::Forerun)) {
            (Some(path), _) => Some(present(path)?),
            (None, true) => Some(build(&["--package", "forerun", "--bin", "forerun"], "forerun").await?),
            (None, false) => None,
        };
        let limit = match (&arguments.limit, wanted(Contender::Limit)) {
            (Some(path), _) => Some(present(path)?),
            (None, true) => {
                Some(build(&["--package", "forerun-gateway", "--example", "limit"], "examples/limit").await?)
            }
            (None, false) => None,
        };
        let peer = match &arguments.peer {
            Some(path) => Some(present(path)?),
            None => in_path("wasmtime"),
        };
        Ok(Self { forerun, peer, limit, wrk })
    }
}

/// The root of the repository.
pub(crate) fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("this crate is in the repository").to_owned()
}

/// First line of what a program says about its version, for the record; wrk says it on the way to an error.
pub(crate) async fn version(program: &Path, argument: &str) -> String {
    let output = Command::new(program).arg(argument).output().await;
    let text = output.map(|output| String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned());
    text.ok().and_then(|text| text.lines().next().map(str::to_owned)).unwrap_or_else(|| "unknown".to_owned())
}

fn present(path: &Path) -> Result<PathBuf> {
    path.canonicalize().with_context(|| format!("{} cannot be run", path.display()))
}

/// A program that is installed, by its name.
pub(crate) fn in_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|candidate| candidate.is_file())
}

/// Builds with the release profile, whatever profile this program has.
async fn build(arguments: &[&str], product: &str) -> Result<PathBuf> {
    crate::say(&format!("building {product}"));
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["build", "--release"]).args(arguments).current_dir(repository()).kill_on_drop(true);
    let status = command.status().await.context("cargo cannot be started")?;
    if !status.success() {
        bail!("cargo build {} failed", arguments.join(" "));
    }
    // This program is `<target>/<profile>/forerun-bench`.
    let executable = std::env::current_exe().context("the path of this program is unknown")?;
    let target = executable.ancestors().nth(2).context("this program is not in a target directory")?;
    let path = target.join("release").join(product);
    ensure!(path.is_file(), "{} was built, but not found; give its path", path.display());
    Ok(path)
}
