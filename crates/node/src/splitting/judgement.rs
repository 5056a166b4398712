//! A split image on trial: a share of its requests goes to the whole component, and both groups are compared as they come.
//!
//! The tests are those of prepared VMs (`learning/verdict.rs`): they may be looked at after every request. While the
//! matter is open the whole component stays loaded beside the image; then it is let go, and the memory it took with it.

use std::sync::Arc;
use std::time::Duration;

use forerun_driver::{InvokeError, Program, Reply};
use forerun_types::{InvocationId, Outcome};
use parking_lot::Mutex;
use serde::Serialize;

use crate::learning::{Answer, Comparison, Verdict};

/// While it is judged, one request in so many goes to the whole component.
const CONTROL_ONE_IN: u128 = 8;
/// Requests after which what was not found is too small to matter.
const JUDGED_WITHIN: u64 = 5_000;

/// One image's trial.
pub(super) struct Judgement {
    /// The whole component, while the matter is open.
    standard: Mutex<Option<Arc<dyn Program>>>,
    comparison: Mutex<Comparison>,
}

/// How it stands, for people.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Trial {
    /// Whether requests are still divided.
    pub(crate) is_open: bool,
    /// Requests the image served, and their typical time to the first byte in microseconds.
    pub(crate) image: (u64, f64),
    /// Those of the whole component.
    pub(crate) whole: (u64, f64),
}

impl Judgement {
    pub(super) fn new(standard: Arc<dyn Program>) -> Self {
        Self { standard: Mutex::new(Some(standard)), comparison: Mutex::default() }
    }

    /// What serves the request `id` for comparison; `None` if the image does.
    pub(super) fn control(&self, id: InvocationId) -> Option<Arc<dyn Program>> {
        // Ids are random; other decisions take other bits.
        let is_control = (id.as_u128() >> 40).is_multiple_of(CONTROL_ONE_IN);
        if is_control { self.standard.lock().clone() } else { None }
    }

    /// A request has been answered, or not, after so long.
    pub(super) fn note(&self, is_control: bool, reply: &Result<Reply, InvokeError>, after: Duration) {
        let answer = match reply {
            Ok(reply) => Answer::of(Outcome::Ok, reply.response.status().as_u16()),
            Err(error) => Answer::of(error.outcome, 0),
        };
        let Some(answer) = answer else { return };
        let us = reply.is_ok().then(|| u64::try_from(after.as_micros()).unwrap_or(u64::MAX));
        let mut comparison = self.comparison.lock();
        if is_control { comparison.control.add(answer, us) } else { comparison.served(answer, us) }
    }

    /// Whether the image serves worse, by which figures. Ends the trial once that is settled.
    pub(super) fn fault(&self) -> Option<String> {
        self.standard.lock().as_ref()?;
        let comparison = *self.comparison.lock();
        match comparison.verdict() {
            Verdict::Worse(fault) => return Some(fault.in_words()),
            Verdict::Open if comparison.prepared.requests() < JUDGED_WITHIN => return None,
            Verdict::Open | Verdict::Better | Verdict::NoWorse => {}
        }
        *self.standard.lock() = None;
        None
    }

    pub(super) fn trial(&self) -> Trial {
        let comparison = *self.comparison.lock();
        let group = |group: &crate::learning::Group| (group.requests(), group.typical_us());
        Trial {
            is_open: self.standard.lock().is_some(),
            image: group(&comparison.prepared),
            whole: group(&comparison.control),
        }
    }
}

#[cfg(test)]
mod tests {
    use forerun_driver::{Body, BoxFuture, Invocation, ProgramFacts, empty_body};
    use forerun_types::ServePath;
    use http::{Request, Response};

    use super::*;

    struct Whole;

    impl Program for Whole {
        fn invoke(self: Arc<Self>, _: Invocation, _: Request<Body>) -> BoxFuture<Result<Reply, InvokeError>> {
            unreachable!("nothing is invoked in these tests")
        }

        fn facts(&self) -> &ProgramFacts {
            unreachable!("nothing is asked of it either")
        }
    }

    fn reply(status: u16) -> Result<Reply, InvokeError> {
        let response = Response::builder().status(status).body(empty_body()).unwrap();
        Ok(Reply { response, serve_path: ServePath::RolledBack, deploy: Duration::ZERO })
    }

    /// Requests until the trial ends, at most so many; `of` gives status and time of each, by whether it is control.
    fn try_with(requests: u64, of: impl Fn(bool, u64) -> (u16, u64)) -> (Judgement, Option<(u64, String)>) {
        let judgement = Judgement::new(Arc::new(Whole));
        for number in 0..requests {
            let random = u128::from(forerun_predict::hash::mix(number));
            let is_control = judgement.control(InvocationId::from_random(random << 40)).is_some();
            let (status, us) = of(is_control, forerun_predict::hash::mix(number ^ 0x5eed) % 400);
            judgement.note(is_control, &reply(status), Duration::from_micros(us));
            if let Some(fault) = judgement.fault() {
                return (judgement, Some((number, fault)));
            }
        }
        (judgement, None)
    }

    #[test]
    fn an_image_that_is_a_fifth_slower_is_found_out() {
        let (_, found) =
            try_with(JUDGED_WITHIN, |is_control, spread| (200, if is_control { 1_000 } else { 1_200 } + spread));
        let (requests, fault) = found.unwrap();
        assert!(requests < 2_000 && fault.starts_with("slower: "), "after {requests}: {fault}");
    }

    #[test]
    fn an_image_that_answers_otherwise_is_found_out() {
        let (_, found) =
            try_with(JUDGED_WITHIN, |is_control, spread| (if is_control { 200 } else { 500 }, 1_000 + spread));
        let (requests, fault) = found.unwrap();
        assert!(requests < 500 && fault.starts_with("answers differ: "), "after {requests}: {fault}");
    }

    #[test]
    fn an_image_that_serves_alike_is_kept_and_the_whole_let_go() {
        let (judgement, found) = try_with(JUDGED_WITHIN * 2, |_, spread| (200, 1_000 + spread));
        assert_eq!(found, None);
        let trial = judgement.trial();
        assert!(!trial.is_open && trial.whole.0 > 50 && trial.image.0 > trial.whole.0, "{trial:?}");
        assert!(judgement.control(InvocationId::from_random(0)).is_none());
    }
}
