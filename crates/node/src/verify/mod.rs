//! Whether a specialized program answers as the whole one does: both get the same requests, and all that can be seen of
//! them is compared.
//!
//! ```text
//!   probe ─┬─► whole, twice ──► the same both times? then all is compared; else only status and outcome
//!          └─► candidate ─────► status, headers, body, outcome, output, outbound calls, key values
//! ```
//!
//! A guest that draws random numbers or reads the clock differs from itself; it must not be taken for a wrong image,
//! nor for a right one. Programs are loaded for it with the host of a [`Stage`], which reaches nothing outside: calls
//! are denied, or answered as the manifest says, and key values are empty at each request. What a probe does not reach
//! is not compared; that is what the comparison with the control group is for, once the image serves.
//!
//! Which probes there are, and what is done with the verdict, is decided elsewhere.

mod pace;
mod seen;
mod stage;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use forerun_driver::{Chain, EndHook, Invocation, Program, full_body};
use forerun_types::{CallAnswer, InvocationId, TraceContext};
use http::Request;
use serde::{Deserialize, Serialize};

pub use pace::{Pace, pace};
pub use seen::{Difference, Seen};
pub use stage::Stage;

/// Time a probe may take in a program; a limit of the comparison, not of the function.
const PROBE_TIME_MAX: Duration = Duration::from_secs(30);

/// A request to compare by. As JSON it is a case that can be tried again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Probe {
    /// Its method.
    pub method: String,
    /// Its path and query.
    pub path: String,
    /// Its headers.
    pub headers: Vec<(String, String)>,
    /// Its body.
    pub body: Vec<u8>,
    /// What its calls are answered; without, they are denied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer_to_calls: Option<CallAnswer>,
}

/// A program, loaded with the host of a stage.
pub struct Subject {
    /// The program.
    pub program: Arc<dyn Program>,
    /// The stage whose host it was loaded with.
    pub stage: Arc<Stage>,
}

/// What comparing came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// No probe showed a difference.
    Same {
        /// Probes in which everything was compared.
        steady: usize,
        /// Probes in which the whole program differed from itself, so that only status and outcome were.
        unsteady: usize,
    },
    /// A probe did.
    Different(Mismatch),
    /// There was no probe that is a request.
    NothingCompared,
}

/// A case in which a candidate is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Mismatch {
    /// The request.
    pub probe: Probe,
    /// What differed first.
    pub difference: Difference,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.probe.method, self.probe.path, self.difference)
    }
}

impl Probe {
    /// A GET without anything.
    pub fn get(path: &str) -> Self {
        let (headers, body) = (Vec::new(), Vec::new());
        Self { method: "GET".into(), path: path.into(), headers, body, answer_to_calls: None }
    }

    fn request(&self) -> Option<Request<forerun_driver::Body>> {
        let mut request =
            Request::builder().method(self.method.as_str()).uri(&self.path).header("host", "probe.invalid");
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        request.body(full_body(Bytes::copy_from_slice(&self.body))).ok()
    }
}

impl Subject {
    /// Everything that can be seen of one request; `None` if the probe is no request.
    pub async fn see(&self, probe: &Probe) -> Option<Seen> {
        let request = probe.request()?;
        self.stage.begin(probe.answer_to_calls.clone());
        let (sender, ended) = tokio::sync::oneshot::channel();
        let invocation = Invocation {
            id: InvocationId::from_random(1),
            trace: TraceContext {
                trace_id: forerun_types::TraceId::from_random(1),
                span_id: forerun_types::SpanId::from_random(1),
                sampled: false,
            },
            chain: Chain::begins(InvocationId::from_random(1), None),
            https: false,
            deadline: Instant::now() + PROBE_TIME_MAX,
            end: EndHook::new(move |end| {
                // Whoever no longer waits does not want to know.
                let _ = sender.send(end.outcome);
            }),
        };
        let reply = Arc::clone(&self.program).invoke(invocation, request).await;
        let answer = seen::answer(reply).await;
        let outcome = tokio::time::timeout(PROBE_TIME_MAX, ended).await.ok().and_then(Result::ok);
        Some(Seen { answer, outcome, effects: self.stage.take() })
    }
}

/// Compares `candidate` with `whole` by `probes`, up to the first difference.
pub async fn compare(whole: &Subject, candidate: &Subject, probes: &[Probe]) -> Verdict {
    let (mut steady, mut unsteady) = (0, 0);
    for probe in probes {
        let (Some(first), Some(second)) = (whole.see(probe).await, whole.see(probe).await) else { continue };
        let Some(seen) = candidate.see(probe).await else { continue };
        let is_steady = first.difference(&second).is_none();
        let difference = if is_steady {
            steady += 1;
            first.difference(&seen)
        } else {
            unsteady += 1;
            first.rough_difference(&seen).filter(|_| first.rough_difference(&second).is_none())
        };
        if let Some(difference) = difference {
            return Verdict::Different(Mismatch { probe: probe.clone(), difference });
        }
    }
    if steady + unsteady == 0 { Verdict::NothingCompared } else { Verdict::Same { steady, unsteady } }
}
