//! A split program that counts the requests it serves and is compared with the whole one; all else is as the program
//! does it.

use std::sync::Arc;
use std::time::Instant;

use forerun_driver::{Body, BoxFuture, Invocation, InvokeError, Program, ProgramFacts, Reply, SampleHook};
use http::Request;

use super::cold::Cold;
use super::judgement::Judgement;

/// What serves in the place of the whole program.
pub(super) struct Judged {
    pub(super) program: Arc<dyn Program>,
    pub(super) cold: Arc<Cold>,
    pub(super) judgement: Arc<Judgement>,
}

impl Program for Judged {
    fn invoke(
        self: Arc<Self>,
        invocation: Invocation,
        request: Request<Body>,
    ) -> BoxFuture<Result<Reply, InvokeError>> {
        let control = self.judgement.control(invocation.id);
        let is_control = control.is_some();
        if !is_control {
            self.cold.requested();
        }
        Box::pin(async move {
            let began = Instant::now();
            let program = control.unwrap_or_else(|| Arc::clone(&self.program));
            let reply = program.invoke(invocation, request).await;
            self.judgement.note(is_control, &reply, began.elapsed());
            reply
        })
    }

    fn invoke_sampled(
        self: Arc<Self>,
        invocation: Invocation,
        request: Request<Body>,
        is_warm: bool,
        sample: SampleHook,
    ) -> BoxFuture<Result<Reply, InvokeError>> {
        self.cold.requested();
        Arc::clone(&self.program).invoke_sampled(invocation, request, is_warm, sample)
    }

    fn facts(&self) -> &ProgramFacts {
        self.program.facts()
    }

    fn behind(&self) -> Option<&Arc<dyn Program>> {
        Some(&self.program)
    }
}
