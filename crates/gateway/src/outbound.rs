//! Calls of guests: to functions of this node without leaving the process, to other hosts when allowed.
//!
//! ```text
//! request ─┬─ <function>.forerun.internal ──────┐
//!          ├─ one of this node's own addresses ─┴─► same application, or named by the caller's manifest?
//!          │                                          └─► serve (depth + 1, same admission as any request)
//!          └─ any other host ─► allowed by the caller's manifest? ─► connector ─► answer, bounded
//! ```
//! What a function may call is looked up in the published routes, so a redeploy that forbids a host
//! holds at once, and a function that is no longer published calls nobody.

mod addresses;
mod answer;
mod connector;
mod destination;
mod network;

use std::sync::{Arc, Weak};

use forerun_driver::{Body, BoxFuture, Caller, Outbound, OutboundError, OutboundTimeouts};
use http::{Request, Response};
use http_body_util::BodyExt;
use parking_lot::RwLock;

use crate::core::Core;
use crate::gateway::BoundAddress;
use crate::routes::{RouteTable, Target};
use crate::serve::{Address, Origin, host_of, serve};
use destination::{Destination, OwnHosts};
use network::{Network, Reach};

/// Why calls to the outside cannot be offered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OutboundSetupError {
    /// The additional authorities cannot be used.
    #[error("additional certificate authorities: {0}")]
    Roots(#[from] crate::tls::CertificateError),
    /// rustls does not start.
    #[error("TLS for outbound calls: {detail}")]
    Tls {
        /// What rustls said.
        detail: String,
    },
}

/// How many functions may wait for each other in a chain. Deeper chains are loops.
pub const DEPTH_MAX: u32 = 16;

/// Names below which functions are reachable: ours, and the one Spin's components use.
const INTERNAL_SUFFIXES: [&str; 2] = [".forerun.internal", ".spin.internal"];

pub(crate) struct Router {
    /// Weak, because the core's routes hold programs that hold this.
    core: Weak<Core>,
    network: Arc<Network>,
    own: RwLock<OwnHosts>,
}

/// Where a call goes.
enum Way {
    Function(Address),
    Network(Reach),
}

impl Router {
    pub(crate) fn new(core: &Arc<Core>) -> Result<Self, OutboundSetupError> {
        Ok(Self {
            core: Arc::downgrade(core),
            network: Arc::new(Network::new(core.settings.outbound.clone())?),
            own: RwLock::new(OwnHosts::new(&core.settings.own_hosts, &[])),
        })
    }

    pub(crate) fn set_own_addresses(&self, core: &Core, addresses: &[BoundAddress]) {
        *self.own.write() = OwnHosts::new(&core.settings.own_hosts, addresses);
    }

    fn way(
        &self,
        core: &Core,
        caller: &Caller,
        to: &Destination,
        request: &Request<Body>,
    ) -> Result<Way, OutboundError> {
        let routes = core.routes.load();
        if let Some(name) = INTERNAL_SUFFIXES.iter().find_map(|suffix| to.host().strip_suffix(suffix)) {
            let target = routes.by_name(name);
            let target = target.ok_or_else(|| OutboundError::UnknownFunction { name: name.to_owned() })?;
            return function(&routes, caller, to, target);
        }
        if self.own.read().contains(to) {
            // Looked up here and not once more by `serve`, so that what was judged is what is called.
            let target = routes.by_route(host_of(request), request.uri().path());
            return target.map_or(Ok(Way::Function(Address::Nowhere)), |target| function(&routes, caller, to, target));
        }
        let denied = || denied(to);
        let spec = &routes.function(caller.function.as_str()).ok_or_else(denied)?.spec;
        let allowing = || spec.allowed_outbound_hosts.iter().filter(|allowed| to.is_allowed_by(allowed));
        match (allowing().any(|allowed| allowed.names_one_host()), allowing().next()) {
            (true, _) => Ok(Way::Network(Reach::Everywhere)),
            (false, Some(_)) => Ok(Way::Network(Reach::PublicOnly)),
            (false, None) => Err(denied()),
        }
    }
}

/// The way to a function of this node: one of the caller's application, or one whose host the caller's manifest names. A
/// pattern such as `*` names nobody, as it names none of the node's surroundings.
fn function(routes: &RouteTable, caller: &Caller, to: &Destination, target: &Target) -> Result<Way, OutboundError> {
    let own = &routes.function(caller.function.as_str()).ok_or_else(|| denied(to))?.spec;
    let mut named = own.allowed_outbound_hosts.iter().filter(|allowed| allowed.names_one_host());
    if own.app == target.function.spec.app || named.any(|allowed| to.is_allowed_by(allowed)) {
        return Ok(Way::Function(Address::Known(target.clone())));
    }
    Err(denied(to))
}

fn denied(to: &Destination) -> OutboundError {
    OutboundError::Denied { destination: to.to_string() }
}

impl Outbound for Router {
    fn send(
        &self,
        caller: Caller,
        request: Request<Body>,
        timeouts: OutboundTimeouts,
    ) -> BoxFuture<Result<Response<Body>, OutboundError>> {
        let way = self.core.upgrade().ok_or_else(|| OutboundError::Failed { detail: "the node is gone".to_owned() });
        let way = way.and_then(|core| {
            let to = Destination::of(request.uri())?;
            let way = self.way(&core, &caller, &to, &request)?;
            Ok((core, to, way))
        });
        match way {
            Err(error) => Box::pin(std::future::ready(Err(error))),
            Ok((core, _, Way::Function(address))) => Box::pin(call_function(core, caller, address, request, timeouts)),
            Ok((_, to, Way::Network(reach))) => {
                let network = Arc::clone(&self.network);
                Box::pin(async move { network.call(reach, to, caller.trace, request, timeouts).await })
            }
        }
    }
}

/// Calls a function of this node as a client would: whatever goes wrong there is an answer with a status.
async fn call_function(
    core: Arc<Core>,
    caller: Caller,
    address: Address,
    request: Request<Body>,
    timeouts: OutboundTimeouts,
) -> Result<Response<Body>, OutboundError> {
    if caller.chain.depth >= DEPTH_MAX {
        return Err(OutboundError::TooDeep { max: DEPTH_MAX });
    }
    let call = serve(&core, Origin::Function(caller), address, request);
    let response = match timeouts.first_byte {
        None => call.await,
        Some(limit) => tokio::time::timeout(limit, call).await.map_err(|_elapsed| OutboundError::ResponseTimeout)?,
    };
    Ok(response.map(BodyExt::boxed_unsync))
}
