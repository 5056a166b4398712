//! The body of an answer on its way out: bounded in size and time, counted, and its guest seen to its end.
//!
//! ```text
//! Flow::peek ─┬─ ended at once ─► Whole: one piece, sent with its length
//!             └─ more to come ──► Flowing ─┬─ end ──────────► Ended, delivered
//!                                          ├─ too long ─────► error, guest stopped
//!                                          ├─ out of time ──► error, guest stopped
//!                                          └─ dropped ─┬─ everything sent ─► guest finishes by itself
//!                                                      └─ client gone ─────► guest stopped
//! ```
//! The last fork: hyper lets go of a body as soon as the announced length is out, and at once for HEAD.
//! The guest may still have work to do then, and is given its time.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use forerun_driver::{Body, BodyError};
use forerun_types::Outcome;
use http_body::{Body as _, Frame, SizeHint};
use tokio::runtime::Handle;

use super::timing::{Backstop, TimedOut};
use crate::connection::InFlight;
use crate::record::Record;

type Piece = Result<Frame<Bytes>, BodyError>;

/// The body of every response of the gateway.
pub(crate) struct ResponseBody {
    state: State,
    record: Option<Arc<Record>>,
    _in_flight: Option<InFlight>,
}

enum State {
    Whole(Bytes),
    Flowing(Flow),
    /// Broken off; the error is held back for one turn.
    Breaking(BodyError),
    Ended,
}

/// A guest's body with its bounds.
pub(super) struct Flow {
    inner: Body,
    /// Taken from `inner`, not yet handed on; at most two pieces.
    ahead: VecDeque<Piece>,
    sent_bytes: u64,
    max_bytes: u64,
    /// Length after which the client wants no more; 0 where there is no body by definition.
    declared_bytes: Option<u64>,
    /// `inner` said that it is over.
    inner_ended: bool,
    backstop: Backstop,
}

/// A body that was looked into.
pub(super) enum Peeked {
    Whole(Bytes),
    Flowing(Flow),
}

impl Flow {
    pub(super) fn new(inner: Body, max_bytes: u64, declared_bytes: Option<u64>, backstop: Backstop) -> Self {
        let ahead = VecDeque::new();
        Self { inner, ahead, sent_bytes: 0, max_bytes, declared_bytes, inner_ended: false, backstop }
    }

    /// Takes what is there without waiting: the whole body if it is of one piece.
    ///
    /// # Errors
    /// The body failed before its first byte, or its first piece is too long.
    pub(super) async fn peek(self) -> Result<Peeked, BodyError> {
        let mut flow = Some(self);
        poll_fn(|context| Poll::Ready(flow.take().map_or(Err(BodyError::PeerGone), |flow| flow.peek_now(context))))
            .await
    }

    fn peek_now(mut self, context: &mut Context<'_>) -> Result<Peeked, BodyError> {
        let first = match self.next_of_inner(context) {
            Poll::Pending => return Ok(Peeked::Flowing(self)),
            Poll::Ready(None) => return Ok(Peeked::Whole(Bytes::new())),
            Poll::Ready(Some(piece)) => piece?,
        };
        let first = match first.into_data() {
            Ok(data) if data.len() as u64 > self.max_bytes => return Err(self.too_large()),
            Ok(data) => data,
            Err(trailers) => {
                self.ahead.push_back(Ok(trailers));
                return Ok(Peeked::Flowing(self));
            }
        };
        let second = match self.next_of_inner(context) {
            Poll::Ready(None) => return Ok(Peeked::Whole(first)),
            Poll::Ready(second) => second,
            Poll::Pending => None,
        };
        self.ahead.push_back(Ok(Frame::data(first)));
        self.ahead.extend(second);
        Ok(Peeked::Flowing(self))
    }

    fn next_of_inner(&mut self, context: &mut Context<'_>) -> Poll<Option<Piece>> {
        if self.inner_ended {
            return Poll::Ready(None);
        }
        let next = Pin::new(&mut self.inner).poll_frame(context);
        self.inner_ended = matches!(next, Poll::Ready(None | Some(Err(_))));
        next
    }

