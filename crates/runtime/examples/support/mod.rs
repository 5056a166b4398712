//! What the examples have in common: a host that gives nothing, a program made of bytes, and one request to it.

#![allow(dead_code, reason = "each example uses its own part of this")]

mod nobody;

use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use forerun_driver::{Chain, Driver, EndHook, Invocation, InvocationEnd, InvokeError, LoadRequest, Program};
use forerun_runtime::WasmDriver;
use forerun_types::{ComponentDigest, FunctionSpec, InvocationId, ReusePolicy, RevisionNumber};
use http::Request;
use http_body_util::BodyExt;

pub(crate) use nobody::host;

/// A program of `source`, whose VMs are treated as `reuse` says.
pub(crate) fn load(driver: &WasmDriver, source: &[u8], reuse: ReusePolicy) -> Arc<dyn Program> {
    let mut spec = FunctionSpec::named("measured".parse().unwrap());
    spec.reuse = reuse;
    spec.limits.memory_bytes = 256 << 20;
    let digest = ComponentDigest::of(source);
    let request = LoadRequest { spec: &spec, revision: RevisionNumber(1), digest, source, host: host(), image: None };
    driver.load(request).unwrap()
}

/// What came of a request.
pub(crate) struct Answered {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
    /// To the last byte of the response.
    pub(crate) took: Duration,
    /// Comes when everything is done that is done behind the response.
    pub(crate) ended: mpsc::Receiver<InvocationEnd>,
}

/// One GET to its last byte.
pub(crate) async fn get(program: &Arc<dyn Program>, path: &str) -> Answered {
    try_get(program, path).await.unwrap()
}

/// The same, of a function that may not answer.
pub(crate) async fn try_get(program: &Arc<dyn Program>, path: &str) -> Result<Answered, InvokeError> {
    let (sender, ended) = mpsc::channel();
    let invocation = Invocation {
        id: InvocationId::from_random(7),
        trace: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".parse().unwrap(),
        chain: Chain::begins(InvocationId::from_random(7), None),
        https: false,
        deadline: Instant::now() + Duration::from_secs(30),
        end: EndHook::new(move |end| drop(sender.send(end))),
    };
    let request = Request::get(path).header("host", "example.test").body(forerun_driver::empty_body()).unwrap();
    let began = Instant::now();
    let reply = Arc::clone(program).invoke(invocation, request).await?;
    let status = reply.response.status().as_u16();
    let body = reply.response.into_body().collect().await.unwrap().to_bytes().to_vec();
    Ok(Answered { status, body, took: began.elapsed(), ended })
}
