//! The same answer as `hello`, over `wasi:http` 0.3: the handler is an async
//! function, and the body is a component-model stream that is written by a task
//! which goes on after the response was returned.

use wasip3::http::types::{ErrorCode, Fields, Request, Response};
use wasip3::{wit_bindgen, wit_future, wit_stream};

struct Hello;

impl wasip3::exports::http::handler::Guest for Hello {
    async fn handle(_request: Request) -> Result<Response, ErrorCode> {
        let (mut body, contents) = wit_stream::new();
        let (_no_trailers, trailers) = wit_future::new(|| Ok(None));
        let (response, _sent) = Response::new(Fields::new(), Some(contents), trailers);
        wit_bindgen::spawn(async move {
            // What could not be written belongs to a client that went away.
            let _unwritten = body.write_all(b"hello\n".to_vec()).await;
        });
        Ok(response)
    }
}

wasip3::http::service::export!(Hello);
