//! From a guest at work to a response.
//!
//! ```text
//!            polls guest until head or return
//! answer() ──┬─ returned, head there, body complete ──► ReadyBody (exact length; VM already finished)
//!            ├─ head there, guest still at work ──────► DrivenBody (polling it runs the guest)
//!            └─ returned or trapped without a head ───► Unanswered: InvokeError, or another attempt (`retry`)
//!
//! DrivenBody ──┬─ end of body, guest returned ────────► finished
//!              ├─ end of body, guest still at work ───► detached: runs on by itself until its deadline
//!              ├─ guest trapped ──────────────────────► body error: the client sees a broken response
//!              └─ dropped before the end ─────────────► guest stopped: the client has left
//! ```
//! The guest is never a task of its own while its client waits: it runs where its response is
//! written, so that there is no hand-over between threads, and it stops when the client leaves.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};
use forerun_driver::{Body, BodyError, EndHook, InvocationEnd, InvokeError, afterwards};
use forerun_types::{Outcome, ServePath, VmDiscard};
use http::{Response, StatusCode, header};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt;
use tokio::runtime::Handle;
use wasmtime_wasi_http::WasiBody;

use super::calls_made::CallsMade;
use super::cpu_time::CpuTime;
use super::errors::body_error_from_guest;
use super::failure::Failure;
use super::guest::{GuestExit, GuestFuture, HeadSlot};
use super::pace::PutBack;
use super::program::{Keeper, WasmProgram};
use super::sampled::Sample;
use super::vm::Vm;

/// Waits for the head and makes the response.
pub(super) async fn answer(
    mut guest: GuestFuture,
    slot: HeadSlot,
    mut finisher: Finisher,
    head_only: bool,
) -> Result<Response<Body>, Unanswered> {
    let (head, returned) = poll_fn(|cx| {
        let returned = match finisher.timed(|| guest.as_mut().poll(cx)) {
            Poll::Ready(exit) => Some(finisher.returned(exit)),
            Poll::Pending => None,
        };
        match (slot.take(), returned) {
            (None, None) => Poll::Pending,
            (head, returned) => Poll::Ready((head, returned)),
        }
    })
    .await;
    finisher.waited_for_calls = finisher.calls.waited();
    match (head, returned) {
        (Some(Ok(response)), Some(returned)) => Ok(after_return(response, returned, finisher)),
        (Some(Ok(response)), None) => Ok(while_running(response, guest, finisher, head_only)),
        (Some(Err(code)), _) => {
            let failure = Failure::new(Outcome::GuestError, format!("the function answered with the error {code}"));
            Err(Unanswered { finisher, failure })
        }
        (None, Some(Guest::Trapped(failure))) => Err(Unanswered { finisher, failure }),
        (None, _) => {
            let failure = Failure::new(Outcome::NoResponse, "the function returned without setting a response");
            Err(Unanswered { finisher, failure })
        }
    }
}

/// An invocation without an answer, of which nobody has been told yet. Its VM is gone.
pub(super) struct Unanswered {
    finisher: Finisher,
    failure: Failure,
}

impl Unanswered {
    pub(super) fn failure(&self) -> &Failure {
        &self.failure
    }

    /// Tells of the failure.
    pub(super) fn fail(self) -> InvokeError {
        self.finisher.fail(self.failure)
    }

    /// Tells of the failure, and why it could not be helped.
    pub(super) fn fail_for_good(self, why: &str) -> InvokeError {
        let Self { finisher, failure } = self;
        finisher.fail(Failure::new(failure.outcome, format!("{} ({why})", failure.detail)))
    }

    /// Takes note of the VM that failed; the end is told by another attempt.
    pub(super) fn give_up(self) -> EndHook {
        self.finisher.program.isolation.discarded(VmDiscard::Failed);
        self.finisher.end
    }
}

/// The guest has returned: all of its body is in the channel already, unless it is a stream from elsewhere.
fn after_return(response: Response<WasiBody>, guest: Guest, finisher: Finisher) -> Response<Body> {
    let (parts, mut body) = response.into_parts();
    let mut frames = VecDeque::new();
    let complete = collect_ready(&mut body, &mut frames);
    let body = match (complete, guest) {
        (true, Guest::Returned(vm)) => {
            finisher.finish(Some(vm), None);
            ReadyBody::new(frames).boxed_unsync()
        }
        // A trap after the head, or a body that is not complete: left open, or passed through from elsewhere.
        (_, guest) => DrivenBody { frames, body, guest, finisher: Some(finisher), complete: false, bytes_left: None }
            .boxed_unsync(),
    };
    Response::from_parts(parts, body)
}

