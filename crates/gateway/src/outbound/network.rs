//! Calls to other hosts: pooled connections, HTTP/1.1 and HTTP/2, time limits on each step.
//!
//! There are two pools that never mix: one whose connections may only lead to public addresses, and one
//! for destinations that a manifest names literally. Otherwise a function that may call any host could
//! be handed a connection to a private one that another function, which may, had opened before.

use std::error::Error;
use std::time::Duration;

use forerun_driver::{Body, OutboundError, OutboundTimeouts};
use forerun_types::TraceContext;
use http::header::HOST;
use http::{Request, Response, Version};
use hyper::body::Incoming;
use hyper_util::client::legacy::connect::{CaptureConnection, capture_connection};
use hyper_util::client::legacy::{Client, Error as ClientError, ResponseFuture};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::time::timeout;

use super::OutboundSetupError;
use super::answer::Answer;
use super::connector::{Connector, client_config};
use super::destination::Destination;
use crate::serve::outbound_headers;
use crate::settings::OutboundSettings;

/// Which addresses may stand behind a name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Reach {
    /// Those of the public internet.
    PublicOnly,
    /// Any, since the manifest names the host; but a name does not reach metadata services, only their address does.
    Everywhere,
}

pub(crate) struct Network {
    settings: OutboundSettings,
    public_only: Client<Connector, Body>,
    everywhere: Client<Connector, Body>,
}

impl Network {
    pub(crate) fn new(settings: OutboundSettings) -> Result<Self, OutboundSetupError> {
        let tls = client_config(settings.extra_roots.as_deref())?;
        let client = |reach| {
            Client::builder(TokioExecutor::new())
                .pool_timer(TokioTimer::new())
                .pool_idle_timeout(settings.idle_timeout)
                .pool_max_idle_per_host(settings.idle_connections_per_host_max)
                .build(Connector::new(reach, tls.clone(), settings.connect_timeout))
        };
        Ok(Self { public_only: client(Reach::PublicOnly), everywhere: client(Reach::Everywhere), settings })
    }

    /// Sends `request` to `to`, which the caller has found to be allowed.
    pub(crate) async fn call(
        &self,
        reach: Reach,
        to: Destination,
        trace: TraceContext,
        mut request: Request<Body>,
        timeouts: OutboundTimeouts,
    ) -> Result<Response<Body>, OutboundError> {
        outbound_headers(request.headers_mut(), trace);
        // The client writes the host it connects to; a guest's own could name another one there.
        request.headers_mut().remove(HOST);
        *request.version_mut() = Version::HTTP_11;
        let connection = capture_connection(&mut request);
        let call = match reach {
            Reach::PublicOnly => self.public_only.request(request),
            Reach::Everywhere => self.everywhere.request(request),
        };
        let response = self.wait(call, connection, timeouts).await?.map_err(|error| explain(&error, &to))?;
        let pause_max = shorter(timeouts.between_bytes, self.settings.between_bytes_timeout);
        Ok(response.map(|body| Answer::boxed(body, self.settings.response_body_bytes_max, pause_max)))
    }

    /// The head of the answer: a connection in time, then an answer in time.
    async fn wait(
        &self,
        mut call: ResponseFuture,
        mut connection: CaptureConnection,
        timeouts: OutboundTimeouts,
    ) -> Result<Result<Response<Incoming>, ClientError>, OutboundError> {
        let connected = async {
            tokio::select! {
                biased;
                answered = &mut call => Some(answered),
                _ = connection.wait_for_connection_metadata() => None,
            }
        };
        let connect_max = shorter(timeouts.connect, self.settings.connect_timeout);
        match timeout(connect_max, connected).await {
            Err(_elapsed) => return Err(OutboundError::ConnectTimeout),
            Ok(Some(answered)) => return Ok(answered),
            Ok(None) => {}
        }
        let first_byte_max = shorter(timeouts.first_byte, self.settings.first_byte_timeout);
        timeout(first_byte_max, call).await.map_err(|_elapsed| OutboundError::ResponseTimeout)
    }
}

/// A guest may ask for less than the node allows, not for more.
fn shorter(asked: Option<Duration>, allowed: Duration) -> Duration {
    asked.map_or(allowed, |asked| asked.min(allowed))
}

/// The connector's own words if it failed; otherwise what hyper says, with its causes.
fn explain(error: &ClientError, to: &Destination) -> OutboundError {
    let mut detail = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        if let Some(own) = error.downcast_ref::<OutboundError>() {
            return own.clone();
        }
        detail = format!("{detail}: {error}");
        cause = error.source();
    }
    match error.is_connect() {
        true => OutboundError::Connect { destination: to.to_string(), detail },
        false => OutboundError::Protocol { detail },
    }
}
