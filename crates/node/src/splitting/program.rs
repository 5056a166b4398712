//! A split program that counts the requests it serves; all else is as the program does it.

use std::sync::Arc;

use forerun_driver::{
    Body, BoxFuture, HeldReady, Invocation, InvokeError, IsolationReport, MarksHook, Program, ProgramFacts, Reply,
};
use http::Request;

use super::cold::Cold;

/// What serves in the place of the whole program.
pub(super) struct Counted {
    pub(super) program: Arc<dyn Program>,
    pub(super) cold: Arc<Cold>,
}

impl Program for Counted {
    fn invoke(
        self: Arc<Self>,
        invocation: Invocation,
        request: Request<Body>,
    ) -> BoxFuture<Result<Reply, InvokeError>> {
        self.cold.requested();
        Arc::clone(&self.program).invoke(invocation, request)
    }

    fn invoke_sampled(
        self: Arc<Self>,
        invocation: Invocation,
        request: Request<Body>,
        marks: MarksHook,
    ) -> BoxFuture<Result<Reply, InvokeError>> {
        self.cold.requested();
        Arc::clone(&self.program).invoke_sampled(invocation, request, marks)
    }

    fn facts(&self) -> &ProgramFacts {
        self.program.facts()
    }

    fn hold_ready(self: Arc<Self>, vms: u32) -> BoxFuture<Result<(), InvokeError>> {
        Arc::clone(&self.program).hold_ready(vms)
    }

    fn isolation(&self) -> IsolationReport {
        self.program.isolation()
    }

    fn held_ready(&self) -> HeldReady {
        self.program.held_ready()
    }
}
