//! One invocation: what goes in, what comes out, and the report of its end.

use std::fmt;
use std::time::{Duration, Instant};

use forerun_types::{InvocationId, Outcome, ServePath, SessionKey, TraceContext};
use http::Response;

use crate::Body;

/// What the gateway decided about a request before it reaches a program.
pub struct Invocation {
    /// The id the client is told.
    pub id: InvocationId,
    /// The invocation's own span: outbound calls of the guest are its children.
    pub trace: TraceContext,
    /// Who is waiting for it in the end, and through how many others.
    pub chain: Chain,
    /// Whether the client spoke TLS, for the guest's view of the scheme.
    pub https: bool,
    /// When the guest must be done; the program stops it then.
    pub deadline: Instant,
    /// Called exactly once, when the VM has done everything for this invocation.
    pub end: EndHook,
}

/// The chain of calls an invocation belongs to: functions of this node that wait for one another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chain {
    /// The invocation that it began with, from outside.
    pub root: InvocationId,
    /// How many functions are already waiting for this one; 0 from outside.
    pub depth: u32,
    /// The session of the client that is waiting for all of it, where clients are told apart.
    pub session: Option<SessionKey>,
}

impl Chain {
    /// That of an invocation from outside.
    pub fn begins(root: InvocationId, session: Option<SessionKey>) -> Self {
        Self { root, depth: 0, session }
    }

    /// That of what is called by an invocation of this one.
    pub fn goes_on(self) -> Self {
        Self { depth: self.depth + 1, ..self }
    }
}

/// The head of an answer, with how it was reached.
pub struct Reply {
    /// Status, headers, and a body that is still being produced.
    pub response: Response<Body>,
    /// Which rung served it.
    pub serve_path: ServePath,
    /// Time from the call of `invoke` until a VM was ready to be entered.
    pub deploy: Duration,
}

/// Why there is no answer at all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{outcome}: {detail}")]
pub struct InvokeError {
    /// Never `Ok`.
    pub outcome: Outcome,
    /// What happened, for the log; may hold text from the guest.
    pub detail: String,
}

/// How an invocation ended, after the last byte and after the guest returned.
#[derive(Debug, Clone)]
pub struct InvocationEnd {
    /// How it ended.
    pub outcome: Outcome,
    /// What happened if it failed, for the log; empty otherwise.
    pub detail: String,
    /// Which rung served it.
    pub serve_path: ServePath,
    /// Time from the call of `invoke` until a VM was ready to be entered.
    pub deploy: Duration,
    /// Time the guest and its host calls held a thread: an upper bound of its CPU time.
    pub busy: Duration,
    /// Time before the head of the answer in which it waited for what it had called.
    pub waited_for_calls: Duration,
    /// CPU time of guest and host calls, if it was measured, which costs too much to be done for every request.
    pub cpu: Option<Duration>,
    /// Most linear memory the VM had, in bytes.
    pub memory_bytes_peak: u64,
}

type Hook = Box<dyn FnOnce(InvocationEnd) + Send>;

/// Takes the report of an invocation's end exactly once. Dropped without one, it reports that the client left.
pub struct EndHook(Option<Hook>);

impl EndHook {
    /// A hook that calls `hook`.
    pub fn new(hook: impl FnOnce(InvocationEnd) + Send + 'static) -> Self {
        Self(Some(Box::new(hook)))
    }

    /// Reports the end.
    pub fn finish(mut self, end: InvocationEnd) {
        if let Some(hook) = self.0.take() {
            hook(end);
        }
    }
}

impl Drop for EndHook {
    fn drop(&mut self) {
        if let Some(hook) = self.0.take() {
            hook(InvocationEnd {
                outcome: Outcome::ClientGone,
                detail: String::new(),
                serve_path: ServePath::Generic(forerun_types::GenericReason::NoImage),
                deploy: Duration::ZERO,
                busy: Duration::ZERO,
                waited_for_calls: Duration::ZERO,
                cpu: None,
                memory_bytes_peak: 0,
            });
        }
    }
}

impl fmt::Debug for EndHook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EndHook")
    }
}
