//! A request whose prepared VM failed before it had done anything that counts is served once more, by a new VM.
//!
//! ```text
//! VM made ready or put back, ─┬─ head of an answer ───────────────────────────► as ever
//! or with the warm state      └─ trapped, not entered, or returned without one
//!                                   ├─ it had an effect (`effects`) ──────────► the failure, and why it was not retried
//!                                   ├─ no VM can be made ─────────────────────► the failure
//!                                   └─ otherwise: a new VM, the same request ─► whatever it answers
//! ```
//! Once: what a new VM does with a request is the guest's own answer, right or wrong. A VM that was new itself is never
//! retried, nor one that is reused as it is: whoever asks for that has chosen what may be left in it. The time is that
//! of the request: a second attempt has what the first one left.

use std::sync::Arc;
use std::time::Instant;

use forerun_driver::{Body, Chain, EndHook, Invocation, InvokeError, Reply, empty_body};
use forerun_types::{GenericReason, InvocationId, Outcome, ServePath, TraceContext};
use http::{Request, request};
use http_body_util::BodyExt;

use super::answer::Unanswered;
use super::cpu_time::CpuTime;
use super::effects::{Effects, SharedBody};
use super::failure::Failure;
use super::program::{Deployed, WasmProgram};

/// How a request is served again if a VM of this kind fails; `None` if it is not.
fn served_again_as(serve_path: ServePath) -> Option<GenericReason> {
    match serve_path {
        ServePath::Ready => Some(GenericReason::RetriedReady),
        ServePath::RolledBack => Some(GenericReason::RetriedRolledBack),
        ServePath::Specialized => Some(GenericReason::RetriedSpecialized),
        ServePath::Reused | ServePath::Generic(_) => None,
    }
}

/// Whether a failure can be the VM's own: a guest that ran out of time has none left, and an error that it answered
/// with is an answer.
fn may_be_the_vms(failure: &Failure) -> bool {
    match failure.outcome {
        Outcome::Trap | Outcome::OutOfMemory | Outcome::NoResponse => true,
        Outcome::Ok
        | Outcome::Timeout
        | Outcome::GuestError
        | Outcome::ResponseTooLarge
        | Outcome::ClientGone
        | Outcome::NoVm
        | Outcome::Rejected => false,
    }
}

/// All of an invocation but who is told of its end.
#[derive(Clone, Copy)]
struct Asked {
    id: InvocationId,
    trace: TraceContext,
    chain: Chain,
    https: bool,
    deadline: Instant,
}

/// A request that can be asked again.
struct Question {
    head: request::Parts,
    /// `None` for one that has nothing in it.
    body: Option<SharedBody>,
}

impl WasmProgram {
    /// Serves a request by a deployed VM, and again by a new one where that is allowed.
    pub(super) async fn serve_deployed(
        self: Arc<Self>,
        deployed: Deployed,
        invocation: Invocation,
        request: Request<Body>,
        started: Instant,
    ) -> Result<Reply, InvokeError> {
        let Some(again_as) = served_again_as(deployed.serve_path) else {
            return self.enter(deployed, invocation, request).await;
        };
        let asked = Asked::of(&invocation);
        let question = Question::new(request);
        let effects = deployed.vm.store.data().effects.clone();
        let request = question.ask(&effects);
        match Arc::clone(&self).attempt(deployed, invocation, request).await {
            Ok(reply) => Ok(reply),
            // Boxed: hardly any request comes here, and all of them would carry its size.
            Err(unanswered) => {
                let first = First { unanswered, effects, again_as, started };
                Box::pin(self.serve_again(first, asked, question)).await
            }
        }
    }

    async fn serve_again(
        self: Arc<Self>,
        first: First,
        asked: Asked,
        question: Question,
    ) -> Result<Reply, InvokeError> {
        let First { unanswered, effects, again_as, started } = first;
        if !may_be_the_vms(unanswered.failure()) {
            return Err(unanswered.fail());
        }
        if let Some(effect) = effects.any() {
            return Err(unanswered.fail_for_good(&format!("not served again by a new VM: {effect}")));
        }
        let Ok(vm) = self.make(asked.deadline).await else {
            return Err(unanswered.fail_for_good("not served again: no other VM could be made"));
        };
        tracing::warn!(
            function = %self.template.spec.name, request_id = %asked.id, outcome = unanswered.failure().outcome.label(),
            detail = unanswered.failure().detail, "a prepared VM failed; the request is served again by a new one"
        );
        let request = question.ask(&vm.store.data().effects);
        let serve_path = ServePath::Generic(again_as);
        let deployed = Deployed { vm, serve_path, deploy: started.elapsed(), cpu: CpuTime::of(asked.id), sample: None };
        self.enter(deployed, asked.again(unanswered.give_up()), request).await
    }
}

/// What is left of a first attempt.
struct First {
    unanswered: Unanswered,
    effects: Effects,
    again_as: GenericReason,
    started: Instant,
}

impl Asked {
    fn of(invocation: &Invocation) -> Self {
        let Invocation { id, trace, chain, https, deadline, end: _ } = invocation;
        Self { id: *id, trace: *trace, chain: *chain, https: *https, deadline: *deadline }
    }

    fn again(self, end: EndHook) -> Invocation {
        let Self { id, trace, chain, https, deadline } = self;
        Invocation { id, trace, chain, https, deadline, end }
    }
}

impl Question {
    fn new(request: Request<Body>) -> Self {
        let (head, body) = request.into_parts();
        let body = (!http_body::Body::is_end_stream(&body)).then(|| SharedBody::new(body));
        Self { head, body }
    }

    /// The request for a VM with these `effects`.
    fn ask(&self, effects: &Effects) -> Request<Body> {
        let body = match &self.body {
            Some(shared) => shared.lend(effects.clone()).boxed_unsync(),
            None => empty_body(),
        };
        Request::from_parts(self.head.clone(), body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_prepared_vms_are_retried_and_never_twice() {
        let mut retried = Vec::new();
        for path in ServePath::ALL {
            if let Some(again_as) = served_again_as(path) {
                assert_eq!(served_again_as(ServePath::Generic(again_as)), None, "{path}");
                retried.push(path);
            }
        }
        assert_eq!(retried, [ServePath::Ready, ServePath::RolledBack, ServePath::Specialized]);
    }

    #[test]
    fn what_a_new_vm_would_not_do_better_is_not_retried() {
        let retried: Vec<Outcome> =
            Outcome::ALL.into_iter().filter(|outcome| may_be_the_vms(&Failure::new(*outcome, ""))).collect();
        assert_eq!(retried, [Outcome::Trap, Outcome::OutOfMemory, Outcome::NoResponse]);
    }
}
