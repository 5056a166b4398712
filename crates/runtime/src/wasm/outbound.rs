//! A guest's outbound requests: handed to the node, which decides whether and how they are sent.

use std::sync::Arc;

use forerun_driver::{Caller, Outbound, OutboundTimeouts};
use http::HeaderName;
use http_body_util::BodyExt;
use wasmtime_wasi_http::{
    DEFAULT_FORBIDDEN_HEADERS, Error, ForbiddenHeaderFilter, RequestOptions, Result, WasiBody, WasiHttpHooks,
};

use super::calls_made::CallsMade;
use super::effects::{Effect, Effects};
use super::errors::{body_error_from_guest, body_error_to_guest, outbound_error_to_guest};

/// The `wasi:http` side of one VM.
pub(super) struct HttpHooks {
    /// Who calls; renewed for each request of a reused VM.
    pub(super) caller: Caller,
    pub(super) outbound: Arc<dyn Outbound>,
    pub(super) effects: Effects,
    pub(super) calls: CallsMade,
}

type IoDone = Box<dyn Future<Output = Result<(), Error>> + Send>;
type Sending = Box<dyn Future<Output = Result<(http::Response<WasiBody>, IoDone)>> + Send>;

impl WasiHttpHooks for HttpHooks {
    fn is_forbidden_header(&mut self, name: &HeaderName) -> bool {
        // The default makes a new filter object for each header of each request.
        DEFAULT_FORBIDDEN_HEADERS.contains(name)
    }

    fn forbidden_header_filter(&mut self) -> ForbiddenHeaderFilter {
        Arc::new(|name| DEFAULT_FORBIDDEN_HEADERS.contains(name))
    }

    fn default_scheme(&mut self) -> Option<http::uri::Scheme> {
        // Without a scheme, functions of this node are meant as often as others; the node refuses what is not allowed.
        Some(http::uri::Scheme::HTTP)
    }

    fn send_request(
        &mut self,
        request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
        _body_done: IoDone,
    ) -> Sending {
        self.effects.note(Effect::Called);
        let timeouts = options.map(|options| OutboundTimeouts {
            connect: options.connect_timeout,
            first_byte: options.first_byte_timeout,
            between_bytes: options.between_bytes_timeout,
        });
        let request = request.map(|body| body.map_err(|error| body_error_from_guest(&error)).boxed_unsync());
        let sending = self.outbound.send(self.caller.clone(), request, timeouts.unwrap_or_default());
        let under_way = self.calls.begin();
        Box::new(async move {
            let answer = sending.await;
            drop(under_way);
            let response = answer.map_err(outbound_error_to_guest)?;
            let response = response.map(|body| body.map_err(body_error_to_guest).boxed_unsync());
            let done: IoDone = Box::new(async { Ok(()) });
            Ok((response, done))
        })
    }
}