/// Moves all frames that are there into `frames`; true if the body ended without an error.
fn collect_ready(body: &mut WasiBody, frames: &mut VecDeque<Frame<Bytes>>) -> bool {
    let mut cx = Context::from_waker(std::task::Waker::noop());
    // A guest that has returned left at most what its channel holds; a body from elsewhere may go on for long.
    const FRAMES_MAX: usize = 16;
    while frames.len() < FRAMES_MAX {
        match Pin::new(&mut *body).poll_frame(&mut cx) {
            Poll::Ready(Some(Ok(frame))) => frames.push_back(frame),
            Poll::Ready(None) => return true,
            Poll::Ready(Some(Err(_))) | Poll::Pending => return false,
        }
    }
    false
}

fn while_running(
    response: Response<WasiBody>,
    guest: GuestFuture,
    finisher: Finisher,
    head_only: bool,
) -> Response<Body> {
    let (parts, body) = response.into_parts();
    // hyper never polls the body of such responses; the guest is not to be stopped for that.
    let bodiless = head_only || matches!(parts.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let length = parts.headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    let driven = DrivenBody {
        frames: VecDeque::new(),
        body,
        guest: Guest::Running(guest),
        finisher: Some(finisher),
        complete: bodiless,
        bytes_left: length,
    };
    Response::from_parts(parts, driven.boxed_unsync())
}

/// A whole body of a guest that is gone.
struct ReadyBody {
    frames: VecDeque<Frame<Bytes>>,
    bytes: u64,
    has_trailers: bool,
}

impl ReadyBody {
    fn new(frames: VecDeque<Frame<Bytes>>) -> Self {
        let bytes = frames.iter().filter_map(|frame| frame.data_ref()).map(|data| data.remaining() as u64).sum();
        let has_trailers = frames.iter().any(Frame::is_trailers);
        Self { frames, bytes, has_trailers }
    }
}

impl HttpBody for ReadyBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = self.frames.pop_front();
        if let Some(data) = frame.as_ref().and_then(Frame::data_ref) {
            self.bytes -= data.remaining() as u64;
        }
        Poll::Ready(frame.map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.frames.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        // With trailers the length must stay open, or HTTP/1.1 could not send them.
        if self.has_trailers { SizeHint::default() } else { SizeHint::with_exact(self.bytes) }
    }
}

/// A body whose guest may still be at work.
struct DrivenBody {
    frames: VecDeque<Frame<Bytes>>,
    body: WasiBody,
    guest: Guest,
    finisher: Option<Finisher>,
    /// The client has, or needs, no more of the body.
    complete: bool,
    /// What the `content-length` header still promises; hyper stops polling at zero.
    bytes_left: Option<u64>,
}

/// Where the guest of a [`DrivenBody`] is.
enum Guest {
    Running(GuestFuture),
    /// It returned; its VM may serve again.
    Returned(Box<Vm>),
    /// It returned and its VM is freed, but its body goes on: it comes from elsewhere.
    Freed,
    /// It failed; told once what it had written is delivered.
    Trapped(Failure),
}

impl DrivenBody {
    /// The next frame that is already there, or the end of the body.
    fn next_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(frame) = self.frames.pop_front() {
            return Poll::Ready(Some(Ok(frame)));
        }
        Pin::new(&mut self.body).poll_frame(cx).map_err(|error| body_error_from_guest(&error))
    }

    /// Moves the guest on; `Pending` if it waits for something, `Ready` if the body is worth another look.
    fn run_guest(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.guest {
            Guest::Running(guest) => {
                let Some(finisher) = &mut self.finisher else {
                    return Poll::Pending;
                };
                let exit = ready!(finisher.timed(|| guest.as_mut().poll(cx)));
                self.guest = finisher.returned(exit);
                Poll::Ready(())
            }
            // It returned and left its body open: freeing the VM closes it, if the guest held it.
            Guest::Returned(_) => {
                self.guest = Guest::Freed;
                Poll::Ready(())
            }
            Guest::Freed | Guest::Trapped(_) => Poll::Pending,
        }
    }

    fn note_sent(&mut self, frame: &Frame<Bytes>) {
        if let (Some(left), Some(data)) = (&mut self.bytes_left, frame.data_ref()) {
            *left = left.saturating_sub(data.remaining() as u64);
            self.complete |= *left == 0;
        }
    }

    /// The body has ended, whole or not; so has the response.
    fn end(&mut self, error: Option<BodyError>) -> Option<BodyError> {
        self.complete = true;
        let finisher = self.finisher.take()?;
        match (std::mem::replace(&mut self.guest, Guest::Freed), error) {
            (Guest::Trapped(failure), _) => {
                let error = BodyError::Guest { detail: failure.detail.clone() };
                finisher.finish(None, Some(failure));
                Some(error)
            }
            (_, Some(error)) => {
                finisher.finish(None, Some(Failure::new(Outcome::GuestError, error.to_string())));
                Some(error)
            }
            (Guest::Running(guest), None) => {
                finisher.detach(guest, None);
                None
            }
            (Guest::Returned(vm), None) => {
                finisher.finish(Some(vm), None);
                None
            }
            (Guest::Freed, None) => {
                finisher.finish(None, None);
                None
            }
        }
    }
}

