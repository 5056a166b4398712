//! The benchmark's upper limit: the same answer as the hello component, from bare hyper, without any VM.
//!
//! `cargo run --release -p forerun-gateway --example limit -- 127.0.0.1:8090`
//!
//! The same runtime, protocol detection, socket options and body as the gateway's, and nothing else: no
//! routes, no admission, no ids, no timing, no time limits.

use std::convert::Infallible;
use std::error::Error;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};

/// What the hello components answer.
const HELLO: &str = "hello\n";

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::args().nth(1).ok_or("usage: limit <address>, such as 127.0.0.1:8090")?;
    let listener = TcpListener::bind(&address).await?;
    loop {
        let (stream, _peer) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(serve(stream));
    }
}

async fn serve(stream: TcpStream) {
    let builder = auto::Builder::new(TokioExecutor::new());
    // A client that leaves is no event here.
    let _ = builder.serve_connection(TokioIo::new(stream), service_fn(hello)).await;
}

async fn hello(_request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    Ok(Response::new(Full::new(Bytes::from_static(HELLO.as_bytes()))))
}
