//! Time in the fast loop: the bound on a whole invocation, and the `Server-Timing` header.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use forerun_driver::BoxFuture;
use forerun_types::ServePath;
use http::{HeaderName, HeaderValue};
use tokio::time::Sleep;

use super::headers::ascii;

pub(super) const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

/// Ends an invocation by force. Makes a timer only for those that do not answer at once.
pub(super) struct Backstop {
    at: Instant,
    timer: Option<Pin<Box<Sleep>>>,
}

/// The backstop was reached.
#[derive(Debug)]
pub(super) struct TimedOut;

impl Backstop {
    pub(super) fn new(at: Instant) -> Self {
        Self { at, timer: None }
    }

    /// Ready when time is up. Only to be polled after what it bounds was found pending.
    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<TimedOut> {
        let at = self.at;
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(at.into())));
        timer.as_mut().poll(context).map(|()| TimedOut)
    }

    /// The output of `call`, unless time is up before.
    pub(super) async fn bound<T>(&mut self, mut call: BoxFuture<T>) -> Result<T, TimedOut> {
        poll_fn(|context| match call.as_mut().poll(context) {
            Poll::Ready(output) => Poll::Ready(Ok(output)),
            Poll::Pending => self.poll(context).map(Err),
        })
        .await
    }
}

/// The phases of one request until its head, in microseconds since the request's head had been read.
pub(super) struct ServerTiming {
    pub(super) routed_us: u64,
    pub(super) admitted_us: u64,
    pub(super) deploy_us: u64,
    pub(super) head_us: u64,
    pub(super) serve_path: ServePath,
}

/// Room for the longest line: labels, and four numbers of at most 20 digits.
const LINE_BYTES_MAX: usize = 256;

struct Line {
    bytes: [u8; LINE_BYTES_MAX],
    length: usize,
}

impl ServerTiming {
    /// `path;desc="generic-no-image", route;dur=0.003, queue;dur=0.000, deploy;dur=0.041, handler;dur=0.200`
    pub(super) fn header(&self) -> HeaderValue {
        let deployed_us = self.admitted_us.saturating_add(self.deploy_us);
        let mut line = Line { bytes: [0; LINE_BYTES_MAX], length: 0 };
        line.text("path;desc=\"");
        line.text(self.serve_path.label());
        line.text("\", route;dur=");
        line.millis(self.routed_us);
        line.text(", queue;dur=");
        line.millis(self.admitted_us.saturating_sub(self.routed_us));
        line.text(", deploy;dur=");
        line.millis(self.deploy_us);
        line.text(", handler;dur=");
        line.millis(self.head_us.saturating_sub(deployed_us));
        ascii(&line.bytes[..line.length])
    }
}

impl Line {
    /// What does not fit is left out; no label is that long.
    fn text(&mut self, text: &str) {
        let room = &mut self.bytes[self.length..];
        let length = text.len().min(room.len());
        room[..length].copy_from_slice(&text.as_bytes()[..length]);
        self.length += length;
    }

    /// Microseconds as milliseconds with three decimals.
    fn millis(&mut self, micros: u64) {
        let mut digits = [b'0'; 24];
        let (mut rest, mut start) = (micros, digits.len());
        while rest > 0 || start > digits.len() - 5 {
            start -= 1;
            if start == digits.len() - 4 {
                digits[start] = b'.';
                continue;
            }
            digits[start] = b'0' + u8::try_from(rest % 10).unwrap_or(0);
            rest /= 10;
        }
        self.text(std::str::from_utf8(&digits[start..]).unwrap_or(""));
    }
}

#[cfg(test)]
mod tests {
    use forerun_types::GenericReason;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn tells_path_and_phases() {
        let timing = ServerTiming {
            routed_us: 3,
            admitted_us: 1003,
            deploy_us: 41,
            head_us: 12_345_678,
            serve_path: ServePath::Generic(GenericReason::NoImage),
        };
        assert_eq!(
            timing.header(),
            "path;desc=\"generic-no-image\", route;dur=0.003, queue;dur=1.000, deploy;dur=0.041, handler;dur=12344.634"
        );
    }

    proptest! {
        #[test]
        fn writes_any_number_as_the_formatter_does(micros: u64) {
            let mut line = Line { bytes: [0; LINE_BYTES_MAX], length: 0 };
            line.millis(micros);
            let text = std::str::from_utf8(&line.bytes[..line.length]).unwrap();
            prop_assert_eq!(text, format!("{}.{:03}", micros / 1000, micros % 1000));
        }
    }
}
