//! Deployments in a loop, and which of them the node acknowledged.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::traffic::Whereabouts;
use crate::deployer::Deployer;

const PAUSE: Duration = Duration::from_secs(1);

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

/// Deploys until told to stop. `admin` says where the node is.
pub(super) async fn run(
    deployer: Deployer,
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
        match deployer.deploy(number, address).await {
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