impl HttpBody for DrivenBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        loop {
            match this.next_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    this.note_sent(&frame);
                    return Poll::Ready(Some(Ok(frame)));
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(this.end(Some(error)).map(Err)),
                Poll::Ready(None) => return Poll::Ready(this.end(None).map(Err)),
                Poll::Pending if matches!(this.guest, Guest::Trapped(_)) => {
                    return Poll::Ready(this.end(None).map(Err));
                }
                Poll::Pending => {}
            }
            if this.run_guest(cx).is_pending() {
                // What the guest has just produced must not wait for another wake-up.
                let next = ready!(this.next_frame(cx));
                return Poll::Ready(match next {
                    Some(Ok(frame)) => {
                        this.note_sent(&frame);
                        Some(Ok(frame))
                    }
                    Some(Err(error)) => this.end(Some(error)).map(Err),
                    None => this.end(None).map(Err),
                });
            }
        }
    }
}

impl Drop for DrivenBody {
    fn drop(&mut self) {
        let Some(finisher) = self.finisher.take() else {
            return;
        };
        let gone = || Failure::new(Outcome::ClientGone, "the client left before the end of the response");
        match (std::mem::replace(&mut self.guest, Guest::Freed), self.complete) {
            (Guest::Running(guest), true) => {
                let empty = http_body_util::Empty::new().map_err(|never| match never {}).boxed_unsync();
                finisher.detach(guest, Some(std::mem::replace(&mut self.body, empty)));
            }
            (Guest::Running(guest), false) => {
                drop(guest);
                finisher.finish(None, Some(gone()));
            }
            (Guest::Trapped(failure), _) => finisher.finish(None, Some(failure)),
            (Guest::Returned(vm), true) => finisher.finish(Some(vm), None),
            (Guest::Freed, true) => finisher.finish(None, None),
            (Guest::Returned(_) | Guest::Freed, false) => finisher.finish(None, Some(gone())),
        }
    }
}

/// What must happen once when an invocation is over: the report, and the VM kept or freed.
pub(super) struct Finisher {
    program: Arc<WasmProgram>,
    end: EndHook,
    serve_path: ServePath,
    deploy: Duration,
    deadline: Instant,
    /// When and by whom a VM that has served should be put back or freed.
    put_back: PutBack,
    busy: Duration,
    cpu: CpuTime,
    calls: CallsMade,
    waited_for_calls: Duration,
    memory_bytes_peak: u64,
    sample: Option<Sample>,
}

impl Finisher {
    pub(super) fn new(
        program: Arc<WasmProgram>,
        end: EndHook,
        serve_path: ServePath,
        (deploy, cpu): (Duration, CpuTime),
        (deadline, put_back): (Instant, PutBack),
        calls: CallsMade,
        sample: Option<Sample>,
    ) -> Self {
        Self {
            program,
            end,
            serve_path,
            deploy,
            deadline,
            put_back,
            busy: deploy,
            cpu,
            calls,
            waited_for_calls: Duration::ZERO,
            memory_bytes_peak: 0,
            sample,
        }
    }

    /// Runs `poll` and adds its time to the invocation's.
    fn timed<R>(&mut self, poll: impl FnOnce() -> R) -> R {
        let started = Instant::now();
        let result = self.cpu.during(poll);
        self.busy += started.elapsed();
        result
    }

    /// Takes note of a guest's return: what it used, and whether it failed.
    fn returned(&mut self, exit: GuestExit) -> Guest {
        let limiter = &exit.vm.store.data().limiter;
        self.memory_bytes_peak = limiter.bytes_peak();
        match &exit.result {
            Ok(()) => Guest::Returned(exit.vm),
            Err(error) => Guest::Trapped(Failure::of_guest(error, limiter)),
        }
    }

    /// Ends an invocation that has no answer.
    fn fail(self, failure: Failure) -> InvokeError {
        let error = InvokeError { outcome: failure.outcome, detail: failure.detail.clone() };
        self.finish(None, Some(failure));
        error
    }

