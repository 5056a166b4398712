//! A program with a twin: most requests are served by the one, a few by the other, and the answers are the same.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use forerun_driver::{
    Body, BoxFuture, EndHook, HeldReady, Invocation, InvocationEnd, InvokeError, IsolationReport, Program,
    ProgramFacts, Reply, Trusts,
};
use forerun_types::{ComponentDigest, FunctionSpec, Outcome, ReusePolicy, RevisionNumber};
use http::{Request, header};

use super::Paths;

/// One revision, whose requests are sampled; whichever code serves it.
pub(crate) struct Followed {
    pub(super) spec: FunctionSpec,
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
        let Some(paths) = paths.filter(|paths| self.main.facts().code_bytes >= paths.code_bytes_min()) else {
            return Arc::clone(&self.main).invoke(invocation, request);
        };
        let class = Class::of(&self.followed.spec, &request);
        paths.note_shape(&self.followed.spec.name, &class, &request);
        let Invocation { id, trace, depth, session, https, deadline, end } = invocation;
        let twin = self.followed.twin(&paths).filter(|_| paths.wants(&self.followed.spec.name, &class, id));
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
            Some(twin) => {
                let followed = Arc::clone(&self.followed);
                let marks = Box::new(move |marks: Vec<u8>| paths.observe(&followed.spec.name, &class, &marks));
                twin.invoke_sampled(invocation, request, marks)
            }
        }
    }

    fn facts(&self) -> &ProgramFacts {
        self.main.facts()
    }

    fn hold_ready(self: Arc<Self>, vms: u32) -> BoxFuture<Result<(), InvokeError>> {
        Arc::clone(&self.main).hold_ready(vms)
    }

    fn trust(&self, trusts: Trusts) {
        self.main.trust(trusts);
    }

    fn isolation(&self) -> IsolationReport {
        self.main.isolation()
    }

    fn held_ready(&self) -> HeldReady {
        self.main.held_ready()
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
            ReusePolicy::Fresh | ReusePolicy::Rollback => true,
            ReusePolicy::Reuse { .. } => false,
        };
        if is_isolated && !self.is_asked.swap(true, Ordering::Relaxed) {
            paths.ask_for_twin(self);
        }
        None
    }
}

/// The class of a request: its method, the route it came by, and how large its body says it is.
pub(super) struct Class {
    /// A number for the map; never that of all others.
    pub(super) id: u32,
    pub(super) name: String,
}

impl Class {
    fn of(spec: &FunctionSpec, request: &Request<Body>) -> Self {
        let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
        let host = host.split(':').next().unwrap_or_default().to_ascii_lowercase();
        let path = request.uri().path();
        let routes = spec.routes.iter().filter(|route| route.matches(&host, path));
        let route = routes.min_by(|a, b| a.specificity(b)).map_or_else(|| "internal".to_owned(), ToString::to_string);
        let length =
            request.headers().get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        let size = match length {
            None | Some(0) => String::new(),
            Some(bytes) => format!(" {}", size_label(bytes)),
        };
        let method = match request.method().as_str() {
            method @ ("GET" | "HEAD" | "POST" | "PUT" | "DELETE" | "OPTIONS" | "PATCH") => method,
            _ => "OTHER",
        };
        let name = format!("{method} {route}{size}");
        let id = forerun_predict::hash::bytes(name.as_bytes()) as u32;
        Self { id: id.max(1), name }
    }
}

/// Bodies of one order of magnitude are one class.
fn size_label(bytes: u64) -> &'static str {
    match bytes {
        0..1_024 => "under 1 kB",
        1_024..65_536 => "under 64 kB",
        65_536..1_048_576 => "under 1 MB",
        _ => "1 MB or more",
    }
}
