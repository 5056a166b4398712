//! A guest's stdout and stderr, as they reach the function's log.
//!
//! Writing never blocks and never fails: what the log cannot take, the log drops and counts.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use forerun_driver::{GuestLog, GuestStream};
use forerun_types::{FunctionName, InvocationId};
use parking_lot::Mutex;
use tokio::io::AsyncWrite;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};

/// Most bytes a guest may hand over in one write.
const WRITE_BYTES_MAX: usize = 64 << 10;

/// The invocation that is running in a VM; a reused VM has several, one after the other.
pub(super) type CurrentInvocation = Arc<Mutex<InvocationId>>;

/// One of the two outputs of one VM.
#[derive(Clone)]
pub(super) struct GuestOutput {
    log: Arc<dyn GuestLog>,
    function: FunctionName,
    invocation: CurrentInvocation,
    stream: GuestStream,
}

impl GuestOutput {
    pub(super) fn new(
        log: Arc<dyn GuestLog>,
        function: FunctionName,
        invocation: CurrentInvocation,
        stream: GuestStream,
    ) -> Self {
        Self { log, function, invocation, stream }
    }

    fn take(&self, bytes: &[u8]) {
        let invocation = *self.invocation.lock();
        self.log.write(&self.function, invocation, self.stream, bytes);
    }
}

impl IsTerminal for GuestOutput {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for GuestOutput {
    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }

    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }
}

impl OutputStream for GuestOutput {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.take(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(WRITE_BYTES_MAX)
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for GuestOutput {
    async fn ready(&mut self) {}
}

impl AsyncWrite for GuestOutput {
    fn poll_write(self: Pin<&mut Self>, _cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let taken = bytes.len().min(WRITE_BYTES_MAX);
        self.take(&bytes[..taken]);
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
