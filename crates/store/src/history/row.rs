//! An invocation as the history keeps it: what the journal carries and what a row of `calls` is made of.
//!
//! Borrowed from an event or from the journal's bytes, so that both are written into the database by the same code.

use std::borrow::Cow;

use forerun_telemetry::InvocationEvent;
use forerun_types::{FunctionName, Outcome, SessionKey, SpanId};
use serde::{Deserialize, Serialize, Serializer};

/// One invocation.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Row<'a> {
    pub(super) started_unix_us: u64,
    pub(super) invocation_id: [u8; 16],
    pub(super) trace_id: [u8; 16],
    pub(super) span_id: [u8; 8],
    pub(super) parent_span_id: Option<[u8; 8]>,
    #[serde(borrow)]
    pub(super) class: Class<'a>,
    pub(super) revision: u32,
    pub(super) caller: Option<&'a str>,
    pub(super) serve_path: &'a str,
    pub(super) outcome: &'a str,
    pub(super) status: u16,
    pub(super) routed_us: u64,
    pub(super) admitted_us: u64,
    pub(super) deployed_us: u64,
    pub(super) first_byte_us: u64,
    pub(super) total_us: u64,
    pub(super) busy_us: u64,
    pub(super) cpu_us: Option<u64>,
    pub(super) memory_bytes_peak: u64,
    pub(super) bytes_in: u64,
    pub(super) bytes_out: u64,
    pub(super) session: Option<[u8; 8]>,
}

/// What the `classes` table holds one row for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Class<'a> {
    #[serde(borrow)]
    pub(super) function: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) app: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) method: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) route: Cow<'a, str>,
    pub(super) size_bucket: u8,
}

impl<'a> Row<'a> {
    pub(super) fn of(event: &'a InvocationEvent) -> Self {
        Self {
            started_unix_us: event.started_unix_us,
            invocation_id: event.id.as_u128().to_be_bytes(),
            trace_id: event.trace.trace_id.to_bytes(),
            span_id: event.trace.span_id.to_bytes(),
            parent_span_id: event.parent_span.map(SpanId::to_bytes),
            class: Class {
                function: event.function.as_str().into(),
                app: (&*event.app).into(),
                method: event.class.method.into(),
                route: (&*event.class.route).into(),
                size_bucket: event.class.size_bucket,
            },
            revision: event.revision.0,
            caller: event.caller.as_ref().map(FunctionName::as_str),
            serve_path: event.serve_path.label(),
            outcome: event.outcome.label(),
            status: event.status,
            routed_us: event.phases.routed_us,
            admitted_us: event.phases.admitted_us,
            deployed_us: event.phases.deployed_us,
            first_byte_us: event.phases.first_byte_us,
            total_us: event.phases.total_us,
            busy_us: event.busy_us,
            cpu_us: event.cpu_us,
            memory_bytes_peak: event.memory_bytes_peak,
            bytes_in: event.bytes_in,
            bytes_out: event.bytes_out,
            session: event.session.map(|session| SessionKey::as_u64(session).to_be_bytes()),
        }
    }

    pub(super) fn has_failed(&self) -> bool {
        self.outcome != Outcome::Ok.label()
    }
}

impl Class<'_> {
    pub(super) fn to_static(&self) -> Class<'static> {
        let owned = |text: &str| Cow::Owned(text.to_owned());
        Class {
            function: owned(&self.function),
            app: owned(&self.app),
            method: owned(&self.method),
            route: owned(&self.route),
            size_bucket: self.size_bucket,
        }
    }
}

/// Events, written as a sequence of [`Row`]s without making all of them first.
pub(super) struct RowsOf<'a>(pub(super) &'a [InvocationEvent]);

impl Serialize for RowsOf<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(Row::of))
    }
}
