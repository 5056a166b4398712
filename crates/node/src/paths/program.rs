//! A program with a twin: most requests are served by the one, a few by the other, and the answers are the same.
//!
//! A request never waits here: while what is known of the function is being written or shown, it goes its ordinary way.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use forerun_driver::{Body, BoxFuture, EndHook, Invocation, InvocationEnd, InvokeError, Program, ProgramFacts, Reply};
use forerun_runtime::is_crowded;
use forerun_types::{ComponentDigest, FunctionSpec, InvocationId, Outcome, ReusePolicy, RevisionNumber};
use http::Request;

use super::class::{Class, Routes};
use super::{Entry, Paths, SharedEntry};

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
    /// What is known of the function, once anything can be.
    pub(super) entry: OnceLock<SharedEntry>,
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
        let Some(paths) = self.followed.paths.upgrade().filter(|paths| self.is_followed(paths)) else {
            return Arc::clone(&self.main).invoke(invocation, request);
        };
        let twin = self.followed.twin(&paths);
        let Some(entry) = self.followed.entry.get().cloned() else {
            return Arc::clone(&self.main).invoke(invocation, request);
        };
        let class = self.followed.routes.class(&request);
        // A sample takes several times as long, and whoever waits behind it waits as long: where nothing is free, only what
        // teaches nearly everything is taken.
        let share_max = if is_crowded() { 0.0 } else { paths.share_max };
        let is_sampled = entry
            .try_lock()
            .is_some_and(|mut entry| entry.meets(&class, twin.is_some(), share_max, invocation.id, &request));
        // Its name is written out for samples only.
        let twin = twin.filter(|_| is_sampled).map(|twin| (twin, class.id, class.to_string()));
        let is_sample = twin.is_some();
        let Invocation { id, trace, chain, https, deadline, end } = invocation;
        let end = EndHook::new(move |report: InvocationEnd| {
            if report.outcome == Outcome::Ok
                && let Some(mut entry) = entry.try_lock()
            {
                entry.account(is_sample, report.busy);
            }
            end.finish(report);
        });
        let invocation = Invocation { id, trace, chain, https, deadline, end };
        match twin {
            None => Arc::clone(&self.main).invoke(invocation, request),
            Some((twin, class, name)) => {
                let followed = Arc::clone(&self.followed);
                let noted = Box::new(move |sampled| paths.observe(&followed, class, &name, &sampled));
                // Where the state after the warm-up has not passed its test, no request may find it.
                let is_warm = self.main.isolation().policy == "warm";
                twin.invoke_sampled(invocation, request, is_warm, noted)
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

impl SampledProgram {
    fn is_followed(&self, paths: &Paths) -> bool {
        self.main.facts().code_bytes >= paths.code_bytes_min() && paths.may_follow(&self.followed.spec.name)
    }
}

impl Entry {
    /// Takes note of what a request looks like, and says whether to sample it, which it can be where there `is_twin`.
    fn meets(
        &mut self,
        class: &Class<'_>,
        is_twin: bool,
        share_max: f64,
        id: InvocationId,
        request: &Request<Body>,
    ) -> bool {
        self.shapes.note(class.id, request);
        if !is_twin {
            return false;
        }
        // Ids are random; other decisions take their lowest bits.
        let dice = ((id.as_u128() >> 64) as u32) as f64 / f64::from(u32::MAX);
        let novelty = self.book.novelty(class.id);
        self.sampler.wants(class.id, novelty, share_max, dice)
    }

    /// What a request that ended well took.
    fn account(&mut self, is_sample: bool, busy: Duration) {
        let busy_us = u64::try_from(busy.as_micros()).unwrap_or(u64::MAX);
        if is_sample { self.sampler.sampled(busy_us) } else { self.sampler.served(busy_us) }
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
