//! Programs that are not there yet, or never will be, for functions that are already known.
//!
//! After a restart every function is routed at once; a request that comes before its function is
//! compiled waits for it here instead of being turned away.

use std::sync::Arc;
use std::time::{Duration, Instant};

use forerun_driver::{Body, BoxFuture, Invocation, InvocationEnd, InvokeError, Program, ProgramFacts, Reply};
use forerun_types::{GenericReason, Outcome, ServePath};
use http::Request;
use tokio::sync::watch;

/// What has become of loading a program.
#[derive(Clone)]
pub(crate) enum Loading {
    /// Waiting for the compiler.
    Underway,
    /// There it is.
    Ready(Arc<dyn Program>),
    /// It cannot be loaded; the reason.
    Failed(Arc<str>),
}

/// Stands for a program that is being loaded.
pub(crate) struct PendingProgram {
    loading: watch::Receiver<Loading>,
    facts: ProgramFacts,
}

impl PendingProgram {
    pub(crate) fn new() -> (watch::Sender<Loading>, Arc<Self>) {
        let (sender, loading) = watch::channel(Loading::Underway);
        let facts = ProgramFacts { world: String::new(), compile_ms: 0, code_bytes: 0 };
        (sender, Arc::new(Self { loading, facts }))
    }

    async fn program(&self, deadline: Instant) -> Result<Arc<dyn Program>, (Outcome, String)> {
        let mut loading = self.loading.clone();
        let settled = loading.wait_for(|state| !matches!(state, Loading::Underway));
        match tokio::time::timeout_at(deadline.into(), settled).await {
            Err(_) => Err((Outcome::Timeout, "the function was still being compiled".to_owned())),
            Ok(Err(_)) => Err((Outcome::NoVm, "the node stopped before the function was compiled".to_owned())),
            Ok(Ok(state)) => match &*state {
                Loading::Ready(program) => Ok(Arc::clone(program)),
                Loading::Failed(reason) => Err((Outcome::NoVm, reason.to_string())),
                Loading::Underway => Err((Outcome::NoVm, "still loading".to_owned())),
            },
        }
    }
}

impl Program for PendingProgram {
    fn invoke(
        self: Arc<Self>,
        invocation: Invocation,
        request: Request<Body>,
    ) -> BoxFuture<Result<Reply, InvokeError>> {
        Box::pin(async move {
            let began = Instant::now();
            match self.program(invocation.deadline).await {
                Ok(program) => {
                    let waited = began.elapsed();
                    let mut reply = program.invoke(invocation, request).await?;
                    reply.deploy += waited;
                    Ok(reply)
                }
                Err((outcome, detail)) => Err(refuse(invocation, outcome, detail, began.elapsed())),
            }
        })
    }

    fn facts(&self) -> &ProgramFacts {
        &self.facts
    }
}

fn refuse(invocation: Invocation, outcome: Outcome, detail: String, deploy: Duration) -> InvokeError {
    invocation.end.finish(InvocationEnd {
        outcome,
        detail: detail.clone(),
        serve_path: ServePath::Generic(GenericReason::NoImage),
        deploy,
        busy: Duration::ZERO,
        waited_for_calls: Duration::ZERO,
        cpu: None,
        memory_bytes_peak: 0,
    });
    InvokeError { outcome, detail }
}