    /// Ends an invocation: keeps a VM that may serve again, frees any other, then reports. What that takes is done behind
    /// the response: the client need not wait for it.
    fn finish(mut self, vm: Option<Box<Vm>>, failure: Option<Failure>) {
        self.program.pace.ended(Instant::now());
        let why = match (vm, &failure) {
            (Some(vm), None) => match (self.sample.take(), Handle::try_current()) {
                // A twin's VM is read and then thrown away.
                (Some(sample), _) => {
                    sample.read_later(vm);
                    self.report(None);
                    return;
                }
                (None, Ok(runtime)) => return self.keep(vm, &runtime),
                // The node is going down.
                (None, Err(_)) => VmDiscard::Surplus,
            },
            (None, None) => VmDiscard::BodyOpen,
            (_, Some(failure)) => match failure.outcome {
                Outcome::ClientGone | Outcome::Timeout | Outcome::ResponseTooLarge => VmDiscard::Stopped,
                Outcome::Ok
                | Outcome::Trap
                | Outcome::OutOfMemory
                | Outcome::NoResponse
                | Outcome::GuestError
                | Outcome::NoVm
                | Outcome::Rejected => VmDiscard::Failed,
            },
        };
        self.program.isolation.discarded(why);
        self.report(failure);
    }

    /// Has the program keep a VM that may serve again, and reports.
    fn keep(self, vm: Box<Vm>, runtime: &Handle) {
        let program = Arc::clone(&self.program);
        if let PutBack::Later(wait) = self.put_back {
            runtime.spawn(program.keep_later(vm, self.serve_path, wait));
            return self.report(None);
        }
        let keeper = program.keeper(&vm, self.put_back, runtime);
        let kept = Arc::clone(&program).keep_later(vm, self.serve_path, Duration::ZERO);
        let keep: afterwards::Work = Box::pin(async move {
            kept.await;
            // What came meanwhile has not come after a pause.
            self.program.pace.ended(Instant::now());
            self.report(None);
        });
        let left = match keeper {
            Keeper::Writer => afterwards::leave(keep),
            Keeper::Aside => program.aside.leave(keep, runtime.clone()).or_else(afterwards::leave),
            Keeper::Task => Err(keep),
        };
        if let Err(keep) = left {
            runtime.spawn(keep);
        }
    }

    fn report(self, failure: Option<Failure>) {
        let failure = match failure {
            Some(failure) if failure.outcome == Outcome::ClientGone && Instant::now() >= self.deadline => {
                Some(Failure::new(Outcome::Timeout, "the invocation ran out of time and was stopped"))
            }
            other => other,
        };
        let (outcome, detail) = failure.map_or((Outcome::Ok, String::new()), |f| (f.outcome, f.detail));
        self.end.finish(InvocationEnd {
            outcome,
            detail,
            serve_path: self.serve_path,
            deploy: self.deploy,
            busy: self.busy,
            waited_for_calls: self.waited_for_calls,
            cpu: self.cpu.total(),
            memory_bytes_peak: self.memory_bytes_peak,
        });
    }

    /// Lets a guest whose response is complete go on with what it still has to do, until its deadline.
    fn detach(mut self, mut guest: GuestFuture, body: Option<WasiBody>) {
        let deadline = tokio::time::Instant::from_std(self.deadline);
        tokio::spawn(async move {
            let mut unread = body;
            let rest = poll_fn(|cx| {
                drain(&mut unread, cx);
                self.timed(|| guest.as_mut().poll(cx))
            });
            match tokio::time::timeout_at(deadline, rest).await {
                Ok(exit) => match self.returned(exit) {
                    Guest::Trapped(failure) => self.finish(None, Some(failure)),
                    Guest::Returned(vm) => self.finish(Some(vm), None),
                    Guest::Running(_) | Guest::Freed => self.finish(None, None),
                },
                Err(_) => {
                    drop(guest);
                    let late = Failure::new(Outcome::Timeout, "still at work after its response, and out of time");
                    self.finish(None, Some(late));
                }
            }
        });
    }
}

/// Throws away what is there of a body that nobody reads, so that its guest is not held up.
fn drain(body: &mut Option<WasiBody>, cx: &mut Context<'_>) {
    while let Some(unread) = body {
        match Pin::new(unread).poll_frame(cx) {
            Poll::Pending => return,
            Poll::Ready(Some(Ok(_))) => {}
            Poll::Ready(Some(Err(_)) | None) => *body = None,
        }
    }
}
