//! A node at work: request path and admin API side by side, until it is told to stop; then the drain.

use std::future::Future;
use std::sync::Arc;

use forerun_gateway::DrainReport;

use crate::admin::{self, AdminState};
use crate::build::Node;

impl Node {
    /// Serves until `stop` is done, then lets requests under way finish. Blocks until everything has ended.
    pub async fn run(self, stop: impl Future<Output = ()>) -> DrainReport {
        let serving = tokio::spawn({
            let gateway = self.gateway.clone();
            async move { gateway.run().await }
        });
        let loading = tokio::spawn(Arc::clone(&self.functions).load_all(self.restoring));
        let state = AdminState {
            functions: Arc::clone(&self.functions),
            gateway: self.gateway.clone(),
            gateway_addresses: self.gateway_addresses.clone(),
            logs: self.logs,
            metrics: self.metrics,
            recent: self.recent,
            history: self.history,
            token: self.token,
            started: self.started,
            version: self.settings.version,
            learning: Arc::clone(&self.learning),
            splitting: self.splitting,
        };
        let admin = tokio::spawn(admin::serve(self.admin, state));

        stop.await;
        tracing::info!("draining");
        let report = self.gateway.drain(self.settings.drain_timeout).await;
        loading.abort();
        admin.abort();
        tokio::task::block_in_place(|| self.learning.stop());
        if let Some(paths) = self.functions.paths() {
            tokio::task::block_in_place(|| paths.keep());
        }
        // The accept loops have ended by now; a panic in one was reported by the panic hook.
        let _ = serving.await;
        // Events and logs that are still in their queues reach their places when these are dropped.
        self.events.stop();
        report
    }
}
