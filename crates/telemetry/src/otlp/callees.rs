//! Which calls each invocation has made, for the links from its span to theirs.
//!
//! An invocation's event comes when its VM has been dealt with, which may be before or a moment after its caller's. So links
//! are asked for when a span is sent, up to a second after its event. A call that ends later still is not linked, but
//! has the caller's span as its parent, as all have.

use std::collections::{HashMap, VecDeque};

use opentelemetry::KeyValue;
use opentelemetry::trace::{Link, SpanContext, SpanId, TraceId};
use opentelemetry_sdk::trace::SpanLinks;

use super::spans::context;
use crate::event::InvocationEvent;

/// Callers whose calls are remembered; those that never come are forgotten by their number. At some 200 bytes a call.
const CALLERS_MAX: usize = 8_192;
/// Links of one span: what the OpenTelemetry specification has as its default.
const LINKS_MAX: usize = 128;

/// The calls of invocations whose spans have not been sent.
#[derive(Default)]
pub(super) struct Callees {
    links: HashMap<Caller, SpanLinks>,
    /// The same callers, oldest first; some may have been taken.
    order: VecDeque<Caller>,
}

type Caller = (TraceId, SpanId);

impl Callees {
    /// Remembers an invocation that another one of this node has made.
    pub(super) fn remember(&mut self, event: &InvocationEvent) {
        let (Some(_), Some(parent)) = (&event.caller, event.parent_span) else { return };
        let callee = context(event);
        let caller = (callee.trace_id(), SpanId::from_bytes(parent.to_bytes()));
        if !self.links.contains_key(&caller) {
            self.make_room();
            self.order.push_back(caller);
        }
        let links = self.links.entry(caller).or_default();
        if links.links.len() < LINKS_MAX {
            let attributes = vec![
                KeyValue::new("faas.invoked_name", event.function.to_string()),
                KeyValue::new("faas.invocation_id", event.id.to_string()),
            ];
            links.links.push(Link::new(callee, attributes, 0));
        } else {
            links.dropped_count += 1;
        }
    }

    /// The links of a span that is about to be sent.
    pub(super) fn take(&mut self, span: &SpanContext) -> SpanLinks {
        self.links.remove(&(span.trace_id(), span.span_id())).unwrap_or_default()
    }

    fn make_room(&mut self) {
        while self.order.len() >= CALLERS_MAX {
            if let Some(oldest) = self.order.pop_front() {
                self.links.remove(&oldest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use forerun_types::SpanId;

    use super::{CALLERS_MAX, Callees, LINKS_MAX, context};
    use crate::event::InvocationEvent;
    use crate::event::tests::event;

    fn call(caller: u64, number: u64) -> InvocationEvent {
        let mut callee = event(number);
        callee.caller = Some("cart".parse().unwrap());
        callee.trace = event(caller).trace.child(SpanId::from_random(1_000_000 + number));
        callee.parent_span = Some(event(caller).trace.span_id);
        callee
    }

    #[test]
    fn links_are_those_of_the_callers_own_calls_and_bounded() {
        let mut callees = Callees::default();
        (0..200).for_each(|number| callees.remember(&call(1, number)));
        callees.remember(&call(2, 900));
        // From outside: somebody's span is its parent, and none of this node.
        callees.remember(&InvocationEvent { caller: None, ..call(3, 901) });
        let links = callees.take(&context(&event(1)));
        assert_eq!((links.links.len(), links.dropped_count), (LINKS_MAX, 72));
        assert_eq!(callees.take(&context(&event(1))).links.len(), 0);
        assert_eq!(callees.take(&context(&event(2))).links[0].span_context, context(&call(2, 900)));
        assert_eq!(callees.take(&context(&event(3))).links.len(), 0);
    }

    #[test]
    fn callers_that_never_come_are_forgotten() {
        let mut callees = Callees::default();
        (0..3 * CALLERS_MAX as u64).for_each(|caller| callees.remember(&call(caller, caller)));
        assert!(callees.links.len() <= CALLERS_MAX && callees.order.len() <= CALLERS_MAX);
        assert_eq!(callees.take(&context(&event(3 * CALLERS_MAX as u64 - 1))).links.len(), 1);
        assert_eq!(callees.take(&context(&event(0))).links.len(), 0);
    }
}
