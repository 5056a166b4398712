//! The request path as one thing: made, bound, run, published to, drained.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use forerun_driver::{Body, Outbound};
use forerun_telemetry::{Announced, EventSender};
use forerun_types::FunctionName;
use http::{Request, Response};
use http_body_util::BodyExt;
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::connection::Order;
use crate::core::Core;
use crate::counters::GatewayCounters;
use crate::listener::{BindError, Bound, accept_loop, bind_all};
use crate::outbound::{OutboundSetupError, Router};
use crate::routes::{FunctionEntry, RouteTable};
use crate::serve::{Address, Origin, serve};
use crate::settings::GatewaySettings;

/// The request path of a node. Cheap to clone; all clones are one gateway.
#[derive(Clone)]
pub struct Gateway {
    core: Arc<Core>,
    outbound: Arc<Router>,
    bound: Arc<Mutex<Vec<Bound>>>,
    stop: watch::Sender<bool>,
}

/// An address that is listened on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BoundAddress {
    /// With the port the system chose if 0 was asked for.
    pub address: SocketAddr,
    /// Whether it speaks TLS.
    pub tls: bool,
}

/// There is no function of that name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no function named `{name}` on this node")]
pub struct UnknownFunction {
    /// The name asked for.
    pub name: FunctionName,
}

/// What a shutdown found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DrainReport {
    /// How long it took.
    pub took: Duration,
    /// Connections that were cut at the deadline.
    pub connections_cut: usize,
    /// Requests that were under way on them.
    pub requests_cut: usize,
}

/// After the last invocation has ended, its last bytes may take so long to reach the client.
const LAST_BYTES_WAIT: Duration = Duration::from_secs(2);
/// Time between two looks at what is under way.
const DRAIN_LOOK: Duration = Duration::from_millis(50);
/// Connections that are cut are gone at once; this bounds the wait for their tasks to notice.
const CUT_WAIT: Duration = Duration::from_secs(1);

impl Gateway {
    /// A gateway without routes that listens on nothing yet. `events` takes invocations at their end, `arrivals`
    /// requests as they come.
    ///
    /// # Errors
    /// The additional certificate authorities of the outbound settings cannot be read.
    pub fn new(
        settings: GatewaySettings,
        events: EventSender,
        arrivals: Option<EventSender<Announced>>,
    ) -> Result<Self, OutboundSetupError> {
        let core = Arc::new(Core::new(settings, events, arrivals));
        let outbound = Arc::new(Router::new(&core)?);
        Ok(Self { core, outbound, bound: Arc::default(), stop: watch::Sender::new(false) })
    }

    /// Whether arrivals are told of, for those who predict; they are, at first.
    pub fn announce(&self, announce: bool) {
        self.core.set_announce(announce);
    }

    /// What programs call out through; to be handed to the driver.
    pub fn outbound(&self) -> Arc<dyn Outbound> {
        Arc::clone(&self.outbound) as Arc<dyn Outbound>
    }

    /// Replaces all routes at once. Requests under way finish on the functions they began with.
    pub fn publish(&self, routes: RouteTable) {
        self.core.routes.store(Arc::new(routes));
    }

    /// The function of this name as it is published now.
    pub fn function(&self, name: &FunctionName) -> Option<Arc<FunctionEntry>> {
        self.core.routes.load().function(name.as_str()).cloned()
    }

    /// Binds all addresses of the settings; `run` serves them.
    ///
    /// # Errors
    /// The first address that cannot be had, or a certificate that cannot be used. Nothing is bound then.
    pub fn bind(&self) -> Result<Vec<BoundAddress>, BindError> {
        let bound = bind_all(&self.core)?;
        let addresses: Vec<_> =
            bound.iter().map(|bound| BoundAddress { address: bound.address(), tls: bound.is_tls() }).collect();
        self.outbound.set_own_addresses(&self.core, &addresses);
        *self.bound.lock() = bound;
        Ok(addresses)
    }

    /// Serves what is bound until `drain` begins.
    pub async fn run(&self) {
        let bound = std::mem::take(&mut *self.bound.lock());
        let loops = bound.into_iter().map(|bound| accept_loop(Arc::clone(&self.core), bound, self.stop.subscribe()));
        futures::future::join_all(loops).await;
    }

    /// Stops accepting, lets requests under way finish for at most `deadline`, then cuts them off.
    pub async fn drain(&self, deadline: Duration) -> DrainReport {
        let began = Instant::now();
        self.core.draining.store(true, Ordering::Relaxed);
        self.stop.send_replace(true);
        self.core.connections.command(Order::Finish);
        let (connections_cut, requests_cut) = tokio::select! {
            () = self.core.connections.closed() => (0, 0),
            () = tokio::time::sleep(deadline) => self.cut().await,
            () = self.nothing_under_way() => self.cut().await,
        };
        DrainReport { took: began.elapsed(), connections_cut, requests_cut }
    }

    /// Done when no invocation has been under way for a moment. A client that is gone without a word may hold
    /// a connection open for ever; the long deadline is for requests.
    async fn nothing_under_way(&self) {
        let mut quiet_since = Instant::now();
        while quiet_since.elapsed() < LAST_BYTES_WAIT {
            tokio::time::sleep(DRAIN_LOOK).await;
            if self.core.snapshot().in_flight > 0 {
                quiet_since = Instant::now();
            }
        }
    }

    async fn cut(&self) -> (usize, usize) {
        let cut = self.core.connections.command(Order::Cut);
        let _ = tokio::time::timeout(CUT_WAIT, self.core.connections.closed()).await;
        cut
    }

    /// Calls a function by name, as the admin API does, through the same admission as any other call.
    ///
    /// # Errors
    /// There is no such function. Everything else is in the response, as for a client.
    pub async fn invoke(&self, name: &FunctionName, request: Request<Body>) -> Result<Response<Body>, UnknownFunction> {
        let target = self.core.routes.load().by_name(name.as_str()).cloned();
        let target = target.ok_or_else(|| UnknownFunction { name: name.clone() })?;
        let response = serve(&self.core, Origin::Operator, Address::Known(target), request).await;
        Ok(response.map(BodyExt::boxed_unsync))
    }

    /// The live figures.
    pub fn counters(&self) -> GatewayCounters {
        self.core.snapshot()
    }
}