    /// The next piece within the bounds of size and time.
    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Piece>> {
        let next = match self.ahead.pop_front() {
            Some(piece) => Some(piece),
            None => match self.next_of_inner(context) {
                Poll::Ready(next) => next,
                Poll::Pending => return self.backstop.poll(context).map(|TimedOut| Some(Err(BodyError::Timeout))),
            },
        };
        let bytes = next.as_ref().and_then(|piece| piece.as_ref().ok()?.data_ref()).map_or(0, Bytes::len);
        self.sent_bytes = self.sent_bytes.saturating_add(bytes as u64);
        if self.sent_bytes > self.max_bytes {
            return Poll::Ready(Some(Err(self.too_large())));
        }
        if bytes > 0 && self.is_delivered() {
            self.look_for_end(context);
        }
        Poll::Ready(next)
    }

    /// After the last byte: a guest that is done already needs nobody to wait for it.
    fn look_for_end(&mut self, context: &mut Context<'_>) {
        if self.ahead.is_empty()
            && let Poll::Ready(Some(piece)) = self.next_of_inner(context)
        {
            self.ahead.push_back(piece);
        }
    }

    fn is_delivered(&self) -> bool {
        self.declared_bytes.is_some_and(|declared| declared <= self.sent_bytes)
    }

    fn too_large(&self) -> BodyError {
        BodyError::TooLarge { max_bytes: self.max_bytes }
    }

    /// Lets the guest finish although nobody listens any more.
    async fn finish(mut self, record: Arc<Record>) {
        let end = poll_fn(|context| {
            loop {
                match self.poll_next(context) {
                    Poll::Ready(Some(Ok(_unwanted))) => {}
                    Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(error)),
                    Poll::Ready(None) => return Poll::Ready(None),
                    Poll::Pending => return Poll::Pending,
                }
            }
        })
        .await;
        if let Some(error) = end {
            judge(&record, &error);
        }
    }
}

/// What the gateway itself ended is not left to the driver to name.
fn judge(record: &Record, error: &BodyError) {
    match error {
        BodyError::Timeout => record.judge(Outcome::Timeout),
        BodyError::TooLarge { .. } => record.judge(Outcome::ResponseTooLarge),
        BodyError::PeerGone | BodyError::Guest { .. } | BodyError::Malformed { .. } => {}
    }
}

impl ResponseBody {
    pub(super) fn of_function(peeked: Peeked, record: Arc<Record>, in_flight: Option<InFlight>) -> Self {
        let state = match peeked {
            Peeked::Flowing(flow) => State::Flowing(flow),
            Peeked::Whole(bytes) => {
                record.delivered();
                record.gave(bytes.len());
                State::of(bytes)
            }
        };
        Self { state, record: Some(record), _in_flight: in_flight }
    }

    pub(super) fn of_gateway(bytes: Bytes, in_flight: Option<InFlight>) -> Self {
        Self { state: State::of(bytes), record: None, _in_flight: in_flight }
    }

    /// Nothing follows; the guest is stopped if it has not ended.
    fn end(&mut self, error: Option<&BodyError>) {
        self.state = State::Ended;
        match (&self.record, error) {
            (Some(record), Some(error)) => judge(record, error),
            (Some(record), None) => record.delivered(),
            (None, _) => {}
        }
    }

    fn pass_on(&mut self, frame: &Frame<Bytes>) {
        if let (Some(record), Some(data)) = (&self.record, frame.data_ref()) {
            record.gave(data.len());
        }
    }
}

impl State {
    fn of(bytes: Bytes) -> Self {
        if bytes.is_empty() { Self::Ended } else { Self::Whole(bytes) }
    }
}

