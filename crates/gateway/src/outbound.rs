//! Calls of guests: to functions of this node without leaving the process, to other hosts when allowed.

use std::sync::{Arc, Weak};

use forerun_driver::{Body, BoxFuture, Caller, Outbound, OutboundError, OutboundTimeouts};
use http::{Request, Response};
use http_body_util::BodyExt;
use parking_lot::RwLock;

use crate::core::Core;
use crate::gateway::BoundAddress;
use crate::serve::{Address, Origin, serve};

/// Why calls to the outside cannot be offered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OutboundSetupError {
    /// The additional authorities cannot be used.
    #[error("additional certificate authorities: {0}")]
    Roots(#[from] crate::tls::CertificateError),
}

/// How many functions may wait for each other in a chain.
pub const DEPTH_MAX: u32 = 16;

pub(crate) struct Router {
    core: Weak<Core>,
    own: RwLock<Vec<BoundAddress>>,
}

impl Router {
    pub(crate) fn new(core: &Arc<Core>) -> Result<Self, OutboundSetupError> {
        Ok(Self { core: Arc::downgrade(core), own: RwLock::default() })
    }

    pub(crate) fn set_own_addresses(&self, addresses: &[BoundAddress]) {
        *self.own.write() = addresses.to_vec();
    }
}

impl Outbound for Router {
    fn send(
        &self,
        caller: Caller,
        request: Request<Body>,
        _timeouts: OutboundTimeouts,
    ) -> BoxFuture<Result<Response<Body>, OutboundError>> {
        let core = self.core.upgrade();
        Box::pin(async move {
            let core = core.ok_or_else(|| OutboundError::Failed { detail: "the node is gone".to_owned() })?;
            let host = request.uri().host().unwrap_or_default().to_owned();
            let name = host.strip_suffix(".forerun.internal").or_else(|| host.strip_suffix(".spin.internal"));
            let Some(name) = name else { return Err(OutboundError::Denied { destination: host }) };
            let target = core.routes.load().by_name(name).cloned();
            let target = target.ok_or_else(|| OutboundError::UnknownFunction { name: name.to_owned() })?;
            let response = serve(&core, Origin::Function(caller), Address::Known(target), request).await;
            Ok(response.map(BodyExt::boxed_unsync))
        })
    }
}
