//! Deployments in a loop, each of a component that never was before; which of them the node acknowledged.
//!
//! The number of a deployment is in the component, in a section that nobody reads, so that each is compiled; and in an
//! environment variable, by which it is recognized afterwards.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tokio::process::Command;

use super::traffic::Whereabouts;
use crate::probe::Connection;

/// The function that is deployed, its route and the variable with the number.
pub(super) const NAME: &str = "deployed";
pub(super) const ROUTE: &str = "/deployed";
const VARIABLE: &str = "NUMBER";
const PAUSE: Duration = Duration::from_secs(1);
/// A deployment that takes longer is not acknowledged.
const DEPLOY_MAX: Duration = Duration::from_secs(30);

/// What was deployed.
#[derive(Debug, Default)]
pub(super) struct Deploys {
    /// The last that was begun.
    pub(super) begun: AtomicU64,
    /// The last that was acknowledged.
    pub(super) acknowledged: AtomicU64,
    pub(super) acknowledged_count: AtomicU64,
    pub(super) refused_count: AtomicU64,
}

/// How deployments are made.
#[derive(Clone, Debug)]
pub(super) struct Deployer {
    pub(super) program: PathBuf,
    /// Of the node.
    pub(super) data: PathBuf,
    /// For components, elsewhere than on the node's disk.
    pub(super) folder: PathBuf,
    pub(super) component: Vec<u8>,
}

impl Deployer {
    /// Deploys until told to stop. `admin` says where the node is.
    pub(super) async fn run(
        self,
        deploys: Arc<Deploys>,
        node: Arc<Whereabouts>,
        admin: Arc<std::sync::Mutex<SocketAddr>>,
    ) {
        for number in 2.. {
            if node.is_stopped() {
                return;
            }
            let address = *admin.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            deploys.begun.store(number, Ordering::SeqCst);
            match self.deploy(number, address).await {
                Ok(()) => {
                    deploys.acknowledged.store(number, Ordering::SeqCst);
                    deploys.acknowledged_count.fetch_add(1, Ordering::SeqCst);
                }
                Err(_) => {
                    deploys.refused_count.fetch_add(1, Ordering::SeqCst);
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// One deployment; an error if the node did not acknowledge it.
    pub(super) async fn deploy(&self, number: u64, admin: SocketAddr) -> Result<()> {
        let path = self.folder.join(format!("{NAME}.wasm"));
        std::fs::write(&path, numbered(&self.component, number))?;
        let mut command = Command::new(&self.program);
        command.arg("deploy").arg(&path).args(["--name", NAME, "--route", ROUTE]);
        command.args(["--env", &format!("{VARIABLE}={number}"), "--node", &format!("http://{admin}"), "--data"]);
        command.arg(&self.data).stdin(Stdio::null()).kill_on_drop(true);
        let output = tokio::time::timeout(DEPLOY_MAX, command.output()).await.context("no answer in time")??;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr).trim());
        Ok(())
    }
}

/// The number of the deployment that the node has.
pub(super) async fn kept(admin: SocketAddr, data: &Path) -> Result<u64> {
    let token = std::fs::read_to_string(data.join("admin.token")).context("the node has no token")?;
    let path = format!("/v1/functions/{NAME}");
    let answer = Connection::open(admin).await?.get_as(&path, token.trim()).await?;
    ensure!(answer.status == 200, "{path} answers {}", answer.status);
    let function: Value = serde_json::from_slice(&answer.body)?;
    let number = function["spec"]["environment"][VARIABLE].as_str().context("it has no number")?;
    Ok(number.parse()?)
}

/// The component with a custom section at its end, which changes its digest and nothing else.
fn numbered(component: &[u8], number: u64) -> Vec<u8> {
    let name = b"soak";
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
        assert_eq!(bytes, b"\0asm\0\x07\x04soak12");
        assert_ne!(bytes, numbered(b"\0asm", 13));
    }
}