impl http_body::Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Piece>> {
        let next = match &mut self.state {
            State::Ended => return Poll::Ready(None),
            State::Whole(bytes) => {
                let bytes = std::mem::take(bytes);
                self.state = State::Ended;
                return Poll::Ready(Some(Ok(Frame::data(bytes))));
            }
            State::Breaking(_) => {
                let State::Breaking(error) = std::mem::replace(&mut self.state, State::Ended) else {
                    return Poll::Ready(None);
                };
                return Poll::Ready(Some(Err(error)));
            }
            State::Flowing(flow) => match flow.poll_next(context) {
                Poll::Ready(next) => next,
                Poll::Pending => return Poll::Pending,
            },
        };
        match next {
            None => {
                self.end(None);
                Poll::Ready(None)
            }
            // On an error hyper drops the connection with what is in its buffer. A turn without news makes it send
            // that first: the head, with the id that leads to the log, and the pieces before the error.
            Some(Err(error)) => {
                self.end(Some(&error));
                self.state = State::Breaking(error);
                context.waker().wake_by_ref();
                Poll::Pending
            }
            Some(Ok(frame)) => {
                self.pass_on(&frame);
                Poll::Ready(Some(Ok(frame)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.state {
            State::Ended => true,
            State::Whole(_) | State::Breaking(_) => false,
            State::Flowing(flow) => flow.inner_ended && flow.ahead.is_empty(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.state {
            State::Ended => SizeHint::with_exact(0),
            State::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            State::Flowing(_) | State::Breaking(_) => SizeHint::default(),
        }
    }
}

impl Drop for ResponseBody {
    fn drop(&mut self) {
        let State::Flowing(flow) = std::mem::replace(&mut self.state, State::Ended) else { return };
        let Some(record) = self.record.take() else { return };
        if !flow.is_delivered() && !flow.inner_ended {
            return;
        }
        record.delivered();
        if let (false, Ok(runtime)) = (flow.inner_ended, Handle::try_current()) {
            runtime.spawn(flow.finish(record));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use forerun_driver::full_body;
    use futures::stream;
    use http_body_util::{BodyExt, StreamBody};

    use super::*;

    fn flow(pieces: &[&'static str], max_bytes: u64, declared: Option<u64>) -> Flow {
        let frames: Vec<Piece> =
            pieces.iter().map(|piece| Ok(Frame::data(Bytes::from_static(piece.as_bytes())))).collect();
        let inner = StreamBody::new(stream::iter(frames)).boxed_unsync();
        Flow::new(inner, max_bytes, declared, Backstop::new(Instant::now() + Duration::from_secs(60)))
    }

    async fn text(mut flow: Flow) -> Result<String, BodyError> {
        let mut all = Vec::new();
        while let Some(piece) = poll_fn(|context| flow.poll_next(context)).await {
            all.extend_from_slice(&piece?.into_data().unwrap());
        }
        Ok(String::from_utf8(all).unwrap())
    }

    #[tokio::test]
    async fn one_piece_is_whole_and_more_flow_in_order() {
        assert!(matches!(flow(&["hello"], 100, None).peek().await, Ok(Peeked::Whole(bytes)) if bytes == "hello"));
        assert!(matches!(flow(&[], 100, None).peek().await, Ok(Peeked::Whole(bytes)) if bytes.is_empty()));
        for declared in [None, Some(6), Some(3)] {
            let Ok(Peeked::Flowing(rest)) = flow(&["ab", "cd", "ef"], 100, declared).peek().await else { panic!() };
            assert_eq!(text(rest).await.unwrap(), "abcdef");
        }
    }

    #[tokio::test]
    async fn ends_what_is_too_long_or_takes_too_long() {
        assert!(matches!(flow(&["abc"], 2, None).peek().await, Err(BodyError::TooLarge { max_bytes: 2 })));
        let Ok(Peeked::Flowing(rest)) = flow(&["ab", "cd"], 3, None).peek().await else { panic!() };
        assert_eq!(text(rest).await, Err(BodyError::TooLarge { max_bytes: 3 }));
        let silent = StreamBody::new(stream::pending::<Piece>()).boxed_unsync();
        let silent = Flow::new(silent, 10, None, Backstop::new(Instant::now()));
        let Ok(Peeked::Flowing(rest)) = silent.peek().await else { panic!() };
        assert_eq!(text(rest).await, Err(BodyError::Timeout));
    }

    #[tokio::test]
    async fn knows_the_end_with_the_last_announced_byte() {
        let mut exact = flow(&["ab", "cd"], 10, Some(4));
        for _ in 0..2 {
            poll_fn(|context| exact.poll_next(context)).await.unwrap().unwrap();
        }
        assert!(exact.inner_ended && exact.is_delivered());
        let whole = Flow::new(full_body("x"), 10, Some(1), Backstop::new(Instant::now()));
        assert!(matches!(whole.peek().await, Ok(Peeked::Whole(_))));
    }
}
