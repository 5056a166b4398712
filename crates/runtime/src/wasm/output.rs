//! A guest's stdout and stderr, as they reach the function's log, and its stdin, which is empty.
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
use tokio::io::{AsyncRead, AsyncWrite};
use wasmtime_wasi::cli::{IsTerminal, StdinStream, StdoutStream};
use wasmtime_wasi::p2::{InputStream, OutputStream, Pollable, StreamError, StreamResult};

use super::effects::{Effect, Effects};

/// Most bytes a guest may hand over in one write.
const WRITE_BYTES_MAX: usize = 64 << 10;

/// The invocation that is running in a VM; a reused VM has several, one after the other.
pub(super) type CurrentInvocation = Arc<Mutex<InvocationId>>;

/// The stdin of a VM: at its end from the start.
#[derive(Clone, Copy)]
pub(super) struct NoInput;

impl IsTerminal for NoInput {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdinStream for NoInput {
    fn p2_stream(&self) -> Box<dyn InputStream> {
        Box::new(*self)
    }

    fn async_stream(&self) -> Box<dyn AsyncRead + Send + Sync> {
        Box::new(tokio::io::empty())
    }
}

impl InputStream for NoInput {
    fn read(&mut self, _bytes: usize) -> StreamResult<Bytes> {
        Err(StreamError::Closed)
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for NoInput {
    async fn ready(&mut self) {}
}

/// One of the two outputs of one VM.
#[derive(Clone)]
pub(super) struct GuestOutput {
    pub(super) log: Arc<dyn GuestLog>,
    pub(super) function: FunctionName,
    pub(super) invocation: CurrentInvocation,
    pub(super) stream: GuestStream,
    pub(super) effects: Effects,
}

impl GuestOutput {
    fn take(&self, bytes: &[u8]) {
        if self.stream == GuestStream::Stdout && !bytes.is_empty() {
            self.effects.note(Effect::Printed);
        }
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
