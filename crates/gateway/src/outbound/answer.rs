//! The body of an answer from another host: bounded in size, and in the pause between two pieces.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use forerun_driver::{Body, BodyError};
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::time::Sleep;

use crate::serve::RequestBodyError;

pub(super) struct Answer {
    inner: Incoming,
    left_bytes: u64,
    max_bytes: u64,
    pause_max: Duration,
    /// There while a piece is waited for.
    pause: Option<Pin<Box<Sleep>>>,
    over: bool,
}

impl Answer {
    pub(super) fn boxed(inner: Incoming, max_bytes: u64, pause_max: Duration) -> Body {
        Self { inner, left_bytes: max_bytes, max_bytes, pause_max, pause: None, over: false }.boxed_unsync()
    }

    fn check(&mut self, next: Option<Result<Frame<Bytes>, hyper::Error>>) -> Option<Result<Frame<Bytes>, BodyError>> {
        let checked = next?.map_err(RequestBodyError::into_body_error).and_then(|frame| {
            let bytes = frame.data_ref().map_or(0, Bytes::len) as u64;
            let left = self.left_bytes.checked_sub(bytes).ok_or(BodyError::TooLarge { max_bytes: self.max_bytes })?;
            self.left_bytes = left;
            Ok(frame)
        });
        self.over = checked.is_err();
        Some(checked)
    }
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.over {
            return Poll::Ready(None);
        }
        if let Poll::Ready(next) = Pin::new(&mut self.inner).poll_frame(context) {
            self.pause = None;
            return Poll::Ready(self.check(next));
        }
        let pause_max = self.pause_max;
        let pause = self.pause.get_or_insert_with(|| Box::pin(tokio::time::sleep(pause_max)));
        ready!(pause.as_mut().poll(context));
        self.over = true;
        Poll::Ready(Some(Err(BodyError::Timeout)))
    }

    fn is_end_stream(&self) -> bool {
        self.over || self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
