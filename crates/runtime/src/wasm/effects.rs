//! What a guest did while it served one request that would be done twice if the request were served again.
//!
//! Reading is none: the clock, randomness, the environment, key values. Nor is stderr, where a guest that panics says
//! so: what it says stays in the log. Noting is all that happens here; `retry` decides.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use forerun_driver::{Body, BodyError};
use http_body::{Body as HttpBody, Frame, SizeHint};
use parking_lot::Mutex;

/// Something that must not be done twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Effect {
    Called = 1,
    WroteKeyValues = 1 << 1,
    Printed = 1 << 2,
    ReadBody = 1 << 3,
}

/// What was done since it was last forgotten; shared by the parts of a VM.
#[derive(Clone, Default)]
pub(super) struct Effects(Arc<AtomicU8>);

impl Effects {
    pub(super) fn note(&self, effect: Effect) {
        self.0.fetch_or(effect as u8, Ordering::Relaxed);
    }

    /// Another request begins.
    pub(super) fn forget(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    /// One of the things that were done, if any was.
    pub(super) fn any(&self) -> Option<Effect> {
        let noted = self.0.load(Ordering::Relaxed);
        let all = [Effect::Called, Effect::WroteKeyValues, Effect::Printed, Effect::ReadBody];
        all.into_iter().find(|effect| noted & *effect as u8 != 0)
    }
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Called => "it had called another service",
            Self::WroteKeyValues => "it had written key values",
            Self::Printed => "it had written to stdout",
            Self::ReadBody => "it had read from the request's body",
        })
    }
}

/// A request's body that is given to one VM, and to another one if the first has not read from it.
#[derive(Clone)]
pub(super) struct SharedBody(Arc<Mutex<Body>>);

impl SharedBody {
    pub(super) fn new(body: Body) -> Self {
        Self(Arc::new(Mutex::new(body)))
    }

    /// The body for one VM, whose `effects` tell whether it was read.
    pub(super) fn lend(&self, effects: Effects) -> LentBody {
        LentBody { body: self.clone(), effects }
    }
}

/// A shared body in the hands of one VM.
pub(super) struct LentBody {
    body: SharedBody,
    effects: Effects,
}

impl HttpBody for LentBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.effects.note(Effect::ReadBody);
        Pin::new(&mut *self.body.0.lock()).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.0.lock().is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.0.lock().size_hint()
    }
}

#[cfg(test)]
mod tests {
    use forerun_driver::full_body;
    use http_body_util::BodyExt;

    use super::*;

    #[test]
    fn each_effect_is_told_and_forgotten() {
        let effects = Effects::default();
        assert_eq!(effects.any(), None);
        for effect in [Effect::Called, Effect::WroteKeyValues, Effect::Printed, Effect::ReadBody] {
            effects.clone().note(effect);
            assert_eq!(effects.any(), Some(effect));
            effects.forget();
            assert_eq!(effects.any(), None);
        }
    }

    #[tokio::test]
    async fn a_body_nobody_read_is_lent_whole_a_second_time() {
        let (first, second) = (Effects::default(), Effects::default());
        let shared = SharedBody::new(full_body("text"));
        let unread = shared.lend(first.clone());
        assert!(!unread.is_end_stream() && unread.size_hint().exact() == Some(4));
        drop(unread);
        assert_eq!(first.any(), None, "looking at its length is no reading");
        let whole = shared.lend(second.clone()).collect().await.unwrap().to_bytes();
        assert_eq!((&whole[..], second.any()), (&b"text"[..], Some(Effect::ReadBody)));
    }
}
