//! The body of a request on its way to the guest: counted, and cut off at the function's limit.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use forerun_driver::{Body, BodyError};
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt;
use pin_project_lite::pin_project;

use crate::record::Record;

pin_project! {
    pub(super) struct RequestBody<B> {
        #[pin]
        inner: B,
        record: Arc<Record>,
        left_bytes: u64,
        over: bool,
    }
}

/// Errors of request bodies, in the words of the contract.
pub(crate) trait RequestBodyError {
    fn into_body_error(self) -> BodyError;
}

impl RequestBodyError for BodyError {
    fn into_body_error(self) -> BodyError {
        self
    }
}

impl RequestBodyError for hyper::Error {
    fn into_body_error(self) -> BodyError {
        if self.is_incomplete_message() || self.is_canceled() || self.is_closed() || self.is_body_write_aborted() {
            BodyError::PeerGone
        } else if self.is_timeout() {
            BodyError::Timeout
        } else {
            BodyError::Malformed { detail: self.to_string() }
        }
    }
}

impl<B> RequestBody<B>
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: RequestBodyError,
{
    pub(super) fn boxed(inner: B, record: Arc<Record>) -> Body {
        let left_bytes = record.function.spec.limits.request_body_bytes_max;
        Self { inner, record, left_bytes, over: false }.boxed_unsync()
    }
}

impl<B> http_body::Body for RequestBody<B>
where
    B: http_body::Body<Data = Bytes>,
    B::Error: RequestBodyError,
{
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.project();
        if *this.over {
            return Poll::Ready(None);
        }
        let polled = this.inner.poll_frame(context);
        polled.map(|next| match next? {
            Err(error) => Some(Err(error.into_body_error())),
            Ok(frame) => {
                let bytes = frame.data_ref().map_or(0, Bytes::len);
                this.record.took(bytes);
                match this.left_bytes.checked_sub(bytes as u64) {
                    Some(left) => {
                        *this.left_bytes = left;
                        Some(Ok(frame))
                    }
                    None => {
                        *this.over = true;
                        let max_bytes = this.record.function.spec.limits.request_body_bytes_max;
                        Some(Err(BodyError::TooLarge { max_bytes }))
                    }
                }
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.over || self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
