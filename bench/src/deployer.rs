//! Deployments of a component that never was before, each with a number.
//!
//! The number is in the component, in a section that nobody reads, so that each is compiled; and in an environment variable, by
//! which it is recognized afterwards.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tokio::process::Command;

use crate::probe::Connection;

/// The variable with the number.
const VARIABLE: &str = "NUMBER";
/// A deployment that takes longer is not acknowledged.
const DEPLOY_MAX: Duration = Duration::from_secs(30);

/// How deployments are made.
#[derive(Clone, Debug)]
pub(crate) struct Deployer {
    /// Of the function. A component that is deployed in the place of another one is compiled where it differs, so that one of which
    /// all is to be compiled needs a name of its own.
    pub(crate) name: String,
    pub(crate) program: PathBuf,
    /// Of the node.
    pub(crate) data: PathBuf,
    /// For components, elsewhere than on the node's disk.
    pub(crate) folder: PathBuf,
    pub(crate) component: Vec<u8>,
}

impl Deployer {
    /// One deployment; an error if the node did not acknowledge it.
    pub(crate) async fn deploy(&self, number: u64, admin: SocketAddr) -> Result<()> {
        let path = self.folder.join(format!("{}.wasm", self.name));
        std::fs::write(&path, numbered(&self.component, number))?;
        let mut command = Command::new(&self.program);
        command.arg("deploy").arg(&path).args(["--name", &self.name, "--route", &route(&self.name)]);
        command.args(["--env", &format!("{VARIABLE}={number}"), "--node", &format!("http://{admin}"), "--data"]);
        command.arg(&self.data).stdin(Stdio::null()).kill_on_drop(true);
        let output = tokio::time::timeout(DEPLOY_MAX, command.output()).await.context("no answer in time")??;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr).trim());
        Ok(())
    }
}

/// Where the function of that name answers.
fn route(name: &str) -> String {
    format!("/{name}")
}

/// The number of the deployment that the node has of a function.
pub(crate) async fn kept(name: &str, admin: SocketAddr, data: &Path) -> Result<u64> {
    let token = std::fs::read_to_string(data.join("admin.token")).context("the node has no token")?;
    let path = format!("/v1/functions/{name}");
    let answer = Connection::open(admin).await?.get_as(&path, token.trim()).await?;
    ensure!(answer.status == 200, "{path} answers {}", answer.status);
    let function: Value = serde_json::from_slice(&answer.body)?;
    let number = function["spec"]["environment"][VARIABLE].as_str().context("it has no number")?;
    Ok(number.parse()?)
}

/// The component with a custom section at its end, which changes its digest and nothing else.
fn numbered(component: &[u8], number: u64) -> Vec<u8> {
    let name = b"bench";
    let text = number.to_string();
    // Section id, size, length of the name; all below 128, so that each is one byte.
    let size = 1 + name.len() + text.len();
    let mut bytes = component.to_vec();
    bytes.extend([0, size as u8, name.len() as u8]);
    bytes.extend(name);
    bytes.extend(text.as_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_number_is_another_component() {
        let bytes = numbered(b"\0asm", 12);
        assert_eq!(bytes, b"\0asm\0\x08\x05bench12");
        assert_ne!(bytes, numbered(b"\0asm", 13));
    }
}
