//! A program with a twin: most requests are served by the one, a few by the other, and the answers are the same.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use forerun_driver::{Body, BoxFuture, EndHook, Invocation, InvocationEnd, InvokeError, Program, ProgramFacts, Reply};
use forerun_types::{ComponentDigest, FunctionSpec, Outcome, ReusePolicy, RevisionNumber};
use http::Request;

use super::Paths;
use super::class::Routes;

/// One revision, whose requests are sampled; whichever code serves it.
pub(crate) struct Followed {
    pub(super) spec: FunctionSpec,
    pub(super) routes: Routes,
    pub(super) revision: RevisionNumber,
    pub(super) digest: ComponentDigest,
    /// The instrumented program, once it is made.
    pub(super) twin: OnceLock<Arc<dyn Program>>,
    /// Whether a twin has been asked for.
    pub(super) is_asked: AtomicBool,
    pub(super) paths: Weak<Paths>,
}

/// What the gateway calls.
struct SampledProgram {
    main: Arc<dyn Program>,
    followed: Arc<Followed>,
}

impl Program for SampledProgram {
    fn invoke(
        self: Arc<Self>,
        invocation: Invocation,
        request: Request<Body>,
    ) -> BoxFuture<Result<Reply, InvokeError>> {
        let paths = self.followed.paths.upgrade();
        let is_followed = |paths: &Arc<Paths>| {
            self.main.facts().code_bytes >= paths.code_bytes_min() && paths.may_follow(&self.followed.spec.name)
        };
        let Some(paths) = paths.filter(is_followed) else {
            return Arc::clone(&self.main).invoke(invocation, request);
        };
        let class = self.followed.routes.class(&request);
        let Invocation { id, trace, depth, session, https, deadline, end } = invocation;
        let twin = self.followed.twin(&paths);
        let is_sampled = paths.meets(&self.followed.spec.name, &class, twin.is_some(), id, &request);
        // Its name is written out for samples only.
        let twin = twin.filter(|_| is_sampled).map(|twin| (twin, class.id, class.to_string()));
        let followed = Arc::clone(&self.followed);
        let is_sample = twin.is_some();
        let accounts = Arc::clone(&paths);
        let end = EndHook::new(move |report: InvocationEnd| {
            if report.outcome == Outcome::Ok {
                accounts.account(&followed.spec.name, is_sample, report.busy);
            }
            end.finish(report);
        });
        let invocation = Invocation { id, trace, depth, session, https, deadline, end };
        match twin {
            None => Arc::clone(&self.main).invoke(invocation, request),
            Some((twin, class, name)) => {
                let followed = Arc::clone(&self.followed);
                let noted = Box::new(move |sampled| paths.observe(&followed.spec.name, class, &name, &sampled));
                twin.invoke_sampled(invocation, request, noted)
            }
        }
    }

    fn facts(&self) -> &ProgramFacts {
        self.main.facts()
    }

    fn behind(&self) -> Option<&Arc<dyn Program>> {
        Some(&self.main)
    }
}

impl Followed {
    /// What the gateway calls instead of `main`.
    pub(crate) fn program(self: &Arc<Self>, main: Arc<dyn Program>) -> Arc<dyn Program> {
        Arc::new(SampledProgram { main, followed: Arc::clone(self) })
    }

    /// The twin if it is there; asks for it once if not.
    fn twin(self: &Arc<Self>, paths: &Paths) -> Option<Arc<dyn Program>> {
        if let Some(twin) = self.twin.get() {
            return Some(Arc::clone(twin));
        }
        // A VM in reuse has state that a fresh twin lacks: such functions are not sampled.
        let is_isolated = match self.spec.reuse {
            ReusePolicy::Fresh | ReusePolicy::Rollback | ReusePolicy::Warm => true,
            ReusePolicy::Reuse { .. } => false,
        };
        if is_isolated && !self.is_asked.swap(true, Ordering::Relaxed) {
            paths.ask_for_twin(self);
        }
        None
    }
}
