//! The workspace as cargo sees it: its packages and their declared dependencies.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

use crate::repository;

/// One package of the workspace.
#[derive(Debug)]
pub(crate) struct Package {
    /// Names of the packages it needs to be built, optional ones included; those of its tests are not.
    pub(crate) dependencies: BTreeSet<String>,
    /// Whether its Cargo.toml takes over the lints of the workspace.
    pub(crate) workspace_lints: bool,
}

/// The packages of the workspace by name. Nothing is resolved or downloaded.
pub(crate) fn workspace() -> BTreeMap<String, Package> {
    let metadata = cargo(&["metadata", "--no-deps", "--offline", "--format-version", "1"]);
    let metadata: Value = serde_json::from_str(&metadata).expect("cargo metadata prints JSON");
    let packages = metadata["packages"].as_array().expect("a list of packages");
    packages.iter().map(|package| (text(&package["name"]), package_of(package))).collect()
}

/// What cargo prints; the cargo that runs these tests, so that it fits the toolchain.
pub(crate) fn cargo(arguments: &[&str]) -> String {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo).args(arguments).current_dir(repository::root()).output();
    let output = output.expect("cargo can be started");
    assert!(output.status.success(), "cargo {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("cargo prints UTF-8")
}

/// The name a crate has in ARCHITECTURE.md: the package's, without the prefix they all share.
pub(crate) fn short_name(package: &str) -> &str {
    package.strip_prefix("forerun-").unwrap_or(package)
}

/// The package of a crate named in ARCHITECTURE.md.
pub(crate) fn package_name(short: &str) -> String {
    if short == "forerun" { short.to_owned() } else { format!("forerun-{short}") }
}

fn package_of(package: &Value) -> Package {
    let dependencies = package["dependencies"].as_array().expect("a list of dependencies");
    let manifest = std::fs::read_to_string(text(&package["manifest_path"])).expect("a manifest can be read");
    let manifest: toml::Table = manifest.parse().expect("cargo has parsed it before");
    let lints = manifest.get("lints").and_then(|lints| lints.get("workspace"));
    Package {
        dependencies: dependencies
            .iter()
            .filter(|dependency| dependency["kind"] != "dev")
            .map(|dependency| text(&dependency["name"]))
            .collect(),
        workspace_lints: lints.and_then(toml::Value::as_bool) == Some(true),
    }
}

fn text(value: &Value) -> String {
    value.as_str().expect("cargo metadata has text here").to_owned()
}
