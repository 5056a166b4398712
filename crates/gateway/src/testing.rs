//! Functions for the unit tests of this crate.

use std::sync::Arc;

use forerun_driver::{BoxFuture, Invocation, InvocationEnd, InvokeError, Program, ProgramFacts, Reply, full_body};
use forerun_types::{FunctionSpec, GenericReason, Outcome, RevisionNumber, ServePath};
use http::{Request, Response};

use crate::admission::Admission;
use crate::routes::FunctionEntry;

struct Hello(ProgramFacts);

impl Program for Hello {
    fn invoke(
        self: Arc<Self>,
        invocation: Invocation,
        _request: Request<forerun_driver::Body>,
    ) -> BoxFuture<Result<Reply, InvokeError>> {
        let serve_path = ServePath::Generic(GenericReason::NoImage);
        invocation.end.finish(InvocationEnd {
            outcome: Outcome::Ok,
            detail: String::new(),
            serve_path,
            deploy: std::time::Duration::ZERO,
            busy: std::time::Duration::ZERO,
            waited_for_calls: std::time::Duration::ZERO,
            cpu: None,
            memory_bytes_peak: 0,
        });
        let response = Response::new(full_body("hello"));
        Box::pin(std::future::ready(Ok(Reply { response, serve_path, deploy: std::time::Duration::ZERO })))
    }

    fn facts(&self) -> &ProgramFacts {
        &self.0
    }
}

pub(crate) fn entry(name: &str, routes: &[&str]) -> Arc<FunctionEntry> {
    let mut spec = FunctionSpec::named(name.parse().unwrap());
    spec.routes = routes.iter().map(|route| route.parse().unwrap()).collect();
    let admission = Arc::new(Admission::new(&spec.limits));
    let facts = ProgramFacts { world: String::new(), compile_ms: 0, code_bytes: 0 };
    Arc::new(FunctionEntry::new(Arc::new(spec), RevisionNumber(1), Arc::new(Hello(facts)), admission))
}
