//! The gateway with a function that runs in the process: what the request path costs by itself.
//!
//! `cargo run --release -p forerun-gateway --example empty_handed -- 127.0.0.1:8091`
//!
//! To be compared with the `limit` example, which has neither gateway nor function.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use forerun_driver::{
    Body, BoxFuture, Invocation, InvocationEnd, InvokeError, Program, ProgramFacts, Reply, full_body,
};
use forerun_gateway::{Admission, FunctionEntry, Gateway, GatewaySettings, RouteTable};
use forerun_telemetry::event_pipe;
use forerun_types::{FunctionSpec, GenericReason, Outcome, RevisionNumber, ServePath};
use http::{Request, Response};

/// As many events as the pipe of a node holds; a thread takes them out as the node's writer does.
const EVENTS: usize = 16_384;

struct Hello(ProgramFacts);

impl Program for Hello {
    fn invoke(
        self: Arc<Self>,
        invocation: Invocation,
        _request: Request<Body>,
    ) -> BoxFuture<Result<Reply, InvokeError>> {
        let serve_path = ServePath::Generic(GenericReason::NoImage);
        let (outcome, detail, zero) = (Outcome::Ok, String::new(), Duration::ZERO);
        let end = InvocationEnd {
            outcome,
            detail,
            serve_path,
            deploy: zero,
            busy: zero,
            waited_for_calls: zero,
            cpu: None,
            memory_bytes_peak: 0,
        };
        invocation.end.finish(end);
        let response = Response::new(full_body("hello\n"));
        Box::pin(std::future::ready(Ok(Reply { response, serve_path, deploy: zero })))
    }

    fn facts(&self) -> &ProgramFacts {
        &self.0
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::args().nth(1).ok_or("usage: empty_handed <address>, such as 127.0.0.1:8091")?;
    let (sender, mut events) = event_pipe(EVENTS);
    std::thread::spawn(move || {
        loop {
            while events.try_next().is_some() {}
            std::thread::sleep(Duration::from_millis(20));
        }
    });
    let gateway =
        Gateway::new(GatewaySettings { listen: vec![address.parse()?], ..GatewaySettings::default() }, sender, None)?;
    let mut spec = FunctionSpec::named("hello".parse()?);
    spec.routes = vec!["/...".parse()?];
    let admission = Arc::new(Admission::new(&spec.limits));
    let facts = ProgramFacts { world: String::new(), compile_ms: 0, code_bytes: 0 };
    let entry = FunctionEntry::new(Arc::new(spec), RevisionNumber(1), Arc::new(Hello(facts)), admission);
    gateway.publish(RouteTable::build([Arc::new(entry)])?);
    gateway.bind()?;
    gateway.run().await;
    Ok(())
}
