//! The smallest useful function: answers every request with `hello`, over
//! `wasi:http` 0.2. Benchmarks use it as the guest that does nothing, so it
//! reads no request, sets no header and logs nothing.

use wasi::exports::http::incoming_handler::Guest;
use wasi::http::types::{Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam};

struct Hello;

impl Guest for Hello {
    fn handle(_request: IncomingRequest, out: ResponseOutparam) {
        let response = OutgoingResponse::new(Fields::new());
        let body = response.body().expect("a new response has its body");
        ResponseOutparam::set(out, Ok(response));
        let stream = body.write().expect("a new body has its stream");
        // A client that went away is the only way to fail, and nobody is left to tell.
        let _ = stream.blocking_write_and_flush(b"hello\n");
        drop(stream);
        let _ = OutgoingBody::finish(body, None);
    }
}

wasi::http::proxy::export!(Hello);
